"""What a search takes to land: evaluations, examples, time and memory, beside what looks for a point in other ways.

    python benchmarks/search.py [--only lenet5 resnet20 dwcnn lite0] [--rivals] [--seconds 120] [--json results.json]

Every run is a process of its own, so that its peak of memory (VmHWM) is its own. "CPU s" are those of processors, which
what runs beside does not change; "s" those of a clock, with what makes a model and its sets where that is part of it.
"to land" are the search's evaluations on the select split, and the examples that they
took of 8 passes over it; "in all" has the certificate's too, of 8 passes over the certify split. Rivals are given the
same sets, and the Keras model written as ONNX where they read that alone (search_rivals.py).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from acceptance import markdown
from search_cases import CASES, PASSES, peak, task


def ours(name: str, early: bool) -> dict[str, Any]:
    """attar, as the command does it."""
    import attar

    with tempfile.TemporaryDirectory() as folder:
        model, options = task(name, Path(folder))
        size, before, begun = Path(model).stat().st_size, peak(), time.process_time()
        result = attar.compress(model, early_stop=early, **options)
        seconds = time.process_time() - begun
    end, splits = result.events[-1], result.events[0]["splits"]
    looks = [event for event in result.events if event["event"] == "candidate"]
    used = end["examples"]
    return {
        "bytes": result.bytes_after, "ratio": result.ratio, "drop": result.certificate.drop,
        "upper": result.certificate.upper, "landing": sum(look["split"] == "select" for look in looks),
        "landing_share": used["select"] / (PASSES * splits["select"]), "evaluations": len(looks),
        "share": sum(used.values()) / (PASSES * splits["certify"]), "seconds": seconds, "peak": peak(),
        "start": before, "allowed": 3 * size + (500 << 20),
    }  # fmt: skip


def row(name: str, way: str, found: dict[str, Any]) -> list[str]:
    """One line of the table."""
    memory = f"{found['peak'] / 2**20:,.0f} MB" + (f" of {found['allowed'] / 2**20:,.0f}" if found["allowed"] else "")
    return [
        name, way, f"{found['landing']}", f"{found['landing_share']:.0%}", f"{found['evaluations']}",
        f"{found['share']:.0%}", f"{found['seconds']:.0f}", f"{found['clock']:.0f}", f"{found['ratio']:.1f}x",
        f"{found['drop']:+.2f}", f"{found['upper']:+.2f}", memory,
    ]  # fmt: skip


def main() -> None:
    """Every run in a process, then one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rivals", action="store_true")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    import search_rivals

    ways: dict[str, Any] = {
        "attar": lambda name: ours(name, True), "attar, whole evaluations": lambda name: ours(name, False),
        "Optuna TPE": lambda name: search_rivals.optuna_tpe(name, options.seconds),
        "NNCF accuracy control + zstd": lambda name: search_rivals.nncf_control(name),
        "Olive static int8 + zstd": lambda name: search_rivals.olive(name),
    }  # fmt: skip
    if options.one:
        begun = time.perf_counter()
        found = ways[options.one[1]](options.one[0])
        print(json.dumps({**found, "clock": time.perf_counter() - begun}))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}")
    rows, kept = [], {}
    for name in options.only:
        for way in list(ways)[: 5 if options.rivals else 2]:
            command = [sys.executable, __file__, "--one", name, way, "--seconds", str(options.seconds)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name}, {way}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            kept[f"{name}, {way}"] = found = json.loads(done.stdout.splitlines()[-1])
            rows.append(row(name, way, found))
    spent = ["to land", "of 8 passes", "in all", "of 8 passes", "CPU s", "s"]
    head = ["model", "way", *spent, "ratio", "drop", "upper", "memory"]
    print(markdown(head, rows))
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
