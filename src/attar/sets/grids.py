"""The text of a table as a grid: what stands between cells is the same in every row, the cells are columns.

A row of `.csv` is cells with commas between and a line feed behind; one of `.jsonl` is values with names and braces
between. Cells keep their quotes and spaces, so that joining them gives every byte back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

DELIMITERS = {".csv": (b",", b";", b"\t"), ".tsv": (b"\t",)}
LINES = (".jsonl", ".ndjson")
MOST_COLUMNS = 4096
_TEXT = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_VALUE = re.compile(_TEXT + rb"\s*:|(" + _TEXT + rb'|[^\s,:{}\[\]"]+)|"[^\n]*')
"""A name, a value, or a quote that nothing ends: it takes the rest, lest each quote behind it be tried as well."""
Column = Sequence[bytes]


@dataclass(frozen=True)
class Grid:
    """A table's text: what stands before the rows; before, between and behind the cells of each; the cells by column.

    Bytes that `quoted` maps stand for separators within quotes. `ended` says whether the last row has its end.
    """

    head: bytes
    between: tuple[bytes, ...]
    columns: tuple[Column, ...]
    quoted: tuple[tuple[int, int], ...] = ()
    ended: bool = True

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.columns[0])


def split(data: bytes, suffix: str, *, head: bool = True) -> Grid | None:
    """The grid of a table, the first line apart where `head`; None for text that is no grid of at least two rows."""
    if suffix in LINES:
        return _values(data)
    for delimiter in DELIMITERS[suffix]:
        if delimiter in data.split(b"\n", 1)[0]:
            return _quoted(data, delimiter, head) or _cells(data, delimiter, head)
    return _cells(data, DELIMITERS[suffix][0], head)


def _quoted(data: bytes, delimiter: bytes, head: bool) -> Grid | None:
    """As _cells, but what stands in quotes separates nothing."""
    if b'"' not in data:
        return None
    values = np.frombuffer(data, np.uint8)
    inside = (np.cumsum(values == ord('"')) & 1).astype(bool)
    found, quoted = values.copy(), []
    free = iter(np.flatnonzero(np.bincount(values, minlength=256) == 0).tolist())
    for separator in (ord(delimiter), ord("\n")):
        place = inside & (values == separator)
        if place.any():
            stand_in = next(free, None)
            if stand_in is None:
                return None
            found[place] = stand_in
            quoted.append((stand_in, separator))
    return _cells(found.tobytes(), delimiter, head, tuple(quoted))


def _cells(data: bytes, delimiter: bytes, head: bool, quoted: tuple[tuple[int, int], ...] = ()) -> Grid | None:
    lines = data.split(b"\n")
    ended = not lines[-1]
    if ended:
        lines.pop()
    end, front = b"\n", b""
    if len(lines) < 2 + head:
        return None
    if all(line.endswith(b"\r") for line in lines[: len(lines) if ended else -1]) and (ended or b"\r" not in lines[-1]):
        end = b"\r\n"
        lines = [line.removesuffix(b"\r") for line in lines]
    if head:
        front = lines.pop(0) + end
    number = lines[0].count(delimiter) + 1
    if number > MOST_COLUMNS or any(line.count(delimiter) + 1 != number for line in lines):
        return None
    columns = tuple(zip(*(line.split(delimiter) for line in lines), strict=True))
    return Grid(front, (b"", *repeat(delimiter, number - 1), end), columns, quoted, ended)


def _values(data: bytes) -> Grid | None:
    """JSON objects of the same names in the same order, one a line; values are strings, numbers and words."""
    lines = data.split(b"\n")
    ended = not lines[-1]
    if ended:
        lines.pop()
    if len(lines) < 2:
        return None
    between, rows = None, []
    for line in lines:
        spans = [match.span(1) for match in _VALUE.finditer(line) if match.start(1) >= 0]
        ends = [0, *(stop for _, stop in spans)]
        starts = [*(start for start, _ in spans), len(line)]
        found = [line[a:b] for a, b in zip(ends, starts, strict=True)]
        between = between or found
        if found != between or not 0 < len(spans) <= MOST_COLUMNS:
            return None
        rows.append([line[a:b] for a, b in spans])
    assert between is not None
    return Grid(b"", (*between[:-1], between[-1] + b"\n"), tuple(zip(*rows, strict=True)), (), ended)


def join(grid: Grid) -> bytes:
    """Inverse of split."""
    first, *others = grid.between
    pieces: list[Sequence[bytes]] = []
    for column, behind in zip(grid.columns, others, strict=True):
        pieces += [column, [behind] * grid.rows]
    rows = map(b"".join, zip(*([[first] * grid.rows] if first else []), *pieces, strict=True))
    body = b"".join(rows)
    if not grid.ended:
        body = body[: len(body) - len(_last_end(others[-1]))]
    if grid.quoted:
        table = bytearray(range(256))
        for stand_in, separator in grid.quoted:
            table[stand_in] = separator
        return (grid.head + body).translate(bytes(table))
    return grid.head + body


def _last_end(behind: bytes) -> bytes:
    """What the last row lacks where it is not ended: the line's end."""
    return b"\r\n" if behind.endswith(b"\r\n") else b"\n"


def length_of(grid: Grid, cells: int) -> int:
    """Bytes of the joined grid whose cells have so many."""
    missing = 0 if grid.ended else len(_last_end(grid.between[-1]))
    return len(grid.head) + cells + grid.rows * sum(map(len, grid.between)) - missing
