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
CROPS = 160, 240, 240
"""Crops for the splits of EfficientNet-Lite0."""
LITE = {"metric": "agreement", "max_drop": 2.0, "guarantee": "estimate"}
"""What is asked of it; an estimate: its crops are few."""


def peak() -> int:
    """Most memory that this process has held, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def task(name: str, folder: Path) -> tuple[Any, dict[str, Any]]:
    """A model and what it is compressed with."""
    if name != "lite0":
        return MODELS / CASES[name], {"data": DATA, "max_drop": MAX_DROP}
    return lite0(folder), crops(folder)


def lite0(folder: Path) -> Path:
    """EfficientNet-Lite0, written into the folder with its crops unless it is there."""
    model = folder / "lite0.onnx"
    if not model.exists():
        command = [sys.executable, "-W", "ignore", __file__, str(folder)]  # PyTorch, which writes it, takes memory too
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return model


def crops(folder: Path) -> dict[str, Any]:
    """What it is compressed with: crops as bytes, which become the floats that the network was trained on."""
    sets = {name: np.load(folder / f"{name}.npy") for name in SPLITS}
    return {**sets, "scale": 1.0, "mean": [127.0], "std": [128.0], **LITE}


def main() -> None:
    """Write EfficientNet-Lite0 and its sets into a folder."""
    from efficientnet import exported, network, pictures, squares

    folder, (seen, held) = Path(sys.argv[1]), pictures()
    folder.mkdir(exist_ok=True)
    for seed, (name, source, count) in enumerate(zip(SPLITS, (seen, seen, held), CROPS, strict=True)):
        np.save(folder / f"{name}.npy", squares(source, count, seed))
    exported(network(), folder / "lite0.onnx")


if __name__ == "__main__":
    main()
