"""Sketches of what layers see: the same however examples are batched, exact where they can be, and bounded."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attar.adapters.onnx.adapter import OnnxAdapter
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.selection import features
from attar.selection.features import FEATURES, MOMENTS, Sketch, Widths, of_model, of_rows
from attar.types import Capture, Dataset
from fakes import NumpyNet, trained

EXAMPLES = Path(__file__).parents[2] / "examples"
MODELS = EXAMPLES / "models"


def still(_: int) -> None:
    return None


def images(count: int, model: str) -> tuple[OnnxAdapter, Dataset]:
    adapter = OnnxAdapter.open(MODELS / f"{model}.onnx")
    return adapter, fit_inputs(read(EXAMPLES / "fashion-mnist")["train"].take(range(count)), adapter.inputs())


@pytest.mark.parametrize("model", ["lenet5", "dwcnn"])
def test_batches_do_not_matter_and_the_model_stays_as_it_is(model: str) -> None:
    adapter, data = images(90, model)
    before = adapter.run(next(data.batches(8)))
    one, other = (of_model(adapter, data, 0, still, batch) for batch in (7, 64))
    for first, second in ((one.features, other.features), (one.moments, other.moments)):
        assert np.mean(first != second) < 0.01  # rounded: what differs is one grain off
        np.testing.assert_allclose(first, second, atol=1.01 / features.GRAIN)
    np.testing.assert_array_equal(before, adapter.run(next(data.batches(8))))
    assert one.size == 90 and len(one.layers) == len([x for x in adapter.layers() if x.tied_to is None])


def test_moments_of_all_are_zero_and_the_identity() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(4000, 5)) @ rng.normal(size=(5, 5)) + 3).astype(np.float32)
    known = of_rows([x[:1500], x[1500:]], len(x), None, 0, still)
    width = Widths.of(1).products
    mean = known.moments.mean(0) * np.sqrt(width)
    np.testing.assert_allclose(mean[:width], 0, atol=2e-3)
    whole = np.zeros((width, width))
    whole[np.triu_indices(width)] = mean[width:]
    values = np.linalg.eigvalsh((whole + whole.T) / np.sqrt(2) - np.diag(np.diag(whole)) * (np.sqrt(2) - 1))
    # Five directions of data: their sketch has five eigenvalues of one, and none elsewhere.
    np.testing.assert_allclose(np.sort(values)[-5:], 1, atol=0.02)
    np.testing.assert_allclose(np.sort(values)[:-5], 0, atol=0.02)


def test_an_examples_share_is_the_mean_over_its_positions() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 3, 4 * 5)).astype(np.float32)  # 2 groups of 3 columns, 4 examples of 5 positions
    sketch = Sketch(4, 6, Widths(4, 4), 0.1, rng)
    assert sketch.add(Capture("layer", x, None), 5) and sketch.filled == 4
    z = x.reshape(6, 20).T @ sketch.directions
    for at, rows in enumerate(z.reshape(4, 5, 4)):
        mean = rows.mean(0)
        expected = 0.9 * np.outer(mean, mean) + 0.1 * rows.T @ rows / 5
        np.testing.assert_allclose(sketch.seconds[at], expected, rtol=1e-4, atol=1e-6)
    assert not sketch.add(Capture("layer", x[:, :, :7], None), 5)  # positions that do not come out even
    assert not sketch.add(Capture("layer", x, None), 5)  # more examples than there are


def test_ids_are_seen_as_rows_of_the_directions() -> None:
    sketch = Sketch(2, 10, Widths(4, 4), 1.0, np.random.default_rng(2))
    assert sketch.add(Capture("embedding", None, None, np.array([3, 3, 4, -1])), 2)
    np.testing.assert_allclose(sketch.means, [sketch.directions[3], sketch.directions[[4, 9]].mean(0)], rtol=1e-6)


class Reused(NumpyNet):
    """Hands on a layer's columns in two pieces of a batch, and every piece of w1 a second time, scaled."""

    def capture(self, batches: Iterable[Any], only: Sequence[str] | None = None) -> Iterator[Capture]:
        for batch in batches:
            for piece in np.array_split(next(iter(batch.values())), 2):
                if len(piece):
                    for seen in super().capture([{"x": piece}], only):
                        yield seen
                        if seen.name == "w1":
                            yield Capture("w1", 100 * seen.x, None)


def test_pieces_and_layers_that_are_used_twice() -> None:
    net, data = trained()
    data = data.take(range(50))
    plain, cut = (of_model(model, data, 0, still) for model in (net, Reused(net.weights)))
    np.testing.assert_allclose(plain.features, cut.features, atol=1.01 / features.GRAIN)


def test_a_layer_seen_by_some_examples_only_is_left_out() -> None:
    class Gated(NumpyNet):
        def capture(self, batches: Iterable[Any], only: Sequence[str] | None = None) -> Iterator[Capture]:
            for seen in super().capture(batches, only):
                yield (
                    seen if seen.name == "w1" else Capture(seen.name, seen.x[:, :, : (seen.x.shape[2] + 1) // 2], None)
                )

    net, data = trained()
    assert len(of_model(Gated(net.weights), data.take(range(64)), 0, still).layers) == 1


@pytest.mark.parametrize("layers", [1, 2, 4, 20, 64])
def test_widths_are_bounded(layers: int) -> None:
    widths = Widths.of(layers)
    assert widths.products <= widths.means and layers * widths.means <= max(FEATURES, 4 * layers)
    assert layers * widths.products * (widths.products + 1) / 2 <= max(1.3 * MOMENTS, 10 * layers)


def test_memory_does_not_grow_with_the_examples_width() -> None:
    rng = np.random.default_rng(0)

    def rows() -> Iterator[np.ndarray]:
        for _ in range(30):
            yield rng.random((10, 100_000), np.float32)

    tracemalloc.start()
    known = of_rows(rows(), 300, None, 0, still)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert known.features.shape == (300, 32)
    assert peak < 70e6  # all of it at once would be 120 MB
