"""Threads, processes and a Ray cluster of this machine: seconds for the same tasks, and whether the bytes are the same.

    python benchmarks/engines.py [--model lite0] [--crops 160] [--jobs 2] [--engines threads processes ray] [--whole]

Statistics are measured anew with every engine, as in a run of the command; then it encodes the model at a few slopes
as the search does, the first of them with what it takes to begin (processes start, weights and statistics are shipped).
A Ray cluster starts beside the statistics. "all" has both. --whole: a run of `attar compress` from the model to its
file instead, with its evaluations, as benchmarks/search.py has it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import tempfile
import time
from collections.abc import Sequence
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
from attar.search.course import first_slope
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


def whole(model: str, name: str, jobs: int) -> dict[str, Any]:
    """Seconds of a whole run, and a hash of the file that it ends with."""
    import attar
    import search

    with tempfile.TemporaryDirectory() as folder:
        source, options = search.task(model, Path(folder))
        begun = time.perf_counter()
        result = attar.compress(source, out=Path(folder) / "out", engine=name, jobs=jobs, **options)
        seconds = time.perf_counter() - begun
        (file,) = (Path(folder) / "out").glob("*.attar")
        return {"all": seconds, "bytes": result.bytes_after, "hash": hashlib.sha256(file.read_bytes()).hexdigest()}


def told(found: dict[str, Any], parts: Sequence[str]) -> str:
    """A table of seconds, one row for each engine."""
    base = next(iter(found.values()))
    rows = [
        [
            name, *(f"{one[part]:.1f} s" for part in parts), f"{one['all'] / base['all'] - 1:+.0%}",
            "same" if one["hash"] == base["hash"] else "OTHERS",
        ]
        for name, one in found.items()
    ]  # fmt: skip
    names = {"first": "first candidate", "further": "each further"}
    return markdown(["engine", *(names.get(part, part) for part in parts), "beside threads", "bytes"], rows)


def main() -> None:
    """Measure once, encode with every engine, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lite0")
    parser.add_argument("--crops", type=int, default=160)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--whole", action="store_true", help="a run of attar compress, to its file")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {options.jobs} jobs")
    found: dict[str, Any] = {}
    for name in options.engines:
        if options.whole:
            found[name] = whole(options.model, name, options.jobs)
        else:
            found[name] = timed(options.model, options.crops, name, options.jobs)
        print(f"{name}: {found[name]['all']:.1f} s", flush=True)
    print(told(found, ("all",) if options.whole else ("statistics", "first", "further", "all")))


if __name__ == "__main__":
    main()
