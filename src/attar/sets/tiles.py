"""Images as tiles of one shape each: small ones are a tile, large ones are cut; tiles of a shape are coded together."""

from __future__ import annotations

from array import array
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
    """Tiles of one shape, in order; large sets have millions, which is why their places are plain integers."""

    shape: Shape
    _places: array[int] = field(default_factory=lambda: array("q"))

    def __len__(self) -> int:
        return len(self._places) // 3

    def add(self, image: int, y: int, x: int) -> None:
        """A further tile: of which image, counted over all images of the set, and its first row and column."""
        self._places.extend((image, y, x))

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """(image, row, column) of each tile."""
        numbers = iter(self._places)
        return zip(numbers, numbers, numbers, strict=True)

    @property
    def full(self) -> bool:
        """Whether another tile begins another stack."""
        height, width, channels = self.shape
        return (len(self) + 1) * height * width * channels > STACK


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
            stack.add(image, y, x)
    return found
