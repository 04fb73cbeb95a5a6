"""ONNX models with weights and arithmetic in float16; inputs and outputs stay float32."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import ClassVar

from attar.adapters.base import Adapter
from attar.errors import ModelError
from attar.exports.base import Artefact, Task
from attar.exports.onnx.model import onnx_model
from attar.exports.onnx.runtime import Runtime, survives
from attar.exports.timing import latencies


class OnnxFp16:
    """onnxruntime's own converter: operators without float16 kernels are left in float32."""

    name: ClassVar[str] = "onnx-fp16"
    suffix: ClassVar[str] = ".fp16.onnx"
    help: ClassVar[str] = "float16 weights and arithmetic, for GPUs and NPUs; half the size"

    @staticmethod
    def check(adapter: Adapter) -> None:
        """An ONNX model; raises ModelError."""
        onnx_model(adapter, OnnxFp16.name)

    @staticmethod
    def make(task: Task) -> Artefact:
        """The converted model; raises ModelError where onnxruntime does not open it."""
        from onnxruntime.transformers.float16 import convert_float_to_float16  # type: ignore[import-untyped]

        adapter = onnx_model(task.adapter, OnnxFp16.name)
        plain = adapter.model()
        with warnings.catch_warnings():
            # Weights below the least float16 become zero; the certificate says what that does.
            warnings.simplefilter("ignore")
            try:
                data: bytes = convert_float_to_float16(adapter.model(), keep_io_types=True).SerializeToString()
            except (AssertionError, LookupError, TypeError, ValueError):  # graphs in graphs, say
                data = b""
        if not data or not survives(data):
            raise ModelError(
                "onnx-fp16: onnxruntime must be able to convert the model and to open what it made. It cannot, though "
                "it opens the float one. Export onnx-int8 instead, or convert it with the tools of its device."
            )
        calls = {
            "float": Runtime(plain.SerializeToString(), task.threads).once(task.batch),
            "float16": Runtime(data, task.threads).once(task.batch),
        }
        ratio = latencies(calls)["float16"].ratio
        task.step()
        notes = () if ratio < 1 else (f"float16 takes {ratio:.2f} of float's time on this processor",)
        return Artefact(data, notes, {"latency_ratio": ratio})

    @staticmethod
    def runtime(model: bytes | Path, threads: int) -> Runtime:
        """onnxruntime on the CPU."""
        return Runtime(model, threads)
