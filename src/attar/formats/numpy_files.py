"""Tensors of .npy and .npz files (numpy's format, NEP 1): a header that says dtype and shape, then the data."""

from __future__ import annotations

import ast

from attar.archive.base import MOST_AXES, count
from attar.archive.packed import SpanInfo
from attar.coding import DTYPES, known_dtype
from attar.formats import zipped
from attar.formats.source import Bytes, Found, apart

MAGIC = b"\x93NUMPY"
LONGEST = 1 << 16
"""Bytes of header that are read; real ones have about a hundred."""
LETTERS = {"b1": "bool", **{f"{k}{n}": f"{name}{8 * n}" for k, name in (("i", "int"), ("u", "uint"), ("f", "float"))
                            for n in (1, 2, 4, 8) if f"{name}{8 * n}" in DTYPES},
           "c8": "complex64", "c16": "complex128"}  # fmt: skip


def accepts(source: Bytes) -> bool:
    """Whether a file is one array, or a zip file of arrays."""
    head = source.read(0, min(source.size, 6))
    if head != MAGIC and head[:4] != zipped.MAGIC:
        return False
    if head == MAGIC:
        return True
    with zipped.opened(source) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def find(source: Bytes) -> Found:
    """Its arrays; those that are deflated stay as they are, with a note."""
    if source.read(0, 6) == MAGIC:
        one = span(source, source.path.stem, 0, source.size)
        return Found("npy", () if one is None else (one,))
    with zipped.opened(source) as archive:
        members = list(zipped.stored(source, archive))
        kept = len(archive.namelist()) - len(members)
    spans = [span(source, name.removesuffix(".npy"), start, size) for name, start, size in members]
    notes = (f"{kept} compressed arrays are kept as they are: save them with numpy.savez",) if kept else ()
    return Found("npz", apart([one for one in spans if one is not None]), notes=notes)


def span(source: Bytes, name: str, start: int, size: int, *, flat: bool = True) -> SpanInfo | None:
    """The array in these bytes; None where it is not of a plain dtype.

    flat: one in Fortran's order is a row of numbers; otherwise it is seen as its transpose, which lies in C order.
    """
    head = source.read(start, min(size, 12))
    if head[:6] != MAGIC or len(head) < 12:
        return None
    wide = 2 if head[6] == 1 else 4
    length = int.from_bytes(head[8 : 8 + wide], "little")
    begin = 8 + wide + length
    if length > LONGEST or begin > size:
        raise source.broken(f"array {name!r} must have a header of {LONGEST} bytes at most", str(length))
    try:
        fields = ast.literal_eval(source.read(start + 8 + wide, length).decode("latin1"))
        kind, shape = fields["descr"], fields["shape"]
        dtype = LETTERS.get(kind[1:], "") if kind[0] in "<|" else ""
        right = len(shape) <= MOST_AXES and all(type(n) is int and n >= 0 for n in shape)
    except (ValueError, SyntaxError, TypeError, LookupError, MemoryError, RecursionError):
        return None
    if not dtype or not right or count(shape) * known_dtype(dtype).itemsize != size - begin:
        return None
    if fields.get("fortran_order"):
        shape = (count(shape),) if flat else tuple(shape)[::-1]
    return SpanInfo(name, dtype, tuple(shape), start + begin)
