"""Pictures that are held as bytes: a batch is made floats where it is run, few examples at a time; and in turns."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from adapters import onnx_models as models
from attar.adapters import parts
from attar.adapters.moments import BLOCK, PIECE, WIDE, waiting
from attar.adapters.onnx import run as onnx_run
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.types import Dataset, Scaled, Stats

SHAPE, COUNT = (2, 14, 13), 300
BYTES = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), np.uint8)
FLOATS = (BYTES / np.float32(255)).astype(np.float32)


class Watched:
    """Bytes as floats, and how many rows were made at once."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, given: np.ndarray) -> np.ndarray:
        self.rows.append(len(given))
        return (given / np.float32(255)).astype(np.float32)


def three_layers() -> OnnxAdapter:
    nodes = [
        models.node("Conv", "x a", "h", pads=[1, 1, 1, 1]),
        models.node("Conv", "h b", "i", pads=[1, 1, 1, 1]),
        models.node("Conv", "i c", "y"),
    ]
    weights = {"a": models.random(6, 2, 3, 3), "b": models.random(5, 6, 3, 3), "c": models.random(4, 5, 3, 3)}
    return OnnxAdapter.open(models.model(nodes, weights, SHAPE))


def same(one: Stats, other: Stats) -> bool:
    assert one.pooled is not None and other.pooled is not None
    pairs = ((one.hessian, other.hessian), (one.mean, other.mean), (one.pooled, other.pooled))
    return (one.count, one.samples) == (other.count, other.samples) and all(np.array_equal(*pair) for pair in pairs)


def test_onnx_runs_make_floats_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, floats = three_layers(), Watched()
    expected = adapter.run({"x": FLOATS})
    monkeypatch.setattr(parts, "MOST_VALUES", 4 * FLOATS[0].size)
    (batch,) = Dataset({"x": Scaled(BYTES, floats)}).batches(COUNT)
    assert not floats.rows  # a batch alone makes none
    np.testing.assert_array_equal(adapter.run(batch), expected)
    assert max(floats.rows) == 4 and sum(floats.rows) <= COUNT + 1
    delta = np.ones((COUNT, 5), np.float32)
    np.testing.assert_array_equal(adapter.run(batch, {"b": delta}), adapter.run({"x": FLOATS}, {"b": delta}))


def test_in_parts_floats_are_made_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    floats = Watched()
    monkeypatch.setattr(parts, "MOST_VALUES", 100 * FLOATS[0].size)
    found = parts.in_parts(lambda part, _: np.asarray(part["x"])[:, 0, 0], {"x": Scaled(BYTES, floats)}, None)
    np.testing.assert_array_equal(found, FLOATS[:, 0, 0])
    assert floats.rows == [100, 100, 100]


@pytest.mark.parametrize("size", [COUNT, 256, 100])
def test_turns_give_the_same_statistics(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Large examples: few layers at a time, and the model once more for each; sums are those of all at once."""
    adapter, floats = three_layers(), Watched()
    adapter.run({"x": FLOATS[:1]})
    expected = adapter.moments(Dataset({"x": FLOATS}).batches(size))
    made: list[Any] = []
    real = onnx_run.watching
    monkeypatch.setattr(onnx_run, "watching", lambda *given: made.append(given[1]) or real(*given))
    monkeypatch.setattr(parts, "MOST_VALUES", 4 * FLOATS[0].size)
    monkeypatch.setattr(onnx_run, "WAITING_BYTES", 1 << 20)
    found = adapter.moments(Dataset({"x": Scaled(BYTES, floats)}).batches(size))
    assert list(found) == list(expected) == ["a", "b", "c"]
    assert all(same(found[name], expected[name]) for name in found)
    assert len({tuple(names) for names in made}) > 1
    assert max(floats.rows) <= BLOCK


def test_what_waits_is_known_from_shapes() -> None:
    assert waiting(10) == 4 * 10 * BLOCK
    assert waiting(WIDE // BLOCK) == 4 * WIDE
    assert waiting(WIDE // BLOCK + 1) <= 4 * PIECE
    assert waiting(2 * PIECE) == 8 * PIECE  # one example is the least
    assert all(waiting(one) < waiting(other) for one, other in pairwise(range(1, WIDE // BLOCK, 9973)))
