"""Trials of what has no gradient of bytes: where they may go, that they repeat, that the recipe has what they find."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import attar
from attar import recipe as recipes
from attar import registry, tuning
from attar.errors import UsageError
from attar.parameters import Range, ranges
from attar.recipe import effort
from attar.report import render
from attar.run.kept import Kept
from attar.search import tune
from attar.structure.select import RemovalSettings
from fakes import NumpyNet, trained
from test_faults import run, small, small_model

pytestmark = pytest.mark.usefixtures("numpy_adapter")


def compress(out: Path | None = None, **fields: object):
    model, data = trained()
    return attar.compress(model, data, out=out, **{"max_drop": 3, **fields})  # type: ignore[arg-type]


def told(result: attar.api.Result, kind: str) -> list[dict]:
    times = ("time", "seconds")
    return [
        {k: v for k, v in event.items() if k not in times} for event in result.events if event["event"] == kind
    ]  # fmt: skip


@pytest.mark.parametrize(
    "cls", [*(registry.get("method", n).Params for n in registry.names("method")), RemovalSettings]
)
def test_what_is_declared_can_be_tried(cls: type) -> None:
    found = ranges(cls)
    for field in fields(cls):
        one = found.get(field.name)
        if one is None:
            assert field.metadata.get("tune") is False, f"{field.name}: a range, or why there is none"
        elif one.choices:
            assert one.default in one.choices
        else:
            assert field.metadata["low"] <= one.low <= one.default <= one.high <= field.metadata["high"]
            assert one.tidy(one.high) == one.high and one.tidy(one.default) == one.default


def test_the_space_is_what_a_recipe_does_not_name() -> None:
    whole = tuning.space_of(recipes.make(max_drop=1))
    uniform = {("uniform", name) for name in ("step", "shrink", "sweeps", "columns")}
    assert set(whole) == uniform | {("lowrank", "step"), ("lowrank", "shrink")}
    named = recipes.make(max_drop=1, settings={"uniform": {"step": 1.2}}, methods=["uniform", "fixed"], remove=0.3)
    space = tuning.space_of(named)
    assert ("uniform", "step") not in space and ("fixed", "part") in space and ("removal", "floor") in space
    assert space["", "remove"] == Range(0.3, (), 0.0, 0.3)
    changed = tuning.with_values(named, {("", "remove"): 0.1, ("fixed", "part"): 32})
    assert changed.remove == 0.1 and changed.settings == {"uniform": {"step": 1.2}, "fixed": {"part": 32}}
    assert recipes.make(**changed.model_dump()) == changed and named.settings == {"uniform": {"step": 1.2}}


@pytest.mark.parametrize(("text", "found"), [("20", (20, None)), (" 5m ", (None, 300)), ("1.5h", (None, 5400))])
def test_what_may_be_spent(text: str, found: tuple) -> None:
    assert effort(text) == found
    assert recipes.make(tune=text).tune == text


@pytest.mark.parametrize("text", ["", "0", "-3", "1.5", "5 parsecs", "0s", "nan", "1e3"])
def test_what_cannot_be_spent(text: str) -> None:
    with pytest.raises(UsageError, match="trials, or a time"):
        recipes.make(tune=text)


def test_the_estimators_find_a_valley_and_repeat() -> None:
    space = {("m", "x"): Range(1.0, (), 0.1, 10.0), ("m", "k"): Range(3, (), 1, 6), ("m", "c"): Range("a", ("a", "b"))}

    def cost(values: tune.Values) -> float:
        return abs(np.log(values["m", "x"] / 4)) + abs(values["m", "k"] - 5) + (values["m", "c"] == "a")

    def first(count: int, seed: int) -> list[tune.Tried]:
        trials = tune.tried(space, cost, seed)
        return [next(trials) for _ in range(count)]

    found = first(40, 0)
    assert dict(found[0].values) == {("m", "x"): 1.0, ("m", "k"): 3, ("m", "c"): "a"}, "the defaults come first"
    assert min(one.cost for one in found) < 0.5 < found[0].cost
    assert first(20, 0) == found[:20] and first(20, 1) != found[:20]
    assert all(0.1 <= one.values["m", "x"] <= 10 and one.values["m", "k"] in range(1, 7) for one in found)


def test_a_tuned_run_is_its_recipe_without_trials(tmp_path: Path) -> None:
    model, _ = trained()
    before = {name: array.copy() for name, array in model.weights.items()}
    bad = {"methods": ["codebook", "keep"], "settings": {"codebook": {"passes": 1}}}
    result = compress(tmp_path, tune=6, **bad)
    trials, (end,) = told(result, "trial"), told(result, "tuned")
    assert len(trials) == end["trials"] == 6 and end["taken"] == (end["after"] < end["before"])
    assert all(len(one["files"]) == 3 and one["bytes"] > 0 for one in trials)
    written = recipes.read(tmp_path / "recipe.toml")
    assert written.tune is None and written == result.recipe and written.settings["codebook"]["passes"] == 1
    again = compress(recipe=written)
    assert again.data == result.data and not told(again, "trial")
    assert "--tune 6" in told(result, "result")[0]["reproduce"]["command"]
    assert all((model.weights[name] == array).all() for name, array in before.items())
    page = render(result.events)
    assert 'id="tuned"' in page and "6 trials of parameters" in page


def test_what_does_best_is_taken_where_it_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """A confirmation that says no leaves the recipe as it is."""
    monkeypatch.setattr(tuning, "_confirmed", lambda *_: (100.0, 99.0))
    taken = compress(tune=3, methods=["uniform", "lowrank", "keep"])  # low rank takes no layer of this one
    assert taken.recipe.settings.keys() == {"uniform"}
    assert told(taken, "tuned")[0]["taken"] and taken.recipe.settings["uniform"].keys() == {
        "step", "shrink", "sweeps", "columns"
    }  # fmt: skip
    monkeypatch.setattr(tuning, "_confirmed", lambda *_: (100.0, 100.0))
    stays = compress(tune=3)
    assert stays.recipe.settings == {} and stays.data == compress().data
    assert "None was better" in render(stays.events)


def test_trials_never_look_at_the_certify_split(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = trained()
    certify = data.take(range(2000, 3000))
    hidden = {row.tobytes() for row in certify.inputs["x"]}
    seen, runs, tuned = [], NumpyNet.run, tuning.tuned

    def watched(self: NumpyNet, batch, perturb=None):
        seen.append(any(row.tobytes() in hidden for row in next(iter(batch.values()))))
        return runs(self, batch, perturb)

    def only(*given):
        seen.clear()
        found = tuned(*given)
        assert len(seen) > 10 and not any(seen)
        return found

    monkeypatch.setattr(NumpyNet, "run", watched)
    monkeypatch.setattr(tuning, "tuned", only)
    first, second = data.take(range(1000)), data.take(range(1000, 2000))
    result = attar.compress(model, calibrate=first, select=second, certify=certify, max_drop=3, tune=2)
    assert told(result, "tuned") and any(seen), "and the certificate does"


def test_killed_after_any_trial_it_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    whole, write, left = compress(tune=4), Kept.put, 3

    def put(self: Kept, key: str, *unit: object) -> None:
        nonlocal left
        write(self, key, *unit)  # type: ignore[arg-type]
        left -= key.startswith("trial")
        if left == 0:
            raise Killed

    monkeypatch.setattr(Kept, "put", put)
    with pytest.raises(Killed):
        compress(tmp_path, tune=4)
    left, made = -1, tuning.Bench.size
    sizes: list[object] = []
    monkeypatch.setattr(tuning.Bench, "size", lambda *given: sizes.append(given) or made(*given))
    again = compress(tmp_path, tune=4)
    assert again.data == whole.data and told(again, "tuned") == told(whole, "tuned")
    assert len(sizes) == 1 + 2, "three trials were kept; one is left, and two to confirm"


def test_a_request_to_end_ends_the_trials() -> None:
    asked = iter([False] * 8 + [True] * 1000)
    result = compress(tune=50, interrupted=lambda: next(asked))
    (end,) = told(result, "tuned")
    assert 1 <= end["trials"] < 50
    short = compress(tune="1s", settings={"uniform": {"step": 1.5, "sweeps": 1, "columns": True}})
    assert 1 <= told(short, "tuned")[0]["trials"] < 500 and set(short.recipe.settings["uniform"]) >= {"step"}


def test_what_cannot_be_tuned_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="left to try"):
        compress(tune=3, methods=["keep"])
    with pytest.raises(UsageError, match="goal size"):
        recipes.make(tune=3, goal="latency")
    with pytest.raises(UsageError, match=r"attar\[tune\]"):
        monkeypatch.setitem(sys.modules, "optuna", None)
        compress(tune=3)


@pytest.mark.slow
def test_how_many_channels_go_is_tried_up_to_what_was_asked_for() -> None:
    root = Path(__file__).parents[1] / "examples"
    few = {"max_drop": 3, "calibration_examples": 300, "select_examples": 600, "evaluations": 2}
    result = attar.compress(root / "models/lenet300.onnx", root / "fashion-mnist", remove=0.3, tune=3, **few)
    trials, (end,) = told(result, "trial"), told(result, "tuned")
    shares = [one["values"]["remove"] for one in trials]
    assert shares[0] == 0.3 and all(0 <= share <= 0.3 for share in shares) and len(set(shares)) == 3
    assert result.recipe.remove == (end["values"]["remove"] if end["taken"] else 0.3)
    again = attar.compress(root / "models/lenet300.onnx", root / "fashion-mnist", recipe=result.recipe)
    assert again.data == result.data


def test_by_command(tmp_path: Path) -> None:
    x, y = small_model(tmp_path / "small.onnx")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    done = run(small("out", "--tune", 3), tmp_path)
    assert done.returncode == 0 and "tuning: 3 trials" in done.stderr, done.stderr
    events = [json.loads(line) for line in (tmp_path / "out/ledger.jsonl").read_text().splitlines()]
    assert sum(event["event"] == "trial" for event in events) == 3
