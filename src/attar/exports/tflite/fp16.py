"""TFLite models with weights in float16, widened when they are loaded; arithmetic is in float32 on processors."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from attar.adapters.base import Adapter
from attar.errors import ModelError
from attar.exports.base import Artefact, Task
from attar.exports.tflite.graph import prepared
from attar.exports.tflite.halve import halved
from attar.exports.tflite.model import tflite_model
from attar.exports.tflite.runtime import Runtime
from attar.exports.timing import latencies
from attar.types import Array

LARGEST = float(np.finfo(np.float16).max)


class TfliteFp16:
    """See the module's docstring."""

    name: ClassVar[str] = "tflite-fp16"
    suffix: ClassVar[str] = ".fp16.tflite"
    help: ClassVar[str] = "float16 weights, for LiteRT (TensorFlow Lite): half the size; float16 arithmetic on GPUs"

    @staticmethod
    def check(adapter: Adapter) -> None:
        """A TFLite or Keras model with float weights; raises ModelError."""
        if adapter.framework not in ("tflite", "keras"):
            tflite_model(adapter, TfliteFp16.name)
        if not adapter.layers():
            raise ModelError(
                "tflite-fp16: the model must have float weights. Received none. `attar inspect` lists what is left "
                "alone and why: weights in integers already are smaller than float16."
            )

    @staticmethod
    def make(task: Task) -> Artefact:
        """Every stored float32 in float16, but for tensors with values beyond it."""
        adapter = tflite_model(task.adapter, TfliteFp16.name)
        large = 0

        def keep(values: Array) -> bool:
            nonlocal large
            beyond = bool(np.abs(values).max(initial=0) > LARGEST)
            large += beyond
            return beyond

        data = halved(prepared(adapter.store), keep)
        calls = {
            "float": Runtime(adapter.model(), task.threads, adapter.size).once(task.batch),
            "float16": Runtime(data, task.threads, adapter.size).once(task.batch),
        }
        ratio = latencies(calls)["float16"].ratio
        task.step()
        notes = [f"{large} tensors stay in float32: they hold values beyond {LARGEST:,.0f}"] if large else []
        return Artefact(data, tuple(notes), {"latency_ratio": ratio})

    @staticmethod
    def runtime(model: bytes | Path, threads: int) -> Runtime:
        """LiteRT on the CPU."""
        return Runtime(model, threads)
