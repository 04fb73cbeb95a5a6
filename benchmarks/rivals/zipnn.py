"""ZipNN: floats split into byte planes, huff0 over those that compress; not one of the integer coders."""

from __future__ import annotations

from importlib.metadata import version

from zipnn import ZipNN

NAME = f"ZipNN {version('zipnn')}"


def pack(data: bytes, dtype: str) -> bytes:
    """Bytes of values of one dtype. ZipNN reorders its input in place, so it gets a copy."""
    return bytes(_coder(dtype).compress(bytearray(data)))


def unpack(packed: bytes, dtype: str) -> bytes | bytearray:
    """The same bytes."""
    restored: bytes | bytearray = _coder(dtype).decompress(packed)
    return restored


def _coder(dtype: str) -> ZipNN:
    return ZipNN(input_format="byte", bytearray_dtype=dtype, threads=1)
