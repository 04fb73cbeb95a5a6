"""TFLite files are packed to the byte, in floats and in integers; damaged ones are refused or kept whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.tflite_models import SAME, Graph, dense, random, widened
from attar.errors import AttarError, FormatError
from attar.formats.source import Bytes
from attar.packing.pack import pack
from attar.packing.tflite import accepts, find
from attar.packing.unpack import unpack


def network() -> bytes:
    g = Graph([6, 6, 8])
    shape = {"padding": SAME, "strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}
    x = g.op(
        "CONV_2D", [g.input, widened(g, "half", random(16, 3, 3, 8)), g.stored("b", random(16))], [6, 6, 16], **shape
    )
    g.stored("codes", np.arange(1024, dtype=np.int32).astype(np.int8).reshape(4, 256))
    return g.model(dense(g, x, "w", 20, 16))


def test_every_large_tensor_is_found_and_every_byte_comes_back(tmp_path: Path) -> None:
    source = tmp_path / "net.tflite"
    source.write_bytes(network())
    spans = {span.name: span for span in find(Bytes(source)).spans}
    assert {(name, span.dtype, span.shape) for name, span in spans.items()} == {
        ("half", "float16", (16, 3, 3, 8)), ("codes", "int8", (4, 256)), ("w", "float32", (20, 16)),
    }  # fmt: skip
    at = spans["w"].offset
    assert source.read_bytes()[at : at + 1280] == random(20, 16).tobytes()
    packed = pack(source, tmp_path / "net.attar")
    assert unpack(packed.path, tmp_path / "again").read_bytes() == source.read_bytes()
    assert packed.path.stat().st_size < source.stat().st_size


def test_damage_is_named(tmp_path: Path) -> None:
    place = tmp_path / "cut.tflite"
    place.write_bytes(network()[:900])
    assert accepts(Bytes(place))
    with pytest.raises(FormatError, match="whole flatbuffer"):
        find(Bytes(place))


@settings(max_examples=150, deadline=None)
@given(flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_are_refused_or_lie_inside(tmp_path_factory: pytest.TempPathFactory, flips: list) -> None:
    data = bytearray(network())
    for place, value in flips:
        data[int(place * (len(data) - 1))] = value
    source = tmp_path_factory.mktemp("flipped") / "m.tflite"
    source.write_bytes(bytes(data))
    if not accepts(Bytes(source)):
        return
    try:
        spans = find(Bytes(source)).spans
    except AttarError:
        return
    assert all(span.offset + span.nbytes <= len(data) for span in spans)
