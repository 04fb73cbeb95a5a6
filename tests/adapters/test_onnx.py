"""What the ONNX adapter finds in a model, and how it lays it out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from adapters import onnx_models as models
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.adapters.onnx.fold import identity
from attar.adapters.onnx.forms import Product, gather, spread
from attar.adapters.unfold import Window, fold
from attar.types import Weight

KINDS = {
    # name: (kind, rows, cols, groups, has_bias) of the first layer
    "matmul": ("dense", 7, 5, 1, True),
    "matmul_left": ("dense", 6, 4, 1, True),
    "matmul_single": ("dense", 5, 4, 1, False),
    "matmul_stack": ("dense", 15, 4, 3, False),
    "gemm_trans": ("dense", 7, 5, 1, True),
    "gemm_alpha": ("dense", 7, 5, 1, False),
    "gemm_norm": ("dense", 7, 5, 1, True),
    "conv_grouped": ("conv", 6, 18, 2, True),
    "conv_depthwise": ("conv", 4, 9, 4, True),
    "conv_norm_no_bias": ("conv", 6, 27, 1, True),
    "conv_add": ("conv", 6, 27, 1, True),
    "conv_transpose_grouped": ("conv_transpose", 36, 2, 2, False),
    "embedding": ("embedding", 6, 11, 1, False),
    "lstm_bidirectional": ("recurrent", 40, 4, 2, False),
    "attention": ("dense", 24, 8, 1, True),
    "einsum": ("einsum", 8, 6, 1, False),
    "einsum_grouped": ("einsum", 12, 5, 3, False),
}


@pytest.mark.parametrize("name", KINDS)
def test_kind_and_shape(name):
    layer = OnnxAdapter.open(models.MODELS[name]()).layers()[0]
    assert (layer.kind, layer.rows, layer.cols, layer.groups, layer.has_bias) == KINDS[name]


@pytest.mark.parametrize("name", [n for n in models.MODELS if n not in ("branches", "tied_dense", "tied_embedding")])
def test_layers_of_the_main_graph_have_statistics(name):
    """All but those in branches; and only a hidden output or a recurrence stops perturbation."""
    adapter = OnnxAdapter.open(models.MODELS[name]())
    spec = adapter.inputs()[0]
    shape = [4 if i == 0 and size is None else size for i, size in enumerate(spec.shape)]
    x = np.random.default_rng(0).integers(0, 5, shape).astype(spec.dtype)
    stats = adapter.moments([{"x": x}])
    own = [layer for layer in adapter.layers() if layer.tied_to is None]
    assert set(stats) == {layer.name for layer in own}
    hidden = {"conv_transpose", "recurrent"}
    for layer in own:
        expected = (
            layer.kind not in hidden
            and name not in ("attention", "fused_conv")
            and layer.name not in ("word", "part", "places")
        )
        assert adapter.can_perturb(layer.name) == expected


def test_weights_in_branches_are_found_without_statistics():
    adapter = OnnxAdapter.open(models.branches())
    names = [layer.name for layer in adapter.layers()]
    assert names == ["w", "inner", "shared", "branch/then_branch/inner"]
    assert [layer.has_bias for layer in adapter.layers()] == [False, True, False, True]
    assert set(adapter.moments([{"x": np.ones((3, 4), np.float32)}])) == {"w"}
    assert not adapter.can_perturb("inner")
    adapter.write("branch/then_branch/inner", Weight(np.zeros((5, 5), np.float32), np.full(5, 2, np.float32)))
    # The "then" branch runs for inputs whose maximum is not zero.
    np.testing.assert_array_equal(adapter.run({"x": np.ones((3, 4), np.float32)}), np.full((3, 5), 2, np.float32))


def test_einsum_and_matrix_agree_with_numpy():
    adapter = OnnxAdapter.open(models.einsum())
    w = models.random(6, 2, 4)
    np.testing.assert_array_equal(adapter.read("w").matrix, w.reshape(6, 8).T)
    adapter = OnnxAdapter.open(models.matmul_stack())
    np.testing.assert_array_equal(adapter.read("w").matrix, models.random(3, 4, 5).transpose(0, 2, 1).reshape(15, 4))


@pytest.mark.parametrize(
    ("subscripts", "fits"),
    [
        (("bij", "jk", "bik"), True),
        (("...j", "jk", "...k"), True),
        (("bhi", "hij", "bhj"), True),
        (("bi", "i", "b"), False),  # no rows
        (("bi", "ij", "bij"), False),  # nothing is summed
        (("bii", "ij", "bj"), False),  # a diagonal
        (("bia", "ij", "bj"), False),  # the activation alone is summed
        (("bi", "ijk", "bj"), False),  # the weight alone is summed
    ],
)
def test_which_einsums_are_products(subscripts, fits):
    assert Product.fits(subscripts) == fits


def test_einsums_that_are_no_product_are_skipped():
    adapter = OnnxAdapter.open(models.einsum("nsd,dhk->nsdhk"))
    assert not adapter.layers()
    assert adapter.skipped() == {"w": "read by Einsum in a way that is no product of this matrix and one input"}


def test_biases_of_a_recurrence_are_called_so():
    adapter = OnnxAdapter.open(models.recurrent(initial=True))
    reason = "biases or an initial state, read by LSTM"
    assert adapter.skipped() == {"b": reason, "h0": "fewer than 16 weights"}


@given(st.permutations(range(3)), st.integers(0, 2))
def test_spread_and_gather_are_inverse(order, extra):
    axes = [axis - 3 - extra for axis in order]
    sizes = [2 + axis for axis in order]
    values = np.arange(24.0)
    placed = spread(values, axes, sizes, 4 + extra)
    assert placed.shape == (1, 2, 3, 4, *(1,) * extra)
    np.testing.assert_array_equal(gather(placed, axes, sizes), values)
    both = spread(np.stack([values, -values]), axes, sizes, 4 + extra, 0)
    np.testing.assert_array_equal(both[1], -placed[0])


def test_products_of_a_transposed_convolution_scatter_to_its_output():
    adapter = OnnxAdapter.open(models.MODELS["conv_transpose"]())
    x = models.random(2, 4, 5, 6, seed=8)
    capture = next(adapter.capture([{"x": x}]))
    assert capture.y is None
    products = adapter.read("w").matrix @ capture.x[0]
    scattered = fold(products, Window((3, 3), (2, 1), (1, 1), (1, 0), (0, 1)), 2, (5, 6))
    bias = adapter.remainder()["b"].reshape(1, -1, 1, 1)
    np.testing.assert_allclose(scattered + bias, adapter.run({"x": x}), atol=1e-5)


@pytest.mark.parametrize(("direction", "named"), [("forward", True), ("reverse", False), ("bidirectional", False)])
def test_hidden_states_drive_the_recurrence(direction, named):
    """A plain RNN is h = tanh(W x + R h' + b), so the captured columns must reproduce its own next states."""
    model = models.recurrent("RNN", direction, named=named)
    model.graph.node[1].output[0] = "seq"
    model.graph.output.append(helper.make_tensor_value_info("seq", TensorProto.FLOAT, None))
    x = models.random(3, 6, 4, seed=1)
    adapter = OnnxAdapter.open(model)
    captures = {c.name: c.x for c in adapter.capture([{"x": x}])}
    groups = len(captures["w"])
    bias = adapter.remainder()["b"].reshape(groups, 2, 5).sum(1)[:, :, None]
    w, r = (adapter.read(n).matrix.reshape(groups, 5, -1) for n in ("w", "r"))
    states = np.tanh(w @ captures["w"] + r @ captures["r"] + bias)
    following = captures["r"].reshape(groups, 5, 3, 6)
    made = states.reshape(groups, 5, 3, 6)
    for group in range(groups):
        backwards = direction == "reverse" or group == 1
        if backwards:
            np.testing.assert_allclose(made[group, :, :, 1:], following[group, :, :, :-1], atol=1e-6)
        else:
            np.testing.assert_allclose(made[group, :, :, :-1], following[group, :, :, 1:], atol=1e-6)


@pytest.mark.parametrize("epsilon", [0, 1e-12, 1e-7, 1e-5, 1e-3, 0.0123, 0.3, 1.0, 2.5])
def test_identity_norm_is_exact(epsilon):
    epsilon = np.float32(epsilon)
    variance, scale = identity(epsilon)
    assert scale / np.sqrt(variance + epsilon) == 1


def test_norm_is_left_alone_where_something_else_reads_the_layer():
    model = models.conv_norm()
    model.graph.node[3].CopyFrom(models.node("Mul", "r h", "y"))
    adapter = OnnxAdapter.open(model)
    np.testing.assert_array_equal(adapter.remainder()["gamma"], models.batch_norm(6)["gamma"])
    np.testing.assert_array_equal(adapter.read("w").bias, models.random(6))


def test_opening_a_folded_model_again_changes_nothing():
    once = OnnxAdapter.open(models.conv_norm())
    twice = OnnxAdapter.open(once.model())
    assert once.model().SerializeToString(deterministic=True) == twice.model().SerializeToString(deterministic=True)


def test_tied_weights_have_one_owner():
    adapter = OnnxAdapter.open(models.tied_embedding())
    first, second = adapter.layers()
    assert (first.name, first.tied_to) == ("table", None)
    assert (second.kind, second.tied_to) == ("dense", "table")
    dense = OnnxAdapter.open(models.tied_dense())
    x = models.random(8, 6, seed=4)
    stats = dense.moments([{"x": x}])
    assert list(stats) == ["w"]
    assert (stats["w"].count, stats["w"].samples) == (16, 8)  # both uses
    transposed = OnnxAdapter.open(models.tied_transposed())
    assert transposed.layers()[1].tied_to == "w"
    np.testing.assert_allclose(transposed.moments([{"x": x}])["w"].mean[0], x.mean(0), atol=1e-6)
