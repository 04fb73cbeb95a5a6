"""How Keras models run on TensorFlow and JAX: traced a few times, in pieces, nothing stays; run by test_keras.py."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from attar.adapters.keras import capture, pieces, traced
from attar.adapters.keras.adapter import KerasAdapter
from attar.errors import UsageError
from attar.types import Array, Stats, Weight

BACKEND = keras.backend.backend()
pytestmark = pytest.mark.skipif(BACKEND == "torch", reason="PyTorch runs eagerly")
graphs = pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow shows its graphs")
Traces = list[tuple[int, weakref.ref[Any]]]
"""Examples of each trace, and its graph."""


def network(batch: int | None = None) -> Any:
    """Convolutions plain and depthwise, and one that is called twice."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((12, 12, 2), batch_size=batch, name="x")
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(x)
    x = keras.layers.DepthwiseConv2D(3, name="deep")(x)
    twice = keras.layers.Conv2D(8, 1, activation="relu", name="twice")
    x = keras.layers.GlobalAveragePooling2D()(twice(twice(x)))
    return keras.Model(inputs, keras.layers.Dense(5, name="fc")(x))


def images(count: int) -> dict[str, Array]:
    return {"x": np.random.default_rng(count).normal(size=(count, 12, 12, 2)).astype(np.float32)}


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Traces:
    """What is traced from now on."""
    found: Traces = []
    plain = traced.forward

    def noted(model: Any, inputs: Any) -> Any:
        graph = _graph(inputs)
        if graph is not None:
            found.append((int(inputs.shape[0]), weakref.ref(graph)))
        return plain(model, inputs)

    monkeypatch.setattr(traced, "forward", noted)
    return found


def _graph(inputs: Any) -> Any:
    """What is being traced; None in an eager run."""
    if BACKEND == "jax":
        import jax

        return inputs if isinstance(inputs, jax.core.Tracer) else None
    import tensorflow as tf

    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def shift(adapter: KerasAdapter, name: str, count: int) -> Array:
    rows = next(layer.rows for layer in adapter.layers() if layer.name == name)
    return adapter.run(images(count), {name: np.ones((count, rows), np.float32)})


def test_shifts_are_traced_once_for_a_size_whatever_the_layer(traces: Traces) -> None:
    adapter = KerasAdapter.open(network())
    for name in ("first/kernel", "deep/kernel", "fc/kernel"):
        shift(adapter, name, 256)
    assert [size for size, _ in traces] == [64]
    shift(adapter, "twice/kernel", 64 + 16 + 3)
    assert [size for size, _ in traces] == [64, 8, 1]


def test_shifts_of_several_layers_act_together() -> None:
    """A shift of the last layer is added to whatever those before it do."""
    adapter = KerasAdapter.open(network())
    first, last = np.ones((64, 8), np.float32), np.arange(5 * 64, dtype=np.float32).reshape(64, 5)
    both = adapter.run(images(64), {"fc/kernel": last, "first/kernel": first})
    np.testing.assert_allclose(both, adapter.run(images(64), {"first/kernel": first}) + last, rtol=1e-5, atol=1e-5)


@graphs
def test_the_graph_of_shifts_does_not_stay(traces: Traces) -> None:
    adapter = KerasAdapter.open(network())
    shift(adapter, "first/kernel", 64)
    gc.collect()
    assert [graph() is not None for _, graph in traces] == [True]
    adapter.run(images(64))
    gc.collect()
    assert [graph() is not None for _, graph in traces] == [False]


def test_statistics_trace_few_sizes_and_leave_no_graph(traces: Traces) -> None:
    adapter = KerasAdapter.open(network())
    adapter.moments([images(256), images(256), images(77)])
    assert sorted(size for size, _ in traces) == [1, 8, 32]
    gc.collect()
    assert not any(graph() for _, graph in traces)


def test_weights_written_between_runs_count() -> None:
    """A graph reads variables when it runs."""
    adapter = KerasAdapter.open(network())
    before, weight = shift(adapter, "first/kernel", 64), adapter.read("fc/kernel")
    adapter.write("fc/kernel", Weight(2 * weight.matrix, weight.bias))
    after = shift(adapter, "first/kernel", 64)
    assert weight.bias is not None
    np.testing.assert_allclose(after, 2 * before - weight.bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("run", [lambda a: a.run(images(150)), lambda a: shift(a, "deep/kernel", 150)])
def test_pieces_answer_like_the_whole(monkeypatch: pytest.MonkeyPatch, run: Callable[[KerasAdapter], Array]) -> None:
    adapter = KerasAdapter.open(network())
    found = run(adapter)
    assert found.shape == (150, 5)
    monkeypatch.setattr(pieces, "_allowed", lambda model, given, most: len(given[0]))
    np.testing.assert_allclose(found, run(KerasAdapter.open(network())), rtol=1e-5, atol=1e-6)


def test_statistics_are_those_of_captures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all positions; of a layer that is called twice, too; and with blocks cut anywhere by what may be held."""
    adapter, batches = KerasAdapter.open(network()), [images(200), images(77)]
    monkeypatch.setattr(capture, "pick", lambda *_: None)
    columns: dict[str, list[Array]] = {}
    for seen in adapter.capture(batches):
        assert seen.x is not None
        columns.setdefault(seen.name, []).append(seen.x)
    for most in (capture.CAPTURE_BYTES, 1 << 16):
        monkeypatch.setattr(capture, "CAPTURE_BYTES", most)
        stats = adapter.moments(batches)
        for name, parts in columns.items():
            _like(stats[name], np.concatenate(parts, 2).astype(np.float64))


def _like(found: Stats, x: Array) -> None:
    mean = x.mean(2)
    assert found.count == x.shape[2] and found.samples == 277
    np.testing.assert_allclose(found.mean, mean, rtol=1e-4, atol=1e-5)
    away = x - mean[:, :, None]
    exact = away @ away.transpose(0, 2, 1) / x.shape[2]
    np.testing.assert_allclose(found.hessian, exact, rtol=1e-3, atol=1e-4 * float(np.abs(exact).max()))


def test_what_cannot_be_traced_runs_eagerly() -> None:
    """A mask leaves out steps, and how many is known when it is there alone."""
    keras.utils.set_random_seed(0)
    ids = keras.Input((7,), dtype="int32", name="x")
    seen = keras.layers.Embedding(11, 6, mask_zero=True, name="words")(ids)
    adapter = KerasAdapter.open(keras.Model(ids, keras.layers.LSTM(5, name="loop")(seen)))
    given = np.random.default_rng(0).integers(0, 3, (40, 7)).astype(np.int32)
    given[:, 0] = 1
    found = adapter.moments([{"x": given}])
    loop = [stats for name, stats in found.items() if "loop" in name]
    assert loop and all(stats.count == np.count_nonzero(given) for stats in loop)


def test_a_model_for_one_batch_size_is_run_in_whole(traces: Traces) -> None:
    fixed = KerasAdapter.open(network(batch=12))
    assert len(fixed.run(images(12))) == len(shift(fixed, "first/kernel", 12)) == 12
    fixed.moments([images(12), images(12)])
    assert [size for size, _ in traces] == [12, 12]


def test_a_model_that_is_to_run_eagerly_is_not_traced(traces: Traces) -> None:
    model = network()
    model.compile(run_eagerly=True)
    adapter = KerasAdapter.open(model)
    assert adapter.model().run_eagerly
    shift(adapter, "first/kernel", 9)
    adapter.moments([images(9)])
    assert not traces


@pytest.mark.parametrize(
    ("count", "even", "sizes"),
    [(150, False, [64, 64, 22]), (150, True, [64, 64, 8, 8, 1, 1, 1, 1, 1, 1]), (0, True, [0]), (7, False, [7])],
)
def test_sizes_of_pieces(count: int, even: bool, sizes: list[int]) -> None:
    given = images(count)["x"]
    found = list(pieces.pieces(network(), given, even=even))
    assert [size for _, size in found] == sizes == [len(piece) for piece, _ in found]
    np.testing.assert_array_equal(np.concatenate([piece for piece, _ in found]), given)


def test_large_outputs_make_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    one = 12 * 12 * 8 * 4
    for most, size in ((64 * one, 64), (64 * one - 1, 8), (7 * one, 1), (one - 1, 1)):
        monkeypatch.setattr(pieces, "PIECE_BYTES", most)
        assert next(count for _, count in pieces.pieces(network(), images(64)["x"])) == size


def test_another_output_leads() -> None:
    x = keras.Input((6,), name="x")
    hidden = keras.layers.Dense(20, activation="relu", name="body")(x)
    dense = keras.layers.Dense
    ends = {"kind": dense(5, name="first")(hidden), "age": dense(4, name="second")(hidden)}
    model = keras.Model(x, ends)
    batch = {"x": np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)}
    wanted = keras.ops.convert_to_numpy(model(batch["x"])["kind"])
    adapter = KerasAdapter.open(model)
    assert [spec.name for spec in adapter.outputs()] == ["age", "kind"]
    adapter.lead("kind")
    for one in (adapter, adapter.copied()):
        np.testing.assert_allclose(one.run(batch), wanted, rtol=1e-5, atol=1e-6)
        assert [spec.name for spec in one.outputs()] == ["kind", "age"]
        delta = np.ones((3, 5), np.float32)
        np.testing.assert_allclose(one.run(batch, {"first/kernel": delta}), wanted + 1, rtol=1e-5, atol=1e-5)
        found = one.pullback(batch, np.ones_like).layers
        assert found["first/kernel"].matrix.any()
        assert "second/kernel" not in found or not found["second/kernel"].matrix.any()
    with pytest.raises(UsageError, match="Received one that gives 'age', 'kind'"):
        adapter.lead("kin")
