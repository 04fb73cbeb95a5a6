"""NNCodec's DeepCABAC (MPEG NNC) over given integers, with the settings that its own compress uses.

The extension is loaded alone: the package's modules import much that coding does not need. Its quantiser is not used:
the integers are those that all coders are given.
"""

from __future__ import annotations

from importlib.machinery import ExtensionFileLoader
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import numpy as np

from attar.types import Array

NAME = f"NNCodec {version('nncodec')}"
UNARY = 11
"""cabac_unary_length_minus1 + 1 of its recommendation."""
PROFILE, SCAN, PARENT, SKIP_ROWS, OPTIMISE = 1, 0, 0, 1, 1


def _load() -> ModuleType:
    package = find_spec("nncodec")
    if package is None or not package.submodule_search_locations:
        raise ImportError("the package nncodec is missing")
    folder = Path(package.submodule_search_locations[0]) / "extensions"
    found = sorted(folder.glob("deepCABAC*.so"))
    if not found:
        raise ImportError("nncodec has no compiled extension here")
    loader = ExtensionFileLoader("deepCABAC", str(found[0]))
    module = module_from_spec(spec_from_loader("deepCABAC", loader))
    loader.exec_module(module)
    return module


_CABAC = _load()
_NO_HISTORY = (_CABAC.HdspMode.AlwaysOff, np.zeros(2, np.int8))


def encode(codes: Array) -> bytes:
    """The arithmetic code of one matrix, with its context models optimised as in NNCodec."""
    encoder = _CABAC.Encoder()
    encoder.initCtxModels(UNARY, OPTIMISE)
    skipped = (~codes.any(1)).astype(np.int32)
    encoder.encodeLayer(codes.astype(np.int32), 0, SCAN, PROFILE, PARENT, SKIP_ROWS, skipped, *_NO_HISTORY, 0, 0)
    return bytes(encoder.finish())


def decode(data: bytes, shape: tuple[int, int]) -> Array:
    """Int32 symbols, then the codes."""
    out = np.zeros(shape, np.int32)
    decoder = _CABAC.Decoder()
    decoder.setStream(np.frombuffer(data, np.uint8))
    decoder.initCtxModels(UNARY)
    decoder.decodeLayer(out, 0, SCAN, PROFILE, PARENT, *_NO_HISTORY, 0, 0)
    return out.astype(np.int8)
