"""idx bytes for tests."""

import gzip
from pathlib import Path

import numpy as np

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def to_idx(array: np.ndarray) -> bytes:
    code = CODES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_set(
    folder: Path, prefix: str, n: int, labels: bool = True, zipped: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    x, y = rng.integers(0, 256, (n, 4, 5), np.uint8), rng.integers(0, 10, n).astype(np.uint8)
    end, pack = (".gz", gzip.compress) if zipped else ("", bytes)
    (folder / f"{prefix}images-idx3-ubyte{end}").write_bytes(pack(to_idx(x)))
    if labels:
        (folder / f"{prefix}labels-idx1-ubyte{end}").write_bytes(pack(to_idx(y)))
    return x, y
