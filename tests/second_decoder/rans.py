"""The coder `rans`."""

from __future__ import annotations

from second_decoder.levels import streamed_levels
from second_decoder.numbers import Bytes, Side
from second_decoder.tables import read_tables, slots_of

CHUNK = 1 << 19


def decode(data: Bytes, shape: list[int]) -> list[int]:
    """The values, row by row."""
    matrix = len(shape) == 2 and min(shape) > 1
    count = 1
    for axis in shape:
        count *= axis
    rows, cols = shape if matrix else (1, count)
    form = data.take(1)[0]
    if form == 0:
        return [data.signed()] * count
    if form == 1:
        low, width = data.signed(), data.take(1)[0]
        bits = int.from_bytes(data.take((count * width + 7) // 8), "big") >> (-count * width % 8)
        return [low + (bits >> (width * (count - 1 - i)) & ((1 << width) - 1)) for i in range(count)]
    if form == 2:
        middle = data.signed()
        side = Side(data.rest())
        return [middle + value for value in side.run(side.bits(2), count, 1 << 20)]
    return static(data, rows, cols, form - 3)


def levels(side: Side, count: int) -> list[int]:
    """Row or column levels."""
    centre = side.natural(10, 28)
    return [centre + value for value in side.run(side.bits(2), count, 56)]


def static(data: Bytes, rows: int, cols: int, form: int) -> list[int]:
    """Side information, escaped values, chunks."""
    by_row, by_column = form & 1, form & 2
    streams = Bytes(data.sized())
    side = Side(streams.sized() if form & 4 else streams.rest())
    low, width = side.integer(8, 1 << 63), 1 + side.natural(9, 254)
    escape = side.bits(1)
    read = (lambda side, count: streamed_levels(side, streams, count)) if form & 4 else levels
    row = read(side, rows) if by_row else [1] * rows
    column = read(side, cols) if by_column else [1] * cols
    classes, table_of = max(row) + max(column) + 1, []
    while (by_row or by_column) and len(table_of) < classes:
        table = table_of[-1] + 1 if table_of else 0
        table_of += [table] * (1 + side.natural(11, classes - len(table_of) - 1))
    table_of = table_of or [0] * classes
    mode = width // 2 + side.integer(12, 256)
    frequencies = read_tables(side, table_of[-1] + 1, width, mode, escape, side.bits(3))
    tables = [slots_of(f, 128 if form & 8 else 64) for f in frequencies]
    far = iter(escaped(data) if escape else [])
    order = list(chunks(rows, cols, row, column, table_of, form & 4))
    out = [0] * (rows * cols)
    for k, runs in enumerate(order):
        part = Bytes(data.rest() if k == len(order) - 1 else data.sized())
        symbols = chunk(part, [(len(places), tables[table]) for places, table in runs])
        for place, symbol in zip((place for places, _ in runs for place in places), symbols, strict=True):
            out[place] = low + symbol
            if symbol == width:
                value = next(far)
                out[place] = low + width + (value >> 1) if value % 2 == 0 else low - 1 - (value >> 1)
    return out


def escaped(data: Bytes) -> list[int]:
    """Bit lengths, then the bits below the leading ones by planes."""
    count = data.varint()
    lengths = decode(Bytes(data.sized()), [count])
    values = [1 << (length - 1) if length else 0 for length in lengths]
    total = sum(length - 1 for length in lengths if length)
    bits = "".join(f"{byte:08b}" for byte in data.take((total + 7) // 8))
    at = 0
    for plane in range(63):
        for i, length in enumerate(lengths):
            if length > plane + 1:
                values[i] |= int(bits[at]) << plane
                at += 1
    return values


def pieces(count: int, most: int, even: int = 0) -> list[range]:
    """Equal parts."""
    parts = -(-count // most)
    parts += parts % 2 if even and parts > 1 else 0
    size = -(-count // parts)
    return [range(at, min(at + size, count)) for at in range(0, count, size)]


def chunks(rows: int, cols: int, row: list[int], column: list[int], table_of: list[int], even: int):
    """For each chunk its runs: places in the matrix, and a table."""
    if rows == 1:
        for part in pieces(cols, CHUNK):
            yield [(list(part), 0)]
        return
    by_row = sorted(range(rows), key=lambda r: row[r])
    by_column = sorted(range(cols), key=lambda c: column[c])
    for part in pieces(rows, max(1, CHUNK // cols), even):
        chosen, runs = by_row[part.start : part.stop], []
        for level in sorted({row[r] for r in chosen}):
            group = [r for r in chosen if row[r] == level]
            tables = [table_of[level + column[c] if level and column[c] else 0] for c in by_column]
            start = 0
            for stop in range(1, cols + 1):
                if stop == cols or tables[stop] != tables[start]:
                    runs.append(([r * cols + c for r in group for c in by_column[start:stop]], tables[start]))
                    start = stop
        yield runs


class Stream:
    """States and words."""

    def __init__(self, states: list[int], words: bytes) -> None:
        self.states = states
        self.words = [int.from_bytes(words[i : i + 2], "little") for i in range(0, len(words), 2)]
        self.at = 0

    def symbol(self, lane: int, slots: list[tuple[int, int, int]]) -> int:
        """The next one of a lane."""
        x = self.states[lane]
        symbol, frequency, position = slots[x % 4096]
        x = frequency * (x >> 12) + position
        if x < 1 << 16 and self.at < len(self.words):
            x = x << 16 | self.words[self.at]
            self.at += 1
        self.states[lane] = x
        return symbol


def single(data: bytes, head: int, tables: list) -> list[int]:
    """One lane; the table of each symbol is given."""
    stream = Stream([int.from_bytes(data[:head], "little")], data[head:])
    symbols = [stream.symbol(0, table) for table in tables]
    assert stream.states == [0] and stream.at == len(stream.words)
    return symbols


def chunk(data: Bytes, runs: list) -> list[int]:
    """The symbols of runs (length, slots)."""
    tables = [slots for length, slots in runs for _ in range(length)]
    head = data.varint()
    if head == 0:
        body = data.rest()
        return single(body, len(body) if len(body) < 4 else 4 - len(body) % 2, tables)
    lanes, tail = 16 << (head & 3), head >> 2
    states = [int.from_bytes(data.take(4), "little") for _ in range(lanes)]
    stream = Stream(states, data.rest())
    end = len(tables) - tail
    symbols = [0] * end
    start = 0
    for length, slots in runs:
        stop = min(start + length, end)
        for step in range(start, stop, lanes):
            for group in range(0, lanes, 32):
                for lane in [*range(group, group + 32, 2), *range(group + 1, group + 32, 2)]:
                    if step + lane < stop:
                        symbols[step + lane] = stream.symbol(lane, slots)
        start = stop
    assert stream.at == len(stream.words) and all(x >> 16 == 1 for x in states)
    seeds = b"".join((x % (1 << 16)).to_bytes(2, "little") for x in states)
    return symbols + single(seeds, 4, tables[end:])
