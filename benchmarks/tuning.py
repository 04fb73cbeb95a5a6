"""What `--tune` earns: bytes at one KL on examples that no trial saw, and the certified file beside a run without.

    python benchmarks/tuning.py [--only lenet5 ...] [--trials 20] [--json results.json]

Fashion-MNIST of the examples, at most 0.5 points. Statistics are taken once for both runs of a case. Certified sizes
are in steps of the search's grid of slopes, and have the luck of the certify split; the bytes at one KL have neither.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import attar
from acceptance import markdown

HERE = Path(__file__).resolve().parent
MODELS, DATA = HERE.parent / "examples/models", HERE.parent / "examples/fashion-mnist"
CASES: dict[str, tuple[str, list[str]]] = {
    "lenet300": ("lenet300.onnx", ["uniform", "keep"]),
    "lenet5": ("lenet5.onnx", ["uniform", "keep"]),
    "resnet20": ("resnet20.onnx", ["uniform", "keep"]),
    "dwcnn": ("dwcnn.onnx", ["uniform", "keep"]),
    "lenet5-lowrank": ("lenet5.onnx", ["uniform", "lowrank", "keep"]),
    "lenet5-codebook": ("lenet5.onnx", ["codebook", "keep"]),
    "lenet5-fixed": ("lenet5.onnx", ["fixed", "keep"]),
    "lenet5-pruned": ("lenet5.onnx", ["pruned", "keep"]),
    "lenet5-hashed": ("lenet5.onnx", ["hashed", "keep"]),
}


def case(name: str, trials: int) -> dict[str, Any]:
    """One model and its methods, without and with trials."""
    file, methods = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"max_drop": 0.5, "methods": methods, "work": folder}
        plain = attar.compress(MODELS / file, DATA, **options)
        begun = time.process_time()
        tuned = attar.compress(MODELS / file, DATA, tune=trials, **options)
        seconds = time.process_time() - begun
        again = attar.compress(MODELS / file, DATA, recipe=tuned.recipe, work=folder)
    told = next(event for event in tuned.events if event["event"] == "tuned")
    return {
        "methods": methods, "plain": plain.bytes_after, "tuned": tuned.bytes_after, "certified": tuned.certified,
        "trials_saved": 1 - told["least"] / told["first"], "saved": 1 - told["after"] / told["before"],
        "taken": told["taken"], "values": told["values"], "trials": told["trials"], "seconds": told["seconds"],
        "run_seconds": seconds, "same": again.data == tuned.data,
    }  # fmt: skip


def main() -> None:
    """Every case, then one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found, rows = {}, []
    for name in options.only:
        found[name] = one = case(name, options.trials)
        values = ", ".join(f"{key.removeprefix('settings.')} {value}" for key, value in one["values"].items())
        rows.append([
            name.split("-")[0], ", ".join(one["methods"]), f"{one['trials']}", f"{one['seconds']:.0f} s",
            f"{one['trials_saved']:.1%}", f"{one['saved']:.1%}", f"{one['plain']:,}", f"{one['tuned']:,}",
            values or "the defaults stay", "same" if one["same"] else "OTHERS",
        ])  # fmt: skip
        print(json.dumps({name: one}), flush=True)
    head = ["model", "methods", "trials", "time", "saved by trials", "on others", "file without", "file with", "taken",
            "recipe again"]  # fmt: skip
    print(markdown(head, rows))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
