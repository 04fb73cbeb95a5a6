"""Static models for rANS: alphabet, levels and tables chosen for the shortest file, described in few bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.coding import kernel, levels, order, streams, symbols, tables
from attar.coding.fixed import ONE
from attar.coding.kernel import LANE_BYTES
from attar.coding.layout import MAX_TABLES
from attar.coding.levels import Levels
from attar.coding.order import Chunk
from attar.coding.streams import Coder, varint
from attar.coding.symbols import U8, Alphabet
from attar.errors import FormatError
from attar.types import Array

SIDES = ((False, False), (True, False), (False, True), (True, True))
"""Row and column levels that are tried."""
CLOSE = 1.0002
"""Sides whose estimate is this close to the best are planned; plans as close are written, to compare their sizes."""
SLACK = 64
"""Bits that an estimate may be wrong by in addition."""
SINGLE, FEWEST_LANES = LANE_BYTES[0][0], LANE_BYTES[1][1]
SINGLE_NS = 3
"""Nanoseconds that a symbol takes without lanes."""


@dataclass(frozen=True)
class Plan:
    """All that the chunks of one array share. specs [tables, max(alphabet, 2)] describe the tables; the frequencies
    [tables, alphabet] follow from them."""

    alphabet: Alphabet
    by_row: bool
    by_column: bool
    levels: Levels
    table_of: U8
    form: tables.Form
    specs: NDArray[np.int32]
    frequencies: NDArray[np.uint16]

    def chunks(self) -> list[Chunk]:
        """The order of coding."""
        return list(order.chunks(self.levels, self.table_of))


@dataclass(frozen=True)
class Coded:
    """A matrix ready to be written: its plan, its symbols row by row, its escaped values in the order of coding,
    about how many bits a symbol takes, and whether lanes are worth a byte each even where a chunk is short.
    """

    plan: Plan
    symbols: U8
    escaped: NDArray[np.uint64]
    bits: float
    laned: bool

    @property
    def nanoseconds(self) -> int:
        """About what the symbols take to decode."""
        laned = self.laned or self.bits / 8 * self.symbols.size >= SINGLE
        each = symbols.symbol_ns(self.plan.alphabet.size) if laned else SINGLE_NS
        return int(each * self.symbols.size) + symbols.ESCAPE_NS * self.escaped.size


def make_plan(values: Array, price: int = 0, counted: symbols.Counted | None = None) -> Coded:
    """The plan with the fewest bits for a matrix (or a [1, n]) of integers; a price as in rans.cheapest, counts of the
    values where they are known.
    """
    alphabet = symbols.choose(values.ravel(), price, counted)
    coded, escaped, places = alphabet.symbols(values.ravel())
    coded = coded.reshape(values.shape)
    plans = [_planned(coded, alphabet, sides, chosen) for sides, chosen in _likely(coded, alphabet)]
    least = min(bits for bits, _, _ in plans) * CLOSE + SLACK
    close = [one for one in plans if one[0] <= least]
    if len(close) > 1:
        close.sort(key=lambda one: one[1] + 8 * len(write_plan(one[2])))
    _, code, plan = close[0]
    if escaped.size:
        escaped = escaped[order.turns(plan.levels, plan.table_of, places)]
    return Coded(plan, coded, escaped, code / coded.size, 0 < FEWEST_LANES * price < SINGLE_NS * coded.size)


def _likely(coded: U8, alphabet: Alphabet) -> list[tuple[tuple[bool, bool], Levels]]:
    """The sides whose levels may pay, with these levels."""
    shape = (coded.shape[0], coded.shape[1])
    if min(shape) == 1:
        return [(SIDES[0], levels.flat(shape))]
    both = levels.fitted(coded, alphabet.zero, alphabet.size, True, True)
    least = min(both.bits) * CLOSE + SLACK
    likely = [sides for bits, sides in zip(both.bits, SIDES, strict=True) if bits <= least]
    return [(sides, _levels(coded, alphabet, sides, both.levels)) for sides in likely]


def _levels(coded: U8, alphabet: Alphabet, sides: tuple[bool, bool], both: Levels) -> Levels:
    """The levels of some sides, given those of both."""
    if all(sides):
        return both
    if not any(sides):
        return levels.flat((coded.shape[0], coded.shape[1]))
    return levels.fitted(coded, alphabet.zero, alphabet.size, *sides).levels


def _planned(coded: U8, alphabet: Alphabet, sides: tuple[bool, bool], chosen: Levels) -> tuple[float, float, Plan]:
    """The plan with levels on some sides: all its bits, estimated; those of the code; itself."""
    if any(sides):
        counts = np.zeros((chosen.classes, alphabet.size), np.int64)
        kernel.kernel().count_classes(coded, chosen.rows, chosen.cols, counts)
        table_of, merged = levels.merged(counts)
    else:
        whole = np.zeros(256, np.int64)
        kernel.kernel().histogram(coded.ravel(), whole)
        table_of, merged = np.zeros(chosen.classes, np.uint8), whole[None, : alphabet.size].copy()
    mode = int(merged[:, : alphabet.width].sum(0).argmax())
    specs = np.zeros((len(merged), max(alphabet.size, 2)), np.int32)
    frequencies = np.empty(merged.shape, np.uint16)
    kind, code, nbytes = kernel.kernel().fit_tables(merged, mode, alphabet.escape, specs, frequencies)
    form = tables.Form(alphabet.size, mode, alphabet.escape, kind)
    bits = code / ONE + 8 * nbytes
    if any(sides):
        bits += sum(own for own, used in zip(chosen.bits, sides, strict=True) if used)
    return bits, code / ONE, Plan(alphabet, *sides, chosen, table_of, form, specs, frequencies)


def write_plan(plan: Plan) -> bytes:
    """The side information."""
    coder = kernel.kernel().SideEncoder()
    shape = (plan.levels.rows.size, plan.levels.cols.size)
    _describe(coder, shape, (plan.by_row, plan.by_column), plan)
    data: bytes = coder.finish()
    return data


def read_plan(data: memoryview, shape: tuple[int, int], by_row: bool, by_column: bool) -> Plan:
    """What `write_plan` wrote for a matrix of this shape; raises Malformed or FormatError. See native/plan.hpp."""
    coder = streams.SideDecoder(bytes(data))
    plan = _describe(coder, shape, (by_row, by_column))
    coder.finish()
    return plan


def _describe(coder: Coder, shape: tuple[int, int], sides: tuple[bool, bool], plan: Plan | None = None) -> Plan:
    """Alphabet, levels, tables: writes a plan, or reads one."""
    alphabet = (plan.alphabet if plan else Alphabet(0, 1, False)).describe(coder)
    chosen = plan.levels if plan else None
    rows, cols = (
        levels.describe_levels(coder, size, side) if used else np.ones(size, np.uint8)
        for size, side, used in zip(shape, (chosen.rows, chosen.cols) if chosen else (None, None), sides, strict=True)
    )
    chosen = Levels(rows, cols)
    table_of = np.zeros(chosen.classes, np.uint8)
    if any(sides):
        table_of = _describe_ranges(coder, chosen.classes, plan.table_of if plan else None)
    middle = alphabet.width // 2
    mode = middle + coder.integer(streams.MODE, plan.form.mode - middle if plan else 0, 256)
    kind = coder.bits(3, plan.form.kind if plan else 0)
    if not 0 <= mode < alphabet.width or kind not in tables.KINDS:
        raise FormatError(
            f"rans: the mode must be a symbol and the kind 0 to 4. Received {mode} and {kind}. Fetch the file again."
        )
    form = tables.Form(alphabet.size, mode, alphabet.escape, kind)
    count = int(table_of.max()) + 1
    if plan:
        kernel.kernel().write_tables(coder, alphabet.size, mode, alphabet.escape, kind, plan.specs)
        return Plan(alphabet, *sides, chosen, table_of, form, plan.specs, plan.frequencies)
    frequencies = tables.describe(coder, count, form)[1]
    return Plan(alphabet, *sides, chosen, table_of, form, np.zeros((0, 2), np.int32), frequencies)


def _describe_ranges(coder: Coder, classes: int, table_of: U8 | None) -> U8:
    """table_of [classes]: how many classes each table serves, in order."""
    given = [] if table_of is None else [int(n) for n in np.bincount(table_of)]
    runs: list[int] = []
    while sum(runs) < classes:
        left = classes - sum(runs)
        runs.append(1 + coder.natural(streams.CLASSES, given[len(runs)] - 1 if given else 0, left - 1))
    if len(runs) > MAX_TABLES:
        raise FormatError(f"rans: there may be {MAX_TABLES} tables. Received {len(runs)}. Fetch the file again.")
    return np.repeat(np.arange(len(runs)), runs).astype(np.uint8)


def encode_chunks(coded: Coded) -> list[bytes]:
    """Chunks one after the other, each but the last with its length in front: what to join."""
    prepared = kernel.kernel().EncodeTables(coded.plan.frequencies)

    def one(chunk: Chunk) -> bytes:
        nbytes = max(coded.bits / 8 * chunk.size, SINGLE * coded.laned)
        if len(coded.symbols) == 1:
            return kernel.encode(coded.symbols[0, chunk.span], chunk.runs, prepared, nbytes)
        return kernel.encode_rows(coded.symbols, chunk.rows, chunk.columns, chunk.runs, prepared, nbytes)

    done = kernel.over_chunks(one, coded.plan.chunks())
    return [part for data in done[:-1] for part in (varint(len(data)), data)] + done[-1:]
