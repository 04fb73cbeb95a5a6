"""Compression with training afterwards: the example models, and Deep Compression done again beside them, in one table.

    python benchmarks/recovery.py [--models lenet300 lenet5 dwcnn resnet20] [--json FILE] [--tiny]

Training and statistics on the 52,000 images that the models were trained on, the search on 8,000 fresh ones, the
certificate on the 10,000 test images. Sizes are those of files on disk (of Deep Compression: of its codes and tables);
ratios are to the float32 ONNX file for all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

import attar
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from deep_compression import KEEP, deep_compression
from fashion import Fashion, fashion

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))
from torch_models import MODELS  # noqa: E402

MAX_DROP = 0.5
EPOCHS = {"lenet300": 24, "lenet5": 5, "resnet20": 2, "dwcnn": 2}
TARGETS = {"lenet300": 50, "lenet5": 50, "resnet20": 32, "dwcnn": 14}
SCALES = (1.0, 0.6, 0.4)
"""Shares of the paper's keep rates that Deep Compression is run with."""


def opened(name: str) -> torch.nn.Module:
    """An example network with its weights."""
    model = MODELS[name]()
    model.load_state_dict(torch.load(EXAMPLES / "models" / f"{name}.pt", weights_only=True))
    return model.eval()


def ours(name: str, data: Fashion, guarantee: str, recovery: dict[str, Any], methods: list[str]) -> dict[str, Any]:
    """attar with recovery."""
    started = time.perf_counter()
    result = attar.compress(
        opened(name), calibrate=data.train.take(range(min(4000, len(data.train)))), select=data.select,
        certify=data.certify, train=data.train, scale=1.0, max_drop=MAX_DROP, guarantee=guarantee,
        methods=methods, settings={"recovery": recovery},
    )  # fmt: skip
    c = result.certificate
    trained = sum(event["event"] == "training" for event in result.events)
    seen = ("split", "trained", "bytes", "drop", "upper")
    tried = [{key: event[key] for key in seen} for event in result.events if event["event"] == "candidate"]
    return {
        "bytes": result.bytes_after, "drop": c.drop, "lower": c.lower, "upper": c.upper, "verdict": c.verdict,
        "trained": trained, "tried": tried, "seconds": time.perf_counter() - started,
    }  # fmt: skip


def rival(name: str, data: Fashion, scale: float, epochs: int) -> dict[str, Any]:
    """Deep Compression with its keep rates times a scale."""
    started = time.perf_counter()
    model = opened(name)
    network, size = deep_compression(model, KEEP[name], data.train, epochs=epochs, scale=scale)
    metric = resolve_metric("accuracy")
    before, after = (score(lambda batch, m=m: _run(m, batch), data.certify, metric) for m in (model, network))
    c = certify(before, after, metric, MAX_DROP)
    return {
        "bytes": size, "drop": c.drop, "lower": c.lower, "upper": c.upper, "verdict": c.verdict,
        "seconds": time.perf_counter() - started,
    }  # fmt: skip


@torch.no_grad()
def _run(model: torch.nn.Module, batch: dict[str, Any]) -> Any:
    return model(torch.from_numpy(next(iter(batch.values())))).numpy()


def show(name: str, how: str, row: dict[str, Any], before: int) -> None:
    """One line of the table."""
    print(
        f"{name:<9} {how:<28} {row['bytes']:>8,} {before / row['bytes']:>6.1f}x {row['drop']:>+6.2f} "
        f"[{row['lower']:>+5.2f}, {row['upper']:>+5.2f}] {row['verdict']:<14} {row['seconds']:>5.0f}",
        flush=True,
    )


def main() -> None:
    """Run everything, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(TARGETS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--guarantees", nargs="+", default=["bound", "estimate"])
    parser.add_argument("--methods", nargs="+", default=["uniform", "keep"])
    parser.add_argument("--epochs", type=int, help="passes for each candidate, in place of the model's own")
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--tiny", action="store_true", help="few images and one epoch, to try the script")
    options = parser.parse_args()
    data = fashion(most=600 if options.tiny else None)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print(f"{'model':<9} {'how':<28} {'bytes':>8} {'ratio':>7} {'drop':>6} {'interval':<15} {'verdict':<14} {'s':>6}")
    rows: dict[str, Any] = {}
    for name in options.models:
        before = (EXAMPLES / "models" / f"{name}.onnx").stat().st_size
        epochs = 1 if options.tiny else options.epochs or EPOCHS[name]
        recovery = {"epochs": epochs, "candidates": options.candidates, "augment": ["flip"], "distill": 0.5}
        runs = {f"attar, {kind}": ours(name, data, kind, recovery, options.methods) for kind in options.guarantees}
        for scale in SCALES if name in KEEP else ():
            runs[f"Deep Compression, keep x {scale:g}"] = rival(name, data, scale, epochs)
        rows[name] = {how: {**row, "ratio": before / row["bytes"]} for how, row in runs.items()}
        for how, row in runs.items():
            show(name, how, row, before)
        within = [row["bytes"] for how, row in runs.items() if how.startswith("attar") and row["drop"] <= MAX_DROP]
        best = before / min(within, default=before)
        print(f"{name:<9} target {TARGETS[name]}x: {'met' if best >= TARGETS[name] else 'missed'}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
