"""The order in which candidates are tested, what is fallen back on, and at which levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import attar
from attar.evaluate.budget import Budget
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.search import course as search
from attar.search.bracket import Target, Trial
from attar.search.in_order import SPARED, certify_in_order, level
from attar.types import Certificate, Score
from fakes import trained

SAID = Certificate("accuracy", 90.0, 90.0, 0.0, -0.1, 0.1, 0.5, 0.95, 10, "score", "certified")
SCORE = Score("accuracy", 90.0, 10, np.zeros((10, 1)))


class Scripted:
    """Candidates of which it is known whether they pass; it notes whom it was asked for."""

    def __init__(self, passing: Mapping[float, bool], guarantee: str = "bound") -> None:
        self.passing, self.asked = passing, list[float]()
        self.budget, self.before = Budget(0.5, guarantee=guarantee), {"certify": SCORE}

    @property
    def count(self) -> int:
        return len(self.asked)

    def evaluate(self, slope: float, split: str) -> tuple[float, Certificate, Score, float]:
        assert split == "certify" and slope not in self.asked
        self.asked.append(slope)
        verdict = SAID if self.passing[slope] else replace(SAID, drop=0.7, upper=0.9, verdict="not certified")
        return slope, verdict, SCORE, 0.0

    def cost(self, slope: float) -> float:
        return -slope


@pytest.mark.parametrize("guarantee", ["bound", "estimate"])
@pytest.mark.parametrize(
    ("passing", "asked", "handed_back"),
    [
        ({3: True, 4: True, 5: False}, [3, 4, 5], 4),
        ({3: True, 4: False}, [3, 4], 3),
        ({3: True, 4: True, 5: True}, [3, 4, 5], 5),
        ({3: False, 1: True, 2: True}, [3, 1, 2], 2),
        ({3: False, 1: True, 2: False}, [3, 1, 2], 1),
        ({3: False, 1: False}, [3, 1], 1),
    ],
)
def test_the_last_that_passed_of_one_of_two_sequences(guarantee, passing, asked, handed_back):
    loop = Scripted(passing, guarantee)
    found = certify_in_order(loop, [3, 4, 5], spare=[1, 2])
    assert loop.asked == asked and found.candidate == handed_back and found.evaluations == len(asked)
    assert (found.certificate.verdict == "certified") == passing[handed_back]


def test_without_any_to_fall_back_on_the_first_is_handed_back_with_its_verdict():
    found = certify_in_order(Scripted({3: False}), [3, 4])
    assert found.candidate == 3 and found.certificate.verdict == "not certified"


def test_a_run_that_is_broken_off_still_has_something_to_hand_back():
    loop = Scripted({3: False, 1: True, 2: True})
    assert certify_in_order(loop, [3, 4], lambda: True, [1, 2]).candidate == 1 and loop.asked == [3, 1]


def test_the_error_is_split_and_no_more_of_it_spent():
    for confidence in (0.9, 0.95, 0.999):
        parts = [1 - level(confidence, spare=spare) for spare in (False, True)]
        assert sum(parts) == pytest.approx(1 - confidence) and parts[1] == pytest.approx(SPARED * (1 - confidence))


def planned(n: int, looks: int, limit: float = 0.5, guarantee: str = "bound", metric: str = "accuracy"):
    """What is tested on n examples, after one trial, of a loop that is nothing else."""
    loop = SimpleNamespace(
        budget=Budget(limit, guarantee=guarantee), metric=resolve_metric(metric), limit=lambda: limit, spare=frozenset()
    )
    target = Target(limit, n, 0.95 if guarantee == "bound" else 0.5)
    return *search.planned(loop, [Trial(4e-7, 0.04, 0.4, 12.0, 0.1)], target, looks), loop.spare


def test_what_is_fallen_back_on_is_safer_and_known_to_the_loop():
    slopes, spare, known = planned(10_000, 7)
    assert slopes == sorted(slopes) and spare == sorted(spare) and spare[-1] < slopes[0] and known == set(spare)
    assert len(slopes) == len(search.ODDS) and len(spare) == len(search.SPARE)
    few, spared, _ = planned(10_000, 2)
    assert few == slopes[:2] and spared == spare[:1], "a failure and what is fallen back on are two evaluations"


@pytest.mark.parametrize("given", [{"n": 10_000, "looks": 1}, {"n": 900, "looks": 7}, {"n": 1500, "looks": 7}])
def test_the_error_is_not_split_where_a_bound_at_so_high_a_level_could_not_pass(given):
    slopes, spare, known = planned(**given)
    assert slopes and not spare and not known


def test_an_estimate_has_no_error_to_split():
    slopes, spare, known = planned(10_000, 7, guarantee="estimate")
    assert slopes and not spare and not known


@pytest.mark.usefixtures("numpy_adapter")
def test_a_certificate_is_at_the_level_that_is_left(monkeypatch):
    """All but the safest fail: it is handed back, by a bound at its own level, which says the run's confidence."""
    monkeypatch.setattr(search, "FEWEST", 100)
    model, data = trained()

    def plan(loop, trials, target, looks):
        (safe,) = search.sequence(trials, target, [3.0])
        loop.spare = frozenset([safe / 8])
        return [512 * safe], [safe / 8]

    monkeypatch.setattr(search, "planned", plan)
    found = attar.compress(model, data, max_drop=3)
    tested = [event for event in found.events if event["event"] == "candidate" and event["split"] == "certify"]
    assert [event["stopped"] for event in tested] == [True, False], "the bold one is given up, the last hope is not"
    assert found.certified and found.certificate.confidence == 0.95
    metric = resolve_metric("accuracy")
    for share, same in ((SPARED, True), (1 - SPARED, False)):
        again = certify(found.before, found.after, metric, 3, 1 - 0.05 * share)
        assert (again.upper == found.certificate.upper) == same
