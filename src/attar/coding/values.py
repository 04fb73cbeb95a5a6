"""A `rans` array of any form, read: native/values.hpp in numpy, over whichever kernel reads its parts."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from attar.coding import kernel, levels, streams
from attar.coding.streams import Reader
from attar.coding.symbols import I64
from attar.errors import FormatError
from attar.types import Array

CONSTANT, PACKED, ADAPTIVE, STATIC = range(4)
"""STATIC + 1 where there are row levels + 2 where there are column levels + 4 where these stand in streams + 8 where
tables are wide (layout.py)."""
FORMS = STATIC + 16
ADAPTIVE_LIMIT = 4096
FURTHEST = 1 << 20
"""Distance from the median up to which the adaptive form takes a value."""
DEEPEST = 8
"""Arrays within arrays: the lengths of escapes, and of these."""


def decode_values(
    data: bytes | memoryview, out: Array, rows: int, cols: int, width: int, lowest: int, highest: int, threads: int
) -> None:
    """Fill out, a matrix of integers of `width` bytes, which hold lowest .. highest; raises FormatError."""
    del width, lowest, highest, threads
    reader = Reader(data)
    read_values(reader, (rows, cols), out.reshape(-1))
    reader.finish()


def read_values(reader: Reader, shape: tuple[int, int], out: Array, depth: int = 0) -> None:
    """Fill out [rows * cols] of any integer dtype; raises FormatError."""
    form = reader.take(1)[0]
    if form == CONSTANT:
        store(np.array([reader.signed()], object), out)
    elif form == PACKED:
        store(_read_packed(reader, out.size), out)
    elif form == ADAPTIVE:
        store(_read_adaptive(reader, out.size), out)
    elif form < FORMS:
        _decode_static(reader, shape, out, form - STATIC, depth)
    else:
        raise FormatError(f"rans: the form must be 0 to {FORMS - 1}. Received {form}. Upgrade attar.")


def open_static(
    reader: Reader, shape: tuple[int, int], sides: int, dtype: np.dtype[Any], depth: int = 0
) -> tuple[Any, Array]:
    """The kernel's plan, and the escaped values in the order of coding; raises FormatError where the dtype does not
    hold all.
    """
    side = reader.sized()
    with kernel.refused("side information", len(side)):
        plan = kernel.kernel().StaticPlan(side, *shape, *(bool(sides & bit) for bit in (1, 2, 4, 8)))
    if dtype.itemsize < 8:  # 64 bits hold anything, modulo 2**64
        _check_bounds(plan.low, plan.low + plan.width - 1, dtype)
    outside = np.zeros(0, dtype)
    if plan.escape:
        escaped = _read_escaped(reader, shape[0] * shape[1], plan, depth)
        outside = np.empty(escaped.size, dtype)
        store(escaped, outside)
    return plan, outside


def _decode_static(reader: Reader, shape: tuple[int, int], out: Array, sides: int, depth: int) -> None:
    """Fill out; the escaped values are put in afterwards."""
    plan, outside = open_static(reader, shape, sides, out.dtype, depth)
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
    _check_bounds(int(values.min()), int(values.max()), out.dtype)
    if out.dtype == np.uint64:
        out[:] = values % 2**64 if values.dtype == object else values.view(np.uint64)
        return
    out[:] = values.astype(out.dtype)


def _check_bounds(smallest: int, largest: int, dtype: np.dtype[Any]) -> None:
    """That a dtype holds all values between; raises FormatError."""
    low, high = bounds(dtype)
    if smallest < low or largest > high:
        raise _wrong(f"{dtype} holds {low} to {high}", f"{smallest} to {largest}")


@cache
def bounds(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The least and the greatest value of an integer dtype; for uint64, which stands as int64, those of int64."""
    if dtype.kind == "b":
        return 0, 1
    dtype = np.dtype(np.int64) if dtype.itemsize == 8 else dtype
    return (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


def _read_packed(reader: Reader, count: int) -> I64:
    low, width = reader.signed(), reader.take(1)[0]
    if not -(2**63) <= low < 2**63 or not 1 <= width <= 64:
        raise _wrong("packed values have a minimum and a width of 64 bits at most", f"{low} and {width}")
    distance = np.empty(count, np.uint64)
    kernel.kernel().unpack(reader.take((count * width + 7) // 8), width, distance)
    return np.asarray((distance + np.uint64(low % 2**64)).view(np.int64))


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
        coder.run(streams.VALUE, model, values, FURTHEST)
        coder.finish()
    return values.astype(object) + centre


def _read_escaped(reader: Reader, most: int, plan: Any, depth: int) -> I64:
    """What `_escaped` wrote, as values; raises FormatError."""
    count = reader.varint()
    if not 0 < count <= most:
        raise _wrong(f"an array of {most} values has at least one and at most as many escapes", str(count))
    if depth == DEEPEST:
        raise _wrong(f"escapes are nested {DEEPEST} deep at most", "more")
    inner = Reader(reader.sized())
    lengths = np.empty(count, np.uint8)
    read_values(inner, (1, count), lengths, depth + 1)
    inner.finish()
    data = reader.take((int(lengths.sum(dtype=np.int64)) - int(np.count_nonzero(lengths)) + 7) // 8)
    values = np.empty(count, np.uint64)
    with kernel.refused(f"{count} escaped values", len(data)):
        kernel.kernel().read_escapes(data, lengths, plan.low, plan.width, values)
    return values.view(np.int64)


def _wrong(rule: str, received: str) -> FormatError:
    return FormatError(f"rans: {rule}. Received {received}. Fetch the file again.")
