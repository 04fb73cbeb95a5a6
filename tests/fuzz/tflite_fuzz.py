"""Mutated TFLite files through the reader, the packer and, where `--run` is given, LiteRT: errors of attar only.

Kept as crash-N.tflite is what raises anything else, and as timeout-N.tflite what takes longer than SLOW seconds.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from adapters.test_tflite import sparse
from adapters.tflite_models import MODELS
from attar.adapters.tflite.adapter import TfliteAdapter
from attar.errors import AttarError
from attar.formats.source import Bytes
from attar.packing.tflite import accepts, find

SLOW = 10.0
WORDS = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00", b"\x00\x00\x00\x40", b"\x01\x00\x00\x00")
LARGEST = 10**7
"""Values of an example, beyond which a mutated model is not run."""


def mutated(rng: random.Random, data: bytes) -> bytes:
    """One file cut, or with some bytes or words changed, more often in its tables than in its values."""
    if rng.random() < 0.1:
        return data[: rng.randrange(len(data))]
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(made)) if rng.random() < 0.3 else len(made) - 1 - rng.randrange(min(len(made), 3000))
        if rng.random() < 0.4:
            at = min(at // 4 * 4, len(made) - 4)
            made[at : at + 4] = rng.choice(WORDS)
        else:
            made[at] = rng.randrange(256)
    return bytes(made)


def use(data: bytes, folder: Path, *, run: bool) -> None:
    """What a user would do with a file."""
    place = folder / "packed.tflite"
    place.write_bytes(data)
    if accepts(Bytes(place)):
        find(Bytes(place))
    adapter = TfliteAdapter.open(data)
    adapter.skeleton(), adapter.remainder(), adapter.model()
    for layer in adapter.layers():
        if layer.tied_to is None:
            adapter.read(layer.name)
    spec = adapter.inputs()[0]
    shape = [size or 4 for size in spec.shape[1:]]
    if run and float(np.prod([float(size) for size in shape])) < LARGEST:
        list(adapter.capture([{spec.name: np.ones((2, *shape), spec.dtype)}]))


def main() -> None:
    """Run for so many seconds; exits 1 where a file was kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--found", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", action="store_true")
    options = parser.parse_args()
    files = [*(make() for make in MODELS.values()), sparse()[0]]
    rng, end, said = random.Random(options.seed), time.monotonic() + options.seconds, Counter[str]()
    while time.monotonic() < end:
        data, start = mutated(rng, rng.choice(files)), time.monotonic()
        try:
            use(data, options.found, run=options.run)
            said["taken"] += 1
        except AttarError:
            said["refused"] += 1
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            said[repr(error)[:100]] += 1
            (options.found / f"crash-{said.total()}.tflite").write_bytes(data)
        if time.monotonic() - start > SLOW:
            (options.found / f"timeout-{said.total()}.tflite").write_bytes(data)
    print(dict(said))
    sys.exit(any(options.found.glob("crash-*")) or any(options.found.glob("timeout-*")))


if __name__ == "__main__":
    main()
