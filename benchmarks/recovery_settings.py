"""What recovery's settings do at equal training: penalties, learned steps, zeros by order, in one table.

    python benchmarks/recovery_settings.py [--models lenet300 lenet5] [--only NAME ...] [--json FILE] [--tiny]

The setting of recovery.py with fewer passes and two candidates for each run. A run hands back the smallest file that it
expects within the budget (guarantee "estimate"), so that bytes are to be compared at about equal drops.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import attar
from fashion import Fashion, fashion
from recovery import MAX_DROP, opened

EPOCHS = {"lenet300": 8, "lenet5": 3}
RUNS: dict[str, dict[str, Any]] = {
    "entropy": {},
    "none": {"penalty": "none"},
    "l1": {"penalty": "l1"},
    "group": {"penalty": "group"},
    "variational": {"penalty": "variational"},
    "entropy, learned steps": {"steps": "learned"},
    "none, learned steps": {"penalty": "none", "steps": "learned"},
    "entropy, 90 % zeros": {"sparsity": 0.9},
    "none, 90 % zeros": {"penalty": "none", "sparsity": 0.9},
    "entropy, 90 % zeros, 4 cycles": {"sparsity": 0.9, "cycles": 4},
    "entropy, 2:4": {"pattern": "2:4"},
    "none, 2:4": {"penalty": "none", "pattern": "2:4"},
}
"""Settings beside those of every run, by the name in the table."""


def measured(name: str, data: Fashion, settings: dict[str, Any], epochs: int) -> dict[str, Any]:
    """One run: the file handed back with its certificate, and every trained candidate as the select split saw it."""
    started = time.perf_counter()
    recovery = {"steps": "kept", "epochs": epochs, "candidates": 2, "augment": ["flip"], "distill": 0.5, **settings}
    result = attar.compress(
        opened(name), calibrate=data.train.take(range(min(4000, len(data.train)))), select=data.select,
        certify=data.certify, train=data.train, scale=1.0, max_drop=MAX_DROP, guarantee="estimate",
        settings={"recovery": recovery},
    )  # fmt: skip
    c = result.certificate
    seen = [event for event in result.events if event["event"] == "candidate"]
    chosen = [event for event in result.events if event["event"] == "training" and event["bytes"] == result.bytes_after]
    return {
        "bytes": result.bytes_after, "drop": c.drop, "lower": c.lower, "upper": c.upper,
        "trained": bool(chosen), "zeros": chosen[0]["zeros"] if chosen else 0.0,
        "select": [
            {key: event[key] for key in ("bytes", "drop", "lower", "upper", "kl", "slope", "trained")}
            for event in seen if event["split"] == "select"
        ],
        "seconds": time.perf_counter() - started,
    }  # fmt: skip


def show(model: str, how: str, row: dict[str, Any]) -> None:
    """One line of the table."""
    tried = "  ".join(f"{one['bytes']:,} at {one['drop']:+.2f}" for one in row["select"] if one["trained"])
    print(
        f"{model:<9} {how:<30} {tried:<36} {row['bytes']:>7,} {row['drop']:>+6.2f} "
        f"[{row['lower']:>+5.2f}, {row['upper']:>+5.2f}] {'' if row['trained'] else 'rounded':<8} "
        f"{row['zeros']:>4.0%} {row['seconds']:>4.0f}",
        flush=True,
    )


def main() -> None:
    """Run everything, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(EPOCHS))
    parser.add_argument("--only", nargs="+", choices=RUNS, help="some of the runs")
    parser.add_argument("--epochs", type=int, help="passes for each candidate, in place of the model's own")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tiny", action="store_true", help="few images and one epoch, to try the script")
    options = parser.parse_args()
    data = fashion(most=600 if options.tiny else None)
    print(f"{'model':<9} {'how':<30} {'trained: bytes at drop on select':<36} {'bytes':>7} drop on certify, zeros, s")
    rows: dict[str, Any] = {}
    for model in options.models:
        for how in options.only or RUNS:
            row = measured(model, data, RUNS[how], 1 if options.tiny else options.epochs or EPOCHS[model])
            rows.setdefault(model, {})[how] = row
            show(model, how, row)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
