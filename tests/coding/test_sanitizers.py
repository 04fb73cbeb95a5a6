"""The kernel under the address and undefined-behaviour sanitizers, with honest and with broken input."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attar.coding.planes import Planes
from attar.coding.rans import Rans, static_code

ROOT = Path(__file__).parents[2]
SCRIPT = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
import _native
import numpy as np

rng = np.random.default_rng(0)
for lanes in (1, 32, 64, 128):
    for count in (0, 1, 31, 32, 33, 257, 5000, 70001):
        for alphabet, wide in ((12, False), (64, False), (200, False), (70, True), (128, True)):
            symbols = np.minimum(rng.geometric(0.5, count) - 1, 11).astype(np.uint8)
            cuts = np.unique(np.append(rng.integers(0, count + 1, 9), [0, count]))
            runs = np.array([[1, n, rng.integers(0, 3)] for n in np.diff(cuts)], np.int32).reshape(-1, 3)
            frequencies = np.full((3, alphabet), 10, np.uint16)
            frequencies[:, 0] = 4096 - 10 * (alphabet - 1)
            data = _native.encode(symbols, runs, _native.EncodeTables(frequencies, wide), lanes)
            out, tables = np.empty(count, np.uint8), _native.DecodeTables(frequencies, wide)
            _native.decode(np.frombuffer(data, np.uint8).copy(), out, runs, tables)
            assert (out == symbols).all()
            for _ in range(20):
                wrong = np.frombuffer(data + bytes(4), np.uint8)[: rng.integers(0, len(data) + 4)].copy()
                if wrong.size:
                    wrong[rng.integers(0, min(wrong.size, 300))] = rng.integers(0, 256)
                try:
                    _native.decode(wrong, out, runs, tables)
                except ValueError:
                    pass
tables = _native.EncodeTables(frequencies)
for args in (
    (symbols[:-1], runs, tables, 1), (symbols, runs + 9, tables, 1), (symbols, runs, tables, 5),
    (symbols + 230, runs, tables, 128), (symbols + 230, runs, tables, 1),
):
    try:
        _native.encode(*args)
    except ValueError:
        continue
    raise SystemExit("not refused")
for width in (1, 63, 64, 65, 127, 129, 500, 5000):
    rows, columns = rng.permutation(7).astype(np.int32), rng.permutation(width).astype(np.int32)
    runs = np.array([[3, width, 0], [4, width, 1]], np.int32)
    source, symbols = rng.integers(0, 256, (7, width), dtype=np.uint8), np.empty(7 * width, np.uint8)
    _native.collect(source, rows, columns, runs, symbols)
    even = _native.EncodeTables(np.full((2, 256), 16, np.uint16))
    _native.encode_rows(source, rows, columns, runs, even, 128)
    levels = [np.zeros(7, np.uint8), np.zeros(width, np.uint8)]
    for sides in ((True, True), (True, False), (False, True)):
        _native.fit_levels(source, 255, 256, *sides, 8, *levels)
    _native.count_classes(source, np.ones(7, np.uint8), np.full(width, 28, np.uint8), np.zeros((30, 256), np.int64))
for shape in ((1, 9), (1, 600_000), (9, 1), (60, 70), (1500, 500), (3, 5000)):
    spread = np.exp(rng.normal(0, 1, (shape[0], 1)) + rng.normal(0, 1, (1, shape[1])))
    for scale in (0.1, 1, 20):
        values = np.clip(np.rint(rng.laplace(0, scale, shape) * spread), -128, 127).astype(np.int8)
        for low, width in ((-128, 255), (-3, 7), (0, 1)):
            occur, counts = (part.astype(np.int64) for part in np.unique(values, return_counts=True))
            _native.choose_window(occur, counts, 64 * (scale == 1))
            head = values.view(np.uint8), low % 256, low, width, True
            code = _native.StaticCode(*head, occur, counts, scale == 1, 2)
            code.places(np.empty(code.escapes, np.int64))
            code.join(b"head")
            for wrong in (counts[::-1].copy(), counts[:-1].copy(), counts + 1):
                try:
                    _native.StaticCode(*head, occur, wrong, False, 1)
                except ValueError:
                    pass
for rows, cols, head in ((1, 300, (0, 16, 3)), (40, 70, (2, 20, 28)), (5, 1030, (0, 10, 4096)), (4, 4097, (28, 31, 3))):
    values = np.clip(np.rint(rng.standard_cauchy((rows, cols)) * 9), -(1 << 30), 1 << 30).astype(np.int64)
    data, out = _native.dense_encode(values, *head), np.empty_like(values)
    _native.dense_decode(np.frombuffer(data, np.uint8).copy(), out, *head)
    assert (out == values).all()
    for _ in range(20):
        wrong = np.frombuffer(data + bytes(4), np.uint8)[: rng.integers(1, len(data) + 4)].copy()
        wrong[rng.integers(0, wrong.size)] = rng.integers(0, 256)
        try:
            _native.dense_decode(wrong, out, *head)
        except ValueError:
            pass
for count in (1, 5):
    for alphabet in (1, 2, 64, 256):
        for escape in (False, alphabet > 1):
            counts = rng.integers(0, 3, (count, alphabet))
            _native.merge_classes(counts, np.zeros(count, np.uint8))
            specs, frequencies = np.zeros((count, max(alphabet, 2)), np.int32), np.zeros(counts.shape, np.uint16)
            mode = int(counts[:, : alphabet - escape].sum(0).argmax())
            kind = _native.fit_tables(counts, mode, escape, specs, frequencies)[0]
            coder = _native.SideEncoder()
            _native.write_tables(coder, alphabet, mode, escape, kind, specs)
            coder.finish()
_native.histogram(symbols[:13], np.zeros(256, np.int64))
for rows, cols in ((3, 40_000), (700, 130), (64, 64), (300, 63)):
    source = np.clip(np.rint(rng.laplace(20, 2, (rows, cols))), 0, 60).astype(np.uint8)
    levels = [np.zeros(rows, np.uint8), np.zeros(cols, np.uint8)]
    _native.fit_levels(source, 20, 61, True, True, 8, *levels)
    classes = np.zeros((int(levels[0].max()) + int(levels[1].max()) + 1, 61), np.int64)
    _native.count_classes(source, *levels, classes)
    counts = np.zeros(256, np.int64)
    _native.histogram(source.ravel(), counts)
    assert (classes.sum(0) == counts[:61]).all()
_native.window(symbols[:13], 3, 7, np.zeros(13, np.uint8))
for _ in range(3000):
    coder = _native.SideDecoder(rng.integers(0, 256, rng.integers(0, 40), dtype=np.uint8).tobytes())
    try:
        coder.run(0, int(rng.integers(0, 3)), np.zeros(20, np.int64), 50)
        coder.integer(9, 0, 1 << 63)
        coder.finish()
    except ValueError:
        pass
for side, chunks, shape, sides, escapes in pickle.load(open(sys.argv[2], "rb")):
    wrongs = [(side, chunks)]
    for _ in range(60):
        wrong = [bytearray(side), bytearray(chunks)]
        which = wrong[int(rng.integers(0, 2))]
        which[int(rng.integers(0, min(len(which), 400)))] = rng.integers(0, 256)
        if rng.random() < 0.3:
            del which[int(rng.integers(0, len(which))) :]
        wrongs.append([bytes(part) for part in wrong])
    for side, chunks in wrongs:
        try:
            plan = _native.StaticPlan(memoryview(side), *shape, *sides)
            places = np.empty(escapes, np.int64)
            for size in (1, 2, 4, 8):
                plan.decode(memoryview(chunks), np.empty((shape[0], size * shape[1]), np.uint8), places, 2)
            column, row = np.ones((1, shape[1]), np.float32), np.ones(shape[0], np.float32)
            for name, size in (("float32", 4), ("float16", 2), ("bfloat16", 2)):
                out = np.empty((shape[0], size * shape[1]), np.uint8)
                plan.decode_scaled(memoryview(chunks), column, row, out, name, places, 2)
        except ValueError:
            pass
for data, rows, cols, width, planes in pickle.load(open(sys.argv[3], "rb")):
    for k in range(200):
        wrong = bytearray(data)
        if k:
            wrong[int(rng.integers(0, min(len(wrong), 400)))] = rng.integers(0, 256)
        out = np.empty((rows, cols * width), np.uint8)
        try:
            if planes:
                _native.decode_planes(bytes(wrong), out, width, 2)
            else:
                _native.decode_values(bytes(wrong), out, rows, cols, width, -(1 << 31), (1 << 31) - 1, 2)
        except ValueError:
            pass
print("clean", _native.simd_path())
"""


def static_arrays(path):
    """Side information, chunks, shape, sides and escapes of some matrices, in a file."""
    rng = np.random.default_rng(0)
    texts = []
    for shape in ((60, 1), (200, 300), (90, 130), (700, 1000), (30, 5000), (1, 9000)):
        codes = np.rint(rng.laplace(0, 0.6, shape) * np.exp(rng.normal(0, 1, shape[1]))).astype(np.int64)
        _, code = static_code(codes)
        texts.append(
            (code.side, code.join(b""), shape, tuple(bool(code.sides & bit) for bit in (1, 2, 4)), code.escapes)
        )
    path.write_bytes(pickle.dumps(texts))


def whole_arrays(path):
    """Arrays of integers and of floats, with their shapes, in a file."""
    rng = np.random.default_rng(0)
    texts = []
    for shape, outliers in (((3, 4), 0), ((30, 40), 0), ((90, 130), 3), ((1, 9000), 3), ((1, 600_000), 0)):
        codes = np.rint(rng.laplace(0, 2, shape)).astype(np.int32)
        codes.ravel()[rng.integers(0, codes.size, outliers)] = 40_000
        texts.append((Rans.encode(codes), *shape, 4, False))
        for kind in (np.float16, np.float32, np.float64):
            floats = rng.normal(0, 0.1, shape).astype(kind)
            texts.append((Planes.encode(floats), *shape, floats.itemsize, True))
    path.write_bytes(pickle.dumps(texts))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cmake") is None or shutil.which("g++") is None, reason="needs cmake and g++")
@pytest.mark.parametrize("path", ["scalar", "avx2", "avx512bw", "avx512"])
def test_sanitized_kernel(tmp_path_factory, tmp_path, path):
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
    static_arrays(tmp_path / "arrays")
    whole_arrays(tmp_path / "whole")
    command = [sys.executable, "-c", SCRIPT, str(build), str(tmp_path / "arrays"), str(tmp_path / "whole")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("clean native")
