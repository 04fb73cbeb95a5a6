"""Makes the hostile archives of this folder: `python attacks/make.py`. The names say what is wrong with each."""

from __future__ import annotations

import base64
import copy
import json
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from attar import registry
from attar.archive import manifest as manifests
from attar.archive import to_bytes
from attar.types import Layer, Stats, Weight

FOLDER = Path(__file__).parent
Json = Any


def honest(coder: str = "fast") -> bytes:
    """A small archive: two layers, a remainder, a skeleton."""
    rng = np.random.default_rng(0)
    layers = []
    first = (40, 60) if coder == "fast" else (300, 20)
    for name, rows, cols in (("first", *first), ("second", 5, 12)):
        layer = Layer(name, "dense", rows, cols, (rows, cols), has_bias=True)
        weight = Weight(rng.laplace(0, 0.05, (rows, cols)).astype(np.float32), np.ones(rows, np.float32))
        if coder == "dense":
            weight.matrix[:, 1::2] = weight.matrix[:, ::2]
        stats = Stats(np.eye(cols)[None], np.zeros((1, cols)), 4000, 4000, np.ones(rows))
        encoded = registry.get("method", "uniform").encode(layer, weight, stats, {"method": "uniform", "slope": 1e-4})
        layers.append((layer, encoded))
    rest = {"mean": rng.random(50).astype(np.float32), "steps": np.arange(9)}
    given = {"remainder": rest, "skeleton": b"a graph " * 40, "meta": {"framework": "none"}}
    return to_bytes(layers=layers, **given, coder=coder)


def split(data: bytes) -> tuple[dict[str, Json], dict[str, Json], bytes]:
    """Header, manifest, bytes behind them."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    packed = base64.b85decode(header["__metadata__"]["manifest"])
    return (
        header,
        json.loads(zlib.decompressobj(-15, manifests._DICTIONARY).decompress(packed[:-4])),
        data[8 + length :],
    )


def joined(header: dict[str, Json], manifest: bytes | Json, blob: bytes) -> bytes:
    """The file, its manifest's checksum right."""
    raw = manifest if isinstance(manifest, bytes) else json.dumps(manifest, separators=(",", ":")).encode()
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, manifests._DICTIONARY)
    packed = deflate.compress(raw) + deflate.flush() + zlib.crc32(raw).to_bytes(4, "little")
    header = copy.deepcopy(header)
    header["__metadata__"]["manifest"] = base64.b85encode(packed).decode()
    text = json.dumps(header, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text + blob


def mend(header: dict[str, Json], manifest: Json, blob: bytes) -> bytes:
    """The file with the sections' lengths and checksums as its bytes have them."""
    at = 0
    for record in manifest["layers"]:
        size = sum(array[4] for array in record[11])
        record[12] = zlib.crc32(blob[at : at + size])
        at += size
    size = sum(array[3] for array in manifest["remainder"][1])
    manifest["remainder"][2] = zlib.crc32(blob[at : at + size])
    at += size
    manifest["skeleton"][2:] = [len(blob) - at, zlib.crc32(blob[at:])]
    header["attar"] = {"dtype": "U8", "shape": [len(blob)], "data_offsets": [0, len(blob)]}
    return joined(header, manifest, blob)


def attacks() -> dict[str, bytes]:
    """All of them by name."""
    data = honest()
    header, manifest, blob = split(data)
    files = {
        "header-length-beyond-the-file": (1 << 40).to_bytes(8, "little") + data[8:],
        "header-length-negative": (2**64 - 1).to_bytes(8, "little") + data[8:],
        "header-not-json": data[:8] + b"[" * int.from_bytes(data[:8], "little") + blob,
        "header-cut": data[:100],
        "header-alone": data[: len(data) - len(blob)],
        "bytes-behind-the-end": data + b"\0",
        "empty": b"",
        "no-attar": (2).to_bytes(8, "little") + b"{}",
    }

    def headed(name: str, change: Callable[[dict[str, Json]], None]) -> None:
        other = copy.deepcopy(header)
        change(other)
        text = json.dumps(other).encode()
        files[name] = len(text).to_bytes(8, "little") + text + blob

    headed("offsets-beyond-the-file", lambda h: h["attar"].update(data_offsets=[0, 1 << 50], shape=[1 << 50]))
    headed("offsets-overlapping", lambda h: h.update(other={**h["attar"]}))
    headed("offsets-reversed", lambda h: h["attar"].update(data_offsets=[len(blob), 0]))
    headed("tensor-of-another-type", lambda h: h["attar"].update(dtype="F64"))
    headed("version-unknown", lambda h: h["__metadata__"].update(attar="999"))
    headed("manifest-not-base-85", lambda h: h["__metadata__"].update(manifest="\u00e9" * 50))
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflate.compress(bytes(1 << 26)) + deflate.flush() + bytes(4)
    headed("manifest-bomb", lambda h: h["__metadata__"].update(manifest=base64.b85encode(bomb).decode()))
    files["manifest-deeply-nested"] = joined(header, b"[" * 300_000 + b"]" * 300_000, blob)
    files["manifest-of-numbers"] = joined(header, b"[1e999, NaN, Infinity]", blob)
    files["manifest-number-of-a-million-digits"] = joined(
        header, b'{"meta":{},"layers":' + b"9" * 1_000_000 + b"}", blob
    )

    def told(name: str, change: Callable[[Json], None]) -> None:
        other = copy.deepcopy(manifest)
        change(other)
        files[name] = joined(header, other, blob)

    raw = json.dumps(manifest, separators=(",", ":")).encode()
    files["manifest-name-twice"] = joined(header, raw[:-1] + b',"meta":{}}', blob)
    files["manifest-meta-not-a-number"] = joined(header, raw.replace(b'"none"', b"NaN"), blob)
    doubled = (
        json.dumps(header, separators=(",", ":"))
        .encode()
        .replace(b'"attar":{"dtype"', b'"attar":{"dtype":0},"attar":{"dtype"')
    )
    files["header-tensor-twice"] = len(doubled).to_bytes(8, "little") + doubled + blob
    codes = manifest["layers"][0][11][0]
    told("shape-huge", lambda m: m["layers"][0][11][0].__setitem__(2, [1 << 39, 1 << 39]))
    told("shape-whose-product-overflows", lambda m: m["layers"][0][11][0].__setitem__(2, [1 << 32, 1 << 32]))
    told("shape-with-a-zero-and-a-huge-axis", lambda m: m["layers"][0][11][0].__setitem__(2, [0, 1 << 39]))
    told("shape-negative", lambda m: m["layers"][0][11][0].__setitem__(2, [-40, -60]))
    told("shape-of-a-thousand-axes", lambda m: m["layers"][0][11][0].__setitem__(2, [1] * 1000))
    told("shape-of-another-size", lambda m: m["layers"][0][11][0].__setitem__(2, [40, 61]))
    told("shape-transposed", lambda m: m["layers"][0][11][0].__setitem__(2, [60, 40]))
    told("array-bytes-beyond-the-section", lambda m: m["layers"][0][11][0].__setitem__(4, codes[4] + 1))
    told("array-bytes-huge", lambda m: m["layers"][0][11][0].__setitem__(4, (1 << 62) - 1))
    told("coder-unknown", lambda m: m["layers"][0][11][0].__setitem__(3, "zip"))
    told("coder-a-path", lambda m: m["layers"][0][11][0].__setitem__(3, "../../attar.coding:os"))
    told("dtype-of-objects", lambda m: m["layers"][0][11][0].__setitem__(1, "object"))
    told("dtype-of-floats-for-integers", lambda m: m["layers"][0][11][0].__setitem__(1, "float32"))
    told("columns-that-broadcast", lambda m: m["layers"][0][11][2].__setitem__(2, [2, 30]))
    told(
        "memory-of-a-thousand-files",
        lambda m: (
            m["layers"][0][11][0].__setitem__(1, "int64") or m["layers"][0][11][0].__setitem__(2, [1 << 12, 1 << 12])
        ),
    )
    told("shape-empty-whose-other-axes-overflow", lambda m: m["layers"][0][11][0].__setitem__(2, [0, 1 << 30, 1 << 30]))
    told("method-unknown", lambda m: m["layers"][0].__setitem__(9, "os.system"))
    told("method-of-another-layer-kind", lambda m: m["layers"][0].__setitem__(9, "keep"))
    told("step-of-letters", lambda m: m["layers"][0].__setitem__(10, {"step": "wide"}))
    told("step-missing", lambda m: m["layers"][0].__setitem__(10, {}))
    told("array-missing", lambda m: m["layers"][0][11][1].__setitem__(0, "lines"))
    told("layer-of-another-shape", lambda m: m["layers"][0].__setitem__(2, 80))
    told("layers-of-one-name", lambda m: m["layers"][1].__setitem__(0, "first"))
    told("sections-swapped", lambda m: m["layers"].reverse())
    told("checksum-of-another-section", lambda m: m["layers"][0].__setitem__(12, m["layers"][1][12]))
    told("remainder-short-of-elements", lambda m: m["remainder"][1][0].__setitem__(1, [49]))
    told("remainder-constant-of-a-trillion", lambda m: m["remainder"][0][0].__setitem__(2, [1 << 39]))
    told("skeleton-codec-unknown", lambda m: m["skeleton"].__setitem__(0, "pickle"))
    told("skeleton-length-huge", lambda m: m["skeleton"].__setitem__(1, 1 << 40))
    told("skeleton-length-short", lambda m: m["skeleton"].__setitem__(1, 5))
    told("field-unknown", lambda m: m.update(run="rm"))

    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 23}]
    packed = lzma.compress(bytes(1 << 27), lzma.FORMAT_RAW, filters=filters)
    other = copy.deepcopy(manifest)
    body = blob[: len(blob) - manifest["skeleton"][2]]
    other["skeleton"][:2] = ["lzma", 1 << 24]
    files["skeleton-bomb"] = mend(dict(header), other, body + packed)
    start = 0
    for k in (0, 1, 5, len(codes) + 20, codes[4] // 2, codes[4] - 1):
        spoiled = bytearray(blob)
        spoiled[start + k] ^= 0x55
        files[f"code-byte-{k}-altered-and-the-checksum-mended"] = mend(
            dict(header), copy.deepcopy(manifest), bytes(spoiled)
        )
    return files | dense_attacks()


def dense_attacks() -> dict[str, bytes]:
    """Those of the dense coder, whose array is the first layer's first and begins with its head."""
    header, manifest, blob = split(honest("dense"))
    codes = manifest["layers"][0][11][0]
    assert codes[3] == "dense"
    files = {}

    def spoiled(name: str, first: bytes) -> None:
        files[name] = mend(dict(header), copy.deepcopy(manifest), first + blob[len(first) :])

    spoiled("dense-shift-of-a-hundred", bytes([blob[0] | 64, 100]))
    spoiled("dense-period-of-one", bytes([blob[0] | 128, 1]))
    spoiled("dense-centre-without-end", bytes([blob[0] | 32] + [255] * 11))
    for name, place, value in (("dense-of-floats", 1, "float32"), ("dense-of-another-shape", 2, [300, 21])):
        other = copy.deepcopy(manifest)
        other["layers"][0][11][0][place] = value
        files[name] = joined(header, other, blob)
    for more in (-1, 1):
        other = copy.deepcopy(manifest)
        for array, change in zip(other["layers"][0][11], (more, -more), strict=False):
            array[4] += change
        files[f"dense-bytes-{codes[4] + more}-of-{codes[4]}"] = joined(header, other, blob)
    return files


if __name__ == "__main__":
    for name, content in attacks().items():
        (FOLDER / f"{name}.attar").write_bytes(content)
