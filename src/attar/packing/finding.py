"""From a path to the files to pack, and from a file to its tensors: the content says the format, not the name."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from attar.archive.packed import is_safe
from attar.errors import UsageError
from attar.formats import gguf, numpy_files, safetensors
from attar.formats.source import Bytes, Found
from attar.packing import onnx, tflite, torch_zip

FINDERS: tuple[ModuleType, ...] = (safetensors, gguf, numpy_files, torch_zip, tflite, onnx)
KINDS = "safetensors, ONNX, GGUF, TFLite, .npz, .npy or a PyTorch checkpoint"


def files_of(path: Path) -> dict[str, Path]:
    """Relative names and places of the files to pack, in order; raises UsageError."""
    if path.is_dir():
        found = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
    elif path.name.endswith(safetensors.INDEX):
        found = {file.name: file for file in safetensors.indexed(path)}
    else:
        found = {path.name: path}
    for name in found:
        if not is_safe(name):
            raise UsageError(
                f"file {name!r}: its name must be one that every system takes. Received it. Rename the file."
            )
    if not found:
        raise UsageError(f"folder {str(path)!r}: it must hold files. Received none. Check the path.")
    return found


def find(source: Bytes, alone: bool) -> Found:
    """The tensors of one file; one of no known format is bytes, or a UsageError where it is packed alone."""
    if source.path.suffix == ".attar" and not alone:
        return Found("bytes", notes=("it is packed already and kept as it is",))
    for finder in FINDERS:
        if finder.accepts(source):
            found: Found = finder.find(source)
            return found
    if alone:
        raise UsageError(
            f"file {source.path.name!r}: it must be {KINDS}. Received another file. "
            "Save the weights in one of these, or pack the folder: there such files are kept as they are."
        )
    return Found("bytes")
