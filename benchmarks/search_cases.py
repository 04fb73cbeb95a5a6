"""The models of search.py, what each is compressed with, and what a process has held.

Fashion-MNIST of the examples for three; crops of pictures for EfficientNet-Lite0, whose answers are compared with those
of the float network.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent / "examples/models"
DATA = HERE.parent / "examples/fashion-mnist"
MAX_DROP, PASSES = 0.5, 8
CASES = {"lenet5": "lenet5.onnx", "resnet20": "resnet20.onnx", "dwcnn": "dwcnn.keras", "lite0": ""}
SPLITS = ("calibrate", "select", "certify")
CROPS, LITE_DROP = (160, 240, 240), 2.0
"""Crops for the splits of EfficientNet-Lite0, and its drop of agreement in points (an estimate: they are few)."""


def peak() -> int:
    """Most memory that this process has held, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def task(name: str, folder: Path) -> tuple[Any, dict[str, Any]]:
    """A model and what it is compressed with."""
    if name != "lite0":
        return MODELS / CASES[name], {"data": DATA, "max_drop": MAX_DROP}
    from attar.types import Dataset

    command = [sys.executable, "-W", "ignore", __file__, str(folder)]  # PyTorch, which writes it, takes memory too
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    sets = {name: Dataset({"x": np.load(folder / f"{name}.npy")}) for name in SPLITS}
    return folder / "lite0.onnx", {**sets, "metric": "agreement", "max_drop": LITE_DROP, "guarantee": "estimate"}


def main() -> None:
    """Write EfficientNet-Lite0 and its sets into a folder."""
    from efficientnet import crops, exported, network, pictures

    folder, (seen, held) = Path(sys.argv[1]), pictures()
    for seed, (name, source, count) in enumerate(zip(SPLITS, (seen, seen, held), CROPS, strict=True)):
        np.save(folder / f"{name}.npy", crops(source, count, seed).inputs["x"])
    exported(network(), folder / "lite0.onnx")


if __name__ == "__main__":
    main()
