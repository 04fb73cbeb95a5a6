"""The whole of Fashion-MNIST for the benchmarks that train: Debian's package dataset-fashion-mnist, unpacked only.

The example models were trained on the first 52,000 training images; the other 8,000 are fresh and serve the search.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attar.data.read import read
from attar.types import Dataset

FOLDER = Path(os.environ.get("ATTAR_ASSETS", Path(__file__).parents[1] / ".assets"))
PACKAGE = "dataset-fashion-mnist"
TRAINED_ON = 52_000


@dataclass(frozen=True)
class Fashion:
    """Images as float32 [n, 1, 28, 28] in 0..1 (channels last: [n, 28, 28, 1]) with labels."""

    train: Dataset
    select: Dataset
    certify: Dataset


def fashion(*, channels_last: bool = False, most: int | None = None) -> Fashion:
    """The three sets, of which no image is in two; `most` cuts each, for trying a script."""
    parts = read(_folder())
    assert not isinstance(parts, Dataset)
    whole, test = (_images(parts[name], channels_last) for name in ("train", "test"))
    first, last = range(TRAINED_ON)[:most], range(TRAINED_ON, len(whole))[:most]
    return Fashion(whole.take(first), whole.take(last), test.take(range(len(test))[:most]))


def _images(data: Dataset, channels_last: bool) -> Dataset:
    """Unsigned bytes as floats with an axis for the channel."""
    pixels = next(iter(data.inputs.values())).astype(np.float32).reshape(-1, 28, 28) / np.float32(255)
    return Dataset({"x": pixels[..., None] if channels_last else pixels[:, None]}, data.labels, data.origin)


def _folder() -> Path:
    """Where the files are: the system's, or the package unpacked into ATTAR_ASSETS; exits where it cannot be had."""
    for root in (Path("/"), FOLDER / "fashion"):
        found = root / "usr/share/datasets/fashion-mnist"
        if (found / "train-images-idx3-ubyte.gz").exists():
            return found
    with tempfile.TemporaryDirectory() as place:
        command = f"apt-get download {PACKAGE} && dpkg-deb -x {PACKAGE}_*.deb '{FOLDER / 'fashion'}'"
        done = subprocess.run(command, shell=True, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SystemExit(
            f"Fashion-MNIST: Debian's package {PACKAGE} must unpack. Received {last!r}. Install it, or set "
            "ATTAR_ASSETS to a folder that holds fashion/usr/share/datasets/fashion-mnist."
        )
    return _folder()
