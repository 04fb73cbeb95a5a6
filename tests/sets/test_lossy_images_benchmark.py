"""The benchmark of images with loss runs, and sets attar beside the rivals at the same drop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "lossy_images.py"


def test_attar_and_a_rival_are_measured(tmp_path):
    command = [sys.executable, str(SCRIPT), "--tiny", "--rivals", "JPEG", "--aims", "q0.3", "--width", "8"]
    done = subprocess.run([*command, "--json", str(tmp_path / "a.json")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "points lost / attar, quality 0.3" in done.stdout
    rows = json.loads((tmp_path / "a.json").read_text())
    mosaics, files = ([row for row in rows if row["way"] == way] for way in ("JPEG, mosaic", "JPEG"))
    assert [row["bytes"] for row in mosaics] == sorted(row["bytes"] for row in mosaics)
    assert mosaics[0]["error"] > mosaics[-1]["error"] and files[0]["bytes"] > mosaics[1]["bytes"]
    ours = rows[-1]
    assert ours["way"] == "attar, quality 0.3" and ours["network"] < ours["bytes"] < 400 * 784
    assert 0 <= ours["lenet5 agrees"] <= 100 and ours["train"] > 0
    assert ours["bytes"] < ours["exact"] and "without loss (--exact)" in done.stdout
