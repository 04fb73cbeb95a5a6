"""How long the base method takes for one large layer, in all and beside one float32 product of the same matrices.

python benchmarks/layer.py [--size 4096]
"""

from __future__ import annotations

import argparse
import os
import platform
import time

import numpy as np

from attar.coding.rans import Rans
from attar.methods.uniform import Uniform
from attar.types import Layer, Stats, Weight

SLOPES = (3e-6, 1e-5, 1e-4)


def problem(size: int) -> tuple[Layer, Weight, Stats]:
    """A dense layer with correlated inputs of unequal scale and rows of unequal sensitivity."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(size, 2 * size)).astype(np.float32)
    x *= np.exp(rng.normal(size=(size, 1))).astype(np.float32)
    x += 0.3 * rng.normal(size=(1, 2 * size)).astype(np.float32)
    stats = Stats(
        np.cov(x, bias=True)[None].astype(np.float64), x.mean(1, dtype=np.float64)[None], 2 * size, 2 * size,
        np.exp(rng.normal(size=size)),
    )  # fmt: skip
    weight = Weight((0.02 * rng.normal(size=(size, size))).astype(np.float32), np.zeros(size, np.float32))
    return Layer("layer", "dense", size, size, (size, size), has_bias=True), weight, stats


def main() -> None:
    """Time each slope and print one line for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096)
    size = parser.parse_args().size
    layer, weight, stats = problem(size)
    started = time.perf_counter()
    for _ in range(3):
        weight.matrix @ weight.matrix
    product = (time.perf_counter() - started) / 3
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}")
    print(f"{size} x {size}, one float32 product {product:.2f} s")
    for slope in SLOPES:
        started = time.perf_counter()
        point = next(iter(Uniform.points(layer, weight, stats, [slope])))
        quantised = time.perf_counter()
        assert point.encoded is not None
        codes = point.encoded.arrays["codes"]
        data = Rans.encode(codes)
        coded = time.perf_counter()
        print(
            f"slope {slope:.0e}: {8 * len(data) / codes.size:.2f} bits a weight, {np.mean(codes == 0):.0%} zeros, "
            f"quantised in {quantised - started:.1f} s ({(quantised - started) / product:.0f} products), "
            f"coded in {coded - quantised:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
