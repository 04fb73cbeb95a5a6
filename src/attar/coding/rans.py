"""The `rans` coder: integer arrays of any dtype and shape, near the entropy of their row and column classes.

One byte names the form, and the encoder takes the shortest: constant (the value), packed (minimum, width, bits),
adaptive (up to 4096 values through the adaptive range coder), and static (side information through the adaptive range
coder, escaped values, then rANS chunks of 2**20 symbols that decode independently; see static.py).
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attar.coding import kernel, levels, static, streams, symbols
from attar.coding.streams import Reader, signed, sized, varint
from attar.coding.symbols import I64
from attar.errors import FormatError
from attar.types import Array

CONSTANT, PACKED, ADAPTIVE, STATIC = range(4)
"""STATIC + 1 where there are row levels + 2 where there are column levels."""
ADAPTIVE_LIMIT = 4096
_FURTHEST = 1 << 20
"""Distance from the median up to which the adaptive form takes a value."""


class Rans:
    """See the module's docstring."""

    name: ClassVar[str] = "rans"
    slow: ClassVar[bool] = False

    @staticmethod
    def accepts(array: Array) -> bool:
        """Integers and booleans."""
        return array.dtype.kind in "biu"

    @staticmethod
    def encode(array: Array) -> bytes:
        """The array's values, without its dtype and shape; an empty array is no bytes."""
        if not array.size:
            return b""
        matrix = array.ndim == 2 and min(array.shape) > 1
        kind = np.dtype({"b": np.uint8}.get(array.dtype.kind, array.dtype.newbyteorder("=")))
        # 64-bit unsigned numbers stand as their two's complement.
        kind = np.dtype(np.int64) if kind == np.uint64 else kind
        return encode_values(np.ascontiguousarray(array.reshape(array.shape if matrix else (1, -1)), kind))

    @staticmethod
    def decode(data: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
        """The exact array; raises FormatError where the bytes cannot be it."""
        reader = Reader(data)
        matrix = len(shape) == 2 and min(shape) > 1
        size = (shape[0], shape[1]) if matrix else (1, prod(shape))
        out = np.empty(size[0] * size[1], np.dtype(dtype))
        if out.size:
            decode_values(reader, size, out)
        reader.finish()
        return out.reshape(shape)


def encode_values(values: Array) -> bytes:
    """The shortest form of a non-empty integer matrix, no uint64; [1, n] for what is not a matrix."""
    low, high = int(values.min()), int(values.max())
    if low == high:
        return bytes([CONSTANT]) + signed(low)
    flat = values.ravel()
    forms = []
    if flat.size * (high - low).bit_length() <= 8 * ADAPTIVE_LIMIT:
        forms.append(_packed(flat.astype(np.int64), low, high))
    if flat.size <= ADAPTIVE_LIMIT and high - low < _FURTHEST:
        forms.append(_adaptive(flat.astype(np.int64)))
    forms.append(_static(values))
    return min(forms, key=len)


def decode_values(reader: Reader, shape: tuple[int, int], out: Array) -> None:
    """Fill out [rows * cols] of any integer dtype; raises FormatError."""
    form = reader.take(1)[0]
    if form == CONSTANT:
        store(np.array([reader.signed()], object), out)
    elif form == PACKED:
        store(_read_packed(reader, out.size), out)
    elif form == ADAPTIVE:
        store(_read_adaptive(reader, out.size), out)
    elif form < STATIC + 4:
        _decode_static(reader, shape, out, form - STATIC)
    else:
        raise FormatError(f"rans: the form must be 0 to {STATIC + 3}. Received {form}. Upgrade attar.")


def open_static(reader: Reader, shape: tuple[int, int], sides: int, dtype: np.dtype[Any]) -> tuple[Any, Array]:
    """The kernel's plan, and the escaped values in the order of coding; raises FormatError where the dtype does not
    hold all.
    """
    side = reader.sized()
    with kernel.refused("side information", len(side)):
        plan = kernel.kernel().StaticPlan(side, *shape, bool(sides & 1), bool(sides & 2))
    if dtype.itemsize < 8:  # 64 bits hold anything, modulo 2**64
        _check_bounds(plan.low, plan.low + plan.width - 1, dtype)
    outside = np.zeros(0, dtype)
    if plan.escape:
        escaped = _read_escaped(reader, shape[0] * shape[1], plan)
        outside = np.empty(escaped.size, dtype)
        store(escaped, outside)
    return plan, outside


def _decode_static(reader: Reader, shape: tuple[int, int], out: Array, sides: int) -> None:
    """Fill out; the escaped values are put in afterwards."""
    plan, outside = open_static(reader, shape, sides, out.dtype)
    places = np.empty(outside.size, np.int64)
    data = reader.rest()
    with kernel.refused(f"{out.size} symbols", len(data)):
        plan.decode(data, out.view(np.uint8).reshape(shape[0], -1), places, kernel.threads())
    if places.size:
        out[places] = outside


def store(values: Array, out: Array) -> None:
    """Put values [n] or [1] into an array; raises FormatError where its dtype does not hold them.

    Unsigned 64-bit numbers came as their two's complement and are put back the same way.
    """
    if out.dtype == np.uint64:
        out[:] = values % 2**64 if values.dtype == object else values.view(np.uint64)
        return
    _check_bounds(int(values.min()), int(values.max()), out.dtype)
    out[:] = values.astype(out.dtype)


def _check_bounds(smallest: int, largest: int, dtype: np.dtype[Any]) -> None:
    """That a dtype holds all values between; raises FormatError."""
    low, high = _bounds(dtype)
    if smallest < low or largest > high:
        raise _wrong(f"{dtype} holds {low} to {high}", f"{smallest} to {largest}")


@cache
def _bounds(dtype: np.dtype[Any]) -> tuple[int, int]:
    return (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


def _packed(values: I64, low: int, high: int) -> bytes:
    """Minimum, bit width, bits."""
    width = (high - low).bit_length()
    shifts = np.arange(width - 1, -1, -1, dtype=np.uint64)
    bits = (values.view(np.uint64) - np.uint64(low % 2**64))[:, None] >> shifts & np.uint64(1)
    return bytes([PACKED]) + signed(low) + bytes([width]) + np.packbits(bits.astype(np.uint8)).tobytes()


def _read_packed(reader: Reader, count: int) -> I64:
    low, width = reader.signed(), reader.take(1)[0]
    if not -(2**63) <= low < 2**63 or not 1 <= width <= 64:
        raise _wrong("packed values have a minimum and a width of 64 bits at most", f"{low} and {width}")
    distance = np.empty(count, np.uint64)
    kernel.kernel().unpack(reader.take((count * width + 7) // 8), width, distance)
    return np.asarray((distance + np.uint64(low % 2**64)).view(np.int64))


def _adaptive(values: I64) -> bytes:
    """Differences from the median, by the model that makes them shortest."""
    centre = int(np.sort(values)[values.size // 2])
    return bytes([ADAPTIVE]) + signed(centre) + levels.shortest(values - centre, _FURTHEST)[1]


def _read_adaptive(reader: Reader, count: int) -> Array:
    if count > ADAPTIVE_LIMIT:
        raise _wrong(f"the adaptive form holds up to {ADAPTIVE_LIMIT} values", str(count))
    centre = reader.signed()
    data = bytes(reader.rest())
    values = np.zeros(count, np.int64)
    with kernel.refused(f"{count} adaptive values", len(data)):
        coder = kernel.kernel().SideDecoder(data)
        model = coder.bits(2, 0)
        if model not in levels.MODELS:
            raise _wrong("the model must be 0, 1 or 2", str(model))
        coder.run(streams.VALUE, model, values, _FURTHEST)
        coder.finish()
    return values.astype(object) + centre


def _static(values: Array) -> bytes:
    """Side information, escaped values, chunks."""
    coded = static.make_plan(values)
    plan = coded.plan
    head = bytes([STATIC + plan.by_row + 2 * plan.by_column]) + sized(static.write_plan(plan))
    return head + (_escaped(coded.escaped) if plan.alphabet.escape else b"") + static.encode_chunks(coded)


def _escaped(escaped: NDArray[np.uint64]) -> bytes:
    """Count, bit lengths (as an array of their own), and the bits below each leading one."""
    lengths = symbols.lengths_of(escaped)
    coded = encode_values(lengths[None, :])
    return varint(escaped.size) + sized(coded) + symbols.mantissas(escaped, lengths)


def _read_escaped(reader: Reader, most: int, plan: Any) -> I64:
    """What `_escaped` wrote, as values; raises FormatError."""
    count = reader.varint()
    if not 0 < count <= most:
        raise _wrong(f"an array of {most} values has at least one and at most as many escapes", str(count))
    inner = Reader(reader.sized())
    lengths = np.empty(count, np.uint8)
    decode_values(inner, (1, count), lengths)
    inner.finish()
    data = reader.take((int(lengths.sum(dtype=np.int64)) - int(np.count_nonzero(lengths)) + 7) // 8)
    values = np.empty(count, np.uint64)
    with kernel.refused(f"{count} escaped values", len(data)):
        kernel.kernel().read_escapes(data, lengths, plan.low, plan.width, values)
    return values.view(np.int64)


def _wrong(rule: str, received: str) -> FormatError:
    return FormatError(f"rans: {rule}. Received {received}. Fetch the file again.")
