"""Every kind of damage is a FormatError: never another exception, a hang, or memory beyond the file's due."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from attar.archive import manifest as manifests
from attar.archive import read_archive, to_bytes
from attar.archive.base import SkeletonInfo
from attar.archive.blobs import code_skeleton, decode_skeleton
from attar.errors import FormatError

from .samples import contents, layer, remainder


@pytest.fixture(scope="module")
def data():
    small = contents() | {"layers": [layer(0, "first", 4, 9), layer(1, "second", 5, 12)]}
    return to_bytes(**small, coder="fast")


def refused(data, match=None):
    with pytest.raises(FormatError, match=match) as caught:
        read_archive(data).verify()
    assert "Received" in str(caught.value)


def header_of(data):
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def rebuilt(entries, blobs, length=None):
    text = json.dumps(entries, separators=(",", ":")).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + blobs


def with_manifest(data, change):
    """The file with another manifest, its checksum right."""
    entries, blobs = header_of(data)
    packed = base64.b85decode(entries["__metadata__"]["manifest"])
    value = json.loads(manifests._inflate(packed[:-4]))
    change(value)
    raw = json.dumps(value, separators=(",", ":")).encode()
    entries["__metadata__"]["manifest"] = pack(raw)
    return rebuilt(entries, blobs)


def pack(raw):
    return base64.b85encode(manifests._deflate(raw, 9) + zlib.crc32(raw).to_bytes(4, "little")).decode()


def test_truncated_at_every_byte(data):
    for stop in range(len(data)):
        refused(data[:stop])


def test_every_flipped_bit(data):
    """Every bit of the header, and one bit of every byte behind it."""
    behind = 8 + int.from_bytes(data[:8], "little")
    places = [*range(8 * behind), *range(8 * behind + 3, 8 * len(data), 8)]
    for place in places:
        wrong = bytearray(data)
        wrong[place // 8] ^= 1 << (place % 8)
        refused(bytes(wrong))


def test_a_damaged_section_is_named(data):
    archive = read_archive(data)
    at = 8 + int.from_bytes(data[:8], "little")
    for section in archive.sections:
        wrong = bytearray(data)
        wrong[at + section.nbytes // 2] ^= 16
        refused(bytes(wrong), f"section '{section.name}'")
        at += section.nbytes


@pytest.mark.parametrize("extra", [b"\0", b"x" * 1000])
def test_bytes_behind_the_end(data, extra):
    refused(data + extra, "calls for")


@pytest.mark.parametrize("text", [b"", b"\0" * 7, b"\0" * 8, b"\xff" * 8, b"\xff" * 100, b"PK\3\4" * 30, b"{}" * 40])
def test_other_files(text):
    refused(text)


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**26, 2**63, 2**64 - 1])
def test_lying_header_lengths(data, length):
    entries, blobs = header_of(data)
    refused(rebuilt(entries, blobs, length))


def test_other_safetensors_files():
    import safetensors.numpy as numpy_io

    refused(numpy_io.save({"x": np.zeros(3)}), "attar compress")
    refused(numpy_io.save({"x": np.zeros(3)}, {"format": "pt"}), "attar compress")


def test_unknown_version_says_upgrade(data):
    entries, blobs = header_of(data)
    entries["__metadata__"]["attar"] = "2"
    refused(rebuilt(entries, blobs), "pip install --upgrade attar")


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e["attar"].update(dtype="F32"),
        lambda e: e["attar"].update(shape=[3]),
        lambda e: e["attar"].update(shape=[[3]]),
        lambda e: e["attar"].update(shape=None),
        lambda e: e["attar"].update(data_offsets=[0, 10**30]),
        lambda e: e["attar"].update(data_offsets=[-5, e["attar"]["shape"][0] - 5]),
        lambda e: e["attar"].update(data_offsets=[0.0, float(e["attar"]["shape"][0])]),
        lambda e: e["attar"].update(data_offsets=[8, 8 + e["attar"]["shape"][0]]),
        lambda e: e["attar"].update(more=1),
        lambda e: e.update(other={"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}),
        lambda e: e.update(attar=[]),
        lambda e: e.pop("attar"),
        lambda e: e["__metadata__"].update(more="x"),
        lambda e: e["__metadata__"].update(manifest=5),
        lambda e: e["__metadata__"].update(manifest=""),
        lambda e: e["__metadata__"].update(manifest="ab"),
        lambda e: e["__metadata__"].update(manifest='"' * 40),
        lambda e: e["__metadata__"].update(manifest="é" * 40),
        lambda e: e["__metadata__"].update(manifest=e["__metadata__"]["manifest"] + "0"),
        lambda e: e.update(__metadata__=[]),
        lambda e: e.pop("__metadata__"),
    ],
)
def test_wrong_headers(data, change):
    entries, blobs = header_of(data)
    change(entries)
    refused(rebuilt(entries, blobs))


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"a":' * 100_000, b"1" * 10_000, b"[]", b"5", b"\xff\xfe", b"{"])
def test_json_bombs(text):
    refused(len(text).to_bytes(8, "little") + text)
    entries = {"__metadata__": {"attar": "1", "manifest": pack(text)}}
    refused(rebuilt(entries, b""))


LAYER = [
    (0, 5), (0, None), (2, -1), (2, "3"), (2, 1.5), (2, True), (2, 2**70), (4, 5), (4, [-1]), (4, [2**50]),
    (4, [1] * 40), (4, [True]), (9, 3), (10, []), (11, {}), (11, [[]]), (11, [["codes", "int32", [4, 9], "rans"]]),
    (12, -1), (12, "1"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), LAYER)
def test_wrong_layer_records(data, field, value):
    def change(manifest):
        manifest["layers"][0][field] = value

    refused(with_manifest(data, change))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (1, "object", "dtype"), (1, "float32", "rans does not code"), (2, [3, 9], "first"),
        (2, [2**20, 2**20], "may hold"), (2, [2**39] * 5, "may hold"), (3, "zpaq", "coder must be one of"),
        (3, "raw", "takes 144 bytes"), (3, "__class__", "coder must be one of"), (4, 3, "must be U8 of"),
        (4, 2**61, "tensors must be"),
    ],
)  # fmt: skip
def test_wrong_array_records(data, field, value, message):
    def change(manifest):
        manifest["layers"][0][11][0][field] = value

    refused(with_manifest(data, change), message)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("layers"),
        lambda m: m.pop("meta"),
        lambda m: m.update(meta=[]),
        lambda m: m.update(layers={}),
        lambda m: m.update(unknown=1),
        lambda m: m["layers"].reverse(),
        lambda m: m["layers"].append(m["layers"][0]),
        lambda m: m["layers"].pop(),
        lambda m: m["layers"][0].append(1),
        lambda m: m["layers"][0][11].reverse(),
        lambda m: m["layers"][0][11].append(m["layers"][0][11][0]),
        lambda m: m["remainder"].pop(),
        lambda m: m["remainder"][0].pop(),
        lambda m: m["remainder"][0][1].__setitem__(2, [47]),
        lambda m: m["remainder"][0][1].__setitem__(3, 1),
        lambda m: m["remainder"][0][1].__setitem__(1, "float16"),
        lambda m: m["remainder"][0][0].__setitem__(0, "norm.running_var"),
        lambda m: m["remainder"][0][0].__setitem__(2, [2**39, 2**39]),
        lambda m: m["remainder"][1].reverse(),
        lambda m: m["remainder"][1][0].__setitem__(1, [1, 2]),
        lambda m: m["remainder"][1].append(m["remainder"][1][0]),
        lambda m: m["skeleton"].__setitem__(0, "zip"),
        lambda m: m["skeleton"].__setitem__(1, m["skeleton"][1] + 1),
        lambda m: m["skeleton"].__setitem__(1, m["skeleton"][1] - 1),
        lambda m: m["skeleton"].__setitem__(1, 2**60),
        lambda m: m["skeleton"].__setitem__(3, 0),
    ],
)
def test_wrong_manifests(data, change):
    refused(with_manifest(data, change))


@pytest.mark.parametrize("codec", ["words", "deflate", "lzma"])
def test_skeletons_are_bounded(codec):
    bomb = b"\0" * 20_000_000
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    blob = deflate.compress(bomb) + deflate.flush()
    if codec == "lzma":
        import lzma

        from attar.archive.blobs import _LZMA

        blob = lzma.compress(bomb, lzma.FORMAT_RAW, filters=_LZMA)
    tracemalloc.start()
    for length in (0, 1, 100, 2**50):
        with pytest.raises(FormatError, match="skeleton"):
            decode_skeleton(SkeletonInfo(codec, length), blob)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    for cut in (b"", blob[:1], blob[:-1], blob + b"\0", blob[:-2] + b"xx"):
        with pytest.raises(FormatError, match="skeleton"):
            decode_skeleton(SkeletonInfo(codec, len(bomb)), cut)


def test_skeleton_codecs_are_chosen_by_size():
    rng = np.random.default_rng(0)
    noise, text = rng.bytes(1000), b" ".join(b"%d" % (i % 211) for i in range(20000))
    assert code_skeleton(noise)[0].codec == "stored"
    assert code_skeleton(b"ab" * 40)[0].codec == "words"
    for sample in (noise, text, b"", b"ab" * 40, bytes(50_000_000)):
        info, section, blob = code_skeleton(sample)
        assert section.nbytes == len(blob)
        assert decode_skeleton(info, blob) == sample


def test_deflate_bomb_in_the_manifest():
    raw = b'{"layers":[],"meta":{"x":"' + b"x" * 30_000_000 + b'"}}'
    entries = {"__metadata__": {"attar": "1", "manifest": pack(raw)}}
    tracemalloc.start()
    refused(rebuilt(entries, b""), "inflate")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_long_but_honest_manifests_are_read():
    meta = {"text": "x" * 3_000_000}
    assert read_archive(to_bytes(layers=[], remainder={}, skeleton=None, meta=meta)).meta == meta


def test_fuzz(data):
    """Random mutations of many kinds, seeded: FormatError or the same contents."""
    rng = np.random.default_rng(11)
    for _ in range(3000):
        wrong = bytearray(data)
        for _ in range(int(rng.integers(1, 5))):
            place = int(rng.integers(0, len(wrong)))
            run = int(rng.integers(1, 30))
            action = int(rng.integers(0, 5))
            if action == 0:
                wrong[place] ^= 1 << int(rng.integers(0, 8))
            elif action == 1:
                wrong[place : place + run] = rng.bytes(run)
            elif action == 2:
                del wrong[place : place + run]
            elif action == 3:
                wrong[place:place] = wrong[int(rng.integers(0, len(wrong))) :][:run]
            else:
                other = int(rng.integers(0, len(wrong)))
                wrong[place : place + run], wrong[other : other + run] = (
                    wrong[other : other + run],
                    wrong[place : place + run],
                )
        if wrong != data:
            refused(bytes(wrong))


def test_remainder_of_the_sample_has_every_case():
    kinds = {array.dtype.name for array in remainder().values()}
    assert {"bfloat16", "bool", "float16", "int64"} <= kinds


def test_a_file_is_named_in_what_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08\x07" * 40)
    with pytest.raises(FormatError, match=r"^net\.onnx: header"):
        read_archive(tmp_path / "net.onnx")
