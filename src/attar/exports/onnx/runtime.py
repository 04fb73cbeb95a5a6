"""ONNX bytes or files in onnxruntime as a user has it: the artefact itself, not attar's view of it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from attar.adapters.onnx.session import batch_axes, examples_first, feed_of, fixed_batch, parts, runtime
from attar.adapters.parts import together
from attar.errors import ModelError
from attar.types import Array, TensorSpec

PIECE = 256
"""Most examples that are run at once."""


class Runtime:
    """One session on the CPU with so many threads; `run` gives the first output."""

    def __init__(self, model: bytes | Path, threads: int = 1) -> None:
        ort = runtime()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        given = str(model) if isinstance(model, Path) else model
        try:
            self.session = ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(
                f"artefact: onnxruntime must be able to run it. Received: {str(error).splitlines()[0][:300]} "
                "Upgrade onnxruntime, or export another format."
            ) from error
        self._inputs = [_spec(value) for value in self.session.get_inputs()]
        self._axes = batch_axes(self._inputs)
        self._first = [
            examples_first(spec, self._axes.get(spec.name, 0)) if spec.shape else spec for spec in self._inputs
        ]
        self._output = self.session.get_outputs()[0].name

    @property
    def inputs(self) -> list[TensorSpec]:
        """With the axis of the examples first."""
        return self._first

    @property
    def axes(self) -> Mapping[str, int]:
        """Where the model has the examples, if not first."""
        return self._axes

    @property
    def version(self) -> str:
        """The runtime's name and version."""
        return f"onnxruntime {runtime().__version__}"

    def run(self, batch: Mapping[str, Array]) -> Array:
        """The first output [n, ...], float32; raises DataError where the model refuses the batch."""
        feed = feed_of(batch, self._first, self._axes)
        size = fixed_batch(self._first, feed)
        found = []
        step = together(feed.examples.values(), feed.count, PIECE)
        for piece, _, real in parts(feed, size, lambda _: step):
            found.append(np.asarray(self.session.run([self._output], piece.values)[0], np.float32)[:real])
        return np.concatenate(found)

    def once(self, batch: Mapping[str, Array]) -> Any:
        """A call that runs a batch and nothing else, for timing; of the only size that the model takes, if so."""
        feed = feed_of(batch, self._first, self._axes)
        size = fixed_batch(self._first, feed)
        values = next(parts(feed, size, lambda _: feed.count))[0].values
        return lambda: self.session.run(None, values)


def survives(model: bytes) -> bool:
    """Whether onnxruntime opens it, in a process of its own: 1.32 dies of some float16 graphs without an exception."""
    script = "import sys, onnxruntime as ort; ort.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "model.onnx")
        place.write_bytes(model)
        done = subprocess.run([sys.executable, "-c", script, str(place)], capture_output=True, check=False)
    return done.returncode == 0


def _spec(value: Any) -> TensorSpec:
    """Of an input as onnxruntime describes it."""
    kinds = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
    kind = kinds.get(value.type, value.type.removeprefix("tensor(").removesuffix(")"))
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)
    return TensorSpec(value.name, kind, shape)
