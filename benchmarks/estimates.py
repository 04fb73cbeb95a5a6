"""What `attar estimate` says beside what a run takes: seconds, and memory at its peak.

    python benchmarks/estimates.py [--cases lenet5 minilm weights] [--passages N]

lenet5: examples/models/lenet5.onnx on Fashion-MNIST, in memory. minilm: all-MiniLM-L6-v2 on passages of Moby Dick, in
memory; its estimate is made from config.json alone. weights: its model.safetensors at 4 bits, without data. The kernels
are measured before and after each run, and the estimate is the mean of both, since a machine's speed changes; the run
is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from attar.estimating import kernels, phases, shapes
from inputs import MINILM, asset
from language import passages
from timing import machine

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Case:
    """What is estimated, with which load, and the options of the run."""

    model: Path
    load: phases.Load
    way: str
    options: tuple[str, ...]


def lenet5(_: Path, __: int) -> Case:
    """A small network in memory."""
    options = ("--data", str(ROOT / "examples" / "fashion-mnist"), "--max-drop", "0.5")
    return Case(ROOT / "examples" / "models" / "lenet5.onnx", phases.Load(4000, 4000, 10000), "in memory", options)


def minilm(folder: Path, count: int) -> Case:
    """A sentence encoder in memory."""
    texts = folder / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in passages(3 * count)))
    options = ("--data", str(texts), "--metric", "cosine", "--max-drop", "0.02")
    load = phases.Load(count, count, count, window=150)  # about 600 characters
    return Case(asset(*MINILM).parent, load, "in memory", options)


def weights(_: Path, __: int) -> Case:
    """The same weights without the network."""
    return Case(asset(*MINILM), phases.Load(), "weights alone", ("--bits", "4"))


CASES: dict[str, Callable[[Path, int], Case]] = {"lenet5": lenet5, "minilm": minilm, "weights": weights}


def estimated(case: Case) -> phases.Estimate:
    """By kernels measured now."""
    made = phases.estimates(shapes.shapes_of(str(case.model)), kernels.measure(), case.load)
    return next(one for one in made if one.way == case.way)


def measured(case: Case, out: Path) -> tuple[float, int]:
    """Seconds and peak bytes of the run."""
    command = [sys.executable, "-m", "attar", "compress", str(case.model), *case.options, "-o", str(out)]
    start = perf_counter()
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(run.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 3):
        raise SystemExit(f"{' '.join(command)}: it must end with 0 or 3. Received another code. Run it by hand.")
    return perf_counter() - start, used.ru_maxrss * 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--passages", type=int, default=100, help="of each split")
    arguments = parser.parse_args()
    print(f"{machine()}\n\n| case | estimated | measured | ratio | estimated memory | peak | ratio |\n|" + "---|" * 7)
    for name in arguments.cases:
        with tempfile.TemporaryDirectory() as folder:
            case = CASES[name](Path(folder), arguments.passages)
            before = estimated(case)
            seconds, peak = measured(case, Path(folder) / "out")
            after = estimated(case)
        guess = (before.seconds() + after.seconds()) / 2
        print(
            f"| {name} | {guess:.1f} s ({before.seconds():.1f}, {after.seconds():.1f}) | {seconds:.1f} s | "
            f"{guess / seconds:.2f} | {before.memory / 1e6:,.0f} MB | {peak / 1e6:,.0f} MB | "
            f"{before.memory / peak:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
