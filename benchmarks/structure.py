"""Channels removed after training, without recovery: accuracy and latency beside Torch-Pruning's, in one table a model.

    python benchmarks/structure.py [--models resnet20 dwcnn] [--shares 20 35 50] [--json results.json]

Accuracy is that on the 10,000 test images, of which no statistic is made. Moments are those of 4,000 training images
without labels, sensitivities of 1,000 of them. Torch-Pruning takes 200 steps, with gradients of 250 labelled images at
each; batch norms are re-estimated for it on the 4,000, which attar's refit sees as well. Latency is onnxruntime's on
one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from attar import registry
from attar.adapters.base import Grouped
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.run.progress import Silent
from attar.search.sensitivity import measure_rows
from attar.structure.importance import MEASURES, RELATIVE, importances
from attar.structure.remove import apart, subject_of
from attar.structure.select import Goal, selected
from attar.types import Dataset, Stats
from timing import machine, medians

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
CALIBRATION, SENSITIVE = 4000, 1000
BATCHES = (1, 64)
STEPS, GRADIENTS = 200, 250


def opened(name: str) -> Grouped:
    """An example model, as ONNX where the name has no ending."""
    path = EXAMPLES / "models" / (name if "." in name else f"{name}.onnx")
    adapter = registry.get("adapter", {".keras": "keras"}.get(path.suffix, "onnx"))
    found: Grouped = adapter.open(path)
    return found


def images(adapter: Any, calibration: int) -> tuple[Dataset, Dataset]:
    """Training images for statistics, and all test images, as the model takes them."""
    parts = read(EXAMPLES / "fashion-mnist")
    train, test = (fit_inputs(parts[name], adapter.inputs()) for name in ("train", "test"))
    return train.take(range(calibration)), test


def statistics(adapter: Any, train: Dataset, sensitive: int) -> dict[str, Stats]:
    """Moments and row sensitivities of every layer."""
    layers = [layer for layer in adapter.layers() if layer.tied_to is None]
    stats = dict(adapter.moments(train.batches(250)))
    weights = {layer.name: adapter.read(layer.name) for layer in layers}
    few = train.take(range(sensitive))
    return measure_rows(adapter, layers, weights, stats, few, "logits", seed=0, progress=Silent())


def accuracy(adapter: Any, test: Dataset) -> float:
    """Percent right."""
    right = [adapter.run(batch).argmax(1) for batch in test.batches(500)]
    return 100 * float(np.mean(np.concatenate(right) == test.labels))


def ours(name: str, given: argparse.Namespace) -> tuple[float, list[dict[str, Any]]]:
    """Every measure at every share, removed alone and refitted."""
    adapter: Any = opened(name)
    train, test = images(adapter, given.calibration)
    subject = subject_of(adapter, statistics(adapter, train, min(SENSITIVE, given.calibration)))
    rows: list[dict[str, Any]] = []
    for measure in given.measures:
        scores = importances(subject, measure)
        for share in given.shares:
            by_work = measure not in RELATIVE
            keep = selected(subject.structure, scores, Goal(share / 100, multiple=1), by_work=by_work)
            plain, report = apart(adapter, subject, keep, None)
            refitted, _ = apart(adapter, subject, keep)
            rows.append({
                "share": share, "measure": measure, "removed": 100 * report.share, "plain": accuracy(plain, test),
                "refitted": accuracy(refitted, test), "weights": 100 * (1 - report.weights[1] / report.weights[0]),
            })  # fmt: skip
            print(rows[-1], file=sys.stderr, flush=True)
    return accuracy(adapter, test), sorted(rows, key=lambda row: row["share"])


def latencies(name: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Time of the refitted model relative to the original's; channels as they come, and in multiples of 8."""
    adapter: Any = opened(name)
    train, test = images(adapter, given.calibration)
    subject = subject_of(adapter, statistics(adapter, train, min(SENSITIVE, given.calibration)))
    scores, rows = importances(subject, "refitted"), []
    with tempfile.TemporaryDirectory() as folder:
        paths = {"original": Path(folder, "original.onnx")}
        adapter.save(paths["original"])
        macs, correct = {}, {}
        for share in given.shares:
            for multiple in (1, 8):
                key = f"{share}/{multiple}"
                keep = selected(subject.structure, scores, Goal(share / 100, multiple=multiple))
                smaller, report = apart(adapter, subject, keep)
                paths[key], macs[key] = Path(folder, f"{share}-{multiple}.onnx"), 100 * report.share
                correct[key] = accuracy(smaller, test)
                smaller.save(paths[key])
        for batch in BATCHES:
            seconds = medians({key: session(path, batch) for key, path in paths.items()}, given.repeats)
            for key in macs:
                share, multiple = key.split("/")
                rows.append({
                    "share": int(share), "multiple": int(multiple), "batch": batch, "removed": macs[key],
                    "right": correct[key], "relative": seconds[key] / seconds["original"], "ms": 1000 * seconds[key],
                })  # fmt: skip
    return rows


def session(path: Path, batch: int) -> Any:
    """One run of a file on one thread, as an action without arguments."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    ready = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = ready.get_inputs()[0]
    x = np.random.default_rng(0).random((batch, *given.shape[1:]), np.float32)
    runs = max(64 // batch, 1)
    return lambda: [ready.run(None, {given.name: x}) for _ in range(runs)]


def rival(name: str, shares: list[int], calibration: int) -> list[dict[str, Any]]:
    """Torch-Pruning's global pruning of the PyTorch twin down to the same multiply-adds."""
    import torch
    import torch_pruning

    sys.path.insert(0, str(EXAMPLES))
    from torch_models import MODELS

    adapter: Any = opened(name)
    train, test = images(adapter, calibration)
    x, y = (torch.tensor(np.asarray(v)) for v in (next(iter(train.inputs.values())), train.labels))
    kinds = {
        "L1": torch_pruning.importance.GroupMagnitudeImportance(p=1),
        "L2": torch_pruning.importance.GroupMagnitudeImportance(p=2),
        "Taylor": torch_pruning.importance.GroupTaylorImportance(),
    }
    rows = []
    for kind, importance in kinds.items():
        model = MODELS[name]()
        model.load_state_dict(torch.load(EXAMPLES / "models" / f"{name}.pt", weights_only=True))
        model.eval()
        pruner = torch_pruning.pruner.BasePruner(
            model, x[:2], importance, global_pruning=True, pruning_ratio=0.9, max_pruning_ratio=0.9,
            iterative_steps=STEPS, ignored_layers=[model.fc],
        )  # fmt: skip
        left = sorted(shares)
        for removed in stepped(model, pruner, x[:GRADIENTS], y[:GRADIENTS], gradients=kind == "Taylor"):
            while left and removed >= left[0]:
                again = deepcopy(model)
                re_estimate(again, x)
                rows.append({"share": left.pop(0), "measure": kind, "removed": removed, "plain": right(model, test),
                             "norms": right(again, test)})  # fmt: skip
                print(rows[-1], file=sys.stderr, flush=True)
            if not left:
                break
    return sorted(rows, key=lambda row: row["share"])


def stepped(model: Any, pruner: Any, x: Any, y: Any, *, gradients: bool) -> Iterator[float]:
    """Prune step by step; the percentage of the multiply-adds that is gone after each."""
    import torch

    from attar.adapters.torch.adapter import TorchAdapter

    whole = None
    for _ in range(STEPS):
        adapter: Any = TorchAdapter.open(model)
        adapter.run({"x": x[:2].numpy()})
        macs = adapter.structure().macs
        whole = whole or macs
        yield 100 * (1 - macs / whole)
        if gradients:
            model.zero_grad()
            for start in range(0, len(x), 250):
                torch.nn.functional.cross_entropy(
                    model(x[start : start + 250]), y[start : start + 250].long()
                ).backward()
        pruner.step()


def right(model: Any, test: Dataset) -> float:
    """Percent right of a PyTorch module."""
    import torch

    with torch.no_grad():
        found = [model(torch.tensor(next(iter(batch.values())))).argmax(1).numpy() for batch in test.batches(500)]
    return 100 * float(np.mean(np.concatenate(found) == test.labels))


def re_estimate(model: Any, x: Any) -> None:
    """Statistics of batch norms anew, from data without labels."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    model.train()
    with torch.no_grad():
        for start in range(0, len(x), 250):
            model(x[start : start + 250])
    model.eval()


SHARE, REMOVED = {"share": "asked %"}, {"removed": "multiply-adds removed %"}
OURS = SHARE | {"measure": "measure"} | REMOVED
OURS |= {"weights": "weights removed %", "plain": "removed", "refitted": "and refitted"}
RIVAL = SHARE | {"measure": "importance"} | REMOVED | {"plain": "removed", "norms": "and norms re-estimated"}
LATENCY = SHARE | {"multiple": "multiple of"} | REMOVED | {"right": "accuracy", "batch": "batch", "relative": "time"}


def table(rows: list[dict[str, Any]], heads: Mapping[str, str]) -> str:
    """Markdown of rows by key; numbers with two digits."""
    lines = ["| " + " | ".join(heads.values()) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = [f"{row[k]:.2f}" if isinstance(row[k], float) else str(row[k]) for k in heads]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables of every model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet20", "dwcnn", "dwcnn.keras"])
    parser.add_argument("--shares", nargs="+", type=int, default=[20, 35, 50])
    parser.add_argument("--measures", nargs="+", default=list(MEASURES), choices=MEASURES)
    parser.add_argument("--parts", nargs="+", default=["ours", "latency", "rival"])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--calibration", type=int, default=CALIBRATION)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results: dict[str, Any] = {"machine": machine()}
    print(results["machine"])
    for name in given.models:
        own = results[name] = {}
        if "ours" in given.parts:
            before, own["ours"] = ours(name, given)
            print(f"\n{name}: {before:.2f} % before\n\n{table(own['ours'], OURS)}")
        if "rival" in given.parts and name == "resnet20":
            own["rival"] = rival(name, given.shares, given.calibration)
            print(f"\n{name}, Torch-Pruning\n\n{table(own['rival'], RIVAL)}")
        if "latency" in given.parts and "." not in name:
            own["latency"] = latencies(name, given)
            print(f"\n{name}, latency relative to the original\n\n{table(own['latency'], LATENCY)}")
        if given.json:
            given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
