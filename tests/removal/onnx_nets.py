"""Small ONNX networks, one for each way in which channels are coupled."""

from __future__ import annotations

import numpy as np

from adapters.onnx_models import batch_norm, model, node, random


def residual():
    """A sum of two convolutions, read by a third and, after a mean, by a dense layer."""
    nodes = [
        node("Conv", "x w1 b1", "a", pads=[1, 1, 1, 1]),
        node("Relu", "a", "r"),
        node("Conv", "r w2", "c", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c gamma beta mean var", "n"),
        node("Add", "n r", "s"),
        node("Relu", "s", "t"),
        node("ReduceMean", "t", "m", axes=[2, 3], keepdims=0),
        node("Gemm", "m w3 b3", "y", transB=1),
    ]
    weights = {"w1": random(8, 3, 3, 3), "b1": random(8), "w2": random(8, 8, 3, 3), "w3": random(5, 8), "b3": random(5)}
    return model(nodes, weights | batch_norm(8), [3, 6, 6])


def concat():
    """Two branches side by side, added to a third: two groups share the third's channels."""
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Conv", "x w2 b2", "b"),
        node("Concat", "a b", "c", axis=1),
        node("Conv", "x w3", "d"),
        node("Add", "c d", "s"),
        node("Relu", "s", "r"),
        node("Conv", "r w4", "e"),
        node("Flatten", "e", "f"),
        node("Gemm", "f w5", "y"),
    ]
    weights = {
        "w1": random(4, 3, 3, 3), "b1": random(4), "w2": random(6, 3, 3, 3), "b2": random(6),
        "w3": random(10, 3, 3, 3), "w4": random(6, 10, 1, 1), "w5": random(6 * 16, 4),
    }  # fmt: skip
    return model(nodes, weights, [3, 6, 6])


def depthwise(multiplier=1):
    """A convolution, a depthwise one with an unfolded norm behind an activation, a pointwise one."""
    wide = 8 * multiplier
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Clip", "a low high", "r"),
        node("Conv", "r w2 b2", "d", group=8, pads=[1, 1, 1, 1], strides=[2, 2]),
        node("LeakyRelu", "d", "l"),
        node("BatchNormalization", "l gamma beta mean var", "n"),
        node("Conv", "n w3", "p"),
        node("GlobalAveragePool", "p", "g"),
        node("Reshape", "g shape", "v"),
        node("Gemm", "v w4", "y"),
    ]
    weights = {
        "w1": random(8, 3, 3, 3), "b1": random(8), "w2": random(wide, 1, 3, 3), "b2": random(wide),
        "low": np.float32(0), "high": np.float32(6), "w3": random(12, wide, 1, 1),
        "shape": np.array([-1, 12]), "w4": random(12, 5),
    }  # fmt: skip
    return model(nodes, weights | batch_norm(wide), [3, 8, 8])


def grouped():
    """A convolution in two groups between plain ones: every group loses as many channels."""
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Relu", "a", "r"),
        node("Conv", "r w2 b2", "c", group=2),
        node("MaxPool", "c", "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "m", "f"),
        node("MatMul", "f w3", "h"),
        node("Add", "h b3", "z"),
        node("Tanh", "z", "t"),
        node("MatMul", "t w4", "y"),
    ]
    weights = {
        "w1": random(8, 3, 3, 3), "b1": random(8), "w2": random(12, 4, 1, 1), "b2": random(12),
        "w3": random(48, 10), "b3": random(10), "w4": random(10, 4),
    }  # fmt: skip
    return model(nodes, weights, [3, 6, 6])


def channels_last():
    """As converters from TensorFlow write it: transposes around a convolution, a flatten of [h, w, c]."""
    nodes = [
        node("Transpose", "x", "first", perm=[0, 3, 1, 2]),
        node("Conv", "first w1 b1", "a"),
        node("Transpose", "a", "last", perm=[0, 2, 3, 1]),
        node("Add", "last shift", "s"),
        node("PRelu", "s slope", "p"),
        node("Reshape", "p shape", "f"),
        node("MatMul", "f w2", "y"),
    ]
    weights = {
        "w1": random(6, 3, 3, 3), "b1": random(6), "shift": random(1, 1, 1, 6), "slope": random(1, 1, 6),
        "shape": np.array([-1, 96]), "w2": random(96, 5),
    }  # fmt: skip
    return model(nodes, weights, [6, 6, 3])


def squeezed():
    """Squeeze and excitation: a gate by channel, through a sigmoid; tensors behind a Reshape and a Transpose."""
    nodes = [
        node("Conv", "x w1", "a0"),
        node("Reshape", "b1 along", "b1r"),
        node("Add", "a0 b1r", "a"),
        node("GlobalAveragePool", "a", "g"),
        node("Conv", "g w2 b2", "h"),
        node("Relu", "h", "i"),
        node("Conv", "i w3 b3", "j"),
        node("Sigmoid", "j", "k"),
        node("Mul", "a k", "m"),
        node("ReduceMean", "m", "n", axes=[2, 3], keepdims=1),
        node("Squeeze", "n places", "o"),
        node("Transpose", "w4", "w4t", perm=[1, 0]),
        node("MatMul", "o w4t", "y"),
    ]
    weights = {
        "w1": random(8, 3, 3, 3), "b1": random(8), "w2": random(4, 8, 1, 1), "b2": random(4),
        "w3": random(8, 4, 1, 1), "b3": random(8), "along": np.array([1, 8, 1, 1]),
        "places": np.array([2, 3]), "w4": random(5, 8),
    }  # fmt: skip
    return model(nodes, weights, [3, 6, 6])


def split():
    """A value cut in two parts of which one gates the other; a transposed convolution; a resize."""
    nodes = [
        node("Conv", "x w1 b1", "a"),
        node("Split", "a", "p q", axis=1),
        node("Mul", "p q", "m"),
        node("ConvTranspose", "m w2 b2", "t", strides=[2, 2]),
        node("Resize", "t _ scales", "u", mode="nearest"),
        node("Pad", "u pads", "v"),
        node("Conv", "v w3", "w"),
        node("ReduceMax", "w", "y", axes=[2, 3], keepdims=0),
    ]
    weights = {
        "w1": random(12, 3, 3, 3), "b1": random(12), "w2": random(6, 5, 2, 2), "b2": random(5),
        "scales": np.array([1, 1, 2, 2], np.float32), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "w3": random(4, 5, 3, 3),
    }  # fmt: skip
    return model(nodes, weights, [3, 6, 6])


def attention(heads=4, width=24):
    """Heads go as a whole: q, k, v taken apart and put together by Reshape and Transpose; a hidden layer behind."""
    depth = width // heads
    nodes = []
    for part in "qkv":
        order = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
        nodes += [
            node("MatMul", f"x w{part}", f"{part}0"),
            node("Add", f"{part}0 b{part}", f"{part}1"),
            node("Reshape", f"{part}1 apart", f"{part}2"),
            node("Transpose", f"{part}2", f"{part}", perm=order),
        ]
    nodes += [
        node("MatMul", "q k", "s"),
        node("Mul", "s scale", "scaled"),
        node("Softmax", "scaled", "a", axis=-1),
        node("MatMul", "a v", "o"),
        node("Transpose", "o", "o1", perm=[0, 2, 1, 3]),
        node("Reshape", "o1 together", "o2"),
        node("MatMul", "o2 wo", "p"),
        node("Add", "p x", "z"),
        node("MatMul", "z w1", "h"),
        node("Erf", "h", "e"),
        node("MatMul", "e w2", "y"),
    ]
    weights = {f"w{part}": random(10, width, seed=i) for i, part in enumerate("qkv")}
    weights |= {f"b{part}": random(width, seed=i) for i, part in enumerate("qkv")}
    weights |= {
        "apart": np.array([0, 0, heads, depth]), "together": np.array([0, 0, width]), "scale": np.float32(0.4),
        "wo": random(width, 10), "w1": random(10, 16), "w2": random(16, 3),
    }  # fmt: skip
    return model(nodes, weights, [5, 10])


def embedding():
    """A table's columns, read by a dense layer at every place and summed."""
    nodes = [
        node("Gather", "table x", "e"),
        node("MatMul", "e w1", "h"),
        node("Relu", "h", "r"),
        node("ReduceSum", "r axes", "s", keepdims=0),
        node("MatMul", "s w2", "y"),
    ]
    weights = {"table": random(20, 6), "w1": random(6, 8), "w2": random(8, 3), "axes": np.array([1])}
    return model(nodes, weights, [7], kind=7)


def shared():
    """One kernel used twice in a row."""
    nodes = [
        node("MatMul", "x w1", "a"),
        node("Relu", "a", "b"),
        node("MatMul", "b w2", "c"),
        node("Relu", "c", "d"),
        node("MatMul", "d w2", "e"),
        node("MatMul", "e w3", "y"),
    ]
    return model(nodes, {"w1": random(5, 8), "w2": random(8, 8), "w3": random(8, 4)}, [5])


def kept():
    """Channels that a layer norm, a softmax, an unknown operator and a fixed entry mix must stay."""
    nodes = [
        node("MatMul", "x w1", "a"),
        node("LayerNormalization", "a scale shift", "b", axis=-1),
        node("MatMul", "b w2", "c"),
        node("Softmax", "c", "d", axis=1),
        node("MatMul", "d w3", "e"),
        node("CumSum", "e one", "f"),
        node("MatMul", "f w4", "g"),
        node("Gather", "g one", "h", axis=1),
        node("Unsqueeze", "h place", "i"),
        node("MatMul", "i w5", "j"),
        node("MatMul", "j w6", "y"),
    ]
    weights = {
        "w1": random(5, 8), "scale": random(8), "shift": random(8), "w2": random(8, 6), "w3": random(6, 7),
        "one": np.array(1), "w4": random(7, 5), "place": np.array([1]), "w5": random(1, 16), "w6": random(16, 3),
    }  # fmt: skip
    return model(nodes, weights, [5], opset=17)


NETS = {
    "residual": (residual, (3, 6, 6), 1),
    "concat": (concat, (3, 6, 6), 3),
    "depthwise": (depthwise, (3, 8, 8), 2),
    "depthwise_multiplier": (lambda: depthwise(2), (3, 8, 8), 2),
    "grouped": (grouped, (3, 6, 6), 3),
    "channels_last": (channels_last, (6, 6, 3), 1),
    "squeezed": (squeezed, (3, 6, 6), 2),
    "split": (split, (3, 6, 6), 2),
    "attention": (attention, (5, 10), 2),
    "embedding": (embedding, (7,), 2),
    "shared": (shared, (5,), 1),
    "kept": (kept, (5,), 1),
}
"""Maker, one example's shape, number of groups."""
