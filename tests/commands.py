"""The command line for tests: in their own process, or in one of its own with less work in it.

The first has words, output and exit code without the seconds that a start costs. Whether a command behaves as a process
(its streams, its signals, what it imports) is tested on real ones.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import warnings
from pathlib import Path

from typer.testing import CliRunner

from attar import cli

ROUGH = 8192
"""Perturbed examples on which a layer's rows are weighed in tests; half a million are most of a small run's time."""
PROCESS = [
    sys.executable, "-c",
    f"from attar.search import sensitivity; sensitivity.MOST = {ROUGH}; from attar.cli import main; main()",
]  # fmt: skip
"""What `python -m attar` is, but for that number."""


def attar(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `attar` with words in a folder; an error that nothing turned into a line is raised, not a traceback."""
    given, path, modules = [str(word) for word in words], list(sys.path), set(sys.modules)
    with contextlib.chdir(cwd or Path.cwd()), warnings.catch_warnings():
        try:
            done = CliRunner().invoke(cli.app, given, catch_exceptions=False)
        finally:
            sys.path[:] = path
            for name in set(sys.modules) - modules:  # the user's own, that another test may call by the same name
                if cwd and str(getattr(sys.modules[name], "__file__", None)).startswith(str(cwd)):
                    del sys.modules[name]
    return subprocess.CompletedProcess(given, done.exit_code, done.stdout, done.stderr)
