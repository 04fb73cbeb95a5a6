"""Which methods are asked for a layer."""

from dataclasses import fields

import numpy as np
import pytest

from attar import registry
from attar.errors import UsageError
from attar.run.progress import Silent
from attar.search.params import params_of
from attar.search.subject import Subject
from attar.types import Weight
from kits.method_laws import problem


class Remembers:
    """An adapter that keeps what is written."""

    def __init__(self):
        self.written = []

    def write(self, name, weight):
        self.written.append(weight)


def subject(methods, **form):
    layer, weight, stats = problem(**form)
    return Subject(Remembers(), [layer], {"layer": weight}, {"layer": stats}, {}, None, {}, methods)


DEPTHWISE = {"rows": 8, "cols": 9, "groups": 8}


def test_a_method_that_declines_is_passed_over() -> None:
    one = subject(("lowrank", "uniform", "keep"), **DEPTHWISE)
    assert {p.choice["method"] for p in one.points(one.layers[0], 1e-4)} == {"uniform", "keep"}
    two = subject(("lowrank", "keep"), rows=20, cols=30)
    assert {p.choice["method"] for p in two.points(two.layers[0], 1e-4)} == {"lowrank", "keep"}


def test_no_method_left_is_said_with_the_reasons() -> None:
    one = subject(("lowrank", "residual"), **DEPTHWISE)
    with pytest.raises(UsageError, match=r"layer 'layer'.*lowrank: factors of rank 1.*Add 'keep'"):
        one.points(one.layers[0], 1e-4)


def test_corrected_with_the_first_method_that_takes_the_layer() -> None:
    one = subject(("lowrank", "uniform"), **DEPTHWISE)
    _, factors = one.corrected(1e-4, lambda: 0.5, Silent())
    assert factors["layer"] > 0
    quantised, restored = one.adapter.written
    assert isinstance(quantised, Weight) and restored is one.weights["layer"]
    assert np.abs(quantised.matrix - restored.matrix).max() > 0


@pytest.mark.parametrize("name", registry.names("method"))
def test_every_stated_bound_is_held(name: str) -> None:
    for field in fields(registry.get("method", name).Params):
        kept = params_of(name, {name: {field.name: field.default}})
        assert getattr(kept, field.name) == field.default
        wrong = [None, [1], field.metadata.get("high", 0) + 1, "luck" if "choices" in field.metadata else 1j]
        for value in wrong:
            with pytest.raises(UsageError, match=rf"settings\.{name}\.{field.name}: it must be "):
                params_of(name, {name: {field.name: value}})


def test_parameters_and_methods_that_there_are_not() -> None:
    with pytest.raises(UsageError, match=r"settings\.pruned: .*step, shrink, criterion.*'speed'"):
        params_of("pruned", {"pruned": {"speed": 1}})
    with pytest.raises(UsageError, match="registered"):
        params_of("magic", None)
    assert params_of("uniform", {"uniform": {"step": 1}}).step == 1
