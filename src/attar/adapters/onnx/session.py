"""onnxruntime sessions over a store, and batches as their feeds."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
from onnx import ModelProto, ValueInfoProto

from attar.adapters.onnx.files import filled, filled_apart
from attar.adapters.onnx.tensors import DTYPES, Store
from attar.errors import DataError, ModelError
from attar.types import Array, Scaled, TensorSpec

IN_MESSAGE = 2**22
"""Bytes of values up to which a session gets them in its message, which it keeps beside what it makes of them."""
ERRORS = (
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NotImplemented",
    "RuntimeException",
    "EPFail",
    "NotFound",
)
"""What onnxruntime raises; its classes have no common base of their own."""


def runtime() -> ModuleType:
    """onnxruntime of any flavour; raises ModelError where none is installed."""
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise ModelError(
            "onnx model: running it needs onnxruntime. Received an environment without it. "
            "Install it with `pip install 'attar[onnx]'`."
        ) from error
    module: ModuleType = onnxruntime
    return module


def runtime_errors() -> tuple[type[Exception], ...]:
    """Exception classes of onnxruntime, for an except clause."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # type: ignore[import-untyped]

    return tuple(getattr(state, name) for name in ERRORS if hasattr(state, name))


class Session:
    """One onnxruntime session; larger models' tensors are handed to it by reference, beside the message."""

    def __init__(self, store: Store, edit: Callable[[ModelProto], None] | None = None, *, arena: bool = True):
        """arena: whether memory is kept from run to run; else what is handed back frees its own when it goes."""
        ort = runtime()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        # A pattern holds the memory of all tensors at once, for each number of examples again.
        options.enable_mem_pattern = False
        options.enable_cpu_mem_arena = arena
        # Threads that spin while they wait would take the cores from whatever runs beside: other layers, other jobs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0") or 0)
        apart: dict[str, Array] = {}
        if store.nbytes() <= IN_MESSAGE:
            model = filled(store)
        else:
            model, apart = filled_apart(store)
        if edit:
            edit(model)
        # Held as long as the session, which may use their memory.
        self._apart = [ort.OrtValue.ortvalue_from_numpy(values) for values in apart.values()]
        try:
            if apart:
                options.add_external_initializers(list(apart), self._apart)
            message, providers = model.SerializeToString(), ort.get_available_providers()
            self._session = ort.InferenceSession(message, options, providers=providers)
        except runtime_errors() as error:
            raise ModelError(
                f"onnx model: onnxruntime must be able to run it. Received: {_first_line(error)} "
                "Check it with onnx.checker, or install a runtime that has its operators; `attar inspect` needs none."
            ) from error

    def run(self, names: list[str], feed: Mapping[str, Array]) -> list[Any]:
        """The named outputs; raises DataError where the runtime refuses the feed."""
        try:
            values: list[Any] = self._session.run(names, dict(feed))
        except runtime_errors() as error:
            shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in feed.items())
            raise DataError(
                f"onnx model: it must accept the data. Received {shapes}: {_first_line(error)} "
                "Compare the shapes with those that `attar inspect` shows."
            ) from error
        return values


def _first_line(error: Exception) -> str:
    """What the runtime says, without its error number and the place in its own source code."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])", "", text)
    return text if text.endswith(".") else text + "."


def specs(values: list[ValueInfoProto], without: set[str]) -> list[TensorSpec]:
    """Name, numpy dtype and shape of graph inputs or outputs; initializers listed as inputs are left out."""
    found = []
    for value in values:
        if value.name in without:
            continue
        tensor = value.type.tensor_type
        dtype = DTYPES[tensor.elem_type].name if tensor.elem_type in DTYPES else "object"
        dims = tensor.shape.dim
        shape = tuple(int(d.dim_value) if d.dim_value > 0 else None for d in dims)
        found.append(TensorSpec(value.name, dtype, shape))
    return found


def batch_axes(inputs: list[TensorSpec]) -> dict[str, int]:
    """Inputs whose examples do not lie along the first axis, and the axis: a recurrent state [layers, n, hidden], say.

    Known by the sizes: the first axis is fixed where other inputs take any number of examples, and one other is free.
    """
    if not any(spec.shape and spec.shape[0] is None for spec in inputs):
        return {}
    free = {spec.name: [axis for axis, size in enumerate(spec.shape) if size is None] for spec in inputs}
    return {name: axes[0] for name, axes in free.items() if len(axes) == 1 and axes[0] > 0}


def examples_first(spec: TensorSpec, axis: int) -> TensorSpec:
    """The spec of an input as the data have it."""
    return TensorSpec(spec.name, spec.dtype, (spec.shape[axis], *spec.shape[:axis], *spec.shape[axis + 1 :]))


@dataclass(frozen=True)
class Feed:
    """One batch in the model's names and types, [n, ...] each; what is held as bytes is made floats by `part`.

    count: its examples; apart: inputs that are not per example; axes: where the model has the examples, if not first.
    """

    examples: dict[str, Array | Scaled]
    count: int
    apart: frozenset[str]
    axes: Mapping[str, int]

    @property
    def values(self) -> dict[str, Any]:
        """The inputs as the model takes them."""
        return {
            name: np.moveaxis(np.asarray(value), 0, self.axes.get(name, 0)) if name not in self.apart else value
            for name, value in self.examples.items()
        }

    def part(self, rows: Array) -> Feed:
        """The feed of some of its examples."""
        some = {name: value if name in self.apart else value[rows] for name, value in self.examples.items()}
        return Feed(some, len(rows), self.apart, self.axes)


def feed_of(batch: Mapping[str, Array], inputs: list[TensorSpec], axes: Mapping[str, int]) -> Feed:
    """A batch as a feed; raises DataError for a missing input or a type that cannot be converted."""
    named = _by_name(batch, inputs)
    count = next((len(v) for v in named.values() if v.shape), 1)
    values: dict[str, Array | Scaled] = {}
    apart = set()
    for spec in inputs:
        value = _shaped(named[spec.name], spec)
        if not value.shape or len(value) != count:
            apart.add(spec.name)
        values[spec.name] = _typed(value, spec)
    return Feed(values, count, frozenset(apart), axes)


def _by_name(batch: Mapping[str, Array], inputs: list[TensorSpec]) -> dict[str, Array | Scaled]:
    if len(inputs) == 1 and len(batch) == 1:
        return {inputs[0].name: _values(next(iter(batch.values())))}
    missing = [spec.name for spec in inputs if spec.name not in batch]
    if missing:
        raise DataError(
            f"input {missing[0]!r}: the data must have it. Received {', '.join(map(repr, batch)) or 'nothing'}. "
            "Name the arrays like the model's inputs."
        )
    return {spec.name: _values(batch[spec.name]) for spec in inputs}


def _values(given: Array | Scaled) -> Array | Scaled:
    """An array, also where a list came."""
    return given if isinstance(given, Scaled) else np.asarray(given)


def _shaped(value: Array | Scaled, spec: TensorSpec) -> Array | Scaled:
    """One value for all examples, where the model takes a scalar (a sampling rate, say) and the data repeat it."""
    if isinstance(value, Scaled):
        return value
    if spec.shape == () and value.ndim == 1 and len(value) and (value == value[0]).all():
        return np.asarray(value[0])
    return value


def _typed(value: Array | Scaled, spec: TensorSpec) -> Array | Scaled:
    if isinstance(value, Scaled):
        floats = value.floats
        return replace(value, floats=lambda given: floats(given).astype(spec.dtype, copy=False))
    wanted = np.dtype(spec.dtype)
    if value.dtype == wanted or spec.dtype == "object":
        return value
    if wanted.kind in "iu" and value.dtype.kind == "f" and not np.array_equal(value, np.rint(value)):
        raise DataError(
            f"input {spec.name!r}: the values must be whole numbers ({wanted.name}). Received {value.dtype.name} with "
            "fractions. Convert the data."
        )
    return value.astype(wanted)


def fixed_batch(inputs: list[TensorSpec], feed: Feed) -> int | None:
    """The batch size that the model is made for, where it is fixed."""
    for spec in inputs:
        if spec.name not in feed.apart and spec.shape and spec.shape[0] is not None:
            return spec.shape[0]
    return None


def parts(feed: Feed, size: int | None, step: Callable[[int], int]) -> Iterator[tuple[Feed, Array, int]]:
    """Pieces of a feed in order: (piece, row numbers, how many of them are no repetition).

    A model for one batch size gets pieces of exactly that `size`, the last one filled up by repeating its last example;
    any other gets pieces of at most `step(start)` examples.
    """
    start = 0
    while start < feed.count:
        rows = np.arange(start, start + (size or min(step(start), feed.count - start)))
        real = min(len(rows), feed.count - start)
        rows = np.minimum(rows, feed.count - 1)
        yield feed.part(rows), rows, real
        start += real
