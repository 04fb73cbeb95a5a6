"""The benchmark of block-wise recovery, tried on a tiny model: its rows, and what they say of one another."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import block_recovery
from adapters.transformers_models import folder
from attar.streaming import rounding
from attar.types import Dataset
from streamed.streamed_cases import ids


def test_rows_of_a_rate_differ_in_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_recovery, "PLACE", folder("gpt2"))
    sets = [Dataset({"input_ids": ids(24, seed=seed)}) for seed in range(3)]
    whole = rounding.recovered
    (plain, nats), (trained, moved) = (block_recovery.compressed(sets, 3.0, steps, tmp_path) for steps in (0, 5))
    assert rounding.recovered is whole
    assert plain["slope"] == trained["slope"] and plain["training"] == 0 < trained["training"]
    assert plain["fell"] == [] and len(trained["fell"]) == 2 >= trained["kept"]
    assert np.exp(nats.mean()) == pytest.approx(plain["perplexity"]) and nats.shape == moved.shape == (24,)
    assert plain["over"][1] <= plain["over"][0] <= plain["over"][2]
    row = block_recovery.line(trained | {"moved": block_recovery.paired(moved, nats)})
    for text in (row, block_recovery.line(plain)):
        assert text.count(" | ") == block_recovery.HEAD.count(" | ")


def test_a_paired_difference_lies_between_its_bounds() -> None:
    rng = np.random.default_rng(0)
    plain = rng.normal(3, 1, 400)
    mean, low, high = block_recovery.paired(plain - 0.1 + rng.normal(0, 0.01, 400), plain)
    assert low < mean < high < -0.09 and high - low < 0.004
