"""LeNet-300-100 and the depthwise CNN in Keras: inputs [n, 28, 28, 1] in 0..1, outputs [n, 10] logits.

The twins of the networks in torch_models.py: stride-2 convolutions pad one pixel on every side by ZeroPadding2D, as
PyTorch does (Keras' own "same" pads one side only), so that `from_torch_state` gives the same function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np
from keras import layers

# torch: running = 0.9 * running + 0.1 * batch, epsilon 1e-5
BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}


def lenet300() -> keras.Model:
    """The fully connected LeNet-300-100 of Deep Compression (Han et al. 2016): 266,610 parameters."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Flatten(name="flatten"),
            layers.Dense(300, name="fc1"),
            layers.ReLU(name="relu1"),
            layers.Dense(100, name="fc2"),
            layers.ReLU(name="relu2"),
            layers.Dense(10, name="fc3"),
        ],
        name="lenet300",
    )


def separable(channels: int, stride: int, name: str) -> list[keras.Layer]:
    """A depthwise 3x3 and a pointwise convolution, each with batch norm and ReLU (MobileNet, Howard et al. 2017)."""
    return [
        layers.ZeroPadding2D(1, name=f"{name}_pad"),
        layers.DepthwiseConv2D(3, stride, "valid", use_bias=False, name=f"{name}_depthwise"),
        layers.BatchNormalization(name=f"{name}_bn1", **BATCH_NORM),
        layers.ReLU(name=f"{name}_relu1"),
        layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_pointwise"),
        layers.BatchNormalization(name=f"{name}_bn2", **BATCH_NORM),
        layers.ReLU(name=f"{name}_relu2"),
    ]


def dwcnn() -> keras.Model:
    """A small MobileNet: one 3x3 stem, four separable blocks, global average pooling, one dense layer."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.ZeroPadding2D(1, name="stem_pad"),
            layers.Conv2D(32, 3, use_bias=False, name="stem"),
            layers.BatchNormalization(name="stem_bn", **BATCH_NORM),
            layers.ReLU(name="stem_relu"),
            *separable(64, 2, "block1"),
            *separable(128, 1, "block2"),
            *separable(128, 2, "block3"),
            *separable(256, 1, "block4"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(10, name="fc"),
        ],
        name="dwcnn",
    )


MODELS: dict[str, Callable[[], keras.Model]] = {"lenet300": lenet300, "dwcnn": dwcnn}

# Keras layer -> the prefix of its entries in the PyTorch state dict
TORCH_NAMES: dict[str, dict[str, str]] = {
    "lenet300": {"fc1": "fc1", "fc2": "fc2", "fc3": "fc3"},
    "dwcnn": {
        "stem": "stem.0",
        "stem_bn": "stem.1",
        **{
            f"block{i}_{part}": f"block{i}.{place}"
            for i in range(1, 5)
            for part, place in (("depthwise", 0), ("bn1", 1), ("pointwise", 3), ("bn2", 4))
        },
        "fc": "fc",
    },
}


def from_torch_state(name: str, state: Mapping[str, np.ndarray]) -> keras.Model:
    """The Keras twin of a PyTorch example network with the weights of its state dict."""
    model = MODELS[name]()
    for own, other in TORCH_NAMES[name].items():
        layer = model.get_layer(own)
        weight = np.asarray(state[f"{other}.weight"])
        if isinstance(layer, layers.BatchNormalization):
            statistics = [np.asarray(state[f"{other}.running_{part}"]) for part in ("mean", "var")]
            layer.set_weights([weight, np.asarray(state[f"{other}.bias"]), *statistics])
        elif isinstance(layer, layers.Dense):
            layer.set_weights([weight.T, np.asarray(state[f"{other}.bias"])])
        elif isinstance(layer, layers.DepthwiseConv2D):  # [C, 1, kh, kw] -> [kh, kw, C, 1]
            layer.set_weights([weight.transpose(2, 3, 0, 1)])
        else:  # [O, C, kh, kw] -> [kh, kw, C, O]
            layer.set_weights([weight.transpose(2, 3, 1, 0)])
    return model
