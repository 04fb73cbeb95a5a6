"""LiteRT interpreters over a store, and batches as their feeds."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attar.adapters.tflite.reader import DTYPES, np_dtype, type_name
from attar.adapters.tflite.store import Store
from attar.errors import DataError, ModelError
from attar.types import Array, TensorSpec

SECONDS = 120
"""How long a stranger's model may take for its first run."""
ROOM = 2**34
"""Bytes of memory that it may ask for then, where the system has such a limit."""
TRIAL = """
import sys
import numpy as np
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
except (ImportError, OSError, ValueError):
    pass
from ai_edge_litert.interpreter import Interpreter
data = open(sys.argv[1], "rb").read()
for size in (1, 32, 224):  # where sizes are free: a picture of one pixel may be too small for a window
    model = Interpreter(model_content=data)
    inputs = model.get_input_details()
    shapes = [[size if axis and n < 0 else abs(n) for axis, n in enumerate(one["shape_signature"])] for one in inputs]
    free = shapes != [one["shape"].tolist() for one in inputs]
    try:
        for one, shape in zip(inputs, shapes):
            if free:
                model.resize_tensor_input(one["index"], shape)
        model.allocate_tensors()
        for one, shape in zip(inputs, shapes):
            model.set_tensor(one["index"], np.zeros(shape, one["dtype"]))
        model.invoke()
        break
    except (RuntimeError, ValueError):
        if size == 224 or not any(n < 0 for one in inputs for n in one["shape_signature"][1:]):
            raise
"""
_ONE = threading.Lock()
REFUSALS = (RuntimeError, ValueError, TypeError, OverflowError)
"""What the interpreter raises."""


def tried(data: bytes) -> None:
    """That the runtime takes these bytes, in a process of its own since it may die of them; raises ModelError."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "model.tflite")
        place.write_bytes(data)
        command = [sys.executable, "-c", TRIAL, str(place), str(ROOM)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            why = f"no answer in {SECONDS} seconds"
        else:
            if not done.returncode:
                return
            last = [line for line in done.stderr.splitlines() if "Error" in line][-1:]
            why = last[0][:300] if last and done.returncode > 0 else f"its end by signal {-done.returncode}"
    raise ModelError(
        f"tflite model: LiteRT must be able to run it. Received: {why}. Convert the model again, with operators that "
        "the runtime has; `attar inspect` needs none."
    )


class Session:
    """One interpreter; tensors are asked for by their numbers in the main graph."""

    def __init__(self, data: bytes | Path, threads: int = 0) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]
        except ImportError as error:
            raise ModelError(
                "tflite model: running it needs ai-edge-litert. Received an environment without it. "
                "Install it with `pip install 'attar[tflite]'`."
            ) from error
        given = {"model_path": str(data)} if isinstance(data, Path) else {"model_content": data}
        count = threads or int(os.environ.get("OMP_NUM_THREADS", "0") or 0) or 1
        try:
            with quiet():
                self.interpreter = Interpreter(**given, num_threads=count)
        except REFUSALS as error:
            raise ModelError(
                f"tflite model: LiteRT must be able to open it. Received: {first_line(error)} Convert the model again, "
                "with operators that the runtime has; `attar inspect` needs none."
            ) from error
        self._shapes: dict[int, tuple[int, ...]] = {}

    def prepare(self, feed: Mapping[int, Array]) -> None:
        """Make room for a feed and put it in; raises DataError where the model refuses it."""
        shapes = {index: value.shape for index, value in feed.items()}
        try:
            if shapes != self._shapes:
                self._shapes = {}
                for index, shape in shapes.items():
                    self.interpreter.resize_tensor_input(index, shape)
                with quiet():
                    self.interpreter.allocate_tensors()
                self._shapes = shapes
            self.interpreter.reset_all_variables()
            for index, value in feed.items():
                self.interpreter.set_tensor(index, value)
        except REFUSALS as error:
            raise _refused(feed, error) from error

    def run(self, feed: Mapping[int, Array], fetch: Sequence[int]) -> list[Array]:
        """Copies of the tensors asked for, which must be outputs; raises DataError where the model refuses the feed."""
        self.prepare(feed)
        try:
            self.interpreter.invoke()
            return [self.interpreter.get_tensor(index) for index in fetch]
        except REFUSALS as error:
            raise _refused(feed, error) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the runtime tells standard error, past Python's, when it opens a model."""
    with _ONE:
        kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(null)


def _refused(feed: Mapping[int, Array], error: Exception) -> DataError:
    shapes = ", ".join(f"{value.dtype.name} {list(value.shape)}" for value in feed.values())
    return DataError(
        f"tflite model: it must accept the data. Received {shapes}: {first_line(error)} "
        "Compare the shapes with those that `attar inspect` shows."
    )


def first_line(error: Exception) -> str:
    """What the runtime says, without the place in its own source code."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    text = text.rpartition(".cc:")[2].partition(" ")[2] if ".cc:" in text else text
    return text if text.endswith(".") else text + "."


@dataclass(frozen=True)
class Port:
    """An input or output of the main graph: its tensor, what users see, and its scale where it is in integers."""

    index: int
    spec: TensorSpec
    dtype: np.dtype[Any]
    scale: float = 0.0
    zero: int = 0

    def inward(self, value: Array) -> Array:
        """A user's values as the model takes them; raises DataError for fractions where whole numbers are taken."""
        if self.scale and value.dtype.kind == "f":
            limits = np.iinfo(self.dtype)
            value = np.clip(np.rint(value / self.scale) + self.zero, limits.min, limits.max)
        elif self.dtype.kind in "iu" and value.dtype.kind == "f" and not np.array_equal(value, np.rint(value)):
            raise DataError(
                f"input {self.spec.name!r}: the values must be whole numbers ({self.dtype.name}). Received "
                f"{value.dtype.name} with fractions. Convert the data."
            )
        return np.ascontiguousarray(value, self.dtype)

    def outward(self, value: Array) -> Array:
        """The model's values as float32."""
        found = np.asarray(value, np.float32)
        return (found - np.float32(self.zero)) * np.float32(self.scale) if self.scale else found


def signature_names(model: Any) -> dict[int, str]:
    """The names that the first signature of the main graph gives to its inputs and outputs, by tensor."""
    own = [signature for signature in model.signatureDefs or () if signature.subgraphIndex == 0]
    ends = [*(own[0].inputs or ()), *(own[0].outputs or ())] if own else []
    found = {int(end.tensorIndex): (end.name or b"").decode("utf-8", "replace") for end in ends}
    return found if len(set(found.values()) - {""}) == len(ends) else {}


def in_order(store: Store) -> Store:
    """The store, in place, with the main graph's outputs in the order of their names, numbers by value.

    TensorFlow's converter leaves them in any, and calls them output_0, output_1 ... or by the keys of a dict.
    """
    graph, names = store.model.subgraphs[0], signature_names(store.model)
    if all(index in names for index in graph.outputs):
        numbered = all(re.fullmatch(r"output_\d+", names[index]) for index in graph.outputs)

        def place(index: int) -> tuple[int, str]:
            return int(names[index].removeprefix("output_")) if numbered else 0, names[index]

        graph.outputs = sorted(graph.outputs, key=place)
    return store


def ports(graph: Any, indices: Sequence[int], names: Mapping[int, str]) -> list[Port]:
    """Inputs or outputs by their tensors; the first axis is that of the examples, and free."""
    found = []
    for index in indices:
        tensor = graph.tensors[index]
        kind = type_name(tensor)
        if kind not in DTYPES:
            raise ModelError(
                f"tensor {tensor.name!r}: inputs and outputs must be numbers. Received {kind or 'another type'}. "
                "Convert the model without the text processing in front."
            )
        given = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
        shape = [None if size < 0 else int(size) for size in given]
        scaled = tensor.quantization
        scale = float(scaled.scale[0]) if scaled is not None and scaled.scale is not None and len(scaled.scale) else 0.0
        zero = int(scaled.zeroPoint[0]) if scale and scaled.zeroPoint is not None and len(scaled.zeroPoint) else 0
        dtype = np_dtype(kind)
        spec = TensorSpec(
            names.get(index, tensor.name), "float32" if scale else dtype.name, (None, *shape[1:]) if shape else ()
        )
        found.append(Port(index, spec, dtype, scale, zero))
    return found


@dataclass(frozen=True)
class Feed:
    """One batch as the model takes it, by tensor; whole: those that are not per example."""

    values: Mapping[int, Array]
    count: int
    whole: frozenset[int]

    def part(self, rows: Array) -> Feed:
        """The feed of some of its examples."""
        some = {index: value if index in self.whole else value[rows] for index, value in self.values.items()}
        return Feed(some, len(rows), self.whole)

    def pieces(self, size: int) -> Iterator[tuple[Feed, Array, int]]:
        """(piece, row numbers, how many of them are no repetition), of exactly so many examples each, in order."""
        for start in range(0, self.count, size):
            rows = np.minimum(np.arange(start, start + size), self.count - 1)
            yield self.part(rows), rows, min(size, self.count - start)


def feed_of(batch: Mapping[str, Array], given: Sequence[Port]) -> Feed:
    """A batch as a feed; raises DataError for a missing input or values that cannot be converted."""
    if len(given) == 1 and len(batch) == 1:
        named = {given[0].spec.name: np.asarray(next(iter(batch.values())))}
    else:
        missing = [port.spec.name for port in given if port.spec.name not in batch]
        if missing:
            raise DataError(
                f"input {missing[0]!r}: the data must have it. Received {', '.join(map(repr, batch)) or 'nothing'}. "
                "Name the arrays like the model's inputs."
            )
        named = {port.spec.name: np.asarray(batch[port.spec.name]) for port in given}
    values, whole = {}, set()
    for port in given:
        value = named[port.spec.name]
        if not port.spec.shape:
            value = value[0] if value.ndim == 1 and len(value) and (value == value[0]).all() else value
            whole.add(port.index)
        values[port.index] = port.inward(np.asarray(value))
    counts = {len(value) for index, value in values.items() if index not in whole and value.ndim}
    if len(counts) > 1:
        raise DataError(f"inputs: all must have as many examples. Received {sorted(counts)}. Correct the arrays.")
    return Feed(values, next(iter(counts), 1), frozenset(whole))
