"""What is installed, which kernel runs, and what is missing for which format."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping

from attar.types import Json

FORMATS = {
    "ONNX (.onnx)": ("onnx", ("onnx", "onnxruntime")),
    "TFLite (.tflite)": ("tflite", ("ai_edge_litert", "flatbuffers")),
    "PyTorch (.pt2, TorchScript, modules)": ("torch", ("torch",)),
    "Keras (.keras, .h5)": ("keras", ("keras", "h5py")),
    "Keras on TensorFlow": ("tensorflow", ("tensorflow",)),
    "Keras on JAX": ("jax", ("jax",)),
    "folders of images": ("images", ("PIL",)),
    "tables; cleaning data sets": ("data", ("pandas", "pyarrow", "PIL", "sklearn", "datasketch")),
    "charts in the report": ("report", ("vl_convert",)),
}
"""What it is for: the extra that brings it, and the modules that must be there."""


def findings() -> dict[str, Json]:
    """What is installed, which kernel runs, what is missing for which format."""
    import platform

    import attar
    from attar.coding import simd_path

    formats = {}
    for name, (extra, modules) in FORMATS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        formats[name] = {"ready": not missing, "missing": missing, "remedy": f"pip install 'attar[{extra}]'"}
    packages = {}
    for package in ("numpy", "scipy", "onnx", "onnxruntime", "torch", "keras", "tensorflow", "jax"):
        try:
            packages[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "attar": attar.__version__, "python": platform.python_version(), "machine": platform.machine(),
        "coder": simd_path(), "packages": packages, "formats": formats,
    }  # fmt: skip


def text(facts: Mapping[str, Json]) -> str:
    """The doctor's findings as lines."""
    lines = [
        f"attar     {facts['attar']} on Python {facts['python']}, {facts['machine']}",
        f"coder     {facts['coder']}",
    ]
    if facts["coder"] == "numpy":
        lines.append(
            "          the native kernel is missing: install a C++ compiler and reinstall attar to decode faster"
        )
    lines.append("packages  " + ", ".join(f"{name} {version}" for name, version in facts["packages"].items()))
    for name, state in facts["formats"].items():
        word = "ready" if state["ready"] else f"missing {', '.join(state['missing'])}: {state['remedy']}"
        lines.append(f"{name:<38} {word}")
    return "\n".join(lines)
