"""Lossless checkpoints beside ZipNN and zstd -19: ratios and decoding speeds, measured in this run.

python benchmarks/lossless.py [--repeats 5] [--tiny] [--json FILE]

MiniLM, EfficientNet-Lite0 and Whisper in float32, float16 and bfloat16. ZipNN and zstd get the tensors' bytes in one
piece; attar codes tensor by tensor and decodes all by one call. One thread, medians of interleaved runs; speeds in GB/s
of plain bytes.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["ATTAR_THREADS"] = "1"

import checkpoints
import rivals
from acceptance import Line, markdown, number, table
from attar.coding import decode_arrays, encode_array, simd_path
from attar.types import Array
from timing import machine, medians, timed

Tensors = dict[str, Array]
Way = tuple[int, Callable[[], Any]]
"""Coded bytes, and what decodes them."""
COLUMNS = ("attar", "zipnn", "zstd")


def attar(tensors: Tensors, raw: bytes, dtype: str) -> Way:
    """Each tensor by the coder that makes it shortest, in memory; all of them decoded by one call."""
    del raw
    coded = [(*encode_array(tensor), dtype, tensor.shape) for tensor in tensors.values()]
    return sum(len(data) for _, data, _, _ in coded), lambda: decode_arrays(coded)


def zipnn(tensors: Tensors, raw: bytes, dtype: str) -> Way | str:
    """All bytes at once."""
    del tensors
    rival: Any = rivals.load("zipnn")
    if isinstance(rival, str):
        return rival
    packed = rival.pack(raw, dtype)
    return len(packed), lambda: [rival.unpack(packed, dtype)]


def zstd(tensors: Tensors, raw: bytes, dtype: str) -> Way | str:
    """All bytes at once."""
    del tensors, dtype
    rival: Any = rivals.load("zstd")
    if isinstance(rival, str):
        return rival
    packed = rival.pack(raw)
    return len(packed), lambda: [rival.unpack(packed)]


def measure(tensors: Tensors, dtype: str, repeats: int) -> dict[str, Any]:
    """Bytes, seconds of one encoding, and median seconds of decoding, for each way."""
    raw = b"".join(tensor.tobytes() for tensor in tensors.values())
    found: dict[str, Any] = {"raw": len(raw), "missing": []}
    decoders = {}
    for encode in (attar, zipnn, zstd):
        name, results = encode.__name__, []
        seconds = timed(lambda e=encode, r=results: r.append(e(tensors, raw, dtype)))
        if isinstance(results[0], str):
            found["missing"].append(results[0])
            continue
        size, decoders[name] = results[0]
        if b"".join(memoryview(part).cast("B") if isinstance(part, bytes | bytearray) else part.tobytes()
                    for part in decoders[name]()) != raw:  # fmt: skip
            raise SystemExit(f"{name} does not give the bytes of {dtype} back")
        found[name] = {"bytes": size, "encode": seconds}
    for name, seconds in medians(decoders, repeats).items():
        found[name]["decode"] = seconds
    return found


def text(cases: dict[str, dict[str, Any]]) -> str:
    """Ratios and speeds by case, then the targets."""
    reasons = sorted({reason for case in cases.values() for reason in case["missing"]})
    rows = [
        [
            name, f"{case['raw'] / 1e6:.1f}",
            *(number(case["raw"] / case[way]["bytes"], "") if way in case else "-" for way in COLUMNS),
            *(number(case["raw"] / case[way]["decode"] / 1e9, "") if way in case else "-" for way in COLUMNS),
            number(case["raw"] / case["attar"]["encode"] / 1e9, ""),
            number((case["raw"] - case["attar"]["bytes"]) / case["attar"]["decode"] / 1e9, ""),
        ]
        for name, case in cases.items()
    ]  # fmt: skip
    head = [
        "lossless", "MB", *(f"ratio {way}" for way in COLUMNS), *(f"decode {way}" for way in COLUMNS), "encode attar",
        "beats plain reading below",
    ]  # fmt: skip
    lines = [
        Line("attar's bytes / ZipNN's", 1.0, _over(cases, "zipnn", "bytes"), at_most=True, unit="x"),
        Line("attar's bytes / zstd -19's", 0.97, _over(cases, "zstd", "bytes"), at_most=True, unit="x"),
        Line("attar's decode speed / ZipNN's", 1.0, _over(cases, "zipnn", "decode", inverse=True), unit="x"),
    ]
    return "\n\n".join(
        [
            f"{machine()}; attar's path: {simd_path()}; one thread; speeds in GB/s",
            f"tensors are cut to {checkpoints.LONGEST} values",
            *reasons,
            markdown(head, rows),
            table("targets", list(cases), lines),
        ]
    )


def _over(cases: dict[str, dict[str, Any]], rival: str, figure: str, inverse: bool = False) -> list[float | None]:
    """attar's figure over the rival's, or the other way round."""
    found: list[float | None] = []
    for case in cases.values():
        ratio = case["attar"][figure] / case[rival][figure] if rival in case else None
        found.append(1 / ratio if inverse and ratio else ratio)
    return found


def main() -> None:
    """Measure each model in each precision, one at a time, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="made-up matrices of some kilobytes, to try the script")
    parser.add_argument("--json", type=Path, help="write all that was measured to this file")
    options = parser.parse_args()
    models = {"made up": checkpoints.tiny} if options.tiny else checkpoints.MODELS
    cases = {}
    for model, load in models.items():
        tensors = load()
        for dtype in checkpoints.DTYPES:
            cases[f"{model} {dtype}"] = measure(checkpoints.precision(tensors, dtype), dtype, options.repeats)
    if options.json:
        options.json.write_text(json.dumps(cases, indent=1))
    print(text(cases))


if __name__ == "__main__":
    main()
