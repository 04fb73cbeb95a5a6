"""The coders beside their rivals: the acceptance table of size and speed, measured in this run.

python benchmarks/coder.py [--repeats 5] [--tiny] [--json FILE]

The codes are the 2-d weights of MiniLM, rounded with one step a matrix to 0.5 .. 6 bits of order-0 entropy. Speeds are
of whole calls on int8 codes (plan, allocation and all), one thread, medians of interleaved runs; a ratio is between two
coders in one process. ATTAR_CLOCK=cpu counts the process's own seconds (but for two threads), for a machine
that others use. The slow coders (constriction, NNCodec, dense) and the paths of the processor's instructions are
measured on the twelve matrices of two layers, each path in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import coder_report
import inputs
from coder_parts import PARTS


def main() -> None:
    """Run every part in a child, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="made-up matrices of some kilobytes, to try the script")
    parser.add_argument("--json", type=Path, help="write all that was measured to this file")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        weights = inputs.made_up() if options.tiny else inputs.matrices()
        print(json.dumps(PARTS[options.part][0](weights, options.repeats)))
        return
    parts = {name: child(name, sys.argv[1:]) for name in PARTS}
    if options.json:
        options.json.write_text(json.dumps(parts, indent=1))
    print(coder_report.text(parts))


def child(name: str, arguments: list[str]) -> dict[str, Any]:
    """What one part measured, with one thread and the part's environment; exits with its message where it fails."""
    print(f"measuring: {name}", file=sys.stderr, flush=True)
    environment = {**os.environ, "ATTAR_THREADS": "1", **PARTS[name][1]}
    command = [sys.executable, __file__, *arguments, "--part", name]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the part {name!r} failed: its message is above")
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
