"""Threads, processes and a Ray cluster of this machine: seconds for the same tasks, and whether the bytes are the same.

    python benchmarks/engines.py [--model lite0] [--crops 160] [--jobs 2] [--engines threads processes ray]

Statistics are measured anew with every engine, as in a run of the command; then it encodes the model at a few slopes
as the search does, the first of them with what it takes to begin (processes start, weights and statistics are shipped).
A Ray cluster starts beside the statistics. "all" has both.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from acceptance import markdown
from attar import measuring
from attar.beginning import job_of
from attar.run.engines import ENGINES, engine_of
from attar.run.progress import Silent
from attar.search.loop import first_slope
from attar.search.subject import Subject

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
STEPS = (1.0, 2.0, 0.5, 4.0)
"""Slopes of the candidates, of that of the first."""


def subject_of(name: str, crops: int) -> Subject:
    """A model with its statistics; rows alike, since sensitivities are no task of an engine."""
    if name == "lite0":
        import efficientnet

        seen, held = efficientnet.pictures()
        with tempfile.TemporaryDirectory() as folder:
            model = efficientnet.exported(efficientnet.network(), Path(folder, "lite0.onnx"))
            sets = {"calibrate": efficientnet.crops(seen, crops, 0), "certify": efficientnet.crops(held, 60, 1)}
            job = job_of(model, None, None, {**sets, "metric": "agreement", "max_drop": 5})
            return measuring.subject_of(job, Silent())
    job = job_of(EXAMPLES / "models" / f"{name}.onnx", EXAMPLES / "fashion-mnist", None, {"max_drop": 0.5})
    return measuring.subject_of(job, Silent())


def timed(model: str, crops: int, name: str, jobs: int) -> dict[str, Any]:
    """Seconds for the statistics, for the first candidate, and for each of the others; a hash of all bytes."""
    seconds, found, begun = [], hashlib.sha256(), time.perf_counter()
    with closing(engine_of(name, jobs)) as engine:
        subject = replace(subject_of(model, crops), engine=engine)
        for step in STEPS:
            seconds.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            found.update(subject.build(step * first_slope(subject)).data)
        seconds.append(time.perf_counter() - begun)
    return {
        "statistics": seconds[0], "first": seconds[1], "further": float(np.mean(seconds[2:])), "all": sum(seconds),
        "weights": subject.weight_count, "layers": len(subject.layers), "hash": found.hexdigest(),
    }  # fmt: skip


def main() -> None:
    """Measure once, encode with every engine, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lite0")
    parser.add_argument("--crops", type=int, default=160)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {options.jobs} jobs")
    found: dict[str, Any] = {}
    for name in options.engines:
        found[name] = one = timed(options.model, options.crops, name, options.jobs)
        print(f"{name}: {one['all']:.1f} s ({one['layers']} layers, {one['weights']:,} weights)", flush=True)
    base = next(iter(found.values()))
    rows = [
        [
            name, *(f"{one[part]:.1f} s" for part in ("statistics", "first", "further", "all")),
            f"{one['all'] / base['all'] - 1:+.0%}", "same" if one["hash"] == base["hash"] else "OTHERS",
        ]
        for name, one in found.items()
    ]  # fmt: skip
    print(markdown(["engine", "statistics", "first candidate", "each further", "all", "beside threads", "bytes"], rows))


if __name__ == "__main__":
    main()
