"""Writes golden files with every form of the format, for the version of the day.

python make_golden.py v2             # all
python make_golden.py v2 methods     # one of model, forms, cut, levels, wide, dense, methods
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from archive.samples import contents, laplacian
from attar import opening, registry
from attar.archive import read_archive, to_bytes
from attar.methods.base import declined
from attar.types import Encoded, Layer
from kits.method_laws import problem


def forms() -> dict:
    """Every form of the coders: constant, packed, adaptive, four static ones, escapes, planes, raw."""
    rng = np.random.default_rng(5)
    scale = np.exp(rng.normal(0, 1.0, (120, 1)) + rng.normal(0, 1.0, (1, 150)))
    both = np.rint(rng.laplace(0, 0.3, (120, 150)) * scale).astype(np.int32)
    rows = np.rint(rng.laplace(0, 0.5, (80, 90)) * np.exp(rng.normal(0, 1.2, (80, 1)))).astype(np.int32)
    plain = np.rint(rng.laplace(0, 0.6, 6000)).astype(np.int8)
    escapes = plain.astype(np.int64)
    escapes[[5, 700]] = 2**40, -(2**62)
    arrays = {
        "constant": np.full((30, 40), 7, np.int16), "packed": np.array([5, 1, 9, 3], np.uint8),
        "adaptive": np.rint(rng.laplace(0, 2, 90)).astype(np.int32), "plain": plain, "escapes": escapes,
        "rows": rows, "cols": laplacian(rng, 900, 12, 1.0), "both": both,
        "raw": rng.integers(0, 256, 300).astype(np.uint8), "floats": rng.normal(0, 1, 500).astype(np.float32),
        "ones": np.ones((3, 3), np.float16), "long": np.minimum(rng.geometric(0.9, 150_000) - 1, 9).astype(np.uint8),
        "lanes32": np.rint(rng.laplace(0, 3, (200, 60))).astype(np.int8),
        "lanes128": np.rint(rng.laplace(0, 20, (200, 100))).astype(np.int16),
    }  # fmt: skip
    layer = Layer("forms", "dense", 60, 90, (60, 90), dtype="bfloat16", tied_to="other")
    return {"layers": [(layer, Encoded("none", arrays))], "remainder": {}, "skeleton": None, "meta": {"é": [1.5, None]}}


def cut() -> dict:
    """Floats that are cut into sections: rows that were never trained, rows that were, rows of few bits."""
    rng = np.random.default_rng(7)
    rows = np.zeros((3 * 256, 256), np.float16)
    rows[256:512] = np.rint(rng.normal(0, 3, (256, 256)))
    rows[512:530] = rng.normal(0, 0.02, (18, 256))
    rows = rows[:530]
    layer = Layer("cut", "dense", 530, 256, (530, 256))
    return {"layers": [(layer, Encoded("none", {"rows": rows}))], "remainder": {}, "skeleton": None, "meta": {}}


def levels() -> dict:
    """Row and column levels in streams of their own: one, two and four a block, several blocks, all alike, escapes."""
    rng = np.random.default_rng(8)

    def matrix(rows: int, cols: int, by_row: float, by_column: float) -> np.ndarray:
        drift = np.repeat(rng.normal(0, by_row, rows // 9 + 1), 9)[:rows, None]
        scale = np.exp(drift + rng.normal(0, by_row / 3, (rows, 1)) + rng.normal(0, by_column, (1, cols)))
        return np.clip(np.rint(rng.laplace(0, 0.5, (rows, cols)) * scale), -30, 30).astype(np.int8)

    arrays = {
        "rows": matrix(4200, 16, 1.0, 0), "both": matrix(300, 400, 1.0, 0.7), "cols": matrix(30, 1100, 0, 1.0),
        "outliers": matrix(90, 1100, 0, 1.0).astype(np.int32),
    }  # fmt: skip
    arrays["rows"][2100:] = 9 * np.sign(arrays["rows"][2100:])
    arrays["outliers"][[3, 80], [7, 9]] = 70_000, -(2**30)
    layer = Layer("levels", "dense", 4200, 16, (4200, 16))
    return {"layers": [(layer, Encoded("none", arrays))], "remainder": {}, "skeleton": None, "meta": {}}


def wide() -> dict:
    """Tables of 65 to 128 symbols: a matrix with levels, a line, and both with an escape; planes of floats."""
    rng = np.random.default_rng(9)
    scale = np.exp(rng.normal(0, 0.5, (90, 1)))
    arrays = {
        "rows": np.clip(np.rint(rng.normal(0, 9, (90, 100)) * scale), -50, 50).astype(np.int8),
        "line": np.clip(np.rint(rng.normal(0, 20, 9000)), -60, 67).astype(np.int8),
        "escapes": np.rint(rng.normal(0, 14, (100, 95))).astype(np.int32),
        "floats": rng.normal(0, 0.03, 9000).astype(np.float16),
    }  # fmt: skip
    arrays["escapes"][[5, 70], [3, 90]] = 70_000, -(2**30)
    layer = Layer("wide", "dense", 90, 100, (90, 100))
    return {"layers": [(layer, Encoded("none", arrays))], "remainder": {}, "skeleton": None, "meta": {}}


def dense() -> dict:
    """What the dense coder meets: correlated columns, wide rows, a unit, a centre, a period, digits beyond 15."""
    rng = np.random.default_rng(6)
    mixed = np.rint(rng.normal(0, 1, (40, 6)) @ rng.normal(0, 1, (6, 60)))
    wave = np.rint(
        2 * np.sin(np.arange(48) * 2 * np.pi / 12) * rng.normal(0, 1, (40, 1)) + rng.normal(0, 0.3, (40, 48))
    )
    spikes = np.clip(np.rint(rng.standard_cauchy((20, 40)) * 3), -400, 400)
    spikes[3, 4] = 2**29
    spikes[:, 1::2] = spikes[:, ::2]
    mask = rng.random((24, 40)) < np.where(rng.random(40) < 0.3, 0.9, 0.05)
    arrays = {
        "mixed": mixed.astype(np.int32), "wave": wave.astype(np.int8), "wide": laplacian(rng, 6, 1500, 0.4),
        "large": np.rint(rng.laplace(-3000, 700, (20, 30))).astype(np.int16), "spikes": spikes.astype(np.int64),
        "vector": np.cumsum(rng.integers(-1, 2, 200)).astype(np.int16), "mask": mask,
        "unsigned": np.full(99, 2**64 - 3, np.uint64) - np.cumsum(rng.geometric(0.5, 99)).astype(np.uint64),
    }  # fmt: skip
    layer = Layer("dense", "dense", 40, 60, (40, 60))
    return {"layers": [(layer, Encoded("none", arrays))], "remainder": {}, "skeleton": None, "meta": {}}


def methods() -> dict:
    """Every registered method on a dense layer and on a grouped one; the last point of the smaller slope."""
    forms = {"dense": problem(14, 25, seed=1), "grouped": problem(12, 18, 3, seed=2)}
    layers = []
    for name in registry.names("method"):
        method = registry.get("method", name)
        for form, (layer, weight, stats) in forms.items():
            if declined(method, layer, stats) is None:
                *_, point = method.points(layer, weight, stats, [1e-4], method.Params())
                layers.append((replace(layer, name=f"{name}.{form}"), point.encoded))
    return {"layers": layers, "remainder": {}, "skeleton": None, "meta": {}}


def write_decoded(name: str) -> None:
    """What the layers of a golden file are decoded to, beside it."""
    folder = Path(__file__).parent
    archive = read_archive(folder / f"{name}.attar")
    arrays = {}
    for layer in archive.layers:
        weight = opening.decode(archive, layer.name)
        arrays |= {f"{layer.name}|matrix": weight.matrix, f"{layer.name}|bias": weight.bias}
    np.savez_compressed(folder / f"{name}-decoded.npz", **arrays)


def write(name: str, given: dict, coder: str = "fast") -> None:
    """The file, its arrays, its facts."""
    folder = Path(__file__).parent
    if (folder / f"{name}.attar").exists():
        raise SystemExit(f"{name}.attar exists, and golden files are never written anew")
    arrays = {f"remainder|{key}": array for key, array in given["remainder"].items()}
    layers = {}
    for x, encoded in given["layers"]:
        arrays |= {f"layer|{x.name}|{key}": array for key, array in encoded.arrays.items()}
        fields = [x.name, x.kind, x.rows, x.cols, list(x.shape), x.groups, x.dtype, x.has_bias, x.tied_to]
        layers[x.name] = {"fields": fields, "method": encoded.method, "meta": dict(encoded.meta)}
    facts = {
        "meta": given["meta"], "layers": layers, "dtypes": {key: array.dtype.name for key, array in arrays.items()},
        "skeleton": None if given["skeleton"] is None else given["skeleton"].decode(),
    }  # fmt: skip
    plain = {
        key: array if array.dtype.isbuiltin == 1 else np.frombuffer(array.tobytes(), np.uint8)
        for key, array in arrays.items()
    }
    (folder / f"{name}.attar").write_bytes(to_bytes(**given, coder=coder))
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    np.savez_compressed(folder / f"{name}.npz", **plain)


if __name__ == "__main__":
    version, wanted = sys.argv[1], sys.argv[2:]
    makers = {
        "model": contents, "forms": forms, "cut": cut, "levels": levels, "wide": wide, "dense": dense,
        "methods": methods,
    }  # fmt: skip
    wanted = wanted or list(makers)
    for one, make in makers.items():
        if one in wanted:
            write(f"{version}-{one}", make(), "dense" if one == "dense" else "fast")
    if "methods" in wanted:
        write_decoded(f"{version}-methods")
