"""The numpy twin of the native kernel (native/rans.hpp): the same signatures, the same bytes, vectorised over lanes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
BITS = 12
TOTAL = 1 << BITS
LOW = 1 << 16
MAX_LANES = 32
MAX_TABLES = 64
FEW = 32
"""Lanes below which numpy takes longer for a step than Python does for its symbols (about 1 us each, measured)."""


class Malformed(ValueError):
    """Bytes or arguments that cannot be right."""


def simd_path() -> str:
    """The instruction set in use."""
    return "numpy"


def encode(symbols: U8, contexts: U8, frequencies: U16, lanes: int) -> bytes:
    """Coded bytes of uint8 symbols [n] with contexts [n] or [0] and uint16 frequencies [tables, alphabet]."""
    _check(symbols.size, contexts, frequencies, lanes)
    if symbols.size and int(symbols.max()) >= frequencies.shape[1]:
        raise Malformed("a symbol has probability zero in its table")
    table = contexts.astype(np.intp) if contexts.size else np.intp(0)
    frequency = frequencies[table, symbols].astype(np.uint64)
    if symbols.size and not frequency.all():
        raise Malformed("a symbol has probability zero in its table")
    start = (np.cumsum(frequencies, axis=1, dtype=np.uint64) - frequencies)[table, symbols]
    state = np.full(lanes, 0 if lanes == 1 else LOW, np.uint64)
    if lanes < FEW:
        return _encode_few(state, frequency, start)
    words: list[NDArray[np.uint16]] = []
    for at in range((symbols.size - 1) // lanes * lanes, -1, -lanes):
        words.append(_push(state, frequency[at : at + lanes], start[at : at + lanes]))
    tail = np.concatenate(words[::-1]) if words else np.zeros(0, np.uint16)
    return _head(state, bool(tail.size)) + tail.astype("<u2").tobytes()


def _encode_few(state: NDArray[np.uint64], frequency: NDArray[np.uint64], start: NDArray[np.uint64]) -> bytes:
    """The same symbol by symbol, in Python's integers: for few lanes that is the faster way."""
    x = state.tolist()
    words = []
    pairs = list(zip(frequency.tolist(), start.tolist(), strict=True))
    for i in range(len(pairs) - 1, -1, -1):
        f, c = pairs[i]
        value = x[i % len(x)]
        if value >= f << (32 - BITS):
            words.append(value & 0xFFFF)
            value >>= 16
        x[i % len(x)] = (value // f << BITS) + value % f + c
    words.reverse()
    return _head(np.array(x, np.uint64), bool(words)) + np.array(words, "<u2").tobytes()


def _push(state: NDArray[np.uint64], frequency: NDArray[np.uint64], start: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """One symbol into each of the first lanes, in place; the words that they let go."""
    x = state[: frequency.size]
    full = x >= frequency << np.uint64(32 - BITS)
    words = x[full].astype(np.uint16)
    x[full] >>= np.uint64(16)
    quotient, rest = np.divmod(x, frequency)
    x[:] = (quotient << np.uint64(BITS)) + rest + start
    return words


def _head(state: NDArray[np.uint64], words: bool) -> bytes:
    """The final states; one lane's is cut to the bytes it needs."""
    if state.size > 1:
        return state.astype("<u4").tobytes()
    value = int(state[0])
    size = max((value.bit_length() + 7) // 8, 3 if words else 0)
    return value.to_bytes(size, "little")


def decode(data: U8, symbols: U8, contexts: U8, frequencies: U16, lanes: int) -> None:
    """Fill uint8 symbols [n] from coded bytes; raises Malformed."""
    _check(symbols.size, contexts, frequencies, lanes)
    state, words = _open(data, lanes)
    tables = frequencies.shape[0]
    symbol_at = np.repeat(
        np.tile(np.arange(frequencies.shape[1], dtype=np.uint8), tables), frequencies.ravel().astype(np.intp)
    )
    base = contexts.astype(np.intp) << BITS if contexts.size else None
    entry = np.repeat(np.arange(tables), TOTAL) * frequencies.shape[1] + symbol_at
    frequency_at = frequencies.ravel()[entry].astype(np.uint64)
    start = (np.cumsum(frequencies, axis=1, dtype=np.uint64) - frequencies).ravel()
    offset_at = np.tile(np.arange(TOTAL, dtype=np.uint64), tables) - start[entry]
    tables_at = (symbol_at, frequency_at, offset_at)
    take = _decode_few if lanes < FEW else _decode_many
    position = take(state, words, symbols, base, tables_at)
    if position != words.size or (state != (0 if lanes == 1 else LOW)).any():
        raise Malformed("the coded bytes do not end where they began")


Lookup = tuple[U8, NDArray[np.uint64], NDArray[np.uint64]]
"""Symbol, frequency and slot - start by slot, table after table."""


def _decode_many(
    state: NDArray[np.uint64], words: NDArray[np.uint64], symbols: U8, base: NDArray[np.intp] | None, lookup: Lookup
) -> int:
    """One symbol of every lane at a time; the number of words read."""
    symbol_at, frequency_at, offset_at = lookup
    lanes, position = state.size, 0
    for at in range(0, symbols.size, lanes):
        x = state[: min(lanes, symbols.size - at)]
        slot = (x & np.uint64(TOTAL - 1)).astype(np.intp)
        if base is not None:
            slot += base[at : at + lanes]
        symbols[at : at + lanes] = symbol_at[slot]
        x[:] = frequency_at[slot] * (x >> np.uint64(BITS)) + offset_at[slot]
        empty = np.flatnonzero(x < LOW)[: words.size - position]
        x[empty] = x[empty] << np.uint64(16) | words[position : position + empty.size]
        position += empty.size
    return position


def _decode_few(
    state: NDArray[np.uint64], words: NDArray[np.uint64], symbols: U8, base: NDArray[np.intp] | None, lookup: Lookup
) -> int:
    """The same symbol by symbol, in Python's integers: for few lanes that is the faster way."""
    x, incoming = state.tolist(), words.tolist()
    symbol_at, frequency_at, offset_at = (part.tolist() for part in lookup)
    offsets = [0] * symbols.size if base is None else base.tolist()
    out = bytearray(symbols.size)
    position, end = 0, len(incoming)
    for i, offset in enumerate(offsets):
        lane = i % len(x)
        value = x[lane]
        slot = offset + (value & (TOTAL - 1))
        out[i] = symbol_at[slot]
        value = frequency_at[slot] * (value >> BITS) + offset_at[slot]
        if value < LOW and position < end:
            value = value << 16 | incoming[position]
            position += 1
        x[lane] = value
    symbols[:] = np.frombuffer(out, np.uint8)
    state[:] = x
    return position


def _open(data: U8, lanes: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """States [lanes] and words."""
    size = data.size
    head = (size if size < 4 else 4 - size % 2) if lanes == 1 else 4 * lanes
    if size < head or (size - head) % 2:
        raise Malformed("the coded bytes are cut short")
    raw = data.tobytes()
    if lanes == 1:
        state = np.array([int.from_bytes(raw[:head], "little")], np.uint64)
    else:
        state = np.frombuffer(raw, "<u4", lanes).astype(np.uint64)
    return state, np.frombuffer(raw, "<u2", offset=head).astype(np.uint64)


def _check(count: int, contexts: U8, frequencies: U16, lanes: int) -> None:
    """The same rules as the native kernel's."""
    if not 0 < lanes <= MAX_LANES or lanes & (lanes - 1):
        raise Malformed("lanes must be a power of two up to 32")
    tables, alphabet = frequencies.shape
    if not 0 < tables <= MAX_TABLES:
        raise Malformed("there must be 1 to 64 tables")
    if not 0 < alphabet <= 256:
        raise Malformed("the alphabet must have 1 to 256 symbols")
    if (frequencies.sum(1, dtype=np.int64) != TOTAL).any():
        raise Malformed("every table must sum to 4096")
    if contexts.size and contexts.size != count:
        raise Malformed("there must be one context for each symbol")
    if contexts.size and int(contexts.max()) >= tables:
        raise Malformed("a context names a table that does not exist")


def fill_contexts(out: U8, start: int, rows: NDArray[np.int16], cols: NDArray[np.int16], table_of: U8) -> None:
    """Tables of the positions start .. start + n of a matrix: table_of[clip(rows[r] + cols[c])]."""
    if not table_of.size:
        raise Malformed("there must be at least one class")
    if not out.size:
        return
    if not rows.size or not cols.size:
        raise Malformed("an empty matrix has no positions")
    stop = start + out.size
    if start < 0 or stop > rows.size * cols.size:
        raise Malformed("a position lies outside the matrix")
    first, last = start // cols.size, (stop - 1) // cols.size
    level = np.clip(rows[first : last + 1, None].astype(np.int32) + cols, 0, table_of.size - 1)
    out[:] = table_of[level].ravel()[start - first * cols.size : stop - first * cols.size]
