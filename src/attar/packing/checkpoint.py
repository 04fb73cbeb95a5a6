"""A lazy view on an archive: tensors by name, each decoded when it is asked for, without touching the others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from attar import opening, registry
from attar.archive import Archive, read_archive
from attar.archive.base import SectionInfo
from attar.archive.packed import CODED_AS, FileInfo, SpanInfo, ViewInfo
from attar.coding import known_dtype
from attar.errors import UsageError
from attar.packing.base import restore
from attar.types import Array, Json


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What is known of a tensor before it is decoded; the section that is all of it, where there is such a one."""

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], Array]
    section: SectionInfo | None = None


class Checkpoint(Mapping[str, Any]):
    """A read-only mapping from names to tensors; `open` makes one.

    The tensors of a packed checkpoint have their own names; where two of its files share one, FILE:NAME. Those of a
    compressed model are its layers, each as its matrix [rows, cols] in float32, and the rest of its tensors by name.
    """

    def __init__(self, archive: Archive, framework: str) -> None:
        known = ["np", *registry.names("tensors")]
        if framework not in known:
            raise UsageError(
                f"open: the framework must be one of {', '.join(known)}. Received {framework!r}. Use one of them."
            )
        self._archive = archive
        self._convert = None if framework == "np" else registry.get("tensors", framework)
        self._specs = _packed(archive) if archive.files else _model(archive)

    def __getitem__(self, name: str) -> Any:
        """The tensor, decoded anew each time; raises KeyError for an unknown name, FormatError for damage."""
        array = self._specs[name].read()
        return array if self._convert is None else self._convert(array)

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open between reads."""

    def load(self) -> dict[str, Any]:
        """All tensors by name, decoded together: sooner than one by one where many are small; raises FormatError."""
        whole = [(name, spec.section) for name, spec in self._specs.items() if spec.section is not None]
        arrays = dict(zip([n for n, _ in whole], self._archive.pieces([s for _, s in whole]), strict=True))
        result = {}
        for name, spec in self._specs.items():
            array = arrays[name].reshape(spec.shape) if name in arrays else spec.read()
            result[name] = array if self._convert is None else self._convert(array)
        return result

    def get_tensor(self, name: str) -> Any:
        """As safetensors calls `self[name]`."""
        return self[name]

    def get_slice(self, name: str) -> Slice:
        """A part of a tensor, by indexing what is returned."""
        return Slice(self, name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Without decoding."""
        return self._specs[name].shape

    def dtype(self, name: str) -> str:
        """numpy's or ml_dtypes' name, without decoding."""
        return self._specs[name].dtype

    def metadata(self) -> dict[str, Json]:
        """What the archive says about itself."""
        return dict(self._archive.meta)


@dataclass(frozen=True)
class Slice:
    """A tensor that is cut when it is indexed; the whole of it is decoded for that."""

    checkpoint: Checkpoint
    name: str

    def __getitem__(self, index: Any) -> Any:
        return self.checkpoint[self.name][index]

    def get_shape(self) -> list[int]:
        """Without decoding."""
        return list(self.checkpoint.shape(self.name))

    def get_dtype(self) -> str:
        """Without decoding."""
        return self.checkpoint.dtype(self.name)


def open(path: str | os.PathLike[str], framework: str = "np") -> Checkpoint:
    """The tensors of a .attar file by name: numpy arrays, or torch tensors with framework="pt".

    Raises FormatError for damage, UsageError where there is no such file.
    """
    place = Path(path)
    if not place.is_file():
        raise UsageError(f"archive {str(path)!r}: it must be a file. Received none. Check the path.")
    return Checkpoint(read_archive(place), framework)


def _packed(archive: Archive) -> dict[str, TensorSpec]:
    found: dict[str, TensorSpec] = {}
    counts = Counter(name for file in archive.files for name in _names(file))
    for file in archive.files:
        specs = {span.name: _span(archive, span) for span in file.spans}
        specs |= {view.name: _view(archive, file, view) for view in file.views}
        found |= {name if counts[name] == 1 else f"{file.name}:{name}": spec for name, spec in specs.items()}
    return found


def _names(file: FileInfo) -> list[str]:
    return [span.name for span in file.spans] + [view.name for view in file.views]


def _span(archive: Archive, span: SpanInfo) -> TensorSpec:
    def read() -> Array:
        parts = [restore(piece, archive.piece(piece.section), None).reshape(-1) for piece in span.pieces]
        flat = np.concatenate(parts) if parts else np.zeros(0, known_dtype(span.dtype))
        return flat.view(known_dtype(span.dtype)).reshape(span.shape)

    alone = len(span.pieces) == 1 and not span.pieces[0].against and span.dtype not in CODED_AS
    return TensorSpec(span.dtype, span.shape, read, span.pieces[0].section if alone else None)


def _view(archive: Archive, file: FileInfo, view: ViewInfo) -> TensorSpec:
    span = next(span for span in file.spans if span.name == view.span)

    def read() -> Array:
        flat = _span(archive, span).read().reshape(-1)[view.offset :]
        strides = [step * flat.itemsize for step in view.strides]
        # check_files has held the view against its tensor.
        return np.lib.stride_tricks.as_strided(flat, view.shape, strides, writeable=False).copy()

    return TensorSpec(span.dtype, view.shape, read)


def _model(archive: Archive) -> dict[str, TensorSpec]:
    found: dict[str, TensorSpec] = {}
    for layer in archive.layers:
        read = _layer(archive, layer.name)
        found[layer.name] = TensorSpec("float32", (layer.rows, layer.cols), read)
    for tensor in archive.tensors:
        found.setdefault(tensor.name, TensorSpec(tensor.dtype, tensor.shape, _rest(archive, tensor.name)))
    return found


def _layer(archive: Archive, name: str) -> Callable[[], Array]:
    return lambda: opening.decode(archive, name).matrix


def _rest(archive: Archive, name: str) -> Callable[[], Array]:
    return lambda: archive.remainder()[name]
