"""What the TFLite adapter finds in a model, how it lays it out, and how it runs it."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from adapters import tflite_models as models
from adapters.tflite_models import Graph, dense, random
from attar.adapters.tflite.adapter import TfliteAdapter
from attar.adapters.tflite.store import Store
from attar.errors import DataError, ModelError
from attar.types import Weight

KINDS = {
    # name: (kind, rows, cols, groups, has_bias) of the first layer
    "fully_connected": ("dense", 9, 7, 1, True),
    "without_bias": ("dense", 5, 7, 1, False),
    "by_position": ("dense", 6, 5, 1, True),
    "conv": ("conv", 5, 18, 1, True),
    "conv_grouped": ("conv", 6, 18, 2, True),
    "depthwise": ("conv", 6, 9, 3, True),
    "conv_3d": ("conv", 3, 24, 1, True),
    "conv_transpose": ("conv_transpose", 24, 3, 1, False),
    "half": ("conv", 4, 18, 1, True),
    "used_twice": ("conv", 3, 27, 1, False),
    "gather": ("embedding", 5, 11, 1, False),
    "matmul": ("dense", 7, 5, 1, False),
    "lstm": ("recurrent", 4, 5, 1, False),
}


@pytest.mark.parametrize("name", KINDS)
def test_kind_and_shape(name):
    layer = TfliteAdapter.open(models.MODELS[name]()).layers()[0]
    assert (layer.kind, layer.rows, layer.cols, layer.groups, layer.has_bias) == KINDS[name]


def test_every_layer_has_statistics_and_those_that_show_their_product_can_be_perturbed():
    for name, make in models.MODELS.items():
        adapter = TfliteAdapter.open(make())
        shape, dtype = models.sizes(make())
        stats = adapter.moments([{"x": np.ones((4, *shape), dtype)}])
        own = [layer for layer in adapter.layers() if layer.tied_to is None]
        assert set(stats) == {layer.name for layer in own}, name
        for layer in own:
            assert adapter.can_perturb(layer.name) == (layer.kind not in ("conv_transpose", "recurrent")), name


def test_columns_are_in_channel_first_order():
    adapter = TfliteAdapter.open(models.conv())
    np.testing.assert_array_equal(adapter.read("w").matrix, random(5, 3, 2, 3).transpose(0, 3, 1, 2).reshape(5, 18))
    wide = TfliteAdapter.open(models.depthwise()).read("w").matrix
    np.testing.assert_array_equal(wide, random(1, 3, 3, 6).transpose(3, 0, 1, 2).reshape(6, 9))


def test_one_kernel_in_two_operators_is_one_layer():
    first, second = TfliteAdapter.open(models.used_twice()).layers()
    assert (first.name, second.tied_to, first.has_bias) == ("w", "w", False)


def test_half_precision_stays_so_in_the_file(tmp_path):
    adapter = TfliteAdapter.open(models.half())
    assert {layer.dtype for layer in adapter.layers()} == {"float16"}
    adapter.save(tmp_path / "m.tflite")
    assert abs((tmp_path / "m.tflite").stat().st_size - len(models.half())) < 200


def test_a_size_written_into_the_graph_is_found_out():
    """RESHAPE to [1, 64, 3] takes one example; the adapter runs them one by one."""
    assert TfliteAdapter.open(models.half()).size == 1
    assert TfliteAdapter.open(models.conv()).size is None
    assert TfliteAdapter.open(models.half()).inputs()[0].shape == (None, 8, 8, 2)


def mixing() -> bytes:
    """Subtracts the mean over all examples: any number goes in, but not without a change."""
    g = Graph([6])
    mean = g.tensor("mean", [1, 6])
    g.into("MEAN", [g.input, g.stored("axis", np.array([0], np.int32))], mean, keepDims=True)
    return g.model(models.dense(g, g.op("SUB", [g.input, mean], [6]), "w", 4, 6))


def test_examples_that_would_change_each_other_are_run_alone():
    adapter = TfliteAdapter.open(mixing())
    assert adapter.size == 1
    x = random(5, 6)
    together = adapter.run({"x": x})
    np.testing.assert_array_equal(together, np.concatenate([adapter.run({"x": row[None]}) for row in x]))


def sparse() -> tuple[bytes, np.ndarray]:
    """A dense layer [4, 8] in compressed rows of blocks of four columns, in float32, behind DENSIFY."""
    weight = random(4, 8)
    weight[:, 4:][1:] = 0
    weight[2] = 0
    blocks = weight.reshape(4, 2, 4)
    kept = np.abs(blocks).sum(2) > 0
    g = Graph([8])
    stored = g.stored("w", blocks[kept].reshape(-1))
    g.tensors[stored].shape = [4, 8]
    ends = np.concatenate([[0], np.cumsum(kept.sum(1))]).astype(np.uint8)
    levels = [
        schema.DimensionMetadataT(format=0, denseSize=4),
        schema.DimensionMetadataT(
            format=1, arraySegmentsType=3, arraySegments=schema.Uint8VectorT(ends), arrayIndicesType=3,
            arrayIndices=schema.Uint8VectorT(np.nonzero(kept)[1].astype(np.uint8)),
        ),
        schema.DimensionMetadataT(format=0, denseSize=4),
    ]  # fmt: skip
    g.tensors[stored].sparsity = schema.SparsityParametersT([0, 1, 2], [1], levels)
    wide = g.into("DENSIFY", [stored], g.tensor("wide", [4, 8]))
    return g.model(g.op("FULLY_CONNECTED", [g.input, wide, g.stored("b", random(4))], [4], keepNumDims=False)), weight


def test_sparse_weights_become_dense():
    data, weight = sparse()
    adapter = TfliteAdapter.open(data)
    np.testing.assert_array_equal(adapter.read("w").matrix, weight)
    x = random(3, 8)
    np.testing.assert_allclose(adapter.run({"x": x}), x @ weight.T + random(4), rtol=1e-5, atol=1e-6)


def quantised() -> bytes:
    g = Graph([8])
    w = g.stored("w", np.arange(32, dtype=np.int8).reshape(4, 8))
    g.tensors[w].quantization = schema.QuantizationParametersT(
        scale=np.full(4, 0.1, np.float32), zeroPoint=np.zeros(4, np.int64)
    )
    return g.model(g.op("FULLY_CONNECTED", [g.input, w, g.stored("b", random(4))], [4], keepNumDims=False))


def test_integers_are_left_alone_with_the_reason():
    adapter = TfliteAdapter.open(quantised())
    assert not adapter.layers()
    assert adapter.skipped() == {
        "w": "its values are int8 already, on a grid of their own: `attar pack` keeps every bit"
    }
    x = random(3, 8)
    wanted = x @ (np.arange(32).reshape(4, 8) * 0.1).T + random(4)
    assert np.abs(adapter.run({"x": x}) - wanted).max() < 0.02 * np.abs(wanted).max()
    assert adapter.remainder()["w"].dtype == np.int8


def test_a_model_that_keeps_a_state_is_refused():
    g = Graph([4])
    handle = g.tensor("state", [])
    g.tensors[handle].type = 13
    g.into("VAR_HANDLE", [], handle)
    g.codes.append(schema.OperatorCodeT(builtinCode=schema.BuiltinOperator.ASSIGN_VARIABLE, deprecatedBuiltinCode=127))
    g.operators.append(schema.OperatorT(opcodeIndex=len(g.codes) - 1, inputs=[handle, g.input], outputs=[]))
    adapter = TfliteAdapter.open(g.model(models.dense(g, g.input, "w", 5, 4)))
    with pytest.raises(ModelError, match="keeps a state between calls"):
        adapter.run({"x": random(2, 4)})


def test_wrong_weights_and_data_are_refused_before_anything_changes():
    adapter = TfliteAdapter.open(models.without_bias())
    before = adapter.read("w").matrix
    with pytest.raises(ModelError, match=r"must be \[5, 7\]. Received \[7, 5\]"):
        adapter.write("w", Weight(before.T.copy()))
    with pytest.raises(ModelError, match="it has no bias"):
        adapter.write("w", Weight(before, np.zeros(5, np.float32)))
    np.testing.assert_array_equal(adapter.read("w").matrix, before)
    with pytest.raises(DataError, match="it must accept the data"):
        adapter.run({"x": random(2, 6)})
    with pytest.raises(DataError, match="the data must have it"):
        adapter.run({"a": random(2, 7), "b": random(2, 7)})
    with pytest.raises(DataError, match="whole numbers"):
        TfliteAdapter.open(models.gather()).run({"x": np.full((2, 6), 0.5)})


def test_values_that_two_tensors_share_are_stored_once():
    g = Graph([7])
    first = models.dense(g, g.input, "w", 7, 7)
    g.stored("again", random(7, 7))
    g.tensors[-1].buffer = g.tensors[1].buffer
    second = len(g.tensors) - 1
    y = g.op("FULLY_CONNECTED", [first, second, g.stored("c", random(7))], [7], keepNumDims=False)
    adapter = TfliteAdapter.open(g.model(y))
    assert [layer.tied_to for layer in adapter.layers()] == [None, "w"]
    adapter.write("w", Weight(np.eye(7, dtype=np.float32), np.zeros(7, np.float32)) if
                  adapter.layers()[0].has_bias else Weight(np.eye(7, dtype=np.float32)))  # fmt: skip
    np.testing.assert_allclose(adapter.run({"x": random(2, 7)}), random(2, 7) + 2 * random(7), rtol=1e-5)


def test_buffers_are_aligned_as_the_schema_asks():
    data = Store.open(models.scaled()).packed()
    for place in range(len(Store.open(data).model.buffers)):
        values = Store.open(data).model.buffers[place].data
        if values is not None and len(values):
            assert data.find(values.tobytes()) % 16 == 0


def test_another_output_leads():
    g = Graph([7])
    hidden = dense(g, g.input, "w", 9, 7)
    model = g.model(dense(g, hidden, "v", 4, 9), hidden)
    adapter, batch = TfliteAdapter.open(model), {"x": random(3, 7)}
    first, second = [spec.name for spec in adapter.outputs()]
    assert adapter.run(batch).shape == (3, 4)
    adapter.lead(second)
    np.testing.assert_allclose(adapter.run(batch), batch["x"] @ random(9, 7).T + random(9), rtol=1e-5)
    assert [spec.name for spec in adapter.outputs()] == [second, first]


@pytest.mark.parametrize(
    ("operator", "numbers", "takes"),
    [("MUL", [1 / 255], True), ("DIV", [255.0], True), ("DIV", [0.2], False), ("MUL", [2.0], False), (None, [], False)],
)
def test_graphs_that_scale_pixels_take_them_as_they_are(operator, numbers, takes):
    g = Graph([7])
    shifted = g.op("ADD", [g.input, g.stored("mean", np.float32([-100.0]))], [7], fusedActivationFunction=0)
    by = g.stored("by", np.float32(numbers)) if operator else None
    x = g.op(operator, [shifted, by], [7], fusedActivationFunction=0) if operator else shifted
    assert TfliteAdapter.open(g.model(dense(g, x, "w", 4, 7))).inputs()[0].scales_pixels == takes
