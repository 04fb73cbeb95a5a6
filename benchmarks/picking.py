"""How long `attar pick` takes on the runs of the examples: its listing, and another point written, each a process.

    python benchmarks/picking.py [--only lenet5.onnx ...] [--runs FOLDER] [--repeats 3] [--json FILE]

Runs are of `attar compress` with the examples' images and half a point; those that --runs has are not made again.
Seconds are by the clock, medians; for the point the drop is twice the run's, and is doubled until a candidate is within
it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from acceptance import markdown
from search_cases import DATA, MAX_DROP, MODELS
from timing import machine

FILES = ("lenet300.onnx", "lenet5.onnx", "resnet20.onnx", "dwcnn.onnx", "dwcnn.keras")
ATTAR = [sys.executable, "-m", "attar"]
LIMIT, LARGEST = 10.0, 20.0
"""Seconds that a point may take, and the largest drop that is asked for."""


def command(*arguments: str | Path) -> tuple[float, int, str]:
    """One call of attar: seconds, exit code, what it printed."""
    begun = time.perf_counter()
    done = subprocess.run([*ATTAR, *map(str, arguments)], capture_output=True, text=True, check=False)
    return time.perf_counter() - begun, done.returncode, done.stdout + done.stderr


def run_of(model: str, runs: Path) -> Path:
    """The folder of a finished run of one example."""
    folder = runs / model.replace(".", "-")
    if not (folder / "ledger.jsonl").exists():
        found = command("compress", MODELS / model, "--data", DATA, "--max-drop", MAX_DROP, "-o", folder, "--force")
        if not (folder / "ledger.jsonl").exists():
            raise SystemExit(f"{model}: {found[2]}")
    return folder


def measured(model: str, runs: Path, repeats: int) -> dict[str, Any]:
    """Medians of both calls, and the drop and the bytes of the point."""
    folder = run_of(model, runs)
    listing = [command("pick", folder)[0] for _ in range(repeats)]
    drop, out, point = 2 * MAX_DROP, runs / f"{folder.name}-picked", []
    while command("pick", folder, "--max-drop", drop, "-o", out, "--force")[1] and drop < LARGEST:
        drop *= 2
    for _ in range(repeats):
        seconds, code, said = command("pick", folder, "--max-drop", drop, "-o", out, "--force")
        if code:
            raise SystemExit(f"{model}: {said}")
        point.append(seconds)
    size = (out / f"{Path(model).stem}.attar").stat().st_size
    return {"listing": statistics.median(listing), "point": statistics.median(point), "drop": drop, "bytes": size}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=FILES, default=list(FILES))
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as gone:
        runs = options.runs or Path(gone)
        found = {model: measured(model, runs, options.repeats) for model in options.only}
    rows = [
        [model, f"{one['listing']:.1f} s", f"{one['drop']:g}", f"{one['bytes']:,}", f"{one['point']:.1f} s",
         "met" if one["point"] < LIMIT else "missed"]
        for model, one in found.items()
    ]  # fmt: skip
    print(markdown(["run", "listing", "drop", "bytes", "point written", f"under {LIMIT:g} s"], rows))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
