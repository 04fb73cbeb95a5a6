"""The benchmark of data sets runs, checks what it decodes, and says what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "image_sets.py"


def run(only, results):
    command = [sys.executable, str(SCRIPT), "--tiny", "--repeats", "1", "--only", only, "--json", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(results.read_text())


def test_attar_is_measured_with_its_model(tmp_path):
    printed, found = run("attar", tmp_path / "found.json")
    assert "attar's decoding, MB/s" in printed and found["attar"]["images"] == 400
    assert 3 < found["attar"]["bpp"] < 4.2 and found["attar"]["decode"] > 0


@pytest.mark.parametrize("name", ["PNG (Pillow, optimize)", "zstd"])
def test_rivals_are_measured_or_missing(name, tmp_path):
    printed, found = run(name, tmp_path / "found.json")
    assert (name in printed and any(key.startswith(name) for key in found)) or found["missing"]
