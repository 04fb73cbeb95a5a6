"""EfficientNet-Lite0 after training, at so many bits a weight: agreement with the original on crops, without labels.

    python benchmarks/efficientnet.py [--bits 4 3] [--crops 480] [--sensitivity fisher] [--json FILE]

Statistics from crops of ten of foolbox's twenty ImageNet pictures and of scikit-image's photographs; agreement and KL
on 80 crops of the other ten pictures. Bits are those of the whole .attar file over the number of weights. The naive
rival rounds each row to 2**bits levels up to its largest weight. The network is attar's input as an ONNX file, which
onnxruntime runs several times as fast as PyTorch does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from attar import pipeline
from attar.adapters.base import Adapter
from attar.evaluate.budget import Budget
from attar.evaluate.metrics import resolve_metric
from attar.job import Job
from attar.opening import open_model
from attar.recipe import Recipe
from attar.run.ledger import Ledger
from attar.run.progress import Silent
from attar.search.divergence import divergence
from attar.types import Array, Dataset, Splits, Weight
from checkpoints import EFFICIENTNET
from inputs import FOLDER, asset

SIDE = 224
MEAN, STD = 127, 128
PICTURES = ("foolbox==3.3.4", "foolbox/data")
ARCHITECTURE = ("efficientnet-lite-pytorch==0.1.0", "efficientnet_lite_pytorch/__init__.py")
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg")
TARGET = 0.95
METHODS = ["uniform", "lowrank", "keep"]


def network() -> Any:
    """The published network in eval mode."""
    import torch

    sys.path.insert(0, str(asset(*ARCHITECTURE).parents[1]))
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(asset(*EFFICIENTNET), weights_only=True))
    return model.eval()


def exported(model: Any, path: Path) -> Path:
    """As an ONNX file for any number of examples, by PyTorch."""
    import torch

    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), (torch.zeros(2, 3, SIDE, SIDE),), str(path), dynamo=False, **names)
    return path


def pictures() -> tuple[list[Array], list[Array]]:
    """RGB pictures for statistics, and for the comparison."""
    from PIL import Image

    names = sorted(asset(*PICTURES).glob("imagenet_*.jpg"))
    photos = [path for name in PHOTOS if (path := _photos() / name).exists()]
    opened = [np.asarray(Image.open(path).convert("RGB")) for path in [*names[::2], *photos]]
    return opened, [np.asarray(Image.open(path).convert("RGB")) for path in names[1::2]]


def _photos() -> Path:
    """scikit-image's photographs, from Debian's package; none where that cannot be had."""
    place = FOLDER / "skimage"
    if not place.exists():
        with tempfile.TemporaryDirectory() as folder:
            command = f"apt-get download python3-skimage && dpkg-deb -x python3-skimage_*.deb '{place}'"
            subprocess.run(command, shell=True, cwd=folder, capture_output=True, check=False)
    return place / "usr/lib/python3/dist-packages/skimage/data"


def squares(images: list[Array], count: int, seed: int) -> Array:
    """Random squares of 45 to 100 % of a picture's shorter side, half of them mirrored: uint8 [n, 3, 224, 224]."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    found = np.empty((count, 3, SIDE, SIDE), np.uint8)
    for index in range(count):
        image = images[index % len(images)]
        size = int(min(image.shape[:2]) * rng.uniform(0.45, 1))
        top, left = (int(rng.integers(0, extent - size + 1)) for extent in image.shape[:2])
        square = Image.fromarray(image[top : top + size, left : left + size]).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
        pixels = np.asarray(square)
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        found[index] = pixels.transpose(2, 0, 1)
    return found


def crops(images: list[Array], count: int, seed: int) -> Dataset:
    """The same as the network wants them, float32."""
    return Dataset({"x": (squares(images, count, seed).astype(np.float32) - MEAN) / STD})


def answers(adapter: Adapter, data: Dataset) -> Array:
    """Outputs on all examples."""
    return np.concatenate([adapter.run(batch) for batch in data.batches(40)])


def compared(original: Array, changed: Array) -> dict[str, float]:
    """Agreement of the first answer, and mean KL in nats."""
    return {
        "agreement": float((original.argmax(1) == changed.argmax(1)).mean()),
        "kl": float(divergence(original, changed, "logits").mean()),
    }


def naive(adapter: Adapter, bits: int) -> None:
    """Every layer rounded row by row, in place."""
    for layer in adapter.layers():
        weight = adapter.read(layer.name)
        step = np.maximum(np.abs(weight.matrix).max(1, keepdims=True), 1e-12) / (2 ** (bits - 1) - 1)
        adapter.write(layer.name, Weight((np.rint(weight.matrix / step) * step).astype(np.float32), weight.bias))


def prepared(model: Any, calibrate: Dataset, test: Dataset, sensitivity: str) -> Any:
    """The search's subject and what the original answers on the test crops."""
    recipe = Recipe(
        max_drop=5, metric="agreement", methods=METHODS, calibration_examples=len(calibrate), sensitivity=sensitivity
    )
    splits = Splits(calibrate, test, test)
    job = Job(recipe, open_model(model), splits, resolve_metric("agreement"), Budget(5.0), 0, "lite0")
    loop = pipeline.loop_of(job, Ledger(), Silent())
    return loop.subject, loop.before["select"].outputs


def landed(subject: Any, bits: float) -> Any:
    """The candidate with the most bytes that are no more than so many bits a weight, by halving."""
    low, high = -40.0, -20.0
    for _ in range(6):
        middle = (low + high) / 2
        size = subject.build(float(2.0**middle)).size_bytes
        low, high = (middle, high) if 8 * size > bits * subject.weight_count else (low, middle)
    return subject.build(float(2.0**high))


def row_of(subject: Any, bits: float, original: Array, test: Dataset) -> dict[str, float]:
    """What attar makes of the network at so many bits, read back from its file's bytes."""
    begun = time.perf_counter()
    candidate = landed(subject, bits)
    subject.put(candidate)
    found = compared(original, answers(subject.adapter, test))
    stored = 8 * candidate.size_bytes / subject.weight_count
    return {"bytes": candidate.size_bytes, "bits": stored, **found, "seconds": time.perf_counter() - begun}


def rival(model: Any, bits: float, original: Array, test: Dataset) -> dict[str, float]:
    """The naive rounding at so many bits."""
    rounded = open_model(model)
    naive(rounded, int(bits))
    return {"bits": bits, **compared(original, answers(rounded, test))}


def show(rows: dict[str, dict[str, float]]) -> None:
    """One line for each way."""
    print(f"{'how':<24} {'bytes':>9} {'bits':>5} {'agreement':>9} {'KL':>7} {'s':>5}")
    for how, row in rows.items():
        print(
            f"{how:<24} {row.get('bytes', 0):>9,} {row['bits']:>5.2f} {row['agreement']:>9.3f} {row['kl']:>7.4f} "
            f"{row.get('seconds', 0):>5.0f}"
        )
    best = rows.get("attar, 4 bits", {}).get("agreement", 0)
    print(f"agreement at 4 bits: target {TARGET}: {'met' if best >= TARGET else 'missed'}")


def main() -> None:
    """Measure once, then land on each number of bits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bits", type=float, nargs="+", default=[4.0, 3.0])
    parser.add_argument("--crops", type=int, default=480)
    parser.add_argument("--sensitivity", choices=["output-kl", "fisher"], default="output-kl")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    started = time.perf_counter()
    seen, held = pictures()
    calibrate, test = crops(seen, options.crops, 0), crops(held, 80, 1)
    with tempfile.TemporaryDirectory() as folder:
        # Gradients need the PyTorch network; runs are several times as fast through ONNX.
        model = network() if options.sensitivity == "fisher" else str(exported(network(), Path(folder, "lite0.onnx")))
        subject, original = prepared(model, calibrate, test, options.sensitivity)
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {len(test)} crops")
        print(
            f"statistics from {options.crops} crops; {subject.weight_count:,} weights; measured in "
            f"{time.perf_counter() - started:.0f} s"
        )
        rows: dict[str, dict[str, float]] = {}
        for bits in options.bits:
            rows[f"naive int{bits:g}, per row"] = rival(model, bits, original, test)
            rows[f"attar, {bits:g} bits"] = row_of(subject, bits, original, test)
    show(rows)
    print(f"{time.perf_counter() - started:.0f} s in all")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
