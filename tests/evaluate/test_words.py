"""Word error rate: edits by hand and by the slow recursion, the rate of a whole set, and its place in `score`."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import DataError
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.evaluate.words import NONE, edits_of
from attar.types import Array, Dataset

WORDS = st.lists(st.integers(0, 4), max_size=9)


def slowly(written: list[int], said: list[int]) -> int:
    @cache
    def least(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        changed = least(i - 1, j - 1) + (written[i - 1] != said[j - 1])
        return min(changed, least(i - 1, j) + 1, least(i, j - 1) + 1)

    return least(len(written), len(said))


@given(WORDS, WORDS)
def test_edits_are_the_fewest(written: list[int], said: list[int]) -> None:
    found = edits_of(written, said)
    assert found == slowly(written, said) == edits_of(said, written)
    assert abs(len(written) - len(said)) <= found <= max(len(written), len(said))


def rows(*words: list[int]) -> Array:
    width = max(map(len, words))
    return np.array([[*row, *[NONE] * (width - len(row))] for row in words])


def test_the_mean_is_the_rate_of_the_whole_set() -> None:
    metric = resolve_metric("wer")
    said, written = rows([1, 2, 3, 4], [5], [6, 7, 8]), rows([1, 2, 3, 4], [9, 9], [6, 8])
    each = metric.examples(written, said, None)
    assert each is not None and each.tolist() == pytest.approx([0, 75, 37.5])
    assert each.mean() == pytest.approx(100 * 3 / 8)
    assert not metric.higher_is_better and metric.unit == "points"
    with pytest.raises(DataError, match="words must be said"):
        metric.examples(rows([1]), rows([], [])[:1].reshape(1, 0), None)


class Clerk:
    """A model whose transcripts are in its inputs."""

    def run(self, batch: dict[str, Array]) -> Array:
        return np.zeros((len(batch["said"]), 2, 3), np.float32)

    def transcripts(self, batch: dict[str, Array]) -> tuple[Array, Array]:
        written = batch["written"]
        return written[:, : max(1, int((written != NONE).sum(1).max()))], batch["said"]


def test_scores_are_those_of_transcripts() -> None:
    rng = np.random.default_rng(0)
    said = rng.integers(0, 9, (100, 6))
    written = np.where(rng.random((100, 6)) < 0.1, 99, said)
    data = Dataset({"said": said, "written": written})
    clerk, metric = Clerk(), resolve_metric("wer")
    before = score(clerk.run, Dataset({"said": said, "written": said}), metric, transcribe=clerk.transcripts)
    after = score(clerk.run, data, metric, before.outputs, transcribe=clerk.transcripts)
    assert before.value == 0 and after.value == pytest.approx(100 * (written != said).mean())
    assert after.outputs.shape == (100, 2, 3)
    found = certify(before, after, metric, 20.0)
    assert found.drop == pytest.approx(after.value) and found.lower < found.drop < found.upper < 20
    assert found.verdict == "certified" and found.bound == "bootstrap"
    with pytest.raises(DataError, match="must write down speech"):
        score(clerk.run, data, metric)


def test_few_recordings_certify_nothing_even_if_none_changes() -> None:
    said = np.arange(30).reshape(5, 6)
    clerk, metric = Clerk(), resolve_metric("wer")
    one = score(clerk.run, Dataset({"said": said, "written": said}), metric, transcribe=clerk.transcripts)
    assert certify(one, one, metric, 5.0).upper > 5
