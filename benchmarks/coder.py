"""Size and speed of the rans coder on Laplacian matrices with row and column scales, beside zstd -19, in one run.

Sizes are over the order-0 entropy of the codes (below 1: the row and column classes pay), speeds over zstd's on the
same bytes (int8 codes). `python benchmarks/coder.py [--rows 1024] [--cols 2048] [--repeats 3]` prints one table; a
second column of speeds is that of the scalar path, which a child process measures. Needs zstandard.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np

from attar import entropy
from attar.coding import kernel, simd_path, static
from attar.coding.rans import Rans
from attar.coding.streams import Reader
from attar.types import Array

BITS = (0.25, 0.5, 1.0, 2.0, 4.0)


def matrix(rows: int, cols: int, bits: float, seed: int = 0) -> Array:
    """Codes with about this order-0 entropy: the rate of the Laplacian is found by bisection."""
    rng = np.random.default_rng(seed)
    shape = rng.laplace(0, 1, (rows, cols)) * np.exp(rng.normal(0, 0.3, (rows, 1)) + rng.normal(0, 0.5, (1, cols)))
    low, high = 1e-3, 1e3
    for _ in range(40):
        middle = float(np.sqrt(low * high))
        codes = np.clip(np.rint(shape * middle), -127, 127).astype(np.int8)
        low, high = (middle, high) if order0_bytes(codes) * 8 / codes.size < bits else (low, middle)
    return codes


def order0_bytes(codes: Array) -> float:
    """Order-0 entropy, without any table."""
    _, counts = np.unique(codes, return_counts=True)
    return float(-(counts * np.log2(counts / codes.size)).sum()) / 8


def fastest(action: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(repeats):
        start = perf_counter()
        action()
        times.append(perf_counter() - start)
    return min(times)


def measure(rows: int, cols: int, bits: float, repeats: int) -> dict[str, float]:
    """One row of the table; speeds in 10^6 symbols a second."""
    codes = matrix(rows, cols, bits)
    data = Rans.encode(codes)
    decoded = Rans.decode(data, "int8", codes.shape)
    if not (decoded == codes).all():
        raise SystemExit("the coder does not give the codes back")
    plan, symbols, _ = static.make_plan(codes.astype(np.int64))
    chunks = static.encode_chunks(symbols, plan)
    kernel_seconds = fastest(lambda: list(static.decode_chunks(Reader(chunks), plan, symbols.size)), repeats)
    size = codes.size / 1e6
    return {
        "bits": 8 * order0_bytes(codes) / codes.size,
        "size": len(data) / order0_bytes(codes),
        "ideal": entropy.ideal_bits(codes, entropy.classes(*entropy.levels(codes))) / 8 / order0_bytes(codes),
        "encode": size / fastest(lambda: Rans.encode(codes), 1),
        "decode": size / fastest(lambda: Rans.decode(data, "int8", codes.shape), repeats),
        "kernel": size / kernel_seconds,
        **_zstd(codes, repeats),
    }


def _zstd(codes: Array, repeats: int) -> dict[str, float]:
    """The same for zstd -19 over the codes as bytes."""
    import zstandard

    raw = codes.tobytes()
    packer, unpacker = zstandard.ZstdCompressor(level=19), zstandard.ZstdDecompressor()
    data = packer.compress(raw)
    size = codes.size / 1e6
    return {
        "zstd size": len(data) / order0_bytes(codes),
        "zstd encode": size / fastest(lambda: packer.compress(raw), 1),
        "zstd decode": size / fastest(lambda: unpacker.decompress(data), repeats),
    }


def table(fast: list[dict[str, float]], scalar: list[dict[str, float]]) -> str:
    """What is printed: sizes over the entropy, decoding over zstd's."""
    lines = [
        f"{simd_path()}; {kernel.threads()} threads; sizes over order-0 entropy, speeds over zstd -19",
        "bits/code | size  ideal  zstd | encode | decode  kernel | scalar kernel | kernel 10^6/s",
    ]
    for one, plain in zip(fast, scalar, strict=True):
        lines.append(
            f"{one['bits']:9.2f} | {one['size']:.3f} {one['ideal']:.3f} {one['zstd size']:.3f} |"
            f" {one['encode'] / one['zstd encode']:6.2f} |"
            f" {one['decode'] / one['zstd decode']:6.2f} {one['kernel'] / one['zstd decode']:7.2f} |"
            f" {plain['kernel'] / plain['zstd decode']:13.2f} | {one['kernel']:9.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure on the path in use, and on the scalar path in a child."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--cols", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print the numbers of this process only")
    options = parser.parse_args()
    rows = [measure(options.rows, options.cols, bits, options.repeats) for bits in BITS]
    if options.json:
        print(json.dumps(rows))
        return
    done = subprocess.run(
        [sys.executable, *sys.argv, "--json"], env={**os.environ, "ATTAR_SIMD": "scalar"}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    print(table(rows, json.loads(done.stdout)))


if __name__ == "__main__":
    main()
