"""An ONNX model out of whatever an adapter, or a file, holds."""

from __future__ import annotations

from pathlib import Path

from attar.adapters.base import Adapter
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.errors import ModelError, UsageError
from attar.exports.onnx.runtime import Runtime
from attar.opening import open_model


def onnx_model(adapter: Adapter, goal: str) -> OnnxAdapter:
    """The adapter itself where it is of ONNX; raises ModelError for other frameworks."""
    if isinstance(adapter, OnnxAdapter):
        return adapter
    ways = {"torch": "torch.onnx.export(module, example, 'model.onnx')", "keras": "model.export('model.onnx', 'onnx')"}
    raise ModelError(
        f"{goal}: it is made of an ONNX model. Received a {adapter.framework} model. Write one first: "
        f"{ways.get(adapter.framework, 'export it to ONNX')}."
    )


def runtime_of(path: Path, threads: int) -> Runtime:
    """A .onnx file, or the model of a .attar file, in onnxruntime; raises UsageError, ModelError, FormatError."""
    if not path.is_file():
        raise UsageError(f"model {str(path)!r}: the file must exist. Received none. Check the path.")
    if path.suffix == ".onnx":
        return Runtime(path, threads)
    if path.suffix == ".attar":
        adapter = open_model(path)
        if isinstance(adapter, OnnxAdapter):
            return Runtime(adapter.model().SerializeToString(), threads)
    raise ModelError(f"model {path.name!r}: it must be an ONNX model. Received another kind. Export it to ONNX first.")
