"""What weights-only files are made of: byte ranges that are tensors, and the shell around them; and that as a skeleton.

A .npz file counts as its arrays' own files (.npy) end to end, in their order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from attar.archive.base import MOST_AXES, strict_json
from attar.archive.packed import SpanInfo, is_safe
from attar.coding import known_dtype
from attar.errors import FormatError
from attar.types import Json, Layer

FLOATS = ("float16", "bfloat16", "float32", "float64")
"""What a matrix may be stored in; 8-bit floats are quantised already."""
SMALLEST = 1 << 12
"""Fewest weights of a matrix that is compressed."""
LEAST_COLS = 32
"""Fewest columns of a matrix, where axes can be put together so that it has them."""
PIECE = 1 << 23
"""Most weights that are worked on at once, in whole rows: a larger matrix is several layers."""
KINDS = ("safetensors", "gguf", "npz")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file: its place there, and as a matrix [rows, cols] cut every `step` rows; cols 0: kept."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    cols: int = 0
    step: int = 0

    @property
    def nbytes(self) -> int:
        """Of all its elements."""
        return prod(self.shape) * known_dtype(self.dtype).itemsize

    @property
    def pieces(self) -> Iterator[tuple[Layer, int]]:
        """Layers and where in the file their weights begin; none of a tensor that is kept."""
        rows = prod(self.shape) // self.cols if self.cols else 0
        width = known_dtype(self.dtype).itemsize * self.cols
        for start in range(0, rows, self.step or 1):
            count = min(self.step, rows - start)
            whole = count == rows
            name = self.name if whole else f"{self.name}[{start}:{start + count}]"
            shape = self.shape if whole else (count, self.cols)
            yield Layer(name, "dense", count, self.cols, shape, dtype=self.dtype), self.offset + start * width


@dataclass(frozen=True, slots=True)
class FileForm:
    """One file: its name, its tensors by offset, and the bytes that are in none of them; members of a .npz.

    members: name, bytes, and whether it is deflated, in order.
    """

    name: str
    kind: str
    tensors: tuple[Tensor, ...]
    shell: bytes
    members: tuple[tuple[str, int, bool], ...] = ()

    @property
    def nbytes(self) -> int:
        """Of the file; of a .npz, of its members."""
        return len(self.shell) + sum(tensor.nbytes for tensor in self.tensors)


def matrix(span: SpanInfo) -> Tensor:
    """The tensor of a byte range, as a matrix where it is one.

    The last axes are the columns, as few as are LEAST_COLS together: [out, in], the experts of [e, out, in] stacked,
    and [out, c, kh, kw] by filters.
    """
    shape = span.shape
    if why_kept(span):
        return Tensor(span.name, span.dtype, shape, span.offset)
    axis = next((k for k in range(len(shape) - 1, 0, -1) if prod(shape[k:]) >= LEAST_COLS), 1)
    cols = prod(shape[axis:])
    return Tensor(span.name, span.dtype, shape, span.offset, cols, max(1, PIECE // cols))


def why_kept(span: SpanInfo) -> str | None:
    """Why a tensor is kept exactly; None for a matrix that is compressed."""
    if span.dtype not in FLOATS:
        return f"{span.dtype}: only float16, bfloat16, float32 and float64 are compressed"
    if len(span.shape) < 2:
        return "it has one axis"
    if prod(span.shape) < SMALLEST:
        return f"fewer than {SMALLEST} weights"
    return None


def to_skeleton(forms: Sequence[FileForm], kept: Mapping[str, str]) -> bytes:
    """JSON, its length before it and the shells behind it; kept: what stays as it is, with the reason."""
    told = {
        "files": [
            [form.name, form.kind, [[t.name, t.dtype, list(t.shape), t.offset, t.cols, t.step] for t in form.tensors],
             len(form.shell), [list(member) for member in form.members]] for form in forms
        ],
        "kept": dict(kept),
    }  # fmt: skip
    text = json.dumps(told, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(form.shell for form in forms)


def from_skeleton(data: bytes) -> tuple[list[FileForm], dict[str, str]]:
    """The inverse; raises FormatError where files, tensors and members do not add up."""
    length = int.from_bytes(data[:8], "little")
    try:
        told = strict_json(data[8 : 8 + length])
        at, forms = 8 + length, []
        for name, kind, tensors, shell, members in told["files"]:
            found = tuple(_tensor(*tensor) for tensor in tensors)
            parts = tuple((str(n), int(size), bool(deflated)) for n, size, deflated in members)
            form = FileForm(str(name), str(kind), found, data[at : at + shell], parts)
            _check(form, int(shell))
            forms.append(form)
            at += shell
        kept = {str(name): str(why) for name, why in told["kept"].items()}
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise FormatError(
            f"skeleton: it must describe files of tensors. Received another ({error}). Fetch the file again."
        ) from error
    names = [t.name for form in forms for t in form.tensors]
    if at != len(data) or not forms or len(set(names)) != len(names) or len({f.name for f in forms}) != len(forms):
        raise FormatError(
            "skeleton: files and tensors must have names of their own and end with it. Received others. "
            "Fetch the file again."
        )
    return forms, kept


def _tensor(name: Json, dtype: Json, shape: Json, *numbers: Json) -> Tensor:
    """A tensor of a skeleton; raises ValueError for a field of another type, TypeError for another number of them."""
    offset, cols, step = numbers
    if not isinstance(name, str) or not isinstance(dtype, str) or not isinstance(shape, list) or len(shape) > MOST_AXES:
        raise ValueError(f"a tensor {name!r}"[:100])
    if any(type(n) is not int or not 0 <= n < 1 << 48 for n in (*shape, *numbers)):
        raise ValueError(f"numbers of a tensor {name!r}"[:100])
    known_dtype(dtype)
    return Tensor(name, dtype, tuple(shape), offset, cols, step)


def _check(form: FileForm, shell: int) -> None:
    """That a file's tensors lie apart, in order and inside, that matrices fill theirs; raises ValueError."""
    if form.kind not in KINDS or not is_safe(form.name) or "/" in form.name or len(form.shell) != shell or shell < 0:
        raise ValueError(f"a file {form.name!r}")
    at = 0
    for tensor in form.tensors:
        fits = not tensor.cols or (tensor.dtype in FLOATS and tensor.step > 0 and prod(tensor.shape) % tensor.cols == 0)
        if tensor.offset < at or not fits:
            raise ValueError(f"a tensor {tensor.name!r} at {tensor.offset}")
        at = tensor.offset + tensor.nbytes
    if at > form.nbytes or (form.kind == "npz" and sum(size for _, size, _ in form.members) != form.nbytes):
        raise ValueError(f"a file of {form.nbytes} bytes")
    if any(size < 0 or not is_safe(name) for name, size, _ in form.members):
        raise ValueError("a member of another size or name")
