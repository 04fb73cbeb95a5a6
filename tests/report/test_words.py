"""Numbers, units and the sentences made of them."""

from __future__ import annotations

import doctest
from importlib import import_module
from typing import Any

import pytest

from attar.report import words
from attar.report.ledger import number
from attar.report.verdict import explained, verdict
from attar.report.words import Metric
from report import ledgers

POINTS = Metric("accuracy", "points", True)
LOSS = Metric("perplexity", "", False)


def said(text: str) -> str:
    """With plain spaces and minus signs."""
    return text.replace(words.THIN, " ").replace(words.MINUS, "-")


@pytest.mark.parametrize("name", ["facts", "page", "picture", "words"])
def test_the_examples_in_docstrings_run(name: str) -> None:
    outcome = doctest.testmod(import_module(f"attar.report.{name}"))
    assert outcome.attempted > 0 and outcome.failed == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (999_499, "999 kB"),
        (999_600, "1.00 MB"),
        (1_725_000, "1.73 MB"),
        (123e9, "123 GB"),
        (None, "–"),
        ("12", "–"),
    ],
)
def test_size(value: Any, text: str) -> None:
    assert said(words.size(value)) == text


def test_numbers_keep_what_matters() -> None:
    shown = [
        said(words.plain(value)) for value in (0, 0.792, 0.0238, 0.0017, 2.2e-4, 3.1e-7, 4.906, 31.87, 1234.5, -0.5)
    ]
    assert shown == ["0", "0.792", "0.0238", "0.0017", "0.00022", "3.1e-7", "4.91", "31.9", "1,234", "-0.500"]
    assert [words.ratio(value) for value in (1.004, 9.99, 31.88, None)] == ["1.00×", "9.99×", "31.9×", "–"]
    assert said(POINTS.drop(-0.001)) == "0.00 points" and said(POINTS.drop(-0.31)) == "-0.31 points"
    assert [said(words.percent(value)) for value in (0, 2e-4, 0.906, None)] == ["0.0 %", "< 0.1 %", "90.6 %", "–"]
    assert POINTS.limit(0.5) == "0.5 points" and LOSS.limit(0.25) == "0.25"
    assert said(POINTS.value(90.43)) == "90.43 %" and LOSS.value(18.3149) == "18.31"


@pytest.mark.parametrize("value", [True, "1", None, [], float("nan"), float("inf"), -1e31, 10**400])
def test_what_is_no_number(value: Any) -> None:
    assert number(value) is None


def test_moments() -> None:
    assert words.moment("2026-11-24T19:02:52+02:00") == "24 November 2026, 17:02 UTC"
    assert words.moment("2026-11-24T19:02:52") == "24 November 2026, 19:02"
    assert words.moment(0) == "1 January 1970, 00:00 UTC"
    assert words.moment("yesterday") == words.moment(None) == words.moment(1e25) == ""


def result_of(events: ledgers.Events) -> dict[str, Any]:
    return ledgers.event(events, "result")


def test_verdicts() -> None:
    certified = verdict(result_of(ledgers.sample()), POINTS, 8)
    assert (certified.status, certified.detail) == ("certified", "")
    refused = verdict(result_of(ledgers.not_certified()), POINTS, 9)
    assert refused.status == "not-certified"
    assert refused.sentence == "31.9× smaller, but not certified: the accuracy drop may be as much as 0.83 points."
    assert said(refused.detail).endswith(
        "95 % confidence. If more data behave alike, 41,250 samples in the certify split would do."
    )
    unknown = verdict(result_of(ledgers.not_certifiable()), POINTS, 8)
    assert unknown.status == "not-certifiable" and "not certifiable with 400 samples" in unknown.sentence
    assert "not even a model that gains as many answers as it loses could be shown" in unknown.detail
    assert "1,084 samples" in unknown.detail
    assert verdict({}, POINTS, 0).sentence == "The run ended before anything was tried."
    assert verdict({"ratio": 2.0}, POINTS, 3).status == "unfinished"


def test_a_verdict_never_promises_what_the_certificate_does_not_say() -> None:
    """Only the word "certified" makes a certified headline; a larger file is not called smaller."""
    for strange in (None, "", "Certified", "certified!", 1, ["certified"]):
        result = result_of(ledgers.sample())
        result["certificate"]["verdict"] = strange
        assert verdict(result, POINTS, 8).status != "certified"
    larger = result_of(ledgers.sample()) | {"ratio": 0.9}
    assert verdict(larger, POINTS, 8).sentence.startswith("No smaller than before")


def test_a_metric_where_lower_is_better_rises() -> None:
    events = ledgers.rising_loss()
    metric = Metric.of(ledgers.event(events, "run")["metric"])
    assert "the rise in perplexity is below 0.5 with" in verdict(result_of(events), metric, 8).sentence
    first, second, _ = explained(result_of(events), metric)
    assert "a rise in perplexity of 0.110." in first and "right became wrong" not in first
    assert "at most 0.190" in second and "(by a paired bootstrap)" in second


def test_too_few_examples_for_even_an_unchanged_model() -> None:
    result = result_of(ledgers.not_certifiable())
    result["certificate"] |= {"lost": 0, "gained": 0}
    assert "not even an unchanged model could be shown" in verdict(result, POINTS, 8).detail
    result["certificate"] |= {"lost": None, "gained": None}
    assert "not even a model that measures the same could be shown" in verdict(result, POINTS, 8).detail


def test_a_measured_drop_beyond_the_limit_is_said_so() -> None:
    result = result_of(ledgers.not_certified())
    result["certificate"]["drop"] = 0.61
    refused = verdict(result, POINTS, 9)
    assert refused.status == "not-certified"
    assert (
        refused.sentence == "31.9× smaller, but the accuracy drop of 0.61 points is more than the 0.5 points allowed."
    )
    assert verdict(result, POINTS, 9, "estimate") == refused


def test_an_estimate_that_was_asked_for_is_no_failure_and_no_certificate() -> None:
    result = result_of(ledgers.not_certified())
    estimated = verdict(result, POINTS, 9, "estimate")
    assert (estimated.status, estimated.badge) == ("estimated", "Estimated, not certified")
    assert estimated.sentence == "31.9× smaller, at a measured accuracy drop of 0.31 points (0.5 points allowed)."
    assert "may be up to 0.83 points" in estimated.detail
    assert verdict(result_of(ledgers.sample()), POINTS, 8, "estimate").status == "certified"


def test_digits_show_on_which_side_of_the_limit_a_bound_is() -> None:
    result = result_of(ledgers.not_certified())
    result["certificate"]["upper"] = 0.5021
    assert "may be as much as 0.502 points" in verdict(result, POINTS, 9).sentence
    assert "at most 0.502 points" in explained(result, POINTS)[1]
    assert POINTS.beside(0.4999, 0.5) == POINTS.beside(0.5, 0.5) == "0.50"
    assert LOSS.beside(0.01003, 0.01) == "0.01003" and LOSS.beside(0.01234, 0.01) == "0.0123"
    assert POINTS.beside(0.50000002, 0.5) == "0.50000002" and POINTS.beside(None, 0.5) == "–"


def test_agreement_has_no_sides() -> None:
    result = result_of(ledgers.sample())
    result["certificate"] |= {"metric": "agreement", "lost": 37, "gained": 0, "drop": 1.23}
    first = explained(result, Metric("agreement", "points"))[0]
    assert first.endswith("never saw: 37 got another answer, an agreement drop of 1.23 points.")


@pytest.mark.parametrize(
    ("name", "title", "loss"),
    [
        ("accuracy", "Accuracy", "accuracy drop"),
        ("r2", "R²", "R² drop"),
        ("top3", "Top-3 accuracy", "top-3 accuracy drop"),
        ("kl", "KL divergence", "rise in KL divergence"),
        ("mse", "Mean squared error", "rise in mean squared error"),
        ("wordErrorRate", "WordErrorRate", "rise in wordErrorRate"),
    ],
)
def test_metrics_have_names_for_people(name: str, title: str, loss: str) -> None:
    metric = Metric.of({"name": name, "higher_is_better": name in ("accuracy", "r2", "top3")})
    assert (metric.title, metric.loss) == (title, loss)


def test_one_point_is_singular() -> None:
    assert POINTS.limit(1) == "1 point" and POINTS.limit(1.5) == "1.5 points" and LOSS.limit(1) == "1"
    assert LOSS.limit(0.03003387) == "0.03" and LOSS.limit(0.12345) == "0.123"


def test_what_certified_means() -> None:
    means = explained(result_of(ledgers.sample()), POINTS)[2]
    assert said(means).endswith("accuracy drop is 0.5 points or more would pass in at most 5 % of runs.")
    assert said(explained(result_of(ledgers.rising_loss()), LOSS)[2]).endswith(
        "would pass in about 5 % of runs, since a bootstrap is approximate."
    )
    assert len(explained(result_of(ledgers.not_certified()), POINTS)) == 2


def test_a_gain_is_called_a_gain() -> None:
    result = result_of(ledgers.sample())
    result["certificate"]["drop"] = -0.25
    assert explained(result, POINTS)[0].endswith("a gain of 0.25 points.")
    assert explained({}, POINTS) == []


def test_the_second_sentence_says_which_side_of_the_limit() -> None:
    assert "that is within the 0.5 points allowed" in explained(result_of(ledgers.sample()), POINTS)[1]
    assert "that is more than the 0.5 points allowed" in explained(result_of(ledgers.not_certified()), POINTS)[1]
