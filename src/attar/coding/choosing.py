"""The plan of a static array chosen for the shortest file, and its code: native/encode_static.hpp in numpy, over
whichever kernel codes its parts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from attar.coding import kernel, level_code, levels, order, static, tables
from attar.coding.fixed import FRACTION, ONE
from attar.coding.kernel import LANE_BYTES
from attar.coding.layout import worth_wide
from attar.coding.levels import Levels
from attar.coding.order import Chunk
from attar.coding.static import Plan
from attar.coding.streams import varint
from attar.coding.symbols import I64, U8, Alphabet

SIDES = ((False, False), (True, False), (False, True), (True, True))
"""Row and column levels that are tried."""
CLOSE, SLACK = 5000, 64 << FRACTION
"""Sides whose estimate is within 1 in so many and so many 2**-16 bits of the best are planned; plans as close are
written, to compare their sizes.
"""
STREAMING = 1024
"""Streams of levels may take 1 byte in so many of the code more: they are read several times as fast."""
UNASKED, FAR = 96, 8
"""Side information with streams that is below 1 in so many is not compared, because writing levels bit by bit takes
longest; unless more than 1 in so many levels lie beyond all tables' reach, where the level before may say more than a
stream knows.
"""
SINGLE = LANE_BYTES[0][0]


class StaticCode:
    """A matrix of bytes as symbols of an alphabet, coded: see native/encode_bind.cpp.

    Bytes less the shift, modulo 256, and at most width are the symbols; values [n] occur as often as counts [n] says.
    `laned`: whether lanes are worth a byte each even where a chunk is short.
    """

    def __init__(
        self,
        bytes: U8,
        shift: int,
        low: int,
        width: int,
        escape: bool,
        values: I64,
        counts: I64,
        laned: bool,
        threads: int,
    ) -> None:
        del threads
        alphabet = Alphabet(low, width, escape)
        self._symbols = bytes - np.uint8(shift)
        if escape:
            self._symbols = np.minimum(self._symbols, np.uint8(width))
        self._laned = laned
        symbols = np.minimum((values.view(np.uint64) - np.uint64(low % 2**64)), np.uint64(width)).astype(np.intp)
        whole = np.zeros(alphabet.size, np.int64)
        np.add.at(whole, symbols, counts)
        self._plan, self.bits = choose_plan(self._symbols, alphabet, whole)
        self.side = static.write_plan(self._plan)
        self._wide = worth_wide(alphabet.size, self._symbols.size)
        self.sides = self._plan.by_row + 2 * self._plan.by_column + 4 * self._plan.streams + 8 * self._wide
        places = np.flatnonzero(self._symbols == width) if escape else np.zeros(0, np.int64)
        self._places = places[order.turns(self._plan.levels, self._plan.table_of, self._plan.streams, places)]
        self.escapes = places.size

    def places(self, out: I64) -> None:
        """Fill out with the places of all escapes, in the order of coding."""
        out[:] = self._places

    def join(self, head: bytes) -> bytes:
        """The head and the chunks, each but the last with its length in front."""
        prepared = kernel.kernel().EncodeTables(self._plan.frequencies, self._wide)
        done = [self._encoded(chunk, prepared) for chunk in self._plan.chunks()]
        return b"".join([head, *(part for data in done[:-1] for part in (varint(len(data)), data)), done[-1]])

    def _encoded(self, chunk: Chunk, prepared: object) -> bytes:
        nbytes = max(self.bits / ONE / self._symbols.size / 8 * chunk.size, SINGLE * self._laned)
        if len(self._symbols) == 1:
            return kernel.encode(self._symbols[0, chunk.span], chunk.runs, prepared, nbytes)
        return kernel.encode_rows(self._symbols, chunk.rows, chunk.columns, chunk.runs, prepared, nbytes)


def choose_plan(symbols: U8, alphabet: Alphabet, counts: I64) -> tuple[Plan, int]:
    """The plan with the fewest bits for symbols, which occur as often as counts [size] says; the bits of their code in
    2**-16.
    """
    plans = [_planned(symbols, alphabet, counts, sides, chosen) for sides, chosen in _likely(symbols, alphabet)]
    most = _limit(min(bits for bits, _, _ in plans))
    close = [(code, _written(plan, code)) for bits, code, plan in plans if bits <= most]
    code, plan = min(close, key=lambda one: one[0] + (8 * len(static.write_plan(one[1])) << FRACTION))
    return plan, code


def _written(plan: Plan, code: int) -> Plan:
    """The plan with its levels in streams of their own where these take hardly more than bit by bit."""
    if not (plan.by_row or plan.by_column):
        return plan
    streamed, nbytes = replace(plan, streams=True), code >> FRACTION + 3
    size = len(static.write_plan(streamed))
    unasked = size <= nbytes // UNASKED and FAR * sum(map(level_code.far, _used(plan))) <= sum(
        levels.size for levels in _used(plan)
    )
    if unasked or size <= len(static.write_plan(plan)) + nbytes // STREAMING:
        return streamed
    return plan


def _used(plan: Plan) -> list[U8]:
    """The levels of the sides that have some."""
    sides = (plan.by_row, plan.levels.rows), (plan.by_column, plan.levels.cols)
    return [levels for used, levels in sides if used]


def _limit(least: int) -> int:
    return least + least // CLOSE + SLACK


def _likely(symbols: U8, alphabet: Alphabet) -> list[tuple[tuple[bool, bool], Levels]]:
    """The sides whose levels may pay, with these levels."""
    shape = (symbols.shape[0], symbols.shape[1])
    if min(shape) == 1:
        return [(SIDES[0], levels.flat(shape))]
    both = levels.fitted(symbols, alphabet.zero, alphabet.size, True, True)
    most = _limit(min(both.bits))
    likely = [sides for bits, sides in zip(both.bits, SIDES, strict=True) if bits <= most]
    return [(sides, _levels(symbols, alphabet, sides, both.levels)) for sides in likely]


def _levels(symbols: U8, alphabet: Alphabet, sides: tuple[bool, bool], both: Levels) -> Levels:
    """The levels of some sides, given those of both."""
    if all(sides):
        return both
    if not any(sides):
        return levels.flat((symbols.shape[0], symbols.shape[1]))
    return levels.fitted(symbols, alphabet.zero, alphabet.size, *sides).levels


def _planned(
    symbols: U8, alphabet: Alphabet, whole: I64, sides: tuple[bool, bool], chosen: Levels
) -> tuple[int, int, Plan]:
    """The plan with levels on some sides: all its bits in 2**-16, estimated; those of the code; itself."""
    if any(sides):
        counts = np.zeros((chosen.classes, alphabet.size), np.int64)
        kernel.kernel().count_classes(symbols, chosen.rows, chosen.cols, counts)
        table_of, merged = levels.merged(counts)
    else:
        table_of, merged = np.zeros(chosen.classes, np.uint8), whole[None].copy()
    mode = int(merged[:, : alphabet.width].sum(0).argmax())
    specs = np.zeros((len(merged), max(alphabet.size, 2)), np.int32)
    frequencies = np.empty(merged.shape, np.uint16)
    kind, code, nbytes = kernel.kernel().fit_tables(merged, mode, alphabet.escape, specs, frequencies)
    form = tables.Form(alphabet.size, mode, alphabet.escape, kind)
    bits = code + (8 * nbytes << FRACTION)
    bits += sum(own for own, used in zip(chosen.bits, sides, strict=True) if used)
    return bits, code, Plan(alphabet, *sides, False, chosen, table_of, form, specs, frequencies)
