"""Which methods are asked for a layer."""

from dataclasses import fields, replace

import numpy as np
import pytest

from attar import registry
from attar.errors import UsageError
from attar.recipe import LayerRule, make, read, to_toml
from attar.run.progress import Silent
from attar.search.params import check_rules, params_of
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


def test_of_a_bare_subject_sensitivities_are_left() -> None:
    one = subject(("uniform",), rows=20, cols=30)
    one, _ = one.corrected(1e-4, lambda: 0.5, Silent())
    bare = one.bare()
    assert not bare.weights and not bare.stats["layer"].hessian.size
    np.testing.assert_array_equal(bare.stats["layer"].sensitivity, one.stats["layer"].sensitivity)


def test_layers_apart_are_not_corrected() -> None:
    one = subject(("lowrank", "uniform"), **DEPTHWISE)
    after, factors = one.corrected(1e-4, lambda: 0.5, Silent(), apart={"layer"})
    assert factors == {"layer": 1.0} and not one.adapter.written
    assert after.stats["layer"].sensitivity is not None


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


def test_patterns_choose_methods_and_settings_and_exclude() -> None:
    one = subject(("uniform", "keep"), rows=20, cols=30)
    layer = one.layers[0]

    def offered(changed: Subject) -> list[tuple[str, object]]:
        return [(p.choice["method"], p.choice.get("step")) for p in changed.points(layer, 1e-4)]

    assert offered(one) == [("uniform", 1.5), ("keep", None), ("keep", None)]
    ruled = replace(one, rules={"lay*": LayerRule(methods=["uniform"], settings={"uniform": {"step": 2.0}})})
    assert offered(ruled) == [("uniform", 2.0)]
    assert offered(replace(one, rules={"other*": LayerRule(methods=["uniform"])})) == offered(one)
    kept = replace(ruled, exclude=("l*r",)).points(layer, 1e-4)
    assert [(p.choice, p.distortion) for p in kept] == [({"method": "keep", "dtype": "float32"}, 0.0)]


RULES = {"fc*": {"methods": ["uniform"], "settings": {"uniform": {"step": 2.0}}}, "conv.1": {"methods": ["keep"]}}


def test_rules_survive_the_recipe_file(tmp_path) -> None:
    recipe = make(max_drop=1, layers=RULES, exclude=["head.*"], settings={"recovery": {"augment": ["flip"]}})
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(recipe))
    assert read(path) == recipe
    assert '[layers."fc*".settings.uniform]' in path.read_text()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"exclude": ["tail*"]}, r"a pattern must fit a layer. Received 'tail\*', and the layers are fc1, conv.1"),
        ({"layers": {"x": {"methods": ["keep"]}}}, r"a pattern must fit a layer. Received 'x'"),
        ({"layers": {"fc*": {"methods": ["luck"]}}}, r"method: the name must be a registered one. Received 'luck'"),
        ({"layers": {"fc*": {"settings": {"uniform": {"step": 99}}}}}, r"settings.uniform.step: it must be from"),
        ({"settings": {"unform": {"step": 1.0}}}, r"settings: each table must be one of uniform.*Received 'unform'"),
    ],
)
def test_rules_that_cannot_be_right(fields, message) -> None:
    check_rules(make(layers=RULES, exclude=["conv*"]), ["fc1", "conv.1"])
    with pytest.raises(UsageError, match=message):
        check_rules(make(**fields), ["fc1", "conv.1"])


class Halving:
    """An adapter that keeps the remainder that it was given last."""

    def __init__(self, remainder):
        self.remainder = remainder

    def restore(self, remainder):
        self.remainder = remainder


@pytest.mark.parametrize(("moved", "kind"), [(0.0, np.float16), (1.0, np.float32)])
def test_the_working_copy_stays_the_original_when_the_rest_is_halved(moved: float, kind: type) -> None:
    """Drops are measured from it: a tensor that loses digits in the file must not lose them there."""
    rest = {"norm/mean": np.array([1.0001, 2.0003], np.float32)}
    one = replace(subject(("keep",), **DEPTHWISE), adapter=Halving(rest), remainder=rest)
    assert one.halved(lambda: moved).remainder["norm/mean"].dtype == kind
    assert one.adapter.remainder is rest


def test_rows_whose_shifts_cancel_count_alike() -> None:
    """Nothing moved when a row was shifted, as of keys in attention, but the rounded layer costs 0.5 nats."""
    one = subject(("uniform",), rows=20, cols=30)
    dead = replace(one, stats={"layer": replace(one.stats["layer"], sensitivity=np.full(20, 1e-13))})
    after, factors = dead.corrected(1e-4, lambda: 0.5, Silent())
    rows = after.stats["layer"].sensitivity
    assert len(set(rows)) == 1 and rows[0] > 1e-3 and factors["layer"] < 50
    told, _ = one.corrected(1e-4, lambda: 0.5, Silent())
    assert len(set(told.stats["layer"].sensitivity)) > 1
    unseen, _ = dead.corrected(1e-4, lambda: 1e-6, Silent())
    assert unseen.stats["layer"].sensitivity.max() < 1e-10
