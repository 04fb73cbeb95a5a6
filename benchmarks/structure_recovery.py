"""Half of the multiply-adds removed, then trained: attar and Torch-Pruning under one tuning budget, with certificates.

    python benchmarks/structure_recovery.py [--models resnet20 dwcnn.keras] [--epochs 2] [--multiple 16] [--json FILE]

Both smaller networks are tuned by the same code, in the same number of steps on the same images towards the same
teacher (labels and the original's answers), then compared with the original on the 10,000 test images; the Keras model,
on its PyTorch backend, has no rival. Latency is onnxruntime's on one thread, medians of interleaved runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")
import torch

from attar import registry
from attar.adapters.base import Adapter
from attar.adapters.torch.adapter import TorchAdapter
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.recover.augment import changes_of
from attar.recover.retrain import retrain
from attar.recover.settings import RecoverySettings
from attar.recover.teacher import Teacher
from attar.run.progress import Silent
from attar.structure.remove import remove
from attar.structure.select import Goal
from fashion import Fashion, fashion
from recovery import EXAMPLES, opened
from structure import BATCHES, CALIBRATION, GRADIENTS, STEPS, re_estimate, session, statistics, stepped
from timing import medians

SHARE = 0.5
MAX_DROP = 1.0
SLOWEST = 0.65


def original(name: str) -> Adapter:
    """The example model."""
    if not name.endswith(".keras"):
        return TorchAdapter.open(opened(name))
    adapter: Adapter = registry.get("adapter", "keras").open(EXAMPLES / "models" / name)
    return adapter


def exported(adapter: Adapter, path: Path) -> None:
    """Its ONNX file, as its framework writes it."""
    model = adapter.model()
    if adapter.framework == "keras":
        model(np.zeros((1, 28, 28, 1), np.float32))
        model.export(str(path), format="onnx", verbose=False)
        return
    names = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}}
    torch.onnx.export(model.eval(), (torch.zeros(2, 1, 28, 28),), str(path), dynamo=False, **names)


def ours(name: str, data: Fashion, multiple: int) -> tuple[Adapter, float]:
    """The refitted smaller model and the share of its multiply-adds that went, in per cent."""
    adapter: Any = original(name)
    few = data.train.take(range(min(CALIBRATION, len(data.train))))
    adapter.run(next(few.batches(2)))
    stats = statistics(adapter, few, min(1000, len(few)))
    smaller, report = remove(adapter, stats, Goal(share=SHARE, multiple=multiple))
    return smaller, 100 * report.share


def rival(name: str, data: Fashion, multiple: int) -> tuple[Adapter, float]:
    """Torch-Pruning by Taylor importance, batch norms re-estimated."""
    import torch_pruning

    model = opened(name)
    few = data.train.take(range(min(CALIBRATION, len(data.train))))
    x, y = torch.tensor(next(iter(few.inputs.values()))), torch.tensor(np.asarray(few.labels))
    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1:]
    pruner = torch_pruning.pruner.BasePruner(
        model, x[:2], torch_pruning.importance.GroupTaylorImportance(), global_pruning=True, pruning_ratio=0.9,
        max_pruning_ratio=0.9, iterative_steps=STEPS, ignored_layers=last, round_to=multiple,
    )  # fmt: skip
    removed = 0.0
    for removed in stepped(model, pruner, x[:GRADIENTS], y[:GRADIENTS], gradients=True):
        if removed >= 100 * SHARE:
            break
    re_estimate(model, x)
    return TorchAdapter.open(model), removed


def tuned(name: str, adapter: Adapter, data: Fashion, settings: RecoverySettings) -> float:
    """Train in place towards the original; seconds."""
    started = time.perf_counter()
    whole = original(name)
    weights = {layer.name: whole.read(layer.name) for layer in whole.layers()}
    teacher = Teacher(whole, weights, dict(whole.remainder()), data.train, changes_of(settings.augment, {}))
    retrain(adapter, teacher, settings, classification=True, rng=np.random.default_rng(0), progress=Silent())
    return time.perf_counter() - started


def relative_time(name: str, adapter: Adapter, repeats: int) -> dict[str, float]:
    """The smaller model's time over the original's, by batch size."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {"original": Path(folder, "original.onnx"), "smaller": Path(folder, "smaller.onnx")}
        for one, path in ((original(name), paths["original"]), (adapter, paths["smaller"])):
            exported(one, path)
        found = {}
        for size in BATCHES:
            seconds = medians({key: session(path, size) for key, path in paths.items()}, repeats)
            found[f"batch {size}"] = seconds["smaller"] / seconds["original"]
    return found


def measured(
    name: str, how: str, data: Fashion, settings: RecoverySettings, multiple: int, repeats: int
) -> dict[str, Any]:
    """One network: removed, tuned, certified, timed."""
    adapter, removed = {"attar": ours, "Torch-Pruning": rival}[how](name, data, multiple)
    metric = resolve_metric("accuracy")
    before = score(original(name).run, data.certify, metric)
    plain = score(adapter.run, data.certify, metric).value
    seconds = tuned(name, adapter, data, settings)
    c = certify(before, score(adapter.run, data.certify, metric), metric, MAX_DROP)
    return {
        "removed": removed, "plain": plain, "after": c.after, "drop": c.drop, "lower": c.lower, "upper": c.upper,
        "verdict": c.verdict, "seconds": seconds, **relative_time(name, adapter, repeats),
    }  # fmt: skip


def main() -> None:
    """Run everything, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet20", "dwcnn.keras"])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--examples", type=int, default=52_000)
    parser.add_argument("--multiple", type=int, default=16, help="kept channels are a multiple of it")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    settings = RecoverySettings(epochs=options.epochs, distill=0.5, augment=("flip",), rate=0.05)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    print(
        f"{options.epochs} passes over {options.examples:,} images, seed 0; channels in multiples of {options.multiple}"
    )
    print(f"{'model':<11} {'how':<14} {'removed':>7} {'untuned':>7} {'tuned':>6} {'drop':>6} {'interval':<15} "
          f"{'verdict':<14} {'time 1':>6} {'time 64':>7} {'s':>5}")  # fmt: skip
    rows: dict[str, Any] = {}
    for name in options.models:
        whole = fashion(channels_last=name.endswith(".keras"))
        data = Fashion(whole.train.take(range(options.examples)), whole.select, whole.certify)
        for how in ("attar",) if name.endswith(".keras") else ("attar", "Torch-Pruning"):
            row = rows[f"{name}, {how}"] = measured(name, how, data, settings, options.multiple, options.repeats)
            print(f"{name:<11} {how:<14} {row['removed']:>6.1f}% {row['plain']:>7.2f} {row['after']:>6.2f} "
                  f"{row['drop']:>+6.2f} [{row['lower']:>+5.2f}, {row['upper']:>+5.2f}] {row['verdict']:<14} "
                  f"{row['batch 1']:>6.2f} {row['batch 64']:>7.2f} {row['seconds']:>5.0f}", flush=True)  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
