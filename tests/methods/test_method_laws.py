"""Every registered method keeps the laws, on every form of layer."""

import numpy as np
import pytest

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


@pytest.mark.parametrize("name", registry.names("method"))
def test_zeros(name: str) -> None:
    layer, weight, stats = problem(8, 12)
    check_method(name, layer, Weight(np.zeros_like(weight.matrix), np.zeros(8, np.float32)), stats, SLOPES)
