"""TFLite models with int8 weights and float activations: our rounding, on a grid for each output channel.

Two ways to run them, and the faster one that keeps the drop is written: the runtime rounds activations to 8 bits as
they come and multiplies integers ("hybrid", or dynamic range), or it widens the weights once, on loading.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from attar.adapters.base import Adapter
from attar.errors import AttarError
from attar.exports.base import Artefact, Task
from attar.exports.tflite.int8 import NOISE, SLOWER, check_weights
from attar.exports.tflite.model import tflite_model
from attar.exports.tflite.narrow import with_codes
from attar.exports.tflite.runtime import Runtime
from attar.exports.tflite.weights import KINDS, rounded
from attar.exports.timing import latencies
from attar.types import Json

HYBRID, WIDENED = "multiplied as integers", "widened on loading"


class TfliteInt8Weights:
    """See the module's docstring."""

    name: ClassVar[str] = "tflite-int8-weights"
    suffix: ClassVar[str] = ".int8w.tflite"
    help: ClassVar[str] = "8-bit weights and float activations, for LiteRT (TensorFlow Lite)"

    @staticmethod
    def check(adapter: Adapter) -> None:
        """A TFLite or Keras model with weights for a grid; raises ModelError."""
        check_weights(adapter, TfliteInt8Weights.name)

    @staticmethod
    def make(task: Task) -> Artefact:
        """Integers multiplied where the drop allows it and the runtime is not slower so."""
        adapter = tflite_model(task.adapter, TfliteInt8Weights.name)
        _, store, scales = rounded(adapter, task.calibrate, (*KINDS, "embedding"))
        ways = {way: with_codes(store, scales, hybrid=way == HYBRID) for way in (HYBRID, WIDENED)}
        calls = {"float": Runtime(adapter.model(), task.threads, adapter.size).once(task.batch)}
        for way, data in ways.items():
            try:
                calls[way] = Runtime(data, task.threads, adapter.size).once(task.batch)
            except AttarError:
                if way == WIDENED:
                    raise
        found = latencies(calls)
        task.step()
        ratios = {way: found[way].ratio for way in ways if way in found}
        faster = ratios.get(HYBRID, float("inf")) <= ratios[WIDENED] * (1 - NOISE)
        if task.like.get("weights") in ratios:
            faster = task.like["weights"] == HYBRID
        chosen = HYBRID if faster and task.acceptable(ways[HYBRID]) else WIDENED
        notes = [f"weights are {chosen}"]
        if ratios[chosen] > 2 - SLOWER:
            notes.append(f"it takes {ratios[chosen]:.2f} of float's time here")
        facts: dict[str, Json] = {"latency_ratio": ratios[chosen], "latency_ratios": ratios, "weights": chosen}
        return Artefact(ways[chosen], tuple(notes), facts)

    @staticmethod
    def runtime(model: bytes | Path, threads: int) -> Runtime:
        """LiteRT on the CPU."""
        return Runtime(model, threads)
