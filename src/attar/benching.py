"""`attar bench`: model files beside each other in their runtime, as ratios to the first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from attar import reading, registry
from attar.archive import read_archive
from attar.errors import UsageError
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.exports.base import Runtime
from attar.exports.timing import Latency, latencies
from attar.recipe import make
from attar.types import Array, Dataset, Json, TensorSpec

PathLike = str | os.PathLike[str]
ASSUMED = 224
"""Length of a free axis other than the examples', where there are no data."""


@dataclass(frozen=True)
class Timed:
    """One model: its file, bytes, latency by batch size, and the metric on the data where there are labels."""

    path: str
    nbytes: int
    latency: dict[int, Latency]
    value: float | None

    def facts(self) -> dict[str, Json]:
        """For a machine."""
        times = {str(batch): asdict(latency) for batch, latency in self.latency.items()}
        return {"file": self.path, "bytes": self.nbytes, "latency": times, "value": self.value}


def bench(
    models: Sequence[PathLike], data: object = None, *, batches: Sequence[int] = (1, 32), threads: int = 1,
    metric: str | None = None,
) -> list[Timed]:  # fmt: skip
    """Latency of .onnx, .tflite and .pt2 files, and of .attar files of such, in their runtimes, interleaved.

    Ratios are to the first.

    Inputs are the first examples of the data, or noise where there are none. With a metric it is measured too.
    Raises UsageError, DataError, ModelError, FormatError.
    """
    if not models or threads < 1 or not batches or min(batches) < 1:
        raise UsageError(
            f"bench: models, batch sizes and threads of 1 or more are needed. Received {len(models)} models, batch "
            f"{list(batches)}, {threads} threads."
        )
    if metric is not None and data is None:
        raise UsageError(f"bench: a metric is measured on data. Received {metric!r} and no data. Pass --data.")
    runtimes: dict[str, Runtime] = {str(model): _opened(Path(model), threads) for model in models}
    if len(runtimes) < len(models):
        raise UsageError("bench: each model is named once. Received one twice. Leave it out.")
    sets = {name: _examples(data, runtime) for name, runtime in runtimes.items()}
    found: dict[str, dict[int, Latency]] = {name: {} for name in runtimes}
    for size in batches:
        rows = {name: part.take(np.arange(size) % len(part)).arrays() for name, part in sets.items()}
        measured = latencies({name: runtime.once(rows[name]) for name, runtime in runtimes.items()})
        for name, latency in measured.items():
            found[name][size] = latency
    return [
        Timed(name, Path(name).stat().st_size, found[name], _value(runtime, sets[name], metric))
        for name, runtime in runtimes.items()
    ]


def _opened(path: Path, threads: int) -> Runtime:
    """The file in the runtime of its ending, onnxruntime where there is none of its own."""
    kind = path.suffix.removeprefix(".")
    if kind == "attar" and path.is_file():
        kind = str(read_archive(path).meta.get("framework"))
    runtime: Runtime = registry.get("runtime", kind if kind in registry.names("runtime") else "onnx")(path, threads)
    return runtime


def _examples(data: object, runtime: Runtime) -> Dataset:
    """The data as this model takes them, or noise."""
    if data is None:
        return Dataset({spec.name: _noise(spec) for spec in runtime.inputs})
    return reading.read_fitted(data, make(max_drop=0), runtime.inputs)


def _noise(spec: TensorSpec) -> Array:
    """32 examples of an input; ids are zero, which every vocabulary has."""
    shape = (32, *(size or ASSUMED for size in spec.shape[1:]))
    dtype = np.dtype(spec.dtype)
    return np.random.default_rng(0).normal(size=shape).astype(dtype) if dtype.kind == "f" else np.zeros(shape, dtype)


def _value(runtime: Runtime, data: Dataset, metric: str | None) -> float | None:
    """The metric on all of the data."""
    return None if metric is None else score(runtime.run, data, resolve_metric(metric), None).value
