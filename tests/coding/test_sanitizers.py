"""The kernel under the address and undefined-behaviour sanitizers, with honest and with broken input."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import _native
import numpy as np

rng = np.random.default_rng(0)
empty = np.zeros(0, np.uint8)
for lanes in (1, 2, 4, 8, 16, 32):
    for count in (0, 1, 7, 8, 31, 32, 33, 257, 5000):
        symbols = np.minimum(rng.geometric(0.5, count) - 1, 11).astype(np.uint8)
        contexts = rng.integers(0, 3, count).astype(np.uint8)
        frequencies = np.full((3, 12), 100, np.uint16)
        frequencies[:, 0] = 4096 - 1100
        data = _native.encode(symbols, contexts, frequencies, lanes)
        out = np.empty(count, np.uint8)
        _native.decode(np.frombuffer(data, np.uint8).copy(), out, contexts, frequencies, lanes)
        assert (out == symbols).all()
        for _ in range(40):
            wrong = np.frombuffer(data + bytes(4), np.uint8)[: rng.integers(0, len(data) + 4)].copy()
            if wrong.size:
                wrong[rng.integers(0, wrong.size)] = rng.integers(0, 256)
            try:
                _native.decode(wrong, out, contexts, frequencies, lanes)
            except ValueError:
                pass
for args in (
    (symbols, contexts[:-1], frequencies, 1), (symbols, contexts + 9, frequencies, 1),
    (symbols, contexts, frequencies, 5), (symbols + 200, contexts, frequencies, 1),
    (symbols, contexts, frequencies[:, :3].copy(), 1),
):
    try:
        _native.encode(*args)
    except ValueError:
        continue
    raise SystemExit("not refused")
rows, cols = rng.integers(-2000, 2000, 40).astype(np.int16), rng.integers(-40, 40, 50).astype(np.int16)
for start, count in ((0, 2000), (37, 1900), (1999, 1), (0, 0)):
    _native.fill_contexts(np.empty(count, np.uint8), start, rows, cols, np.zeros(9, np.uint8))
print("clean", _native.simd_path())
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cmake") is None or shutil.which("g++") is None, reason="needs cmake and g++")
@pytest.mark.parametrize("path", ["scalar", "avx2"])
def test_sanitized_kernel(tmp_path_factory, path):
    build = tmp_path_factory.getbasetemp() / "sanitized"
    if not (build / "done").exists():
        nanobind = subprocess.run(
            [sys.executable, "-m", "nanobind", "--cmake_dir"], capture_output=True, text=True, check=True
        ).stdout.strip()
        configure = [
            "cmake", "-S", ROOT, "-B", build, "-DATTAR_SANITIZE=ON", f"-Dnanobind_DIR={nanobind}",
            f"-DPython_EXECUTABLE={sys.executable}",
        ]  # fmt: skip
        subprocess.run(configure, check=True, capture_output=True)
        subprocess.run(["cmake", "--build", build], check=True, capture_output=True)
        (build / "done").touch()
    runtimes = [
        subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = {**os.environ, "LD_PRELOAD": " ".join(runtimes), "ASAN_OPTIONS": "detect_leaks=0", "ATTAR_SIMD": path}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(build)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("clean native")
