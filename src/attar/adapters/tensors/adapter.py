"""Weights without a network: tensors of safetensors, GGUF and .npz files as matrices, no framework needed.

Nothing can be run and nothing measured: attar/dataless.py compresses them. Everything beside the matrices comes back
bit for bit: other tensors, names, order, metadata, layout; an index and its shards too. A value is written in the dtype
that its tensor has.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import ClassVar, NoReturn, Self

import numpy as np

from attar.adapters.base import Batch
from attar.adapters.tensors.files import Read, Scratch, files_of, opened, write_file
from attar.adapters.tensors.form import FileForm, Tensor, from_skeleton, to_skeleton
from attar.archive.packed import from_bytes, to_bytes
from attar.coding import known_dtype
from attar.errors import FormatError, ModelError
from attar.types import Array, Capture, Layer, Stats, TensorSpec, Weight

Place = tuple[int, int, Layer]
"""Number of the file, offset there, and the layer."""


class TensorsAdapter:
    """The tensors of one file or of shards; what is written goes to a temporary file, so that memory holds a layer."""

    framework: ClassVar[str] = "tensors"
    suffixes: tuple[str, ...] = (".safetensors", ".gguf", ".npz")
    """Of the class: the endings that `open` takes. Of an adapter: that of its file, "" for shards, a folder."""

    def __init__(self, forms: Sequence[FileForm], reads: Sequence[Read], kept: Mapping[str, str], folder: bool) -> None:
        self._forms, self._reads, self._kept, self._folder = list(forms), list(reads), dict(kept), folder
        self.suffixes = ("",) if folder else (Path(self._forms[0].name).suffix,)
        self._starts = np.cumsum([0, *(form.nbytes for form in self._forms)]).tolist()
        self._scratch: Scratch | None = None
        self._written: set[tuple[int, int]] = set()
        self._places: dict[str, Place] = {}
        self._others: dict[str, tuple[int, Tensor]] = {}
        self._find()

    def _find(self) -> None:
        """Layers and other tensors by name, and where each of them begins in its file."""
        self._places.clear()
        self._others.clear()
        for number, form in enumerate(self._forms):
            for tensor in form.tensors:
                if tensor.cols:
                    self._places |= {layer.name: (number, at, layer) for layer, at in tensor.pieces}
                else:
                    self._others[tensor.name] = number, tensor
        told = [*((n, at) for n, at, _ in self._places.values()), *((n, t.offset) for n, t in self._others.values())]
        self._begins = [sorted(at for n, at in told if n == number) for number in range(len(self._forms))]

    @classmethod
    def accepts(cls, model: object) -> bool:
        """A path to weights alone: a file by its ending, an index, or a folder of safetensors without config.json."""
        return isinstance(model, str | Path) and bool(files_of(Path(model)))

    @classmethod
    def open(cls, model: object) -> Self:
        """The tensors of a file, an index or a folder; headers are read. Raises FormatError, ModelError, UsageError."""
        path = Path(str(model))
        files, kept = opened(path)
        folder = path.is_dir() or len(files) > 1
        return cls([form for form, _ in files], [read for _, read in files], kept, folder)

    @classmethod
    def rebuild(cls, skeleton: bytes, remainder: Mapping[str, Array]) -> Self:
        """The files of an archive, their layers to be written; raises FormatError."""
        forms, kept = from_skeleton(skeleton)
        adapter = cls(forms, [_missing] * len(forms), kept, len(forms) > 1)
        try:
            adapter.restore(remainder)
        except ModelError as error:
            raise FormatError(str(error)) from error
        return adapter

    def keep(self, patterns: Sequence[str]) -> None:
        """From now on tensors of these patterns are no layers but kept exactly."""
        for number, form in enumerate(self._forms):
            tensors = [Tensor(t.name, t.dtype, t.shape, t.offset) if _fits(t.name, patterns) else t
                       for t in form.tensors]  # fmt: skip
            self._kept |= {t.name: "excluded" for t in form.tensors if t.cols and _fits(t.name, patterns)}
            self._forms[number] = FileForm(form.name, form.kind, tuple(tensors), form.shell, form.members)
        self._find()

    def inputs(self) -> Sequence[TensorSpec]:
        """Raises ModelError: nothing goes in."""
        refuse()

    def outputs(self) -> Sequence[TensorSpec]:
        """None."""
        return []

    def layers(self) -> Sequence[Layer]:
        """Matrices of floats, those of more than PIECE weights in several layers of whole rows."""
        return [layer for _, _, layer in self._places.values()]

    def skipped(self) -> Mapping[str, str]:
        """Tensors of two and more axes that are kept exactly, and why."""
        return dict(self._kept)

    def read(self, name: str) -> Weight:
        """A layer's matrix in float32."""
        number, at, layer = self._places[name]
        return Weight(np.array(self._get(number, at, layer.dtype, layer.size), np.float32).reshape(-1, layer.cols))

    def write(self, name: str, weight: Weight) -> None:
        """Put a matrix back in the dtype of its tensor."""
        number, at, layer = self._places[name]
        self._put(number, at, weight.matrix.reshape(-1).astype(known_dtype(layer.dtype)))

    def remainder(self) -> Mapping[str, Array]:
        """All tensors that are kept exactly."""
        return {name: self._tensor(number, tensor) for name, (number, tensor) in self._others.items()}

    def restore(self, remainder: Mapping[str, Array]) -> None:
        """Put the tensors that are kept back; raises ModelError where names, dtypes or shapes differ."""
        told = {name: (tensor.dtype, tensor.shape) for name, (_, tensor) in self._others.items()}
        have = {name: (array.dtype.name, array.shape) for name, array in remainder.items()}
        if told != have:
            odd = sorted({name for name in {**told, **have} if told.get(name) != have.get(name)})
            raise ModelError(
                f"tensors: those kept exactly must be the model's own. Received others, such as {odd[0]!r}. "
                "Take the archive of this model."
            )
        for name, array in remainder.items():
            number, tensor = self._others[name]
            self._put(number, tensor.offset, array)

    def skeleton(self) -> bytes:
        """The files without their tensors."""
        return to_skeleton(self._forms, self._kept)

    def model(self) -> dict[str, Array]:
        """All tensors by name, in their own dtype and shape; those of GGUF's quantised types as bytes [blocks, n]."""
        return {t.name: self._tensor(number, t) for number, form in enumerate(self._forms) for t in form.tensors}

    def save(self, path: Path) -> None:
        """The file, or a folder with the shards and their index; raises FormatError where a layer was never written."""
        if not self._folder:
            write_file(self._forms[0], self._reader(0), path)
            return
        path.mkdir()
        for number, form in enumerate(self._forms):
            write_file(form, self._reader(number), path / form.name)

    @property
    def nbytes(self) -> int:
        """Bytes of all files, those of a .npz without its directory."""
        return int(self._starts[-1])

    def capture(self, batches: Iterable[Batch], only: Sequence[str] | None = None) -> Iterator[Capture]:
        """Raises ModelError: there is nothing to run."""
        del batches, only
        refuse()

    def moments(self, batches: Iterable[Batch], only: Sequence[str] | None = None) -> Mapping[str, Stats]:
        """Raises ModelError: there is nothing to run."""
        del batches, only
        refuse()

    def run(self, batch: Batch, perturb: Mapping[str, Array] | None = None) -> Array:
        """Raises ModelError: there is nothing to run."""
        del batch, perturb
        refuse()

    def can_perturb(self, name: str) -> bool:
        """No."""
        del name
        return False

    def _get(self, number: int, at: int, dtype: str, size: int) -> Array:
        """Elements of a file."""
        return from_bytes(self._reader(number)(at, size * known_dtype(dtype).itemsize), dtype)

    def _tensor(self, number: int, tensor: Tensor) -> Array:
        """A whole tensor."""
        return self._get(number, tensor.offset, tensor.dtype, prod(tensor.shape)).reshape(tensor.shape)

    def _put(self, number: int, at: int, values: Array) -> None:
        """Elements into the temporary file."""
        if self._scratch is None:
            self._scratch = Scratch()
        self._scratch.write(self._starts[number] + at, to_bytes(values))
        self._written.add((number, at))

    def _reader(self, number: int) -> Read:
        """What reads a file: each layer and tensor as it was written, or else as it came."""
        begins, start = self._begins[number], self._starts[number]

        def read(at: int, size: int) -> bytes:
            parts = []
            while size:
                place = bisect_right(begins, at)
                length = min(size, begins[place] - at) if place < len(begins) else size
                if self._scratch is not None and (number, begins[place - 1]) in self._written:
                    parts.append(self._scratch.read(start + at, length))
                else:
                    parts.append(self._reads[number](at, length))
                at, size = at + length, size - length
            return b"".join(parts)

        return read


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _missing(at: int, size: int) -> bytes:
    """What reads tensors of an archive that it does not have."""
    raise FormatError(
        f"archive: every tensor of its files must be in it. Received none for byte {at}, {size} bytes long. "
        "Fetch the file again."
    )


def refuse() -> NoReturn:
    """Raise ModelError: weights alone compute nothing."""
    raise ModelError(
        "model: weights without a network cannot be run. Received tensors alone. Compress them without data: --bits or "
        "--max-error; or give the model itself (a folder with config.json, ONNX, or --factory)."
    )
