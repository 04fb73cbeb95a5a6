"""Every registered method keeps the laws, on every form of layer."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import registry
from attar.types import Layer, Stats, Weight
from kits.method_laws import check_method, problem

SLOPES = (1e-6, 1e-4, 1e-2)
FORMS = {
    "dense": {"rows": 40, "cols": 70},
    "wide": {"rows": 6, "cols": 200},
    "depthwise": {"rows": 48, "cols": 9, "groups": 48},
    "grouped": {"rows": 24, "cols": 18, "groups": 4},
    "one row": {"rows": 1, "cols": 20},
    "one column": {"rows": 30, "cols": 1},
    "no bias": {"rows": 20, "cols": 30, "bias": False},
    "one weight": {"rows": 1, "cols": 1},
    "two groups of one": {"rows": 2, "cols": 1, "groups": 2, "bias": False},
    "wide groups": {"rows": 12, "cols": 50, "groups": 3},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", registry.names("method"))
def test_laws(name: str, form: str) -> None:
    check_method(name, *problem(**FORMS[form]), SLOPES)


@pytest.mark.parametrize("name", registry.names("method"))
def test_embedding(name: str) -> None:
    rng = np.random.default_rng(1)
    layer = Layer("table", "embedding", 16, 300, (300, 16))
    weight = Weight(rng.normal(0, 1, (16, 300)).astype(np.float32))
    frequency = rng.dirichlet(np.full(300, 0.3))[None]
    check_method(name, layer, weight, Stats(frequency, np.zeros((1, 300)), 5000, 500), SLOPES)


@pytest.mark.parametrize("value", [0.0, 0.25, -3.0])
@pytest.mark.parametrize("name", registry.names("method"))
def test_constant(name: str, value: float) -> None:
    layer, weight, stats = problem(8, 12)
    check_method(name, layer, Weight(np.full_like(weight.matrix, value), np.zeros(8, np.float32)), stats, SLOPES)


@pytest.mark.parametrize("name", registry.names("method"))
def test_nothing_was_seen(name: str) -> None:
    """All inputs dead, and no sensitivity measured."""
    layer, weight, stats = problem(8, 12)
    dead = replace(stats, hessian=np.zeros_like(stats.hessian), mean=np.zeros_like(stats.mean), sensitivity=None)
    check_method(name, layer, weight, dead, SLOPES)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(1, 7), st.integers(1, 21), st.integers(0, 10**6), st.floats(1e-9, 1e-1))
@pytest.mark.parametrize("name", registry.names("method"))
def test_any_shape(name: str, groups: int, rows: int, cols: int, seed: int, slope: float) -> None:
    check_method(name, *problem(groups * rows, cols, groups, seed=seed, bias=seed % 2 == 0), (slope,))
