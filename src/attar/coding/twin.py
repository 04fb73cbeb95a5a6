"""The numpy twin of the native kernel (native/rans.hpp): the same signatures, the same bytes, vectorised over lanes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.coding.bits import read_escapes, unpack
from attar.coding.counting import count_classes, histogram, window
from attar.coding.dense_twin import dense_decode, dense_encode
from attar.coding.fit_levels import fit_levels
from attar.coding.fit_tables import fit_tables, merge_classes
from attar.coding.layout import TOTAL, Malformed, check_frequencies, entries_of
from attar.coding.placing import collect
from attar.coding.streams import SideDecoder, SideEncoder
from attar.coding.tables import write_tables
from attar.coding.windows import choose_window

__all__ = [
    "DecodeTables", "EncodeTables", "Malformed", "SideDecoder", "SideEncoder", "StaticCode", "StaticPlan",
    "choose_window", "collect", "count_classes", "decode", "decode_planes", "decode_values", "dense_decode",
    "dense_encode", "encode", "encode_rows", "fit_levels", "fit_tables", "histogram", "merge_classes",
    "read_escapes", "simd_path", "unpack", "window", "write_tables",
]  # fmt: skip

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
U64 = NDArray[np.uint64]
Runs = NDArray[np.int32]
"""[k, 3]: rows, width and table of rows * width symbols."""
BITS = 12
LOW = 1 << 16
LANES = (1, 32, 64, 128)


class DecodeTables:
    """What a decoder looks up by [table, slot]: symbol, frequency and position."""

    def __init__(self, frequencies: U16, wide: bool = False) -> None:
        check_frequencies(frequencies)
        self.symbol, frequency, position = entries_of(frequencies, wide)
        self.frequency, self.position = frequency.astype(np.uint64), position.astype(np.uint64)

    def __len__(self) -> int:
        return len(self.symbol)


class EncodeTables:
    """What an encoder looks up: frequency and start by [table, symbol], slot by [table, start + position]."""

    def __init__(self, frequencies: U16, wide: bool = False) -> None:
        decode = DecodeTables(frequencies, wide)
        self.frequency = np.zeros((len(frequencies), 256), np.uint64)
        self.frequency[:, : frequencies.shape[1]] = frequencies
        self.start = np.cumsum(self.frequency, axis=1) - self.frequency
        table = np.arange(len(frequencies))[:, None]
        place = self.start[table, decode.symbol] + decode.position
        self.slot = np.empty((len(frequencies), TOTAL), np.uint64)
        self.slot[table, place.astype(np.intp)] = np.arange(TOTAL, dtype=np.uint64)

    def __len__(self) -> int:
        return len(self.frequency)


def StaticPlan(*args: Any) -> Any:
    """The reader of a static array; see unpacking.py, whose plan is read by what asks this module for its kernel."""
    from attar.coding import unpacking

    return unpacking.StaticPlan(*args)


def StaticCode(*args: Any) -> Any:
    """A static array coded; see choosing.py."""
    from attar.coding import choosing

    return choosing.StaticCode(*args)


def decode_values(*args: Any) -> None:
    """A whole `rans` array; see values.py, which reads its parts by this module."""
    from attar.coding import values

    values.decode_values(*args)


def decode_planes(*args: Any) -> None:
    """A whole `planes` array; see planes.py."""
    from attar.coding import planes

    planes.decode_planes(*args)


def decode_planes_of_many(*args: Any) -> None:
    """As native/planes.hpp does."""
    from attar.coding import planes

    planes.decode_planes_of_many(*args)


def simd_path() -> str:
    """The instruction set in use."""
    return "numpy"


def _lane_order(lanes: int) -> NDArray[np.intp]:
    """Lanes in the order of words: groups of 32, in each first the even ones, then the odd ones."""
    group = np.concatenate([np.arange(0, 32, 2), np.arange(1, 32, 2)])
    return np.asarray((np.arange(0, lanes, 32)[:, None] + group).ravel())


def encode(symbols: U8, runs: Runs, tables: EncodeTables, lanes: int) -> bytes:
    """A chunk of uint8 symbols [n]."""
    table = _tables(symbols.size, runs, len(tables))
    if lanes not in LANES:
        raise Malformed("lanes must be 1, 32, 64 or 128")
    if not tables.frequency[table, symbols].all():
        raise Malformed("a symbol has probability zero in its table")
    count, state, words = _encode_single(symbols, table, tables, symbols.size if lanes == 1 else lanes - 2)
    if count == symbols.size:
        value = int(state)
        size = max((value.bit_length() + 7) // 8, 3 if words else 0)
        return b"\0" + value.to_bytes(size, "little") + np.array(words, "<u2").tobytes()
    seeds = [state & 0xFFFF, state >> 16, *words]
    states = np.array(seeds, np.uint64) | np.uint64(LOW)
    outgoing: list[U64] = []
    for at, active in _steps_backwards(symbols.size - count, runs, lanes):
        place = at + active
        outgoing.append(_push(states, active, symbols[place], table[place], tables))
    tail = np.concatenate(outgoing[::-1])
    head = _varint(count << 2 | LANES.index(lanes))
    return head + states.astype("<u4").tobytes() + tail.astype("<u2").tobytes()


def encode_rows(
    source: U8, rows: NDArray[np.int32], columns: NDArray[np.int32], runs: Runs, tables: EncodeTables, lanes: int
) -> bytes:
    """A chunk of rows of source [height, width], as collected."""
    symbols = np.empty(rows.size * columns.size, np.uint8)
    collect(source, rows, columns, runs, symbols)
    return encode(symbols, runs, tables, lanes)


def _push(states: U64, active: NDArray[np.intp], symbols: U8, table: NDArray[np.intp], tables: EncodeTables) -> U64:
    """One symbol into each of some lanes, given in the order of words; the words that they let go, in this order."""
    frequency = tables.frequency[table, symbols]
    x = states[active]
    full = x >= frequency << np.uint64(32 - BITS)
    words = x[full] & np.uint64(0xFFFF)
    x[full] >>= np.uint64(16)
    quotient, rest = np.divmod(x, frequency)
    place = (tables.start[table, symbols] + rest).astype(np.intp)
    states[active] = (quotient << np.uint64(BITS)) + tables.slot[table, place]
    return words


def _encode_single(symbols: U8, table: NDArray[np.intp], tables: EncodeTables, most: int) -> tuple[int, int, list[int]]:
    """One lane over the last symbols, as many as `most` words take: their number, the state, the words to read."""
    x = 0
    words: list[int] = []
    for i in range(symbols.size - 1, -1, -1):
        t, s = table[i], symbols[i]
        f = int(tables.frequency[t, s])
        if x >= f << (32 - BITS):
            if len(words) == most:
                return symbols.size - 1 - i, x, words[::-1]
            words.append(x & 0xFFFF)
            x >>= 16
        x = (x // f << BITS) + int(tables.slot[t, int(tables.start[t, s]) + x % f])
    return symbols.size, x, words[::-1]


def decode(data: U8, symbols: U8, runs: Runs, tables: DecodeTables) -> None:
    """Fill uint8 symbols [n] from a chunk; raises Malformed."""
    table = _tables(symbols.size, runs, len(tables))
    head, body = _read_varint(data.tobytes())
    if head == 0:
        size = len(body)
        _decode_single(body, size if size < 4 else 4 - size % 2, symbols, table, tables)
        return
    if head & 3 == 0 or head >> 2 >= symbols.size:
        raise Malformed("a chunk must begin with its lanes and its tail")
    lanes, tail = LANES[head & 3], head >> 2
    if len(body) < 4 * lanes or len(body) % 2:
        raise Malformed("the coded bytes are cut short")
    states = np.frombuffer(body, "<u4", lanes).astype(np.uint64)
    words = np.frombuffer(body, "<u2", offset=4 * lanes).astype(np.uint64)
    position = 0
    for at, active in _steps(symbols.size - tail, runs, lanes):
        place = at + active
        symbols[place], empty = _pull(states, active, table[place], tables)
        empty = empty[: words.size - position]
        states[empty] = states[empty] << np.uint64(16) | words[position : position + empty.size]
        position += empty.size
    if position != words.size or (states >> np.uint64(16) != 1).any():
        raise Malformed("the coded bytes do not end where they began")
    seeds = (states & np.uint64(0xFFFF)).astype("<u2").tobytes()
    _decode_single(seeds, 4, symbols[symbols.size - tail :], table[symbols.size - tail :], tables)


def _pull(
    states: U64, active: NDArray[np.intp], table: NDArray[np.intp], tables: DecodeTables
) -> tuple[U8, NDArray[np.intp]]:
    """One symbol out of each of some lanes, given in the order of words, and the lanes that then need a word."""
    x = states[active]
    slot = (x & np.uint64(TOTAL - 1)).astype(np.intp)
    x = tables.frequency[table, slot] * (x >> np.uint64(BITS)) + tables.position[table, slot]
    states[active] = x
    return tables.symbol[table, slot], active[x < LOW]


def _decode_single(body: bytes, head: int, symbols: U8, table: NDArray[np.intp], tables: DecodeTables) -> None:
    """One lane; raises Malformed."""
    if len(body) < head or (len(body) - head) % 2:
        raise Malformed("the coded bytes are cut short")
    x = int.from_bytes(body[:head], "little")
    words = np.frombuffer(body, "<u2", offset=head).tolist()
    position = 0
    for i, t in enumerate(table.tolist()):
        slot = x & (TOTAL - 1)
        symbols[i] = tables.symbol[t, slot]
        x = int(tables.frequency[t, slot]) * (x >> BITS) + int(tables.position[t, slot])
        if x < LOW and position < len(words):
            x = x << 16 | words[position]
            position += 1
    if x or position != len(words):
        raise Malformed("the coded bytes do not end where they began")


def _tables(count: int, runs: Runs, tables: int) -> NDArray[np.intp]:
    """The table of each symbol [n]; the same rules as the native kernel's."""
    if (runs[:, :2] < 0).any():
        raise Malformed("a run must not be negative")
    if (runs[:, 2] < 0).any() or (runs[:, 2] >= tables).any():
        raise Malformed("a run names a table that does not exist")
    sizes = runs[:, 0].astype(object) * runs[:, 1]
    if sum(sizes) != count:
        raise Malformed("the runs must add up to the symbols")
    return np.repeat(runs[:, 2].astype(np.intp), sizes.astype(np.int64))


def _steps(count: int, runs: Runs, lanes: int) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Where each step begins, and its lanes in the order of words, up to symbol `count`."""
    order = _lane_order(lanes)
    start = 0
    for rows, width in runs[:, :2].tolist():
        stop = min(start + rows * width, count)
        for at in range(start, stop, lanes):
            yield at, order if at + lanes <= stop else order[order < stop - at]
        start = stop


def _steps_backwards(count: int, runs: Runs, lanes: int) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """The same from the end."""
    yield from reversed(list(_steps(count, runs, lanes)))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _read_varint(data: bytes) -> tuple[int, bytes]:
    value = 0
    for k, byte in enumerate(data[:6]):
        value |= (byte & 127) << (7 * k)
        if byte < 128:
            return value, data[k + 1 :]
    raise Malformed("the coded bytes are cut short")
