"""The chunks of a static array into a matrix: native/static.hpp in numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from attar.coding import order, static
from attar.coding.layout import Malformed
from attar.coding.order import Chunk
from attar.coding.placing import place, place_scaled
from attar.coding.streams import Reader
from attar.coding.symbols import I64, U8
from attar.coding.twin import DecodeTables, decode
from attar.types import Array


class StaticPlan:
    """What the chunks share, from their side information; raises Malformed or FormatError."""

    def __init__(
        self, side: memoryview, rows: int, cols: int, by_row: bool, by_column: bool, streams: bool, wide: bool = False
    ) -> None:
        self._shape, self._wide = (rows, cols), wide
        self._plan = static.read_plan(side, self._shape, by_row, by_column, streams)
        self.low = (self._plan.alphabet.low + 2**63) % 2**64 - 2**63
        self.width = self._plan.alphabet.width
        self.escape = self._plan.alphabet.escape

    def decode(self, data: memoryview, out: U8, places: I64, threads: int) -> None:
        """Fill out, an integer matrix as bytes [rows, cols * itemsize], and places [escapes]; raises Malformed."""
        del threads
        matrix = out.view(f"u{out.shape[1] // self._shape[1]}")

        def put(chunk: Chunk, part: U8) -> None:
            if len(matrix) == 1:
                matrix[0, chunk.span] = part + np.array(self.low % 2**64, np.uint64).astype(matrix.dtype)
            else:
                place(part, chunk.rows, chunk.columns, chunk.runs, self.low, matrix)

        self._decode(data, places, put)

    def decode_scaled(
        self, data: memoryview, column: Array, row: Array, out: U8, format: str, places: I64, threads: int
    ) -> None:
        """The same of (code * column) * row in a format; column [groups, cols], row [rows]."""
        del threads

        def put(chunk: Chunk, part: U8) -> None:
            place_scaled(part, chunk.rows, chunk.columns, chunk.runs, self.low, column, row, out, format)

        self._decode(data, places, put)

    def _decode(self, data: memoryview, places: I64, put: Callable[[Chunk, U8], None]) -> None:
        found = [np.zeros(0, np.int64)]
        for chunk, part in self._chunks(data):
            put(chunk, part)
            escapes = np.flatnonzero(part == self.width) if self.escape else found[0]
            found.append(order.places(chunk, escapes, self._shape[1]))
        if sum(some.size for some in found) != places.size:
            raise Malformed("every escape must have its value")
        places[:] = np.concatenate(found)

    def _chunks(self, data: memoryview) -> Iterator[tuple[Chunk, U8]]:
        """Every chunk and its symbols."""
        chunks = self._plan.chunks()
        reader = Reader(data)
        texts = [reader.sized() for _ in chunks[:-1]] + [reader.rest()]
        tables = DecodeTables(self._plan.frequencies, self._wide)
        for chunk, text in zip(chunks, texts, strict=True):
            symbols = np.empty(chunk.size, np.uint8)
            decode(np.frombuffer(text, np.uint8), symbols, chunk.runs, tables)
            yield chunk, symbols
