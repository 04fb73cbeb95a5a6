"""Images as tiles of one shape each: small ones are a tile, large ones are cut; tiles of a shape are coded together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from attar.sets.images import MOST_SITES

SIDE = 64
"""Rows and columns of a tile; part of the file format."""
STACK = 1 << 26
"""Bytes of a stack at most; part of the file format."""
Shape = tuple[int, int, int]
"""Height, width, channels."""


@dataclass
class Stack:
    """Tiles of one shape, in order: (image, row, column) of each, counted over all images of the set."""

    shape: Shape
    tiles: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether another tile begins another stack."""
        height, width, channels = self.shape
        return (len(self.tiles) + 1) * height * width * channels > STACK


def tiles_of(shape: Shape) -> Iterator[tuple[int, int, Shape]]:
    """Row, column and shape of each tile of an image, row by row."""
    height, width, channels = shape
    if height * width * channels <= MOST_SITES:
        yield 0, 0, shape
        return
    for y in range(0, height, SIDE):
        for x in range(0, width, SIDE):
            yield y, x, (min(SIDE, height - y), min(SIDE, width - x), channels)


def stacks_of(shapes: Iterable[Shape]) -> list[Stack]:
    """The stacks of a set of images, in the order of their first tiles."""
    found: list[Stack] = []
    open_ones: dict[Shape, Stack] = {}
    for image, shape in enumerate(shapes):
        for y, x, size in tiles_of(shape):
            stack = open_ones.get(size)
            if stack is None or stack.full:
                stack = open_ones[size] = Stack(size)
                found.append(stack)
            stack.tiles.append((image, y, x))
    return found
