"""Many arrays at once: a checkpoint has hundreds of small ones, each decoded in less time than a call takes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from attar.coding import kernel
from attar.coding.planes import Planes
from attar.errors import FormatError
from attar.types import Array

_ALIGN = 64
LARGE = 1 << 22
"""Bytes from which an array is decoded into memory of its own."""


def planes_of_many(
    data: Sequence[bytes | memoryview], kinds: Sequence[np.dtype[np.generic]], shapes: Sequence[tuple[int, ...]]
) -> list[Array]:
    """The exact arrays, by the `planes` coder; small ones are parts of one block of memory. Raises FormatError."""
    sizes = [kind.itemsize * prod(shape) for kind, shape in zip(kinds, shapes, strict=True)]
    starts, at, small = [], 0, []
    for k, size in enumerate(sizes):
        starts.append(at)
        if 0 < size < LARGE:
            small.append(k)
            at += -(-size // _ALIGN) * _ALIGN
    block = np.empty(at, np.uint8)
    chosen = [data[k] for k in small], block, [starts[k] for k in small], [sizes[k] for k in small]
    try:
        kernel.kernel().decode_planes_of_many(*chosen, [kinds[k].itemsize for k in small], kernel.threads_for(at))
    except ValueError as error:
        raise FormatError(
            f"planes: the bytes must be {len(small)} arrays of {sum(chosen[3])} bytes. Received "
            f"{sum(map(len, chosen[0]))} bytes ({error}). Fetch the file again."
        ) from error
    return [
        np.ndarray(shapes[k], kinds[k], block, starts[k]) if 0 < size < LARGE
        else Planes.decode(data[k], kinds[k].name, shapes[k])
        for k, size in enumerate(sizes)
    ]  # fmt: skip
