"""How fast this machine runs what a compression is made of: the real functions, each timed for less than two seconds.

Layers are worked on by a thread a core; so these are timed with as many at once, and seconds are those of the machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import attar
from attar.adapters.moments import MomentSum
from attar.coding import decode_array, encode_array, simd_path
from attar.errors import UsageError
from attar.methods import grid
from attar.methods.uniform import Uniform
from attar.run.cache import cache_folder
from attar.streaming.settings import memory_bytes
from attar.types import Layer, Stats, Weight

SLOPE = 1e-3
"""About four bits a weight for Gaussian weights and inputs."""
ENOUGH = 0.15
"""Seconds after which a measurement is not repeated."""


@dataclass(frozen=True)
class Kernels:
    """Seconds, measured on this machine with all cores at work.

    product: of a multiply-add in a float32 product; moments: of one in a second moment. factor: of an inverse Cholesky
    factor, for each column cubed; feedback: of rounding, for each row and column squared; decide: for each weight;
    blind: of rounding a weight without feedback. encode, dense and decode: of a code.
    """

    product: float
    moments: float
    factor: float
    feedback: float
    decide: float
    blind: float
    encode: float
    dense: float
    decode: float
    cores: int
    memory: float
    """Bytes of the machine."""


def measured(folder: Path | None = None, *, again: bool = False) -> Kernels:
    """The kernels' speeds, from the cache of an earlier call on the same machine and version where there is one."""
    place = (folder or cache_folder()) / "kernels.json"
    mark = _mark()
    with suppress(OSError, ValueError, TypeError, LookupError):
        kept = json.loads(place.read_text())
        if not again and kept["mark"] == mark and set(kept["kernels"]) == {f.name for f in fields(Kernels)}:
            return Kernels(**kept["kernels"])
    found = measure()
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps({"mark": mark, "kernels": asdict(found)}))
    return found


def read(path: Path) -> Kernels:
    """Speeds of another machine, from the output of `attar estimate --json` there; raises UsageError."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))["kernels"]
        speeds: dict[str, Any] = {field.name: float(told[field.name]) for field in fields(Kernels)}
        return Kernels(**{**speeds, "cores": int(told["cores"])})
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise UsageError(
            f"--speeds {str(path)!r}: it must be what `attar estimate MODEL --json` has written. Received another "
            f"({error!r}). Measure the machine anew."
        ) from error


def _mark() -> list[str]:
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return [attar.__version__, simd_path(), np.__version__, str(cores()), threads]


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure() -> Kernels:
    """All of them, now."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(512, 1024)).astype(np.float32), rng.normal(size=(1024, 1024)).astype(np.float32))
    product = timed(lambda: a @ b) / (512 * 1024 * 1024)
    x = rng.normal(size=(1, 768, 2048)).astype(np.float32)
    moments = timed(lambda: MomentSum(1, 768).add(x, 128)) / (768**2 * 2048)
    wide, tall, flat = (problem(rng, rows, cols) for rows, cols in ((256, 768), (1536, 192), (2048, 1024)))
    layer, weight, stats = wide
    factor = together(lambda: grid.ordered(grid.regularised(layer, weight, stats, 0.2))) / 768**3
    times = [together(partial(rounded, *one)) for one in (wide, tall)]
    feedback, decide = _two(times, factor)
    alone = Stats(np.ones((1, 1024)), np.zeros((1, 1024)), 10**6, 10**6, np.ones(2048))
    blind = together(lambda: rounded(flat[0], flat[1], alone), once=True) / (2048 * 1024)
    codes = rounded(flat[0], flat[1], alone)
    fast, size = encode_array(codes), codes.size
    return Kernels(
        product, moments, factor, feedback, decide, blind,
        together(lambda: encode_array(codes)) / size,
        together(lambda: encode_array(codes[:128], "dense"), once=True) / (128 * 1024),
        together(lambda: decode_array(*fast, "int32", codes.shape)) / size, cores(), float(memory_bytes()),
    )  # fmt: skip


def problem(rng: np.random.Generator, rows: int, cols: int) -> tuple[Layer, Weight, Stats]:
    """A dense layer of random weights with statistics of random inputs."""
    x = rng.normal(size=(cols, 2 * cols))
    stats = Stats((x @ x.T / (2 * cols))[None], np.zeros((1, cols)), 10**6, 10**5, np.ones(rows))
    weight = Weight(rng.normal(size=(rows, cols)).astype(np.float32))
    return Layer("w", "dense", rows, cols, (rows, cols)), weight, stats


def rounded(layer: Layer, weight: Weight, stats: Stats) -> np.ndarray:
    """The codes of the base method."""
    point = next(iter(Uniform.points(layer, weight, stats, [SLOPE])))
    assert point.encoded is not None
    return point.encoded.arrays[Uniform.CODES]


def _two(times: list[float], factor: float) -> tuple[float, float]:
    """Seconds for each row * column^2 and for each weight, of rounding 256 x 768 and 1536 x 192 weights."""
    left = np.array([[256 * 768**2, 256 * 768], [1536 * 192**2, 1536 * 192]], float)
    right = np.array([times[0] - factor * 768**3, times[1] - factor * 192**3])
    found = np.linalg.solve(left, np.maximum(right, 1e-9))
    return float(max(found[0], 0.0)), float(max(found[1], 1e-9))


def timed(action: Callable[[], object]) -> float:
    """Least seconds of a few calls, the first not counted."""
    action()
    found: list[float] = []
    while len(found) < 2 or sum(found) < ENOUGH:
        start = perf_counter()
        action()
        found.append(perf_counter() - start)
    return min(found)


def together(action: Callable[[], object], *, once: bool = False) -> float:
    """Seconds of the machine for one call where every core is busy with such calls."""
    count = cores()
    with ThreadPoolExecutor(count) as pool:

        def all_at_once() -> None:
            for future in [pool.submit(action) for _ in range(count)]:
                future.result()

        if not once:
            return timed(all_at_once) / count
        start = perf_counter()
        all_at_once()
        return (perf_counter() - start) / count


def facts(kernels: Kernels) -> Mapping[str, str]:
    """Speeds for a person."""
    return {
        "products": f"{2e-9 / kernels.product:,.0f} GFLOP/s",
        "second moments": f"{2e-9 / kernels.moments:,.0f} GFLOP/s",
        "rounding, 4096 x 4096": f"{seconds_of_rounding(kernels, 4096, 4096):,.1f} s",
        "without feedback": f"{1e-6 / kernels.blind:,.1f} M weights/s",
        "encoding": f"{1e-6 / kernels.encode:,.0f} M weights/s",
        "decoding": f"{1e-6 / kernels.decode:,.0f} M weights/s",
    }


def seconds_of_rounding(kernels: Kernels, rows: int, cols: int, groups: int = 1) -> float:
    """Of one matrix with error feedback."""
    weights = rows * cols
    return kernels.factor * groups * cols**3 + kernels.feedback * weights * cols + kernels.decide * weights
