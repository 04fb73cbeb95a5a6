"""The score of the statistics: exact merging, savings that fall as planted, and its place in a run's output."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import attar
from attar import calibration, registry
from attar import recipe as recipes
from attar.adapters.moments import MomentSum
from attar.calibration import LITTLE, Quality, larger, measured, merged, without
from attar.errors import UsageError
from attar.methods.base import distortion
from attar.run.progress import Silent
from attar.search.course import first_slope
from attar.search.subject import Subject
from attar.selection.base import UNLABELLED
from attar.types import Dataset, Layer, Stats
from fakes import NumpyNet, trained


def stats_of(x: np.ndarray):
    total = MomentSum(1, x.shape[1])
    total.add(x.T[None], len(x))
    return total.stats()


def test_parts_together_are_the_whole_and_apart_again() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) + 5
    one, other, whole = stats_of(x[:100]), stats_of(x[100:]), stats_of(x)
    both = merged(one, other)
    assert (both.samples, both.count) == (300, 300)
    np.testing.assert_allclose(both.hessian, whole.hessian, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(both.mean, whole.mean, rtol=1e-6)
    rest = without(whole, one)
    assert rest.samples == 200
    np.testing.assert_allclose(rest.hessian, other.hessian, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(rest.mean, other.mean, rtol=1e-5)


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_the_law_is_found_and_carried_on(power: float) -> None:
    n, m, size, c = 1600, 800, 1000.0, 1e5

    def cost(count: float) -> float:
        return c * count**-power

    early, late = cost(m / 8) - cost(m / 4), cost(m / 4) - cost(m / 2)
    found = Quality(n, m, {"a": early}, {"a": late}, size)
    assert found.fall == pytest.approx(power)
    assert found.excess == pytest.approx(cost(n) / 8 / size)
    assert found.saved(2) == pytest.approx((cost(n) - cost(2 * n)) / 8 / size)
    assert found.saved(1) == 0


def test_chance_below_zero_is_no_saving_and_is_said() -> None:
    found = Quality(400, 400, {"a": 100.0, "b": 10.0}, {"a": -200.0, "b": 10.0}, 1000.0)
    assert found.excess == found.saved(2) == 0 and found.fall == 1.0
    assert found.line() == f"calibration: 400 examples are enough: twice as many would save less than {LITTLE:.1%}"
    one_sided = Quality(400, 400, {"a": 700.0}, {"a": -100.0}, 1000.0)
    assert one_sided.excess == pytest.approx(100 / 8 / 1000)  # by the law c / n
    much = Quality(400, 400, {"a": 440.0}, {"a": 220.0}, 1000.0)
    assert "about 1.4% larger" in much.line() and "twice as many would save about 0.7%" in much.line()


def subject(net: NumpyNet, data: Dataset) -> Subject:
    layers = net.layers()
    return Subject(net, layers, {x.name: net.read(x.name) for x in layers}, net.moments(data.batches(64)), {}, b"", {})


def cost_on(whole: Subject, layer: Layer, own: Stats, other: Stats, slope: float) -> tuple[float, float]:
    """Distortion under the statistics of others, and bits, of a layer rounded by its own."""
    point, decoded = replace(whole, stats={layer.name: own}).sample(layer, slope)
    return distortion(layer, whole.weights[layer.name], decoded, other), point.rate_bits


def test_more_examples_make_it_smaller_and_the_model_stays() -> None:
    net, data = trained()
    before = {name: value.copy() for name, value in net.weights.items()}
    found: dict[int, list[float]] = {500: [], 2400: []}
    for count, scores in found.items():
        for seed in range(4):
            some = data.take(np.random.default_rng(seed).permutation(len(data))[:count])
            whole = subject(net, some)
            scores.append(measured(whole, some, first_slope(whole), Silent()).excess)
    assert np.mean(found[500]) > 1.5 * np.mean(found[2400]) >= 0
    for name, value in before.items():
        np.testing.assert_array_equal(value, net.weights[name])
    assert measured(whole, data.take(range(calibration.LEAST - 1)), 1e-6, Silent()) is None


def test_statistics_of_a_part_are_not_held_while_the_model_runs_for_the_next() -> None:
    net, data = trained()
    whole, held, made = subject(net, data), [], []

    class Watched(NumpyNet):
        def moments(self, batches, only=None):
            held.append(sum(one() is not None for one in made))
            found = super().moments(batches, only)
            made.extend(weakref.ref(stats.hessian) for stats in found.values())
            return found

    net.__class__ = Watched
    quality = measured(whole, data, first_slope(whole), Silent())
    assert quality is not None and len(quality.late) == len(whole.layers)
    assert held == [0, len(whole.layers), 0], "the first alone is held as it came; then the two together"


def test_the_score_is_of_the_size_of_what_more_examples_really_save() -> None:
    net, data = trained(inputs=24)
    held_out = data.take(range(1500, 3000))
    truth = net.moments(held_out.batches(64))
    real, said = [], []
    for seed in range(6):
        rows = np.random.default_rng(seed).permutation(1500)[:500]
        some = data.take(rows)
        whole = subject(net, some)
        slope = first_slope(whole)
        quality = measured(whole, some, slope, Silent())
        said.append(quality.excess)
        pairs = [(whole.stats, slope), (truth, slope), (truth, 2 * slope)]
        mine, best, coarse = (
            np.sum([cost_on(whole, x, stats[x.name], truth[x.name], at) for x in whole.layers], 0)
            for stats, at in pairs
        )
        price = (coarse[0] - best[0]) / (best[1] - coarse[1])
        real.append(((mine[0] - best[0]) / price + mine[1] - best[1]) / 8 / quality.size_bytes)
    assert 0.25 < np.mean(said) / np.mean(real) < 4, (said, real)


def test_chosen_rows_beside_all() -> None:
    net, data = trained()
    rng = np.random.default_rng(0)
    everything, few = np.arange(len(data)), rng.permutation(len(data))[:40]
    same, worse = larger(net, data, [everything, few])
    assert abs(same) < 1e-3 < worse


@pytest.mark.usefixtures("numpy_adapter")
def test_a_run_says_it_in_the_ledger_and_on_the_page(tmp_path: Path) -> None:
    net, data = trained()
    said: list[str] = []

    class Notes(Silent):
        def note(self, text: str) -> None:
            said.append(text)

    result = attar.compress(net, (data.inputs["x"], data.labels), max_drop=2.0, out=tmp_path, progress=Notes())
    found = result.calibration
    assert found is not None and found["examples"] == 750 and set(found["late"]) == {"w1", "w2"}
    (line,) = [text for text in said if text.startswith("calibration: ")]
    assert f"{found['excess']:.1%}" in line or found["excess"] < LITTLE
    events = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [event["excess"] for event in events if event["event"] == "calibration"] == [found["excess"]]
    assert "The statistics come from 750 examples" in (tmp_path / "report.html").read_text()


@pytest.mark.usefixtures("numpy_adapter")
def test_too_few_examples_say_nothing(tmp_path: Path) -> None:
    net, data = trained()
    result = attar.compress(net, (data.inputs["x"], data.labels), max_drop=2.0, calibration_examples=50, out=tmp_path)
    assert result.calibration is None
    assert 'id="calibration"' not in (tmp_path / "report.html").read_text()


@pytest.mark.usefixtures("numpy_adapter")
@pytest.mark.parametrize("method", ["undecided", "k-center"])
def test_a_recipe_chooses_the_examples_of_a_run(method: str, tmp_path: Path) -> None:
    net, data = trained()
    table = {"calibration": {"method": method}}
    given = {"max_drop": 2.0, "calibration_examples": 450, "settings": table}
    result = attar.compress(net, (data.inputs["x"], data.labels), out=tmp_path, **given)
    (choice,) = [event for event in result.events if event["event"] == "choice"]
    assert (choice["method"], choice["of"], choice["examples"]) == (method, 750, 450)
    assert result.calibration["examples"] == 450
    page = (tmp_path / "report.html").read_text()
    assert f"450 examples, chosen from 750 by the method <em>{method}</em>" in page
    written = recipes.read(tmp_path / "recipe.toml")
    again = attar.compress(net, (data.inputs["x"], data.labels), recipe=written)
    assert again.data == result.data
    plain = attar.compress(net, (data.inputs["x"], data.labels), max_drop=2.0, calibration_examples=450)
    assert plain.data != result.data and not [event for event in plain.events if event["event"] == "choice"]


@pytest.mark.usefixtures("numpy_adapter")
def test_a_choice_that_cannot_be_is_refused() -> None:
    net, data = trained()
    given = {"max_drop": 2.0, "calibration_examples": 450}
    with pytest.raises(UsageError, match=r"settings\.calibration\.method: it must be one of 'random', 'k-center'"):
        attar.compress(net, (data.inputs["x"], data.labels), settings={"calibration": {"method": "balanced"}}, **given)


def test_what_runs_can_choose_by_is_registered() -> None:
    assert set(UNLABELLED) == {name for name in registry.names("choice") if name != "balanced"}
