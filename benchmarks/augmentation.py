"""Whether changed images help recovery: none, shift, flip, shift with brightness and noise, erase, in one table.

    python benchmarks/augmentation.py [--models lenet5 dwcnn] [--only NAME ...] [--images N] [--json FILE] [--tiny]

Everything but the changes is the same in all runs of a model: seed, plan, passes and candidates. Training on the images
that the models were trained on (`--images`: the first so many of them), the search on 8,000 fresh ones, the certificate
on the 10,000 test images; sizes are those of files, ratios are to the float32 ONNX file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

import attar
from fashion import Fashion, fashion
from recovery import EXAMPLES, MAX_DROP, opened

EPOCHS = {"lenet5": 3, "dwcnn": 2}
RUNS: dict[str, tuple[str, ...]] = {
    "none": (),
    "shift": ("shift",),
    "flip": ("flip",),
    "shift, brightness, noise": ("shift", "brightness", "noise"),
    "erase": ("erase",),
}
"""Changes by the name in the table, with the parameters that they have unasked."""


def measured(name: str, data: Fashion, changes: tuple[str, ...], epochs: int) -> dict[str, Any]:
    """One run: the certified file, and every trained candidate as the select split saw it."""
    started = time.perf_counter()
    result = attar.compress(
        opened(name), calibrate=data.train.take(range(min(4000, len(data.train)))), select=data.select,
        certify=data.certify, train=data.train, scale=1.0, max_drop=MAX_DROP,
        settings={"recovery": {"epochs": epochs, "candidates": 2, "distill": 0.5, "augment": list(changes)}},
    )  # fmt: skip
    c = result.certificate
    seen = [event for event in result.events if event["event"] == "candidate" and event["split"] == "select"]
    return {
        "bytes": result.bytes_after, "drop": c.drop, "lower": c.lower, "upper": c.upper, "verdict": c.verdict,
        "trained": any(e["trained"] and e["bytes"] == result.bytes_after for e in seen),
        "select": [{k: e[k] for k in ("bytes", "drop", "kl", "slope")} for e in seen if e["trained"]],
        "seconds": time.perf_counter() - started,
    }  # fmt: skip


def show(model: str, how: str, row: dict[str, Any], before: int) -> None:
    """One line of the table."""
    tried = "  ".join(f"{e['bytes']:,} at {e['drop']:+.2f} (kl {e['kl']:.4f})" for e in row["select"])
    print(
        f"{model:<7} {how:<25} {tried:<62} {row['bytes']:>7,} {before / row['bytes']:>5.1f}x {row['drop']:>+6.2f} "
        f"[{row['lower']:>+5.2f}, {row['upper']:>+5.2f}] {row['verdict']:<14} "
        f"{'trained' if row['trained'] else 'rounded'} {row['seconds']:>4.0f}",
        flush=True,
    )


def main() -> None:
    """Run everything, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(EPOCHS))
    parser.add_argument("--only", nargs="+", choices=RUNS, help="some of the runs")
    parser.add_argument("--epochs", type=int, help="passes for each candidate, in place of the model's own")
    parser.add_argument("--images", type=int, help="images to train on (default: all 52,000)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tiny", action="store_true", help="few images and one epoch, to try the script")
    options = parser.parse_args()
    data = fashion(most=600 if options.tiny else None)
    if options.images is not None:
        data = Fashion(data.train.take(range(min(options.images, len(data.train)))), data.select, data.certify)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print(f"{'model':<7} {'changes':<25} {'trained, on select':<62} {'bytes':>7} on certify: ratio, drop, interval, s")
    rows: dict[str, Any] = {}
    for model in options.models:
        before = (EXAMPLES / "models" / f"{model}.onnx").stat().st_size
        for how in options.only or RUNS:
            row = measured(model, data, RUNS[how], 1 if options.tiny else options.epochs or EPOCHS[model])
            rows.setdefault(model, {})[how] = row
            show(model, how, row, before)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
