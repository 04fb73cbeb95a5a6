"""The laws of coding/base.py as checks over any coder: `LAWS` x `arrays_for(coder)`; they raise AssertionError.

A coder that is registered is run through all of them by tests/coding/test_laws.py without being named there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np

from attar.coding import DTYPES, kernel, twin
from attar.errors import FormatError
from attar.types import Array

SHAPES = ((), (0, 3), (1,), (2,), (7,), (1, 9), (150,), (14, 11), (2, 3, 4))


def arrays() -> Iterator[Array]:
    """Empty, single, constant, full-range and peaked arrays of every dtype that a file may hold."""
    rng = np.random.default_rng(0)
    for name in DTYPES:
        dtype = np.dtype(getattr(ml_dtypes, name, name))
        for shape in SHAPES:
            count = int(np.prod(shape))
            raw = rng.integers(0, 256, count * dtype.itemsize, dtype=np.uint8)
            if name == "bool":
                raw &= 1
            yield raw.view(dtype).reshape(shape)
            yield np.zeros(shape, dtype)
            peaked = np.rint(rng.laplace(0, 1.5, shape))
            yield np.asarray(np.abs(peaked) if dtype.kind in "bu" else peaked, np.float32).astype(dtype)


def arrays_for(coder: Any) -> list[Array]:
    """Those that the coder takes."""
    return [array for array in arrays() if coder.accepts(array)]


def same(left: Array, right: Array) -> bool:
    """Equal in dtype, shape and every bit."""
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


def round_trip(coder: Any, array: Array) -> None:
    """decode(encode(x)) is x, bit for bit, and the input is as it was."""
    before = array.copy()
    data = coder.encode(array)
    assert isinstance(data, bytes)
    assert same(array, before), f"{coder.name} changed its input"
    for given in (data, memoryview(data)):
        assert same(coder.decode(given, array.dtype.name, array.shape), array), (coder.name, array.dtype, array.shape)


def deterministic(coder: Any, array: Array) -> None:
    """The same array gives the same bytes, whatever its memory layout."""
    data = coder.encode(array)
    assert coder.encode(array.copy()) == data
    assert coder.encode(np.asfortranarray(array)) == data
    spread = np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
    assert coder.encode(spread) == data


def _decodes(coder: Any, data: bytes, array: Array) -> Array | None:
    """What altered bytes give: an array of the stated dtype and shape, or a FormatError."""
    try:
        result: Array = coder.decode(data, array.dtype.name, array.shape)
    except FormatError as error:
        assert "Received" in str(error)
        return None
    assert result.dtype == array.dtype and result.shape == array.shape
    return result


def truncated(coder: Any, array: Array) -> None:
    """Bytes that are missing or added are found."""
    data = coder.encode(array)
    stops = range(len(data)) if len(data) < 100 else range(0, len(data), len(data) // 30)
    for stop in stops:
        result = _decodes(coder, data[:stop], array)
        # A shorter text may by chance be a text of its own, but never for the array that was coded.
        assert result is None or not same(result, array), (coder.name, array.dtype, array.shape, stop)
    for more in (b"\0", b"\1", b"\xff\xff"):
        result = _decodes(coder, data + more, array)
        assert result is None or not same(result, array), (coder.name, array.dtype, array.shape, more)


def altered(coder: Any, array: Array) -> None:
    """Any flipped bit gives a FormatError or an array of the stated shape, never anything else."""
    data = coder.encode(array)
    rng = np.random.default_rng(len(data))
    for place in rng.integers(0, 8 * max(len(data), 1), 20 if data else 0):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << (place % 8)
        _decodes(coder, bytes(flipped), array)


def other_shape(coder: Any, array: Array) -> None:
    """A shape with another number of elements is refused, or is at least not the array."""
    data = coder.encode(array)
    for shape in ((array.size + 1,), (2, array.size + 3)):
        try:
            result = coder.decode(data, array.dtype.name, shape)
        except FormatError:
            continue
        assert result.shape == shape


def twin_writes_the_same(coder: Any, array: Array) -> None:
    """The numpy twin reads and writes the same bytes as the kernel in use."""
    data = coder.encode(array)
    usual = kernel.kernel
    kernel.kernel = lambda: twin  # type: ignore[assignment]
    try:
        assert coder.encode(array) == data, (coder.name, array.dtype, array.shape)
        assert same(coder.decode(data, array.dtype.name, array.shape), array)
    finally:
        kernel.kernel = usual


LAWS: tuple[Callable[[Any, Array], None], ...] = (
    round_trip, deterministic, truncated, altered, other_shape, twin_writes_the_same,
)  # fmt: skip
