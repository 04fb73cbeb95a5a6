"""The `rans` coder: integer arrays of any dtype and shape, near the entropy of their row and column classes.

One byte names the form, and the encoder takes the shortest: constant (the value), packed (minimum, width, bits),
adaptive (up to 4096 values through the adaptive range coder), and static (side information through the adaptive range
coder, escaped values, then rANS chunks of about 2**19 symbols that decode independently; see static.py).
"""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attar.coding import kernel, levels, symbols, windows
from attar.coding.fixed import ONE
from attar.coding.kernel import LANE_BYTES
from attar.coding.streams import Reader, signed, sized, varint
from attar.coding.symbols import I64, Alphabet
from attar.coding.values import ADAPTIVE, ADAPTIVE_LIMIT, CONSTANT, FURTHEST, PACKED, STATIC, bounds
from attar.errors import FormatError
from attar.types import Array

SINGLE, FEWEST_LANES = LANE_BYTES[0][0], LANE_BYTES[1][1]
SINGLE_NS = 3
"""Nanoseconds that a symbol takes without lanes."""


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
        kind = np.dtype(dtype)
        out = np.empty(shape, kind)
        if not out.size:
            Reader(data).finish()
            return out
        rows, cols = shape if len(shape) == 2 and min(shape) > 1 else (1, prod(shape))
        try:
            kernel.kernel().decode_values(
                data, out, rows, cols, kind.itemsize, *bounds(kind), kernel.threads_for(out.size)
            )
        except ValueError as error:
            raise FormatError(
                f"rans: the bytes must be an array of {out.size} {kind}. Received {len(data)} bytes ({error}). "
                "Fetch the file again."
            ) from error
        return out


def encode_values(values: Array) -> bytes:
    """The shortest form of a non-empty integer matrix, no uint64; [1, n] for what is not a matrix."""
    return cheapest(values, 0)[0]


def cheapest(values: Array, price: int) -> tuple[bytes, int]:
    """The shortest form, where a byte less must not cost more nanoseconds of decoding than the price (0: any number),
    and about how many it takes on one machine, whichever this is.
    """
    flat = values.ravel()
    counted = symbols.counted(flat)
    low, high = counted.bounds
    if low == high:
        return bytes([CONSTANT]) + signed(low), 500
    forms = []
    if flat.size * (high - low).bit_length() <= 8 * ADAPTIVE_LIMIT:
        forms.append((_packed(flat.astype(np.int64), low, high), 1000 + 3 * flat.size))
    if flat.size <= ADAPTIVE_LIMIT and high - low < FURTHEST:
        data = _adaptive(flat.astype(np.int64))
        forms.append((data, 800 + 28 * len(data)))
    forms.append(_static(values, price, counted))
    return min(forms, key=lambda form: price * len(form[0]) + form[1] if price else len(form[0]))


def _packed(values: I64, low: int, high: int) -> bytes:
    """Minimum, bit width, bits."""
    width = (high - low).bit_length()
    shifts = np.arange(width - 1, -1, -1, dtype=np.uint64)
    bits = (values.view(np.uint64) - np.uint64(low % 2**64))[:, None] >> shifts & np.uint64(1)
    return bytes([PACKED]) + signed(low) + bytes([width]) + np.packbits(bits.astype(np.uint8)).tobytes()


def _adaptive(values: I64) -> bytes:
    """Differences from the median, by the model that makes them shortest."""
    centre = int(np.sort(values)[values.size // 2])
    return bytes([ADAPTIVE]) + signed(centre) + levels.shortest(values - centre, FURTHEST)[1]


def _static(values: Array, price: int, counted: symbols.Counted) -> tuple[bytes, int]:
    """Side information, escaped values, chunks; and the nanoseconds."""
    alphabet, code = static_code(values, price, counted)
    head = bytes([STATIC + code.sides]) + sized(code.side)
    if alphabet.escape:
        places = np.empty(code.escapes, np.int64)
        code.places(places)
        head += _escaped(alphabet.distances(values.ravel()[places]))
    laned = _laned(values.size, price) or code.bits / ONE / 8 >= SINGLE
    each = windows.symbol_ns(alphabet.size) if laned else SINGLE_NS
    return code.join(head), 2500 + int(each * values.size) + windows.ESCAPE_NS * code.escapes


def static_code(values: Array, price: int = 0, counted: symbols.Counted | None = None) -> tuple[Alphabet, Any]:
    """The alphabet and the kernel's StaticCode of a matrix (or a [1, n]) of integers; a price as in `cheapest`, counts
    of the values where they are known.
    """
    counted = counted or symbols.counted(values.ravel())
    alphabet = symbols.choose(counted, price)
    data, shift = alphabet.bytes(values)
    return alphabet, kernel.kernel().StaticCode(
        data, shift, alphabet.low, alphabet.width, alphabet.escape, counted.distinct, counted.counts,
        _laned(values.size, price), kernel.threads_for(values.size),
    )  # fmt: skip


def _laned(count: int, price: int) -> bool:
    """Whether lanes are worth a byte each even where a chunk is short."""
    return 0 < FEWEST_LANES * price < SINGLE_NS * count


def _escaped(escaped: NDArray[np.uint64]) -> bytes:
    """Count, bit lengths (as an array of their own), and the bits below each leading one."""
    lengths = symbols.lengths_of(escaped)
    coded = encode_values(lengths[None, :])
    return varint(escaped.size) + sized(coded) + symbols.mantissas(escaped, lengths)
