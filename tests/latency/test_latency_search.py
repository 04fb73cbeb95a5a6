"""Which candidates a latency goal makes and tests, on a race of numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.evaluate.budget import Budget
from attar.evaluate.metrics import resolve_metric
from attar.latency.problem import levels_of
from attar.latency.search import BOLDER, FLOAT, TRAINED, WHOLE, fastest, fit, search, thinned, with_bolder
from attar.plan.latency import Stage
from attar.run.ledger import Ledger
from attar.search.bracket import Target, Trial
from attar.structure.select import Goal

TARGET = Target(1.0, 10_000)
STAGES = [Stage({"a": 64 - k}, frozenset(), 1e-4 * 2**k, 10.0 - 0.5 * k) for k in range(12)]


@dataclass
class NumbersRace:
    """Integers take half of the float model's 20 ms; a stage's drop is 40 points a nat, a fifth of it when trained."""

    slower: float = 1.0
    whole: float = 10.0
    fails: float = 1.0
    training: Any = None
    stages: list[Stage] = field(default_factory=lambda: list(STAGES))
    sizing: None = None
    bolder: bool = False
    bold_time: float = 3.0
    bold_drop: float = 0.9
    made: list[float] = field(default_factory=list)
    tested: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        splits = SimpleNamespace(certify=range(10_000))
        self.loop = SimpleNamespace(
            budget=Budget(1.0), metric=resolve_metric("accuracy"), splits=splits, ledger=Ledger(), limit=lambda: 1.0
        )
        self.budget, self.before, self.count = self.loop.budget, {"certify": None}, 0

    def predicted(self, stage: int) -> float:
        return self.whole - (self.stages[0].milliseconds - self.stages[stage].milliseconds)

    def cost(self, key: float) -> float:
        if key not in self.made:
            self.made.append(key)
        known = {FLOAT: 20.0, WHOLE: self.whole, BOLDER: self.bold_time}
        return known[key] if key in known else self.slower * self.predicted(int(key))

    def distortion(self, stage: int) -> float:
        return self.stages[stage].distortion

    def drop(self, key: float) -> float:
        if key in (FLOAT, BOLDER):
            return 0.0 if key == FLOAT else self.bold_drop
        return 40 * self.distortion(int(key)) * (0.2 if key % 1 == TRAINED else 1.0)

    def trial(self, key: float) -> Trial:
        self.cost(key)
        return Trial(self.distortion(int(key)), self.distortion(int(key)), self.drop(key), 15.0, 0.05)

    def evaluate(self, slope: float, split: str) -> tuple[Any, Any, Any, float]:
        assert split == "certify" and slope not in self.tested
        self.tested.append(slope)
        good = self.drop(slope) <= self.fails
        verdict = SimpleNamespace(verdict="certified" if good else "not certified", drop=0.0, max_drop=1.0)
        return slope, verdict, None, 0.0


def never() -> bool:
    return False


@given(st.floats(0.5, 1.5), st.floats(1.0, 25.0), st.integers(2, 16))
def test_candidates_are_tested_safest_first_and_each_is_faster(slower: float, whole: float, most: int) -> None:
    race = NumbersRace(slower=slower, whole=whole + 6)
    order = fastest(race, most, TARGET, never)  # type: ignore[arg-type]
    times = [race.cost(key) for key in order]
    assert order[0] == FLOAT and order == sorted(order) and times == sorted(times, reverse=True)
    assert (WHOLE in order) == (race.whole < 20)


@given(st.floats(0.0, 2.0))
def test_what_is_handed_back_passed_and_is_the_last_that_did(fails: float) -> None:
    race = NumbersRace(fails=fails)
    outcome = search(race, 8)  # type: ignore[arg-type]
    passed = [key for key in race.tested if race.drop(key) <= fails]
    assert outcome.candidate == passed[-1] and race.tested[: len(passed)] == passed
    assert len(race.tested) <= len(passed) + 1
    assert race.cost(outcome.candidate) <= race.cost(FLOAT)


@pytest.mark.parametrize(("bolder", "time", "drop", "fails", "wins"), [
    (True, 3.0, 0.9, 1.0, True), (True, 3.0, 0.9, 0.8, False), (True, 3.0, 1.4, 1.0, False),
    (True, 19.0, 0.9, 1.0, False), (False, 3.0, 0.9, 1.0, False),
])  # fmt: skip
def test_integers_that_were_near_the_drop_are_tested_last(bolder, time, drop, fails, wins) -> None:
    race = NumbersRace(bolder=bolder, bold_time=time, bold_drop=drop, fails=fails)
    order = fastest(race, 8, TARGET, never)  # type: ignore[arg-type]
    added = with_bolder(race, order, TARGET, never)  # type: ignore[arg-type]
    assert added in (order, [*order, BOLDER]) and with_bolder(race, order, TARGET, lambda: True) == order  # type: ignore[arg-type]
    outcome = search(race, 8)  # type: ignore[arg-type]
    assert (outcome.candidate == BOLDER) == wins


def test_trained_candidates_lie_beyond_the_untrained_and_are_never_first() -> None:
    race = NumbersRace(training=SimpleNamespace(settings=SimpleNamespace(candidates=3)))
    order = fastest(race, 8, TARGET, never)  # type: ignore[arg-type]
    trained = [key for key in race.made if key % 1 == TRAINED]
    assert 1 <= len(trained) <= 3 and order[0] == FLOAT and order[-1] in trained
    plain = fastest(NumbersRace(), 8, TARGET, never)  # type: ignore[arg-type]
    assert race.cost(order[-1]) < race.cost(plain[-1])


def test_an_interrupted_search_ends_with_what_it_has() -> None:
    race = NumbersRace(training=SimpleNamespace(settings=SimpleNamespace(candidates=3)))
    order = fastest(race, 8, TARGET, lambda: True)  # type: ignore[arg-type]
    assert order[:2] == [FLOAT, WHOLE] and not any(key % 1 == TRAINED for key in race.made)


@pytest.mark.parametrize(("budget", "expected"), [(25.0, [FLOAT]), (20.0, [FLOAT]), (12.0, [FLOAT, WHOLE])])
def test_what_is_fast_enough_already_loses_nothing(budget: float, expected: list[float]) -> None:
    assert fit(NumbersRace(), budget, TARGET, never) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("slower", [0.8, 1.0, 1.1])
def test_the_least_distorted_within_a_time_whatever_predictions_are_off_by(slower: float) -> None:
    race = NumbersRace(slower=slower)
    budget = 8.2 * slower
    order = fit(race, budget, TARGET, never)  # type: ignore[arg-type]
    assert order is not None and race.cost(order[-1]) <= budget < race.cost(order[-1] - 1)


def test_a_time_beyond_the_drop_or_the_plan_is_not_met() -> None:
    race = NumbersRace()
    assert fit(race, 0.001, TARGET, never) is None  # type: ignore[arg-type]
    steep = NumbersRace(stages=[Stage({"a": k}, frozenset(), s.distortion * 1e4, s.milliseconds)
                                for k, s in enumerate(STAGES)])  # fmt: skip
    assert fit(steep, 6.0, TARGET, never) is None  # type: ignore[arg-type]
    outcome = search(steep, 8, budget_ms=6.0)  # type: ignore[arg-type]
    assert steep.cost(outcome.candidate) > 6.0


def test_stages_that_save_too_little_are_left_out() -> None:
    crowded = [Stage({"a": 64}, frozenset(), 0.0, 10.0), Stage({"a": 64}, frozenset("b"), 1e-5, 9.0)]
    crowded += [Stage({"a": 64 - k}, frozenset("b"), 1e-4 * k, 9.0 - 0.01 * k) for k in range(1, 60)]
    kept = thinned(crowded)
    assert kept[0] is crowded[1] and 3 < len(kept) < 10
    assert all(b.milliseconds <= 0.99 * a.milliseconds for a, b in pairwise(kept))


@given(st.integers(1, 3000), st.integers(1, 64), st.floats(0.0, 1.0))
def test_levels_fall_from_all_channels_in_multiples(channels: int, multiple: int, floor: float) -> None:
    goal = Goal(0.0, multiple=multiple, floor=floor)
    levels = levels_of(channels, goal)
    assert levels[0] == channels and list(levels) == sorted(set(levels), reverse=True) and len(levels) <= 10
    assert all(level % multiple == 0 and level >= goal.least(channels) for level in levels[1:])
