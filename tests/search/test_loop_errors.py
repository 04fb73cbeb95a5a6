"""What the search takes for the error of a drop: that of a bound where one is asked for, of the mean where not."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.search.loop import Found, Loop
from attar.types import Score


def trial(bound: bool, n: int = 80) -> Any:
    """The trial of a model whose cosines are about 0.99."""
    metric = resolve_metric("cosine")
    cosines = 0.99 + 0.003 * np.sin(np.arange(n))
    outputs = np.ones((n, 4), np.float32)
    before, after = (Score("cosine", float(c.mean()), n, outputs, c) for c in (np.ones(n), cosines))
    found = Found(certify(before, after, metric, 0.01), before, after, 0.01, n)
    loop: Any = SimpleNamespace(budget=SimpleNamespace(confidence=0.95), metric=metric, _bound=lambda: bound)
    return Loop.tried(loop, 1e-9, found, sharpen=True), (1 - cosines).std() / np.sqrt(n)


def test_an_estimate_varies_as_its_values_do() -> None:
    made, error = trial(bound=False)
    assert made.error == pytest.approx(error) and made.spread == pytest.approx(error * np.sqrt(80))


def test_a_bound_counts_with_all_that_it_allows_for() -> None:
    made, error = trial(bound=True)
    assert made.error > 20 * error
