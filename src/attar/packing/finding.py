"""From a path to the files to pack, and from a file to its tensors: the content says the format, not the name."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

from attar.archive.packed import is_safe
from attar.errors import UsageError
from attar.packing import gguf, numpy_files, onnx, safetensors, tflite, torch_zip
from attar.packing.source import Bytes, Found

FINDERS: tuple[ModuleType, ...] = (safetensors, gguf, numpy_files, torch_zip, tflite, onnx)
KINDS = "safetensors, ONNX, GGUF, TFLite, .npz, .npy or a PyTorch checkpoint"


def files_of(path: Path) -> dict[str, Path]:
    """Relative names and places of the files to pack, in order; raises UsageError."""
    if path.is_dir():
        found = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
    elif path.name.endswith(".safetensors.index.json"):
        found = {file.name: file for file in _indexed(path)}
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


def _indexed(index: Path) -> list[Path]:
    """An index and the shards that it names; raises UsageError where one is missing."""
    try:
        shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        files = [index, *(index.with_name(name) for name in shards if "/" not in name and is_safe(name))]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(
            f"index {index.name!r}: it must be JSON with a weight_map. Received another ({error}). Check the file."
        ) from error
    missing = [file.name for file in files if not file.is_file()] + shards[len(files) - 1 :]
    if missing:
        raise UsageError(
            f"index {index.name!r}: its shards must lie beside it. Received none called {missing[0]!r}. Fetch them."
        )
    return files


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
