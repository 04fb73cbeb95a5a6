"""Channels removed from EfficientNet-Lite0 after training, without labels: attar and Torch-Pruning in one table.

    python benchmarks/efficientnet_channels.py [--shares 10 20 30] [--crops 256] [--json FILE]

Statistics and re-estimated norms from the crops of efficientnet.py's first pictures; agreement and KL with
the original on 80 crops of the others. Torch-Pruning's Taylor importance sees the original's answers as labels, of 32
crops at each of its 40 steps; its norms are re-estimated on the crops that attar's refit sees. Channels are multiples
of 8 for both; latency is onnxruntime's on one thread, batch 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from attar.adapters.base import Adapter
from attar.adapters.torch.adapter import TorchAdapter
from attar.opening import open_model
from attar.structure.importance import importances
from attar.structure.remove import apart, subject_of
from attar.structure.select import Goal, selected
from attar.types import Dataset
from efficientnet import SIDE, answers, compared, crops, exported, network, pictures
from structure import statistics, table
from timing import machine, medians

STEPS, GRADIENTS, MULTIPLE = 40, 32, 8
HEADS = {"how": "how", "share": "asked %", "removed": "multiply-adds removed %", "agreement": "agreement", "kl": "KL",
         "time": "time"}  # fmt: skip


def folded(folder: str) -> Adapter:
    """The network as onnxruntime folds it: PyTorch's export computes its padding from the size of the input."""
    import onnxruntime

    path = Path(folder, "folded.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(str(exported(network(), Path(folder, "whole.onnx"))), options)
    return open_model(str(path))


def ours(adapter: Any, shares: list[int], seen: Dataset) -> list[tuple[str, int, float, Adapter]]:
    """Chosen by elimination and refitted."""
    subject = subject_of(adapter, statistics(adapter, seen, len(seen)))
    scores, found = importances(subject, "refitted"), []
    for share in shares:
        keep = selected(subject.structure, scores, Goal(share / 100, multiple=MULTIPLE))
        smaller, report = apart(adapter, subject, keep)
        found.append(("attar", share, 100 * report.share, smaller))
    return found


def rival(kind: str, shares: list[int], seen: Dataset) -> list[tuple[str, int, float, Adapter]]:
    """Torch-Pruning's global pruning, step by step until the multiply-adds are gone."""
    import torch
    import torch_pruning

    model = network()
    x = torch.tensor(next(iter(seen.inputs.values())))
    with torch.no_grad():
        labels = model(x[:GRADIENTS]).argmax(1)
    group = torch_pruning.importance
    importance = group.GroupTaylorImportance() if kind == "Taylor" else group.GroupMagnitudeImportance(p=2)
    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    pruner = torch_pruning.pruner.BasePruner(
        model, x[:2], importance, global_pruning=True, pruning_ratio=0.8, max_pruning_ratio=0.8, iterative_steps=STEPS,
        ignored_layers=last, round_to=MULTIPLE,
    )  # fmt: skip
    whole, left, found = _macs(model, x), sorted(shares), []
    for _ in range(STEPS):
        if kind == "Taylor":
            model.zero_grad()
            torch.nn.functional.cross_entropy(model(x[:GRADIENTS]), labels).backward()
        pruner.step()
        removed = 100 * (1 - _macs(model, x) / whole)
        while left and removed >= left[0]:
            again = deepcopy(model)
            _norms(again, x)
            found.append((f"Torch-Pruning, {kind}", left.pop(0), removed, TorchAdapter.open(again)))
        if not left:
            break
    return found


def _macs(model: Any, x: Any) -> int:
    adapter: Any = TorchAdapter.open(model)
    adapter.run({"x": x[:1].numpy()})
    macs: int = adapter.structure().macs
    return macs


def _norms(model: Any, x: Any) -> None:
    """Batch norms anew from the crops."""
    import torch

    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None
        module.train()
    with torch.no_grad():
        for start in range(0, len(x), 32):
            model(x[start : start + 32])
    model.eval()


def main() -> None:
    """All of both, one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shares", type=int, nargs="+", default=[10, 20, 30])
    parser.add_argument("--crops", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    first, others = pictures()
    seen, test = crops(first, options.crops, 0), crops(others, 80, 1)
    with tempfile.TemporaryDirectory() as folder:
        original = folded(folder)
        expected = answers(original, test)
        models = ours(original, options.shares, seen)
        for kind in ("L2", "Taylor"):
            models += rival(kind, options.shares, seen)
        paths = {str(k): Path(folder, f"{k}.onnx") for k in range(len(models))}
        for path, (*_, adapter) in zip(paths.values(), models, strict=True):
            adapter.save(path) if adapter.framework == "onnx" else exported(adapter.model(), path)
        paths["original"] = Path(folder, "folded.onnx")
        seconds = medians({key: _once(path) for key, path in paths.items()}, options.repeats)
    rows = [
        {"how": how, "share": share, "removed": removed, **compared(expected, answers(adapter, test)),
         "time": seconds[str(k)] / seconds["original"]} for k, (how, share, removed, adapter) in enumerate(models)
    ]  # fmt: skip
    print(f"{machine()}; statistics from {len(seen)} crops, compared on {len(test)}", file=sys.stderr)
    print(table(sorted(rows, key=lambda row: row["share"]), HEADS))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _once(path: Path) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    ready = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
    return lambda: ready.run(None, {"x": x})


if __name__ == "__main__":
    main()
