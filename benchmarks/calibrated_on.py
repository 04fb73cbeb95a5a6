"""What LeNet-5 is calibrated on, and the size of the file at equal KL: data as they are, without near copies, lossy.

    python benchmarks/calibrated_on.py [--seeds 5] [--steps 1500]

Pools, statistics and sizes are those of selection.py: 4,000 Fashion-MNIST images a seed, sensitivities measured once,
bytes of the file at KL = 0.01 on the 10,000 test images. *Lossy* pools were packed at a quality and read back: a
network trained on the example set's 8,000 training images makes them (`attar data pack --quality`). A *spoilt* pool has
30 % near copies of 40 images; *without near copies* is `duplicates = "near"` of the recipe.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from attar.copies.prepare import DataSettings, prepared
from attar.latent.settings import Settings
from attar.run.progress import Silent
from attar.sets.aims import Near
from attar.sets.fitting import Fitted, fit
from attar.types import Dataset, Splits
from selection import TARGET, Bench, interval, said
from timing import machine

QUALITIES = (0.85, 0.7, 0.5)
HELD = 800


def networks(train: Dataset, steps: int) -> dict[float, Fitted]:
    """A network for each quality."""
    pixels = as_bytes(train)
    rows = np.arange(len(pixels) - HELD), np.arange(len(pixels) - HELD, len(pixels))
    spread = float(pixels[rows[0]].std())
    return {
        quality: fit(pixels, rows, Near(pixels, (1 - quality) * spread), None, Settings(steps=steps), Silent())
        for quality in QUALITIES
    }


def as_bytes(data: Dataset) -> np.ndarray:
    """Images [n, 28, 28, 1] of 0 .. 255."""
    (values,) = data.inputs.values()
    return np.rint(values * 255).astype(np.uint8).reshape(-1, 28, 28, 1)


def made(network: Fitted, data: Dataset) -> Dataset:
    """The images as the network brings them back."""
    ((name, values),) = data.inputs.items()
    back = network.made(as_bytes(data)).astype(np.float32) / 255
    return replace(data, inputs={name: back.reshape(values.shape)})


def without_copies(data: Dataset, bench: Bench) -> Dataset:
    """The pool as `duplicates = "near"` leaves it."""
    splits = Splits(data, bench.train.take(range(50)), bench.test)
    return prepared(splits, None, DataSettings(leaks="equal", duplicates="near")).splits.calibrate


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args()
    bench = Bench("lenet5", None, ())
    bench.share()
    ways: dict[str, Callable[[int], Dataset]] = {
        "as they are": lambda seed: bench.pool(seed, False),
        "spoilt by near copies": lambda seed: bench.pool(seed, True),
        "without near copies": lambda seed: without_copies(bench.pool(seed, True), bench),
    }
    for quality, network in networks(bench.train, options.steps).items():
        ways[f"lossy, quality {quality:g}"] = lambda seed, net=network: made(net, bench.pool(seed, False))
    print(f"{machine()}\n\n| calibrated on | examples | bytes at KL {TARGET} | to the first |\n|---|---|---|---|")
    base: list[float] = []
    for name, way in ways.items():
        pools = [way(seed) for seed in range(options.seeds)]
        sizes = [bench.size(pool, seed)["bytes"] for seed, pool in enumerate(pools)]
        mean, half = interval(sizes)
        ratio = said([one / other - 1 for one, other in zip(sizes, base, strict=True)]) if base else "-"
        base = base or sizes
        print(
            f"| {name} | {np.mean([len(pool) for pool in pools]):,.0f} | {mean:,.0f} ± {half:,.0f} | {ratio} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
