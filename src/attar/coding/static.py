"""Static models for rANS: alphabet, levels and tables, described in few bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.coding import kernel, level_code, levels, order, streams, tables
from attar.coding.layout import MAX_TABLES
from attar.coding.levels import Levels
from attar.coding.order import Chunk
from attar.coding.streams import Coder, Reader, sized
from attar.coding.symbols import U8, Alphabet
from attar.errors import FormatError


@dataclass(frozen=True)
class Plan:
    """All that the chunks of one array share. specs [tables, max(alphabet, 2)] describe the tables; the frequencies
    [tables, alphabet] follow from them. `streams`: whether levels stand in streams of their own."""

    alphabet: Alphabet
    by_row: bool
    by_column: bool
    streams: bool
    levels: Levels
    table_of: U8
    form: tables.Form
    specs: NDArray[np.int32]
    frequencies: NDArray[np.uint16]

    def chunks(self) -> list[Chunk]:
        """The order of coding."""
        return list(order.chunks(self.levels, self.table_of, self.streams))


def write_plan(plan: Plan) -> bytes:
    """The side information."""
    coder = kernel.kernel().SideEncoder()
    shape = (plan.levels.rows.size, plan.levels.cols.size)
    behind = Streams() if plan.streams else None
    _describe(coder, shape, (plan.by_row, plan.by_column), behind, plan)
    data: bytes = coder.finish()
    return data if behind is None else sized(data) + bytes(behind.data)


def read_plan(data: memoryview, shape: tuple[int, int], by_row: bool, by_column: bool, streamed: bool) -> Plan:
    """What `write_plan` wrote for a matrix of this shape; raises Malformed or FormatError. See native/plan.hpp."""
    reader = Reader(data)
    coder = streams.SideDecoder(bytes(reader.sized() if streamed else reader.rest()))
    plan = _describe(coder, shape, (by_row, by_column), Streams(reader) if streamed else None)
    coder.finish()
    reader.finish()
    return plan


class Streams:
    """Levels in streams behind what the coder writes or reads."""

    def __init__(self, reader: Reader | None = None) -> None:
        self.data = bytearray()
        self._reader = reader

    def describe(self, coder: Coder, count: int, side: U8 | None) -> U8:
        """Writes one side's levels, or reads `count` of them; raises Malformed or FormatError."""
        found = np.zeros(count, np.uint8) if side is None else side
        for block in level_code.blocks(found):
            model = level_code.describe(coder, None if side is None else level_code.fit(block))
            if self._reader is not None:
                level_code.decode(model, self._reader, block)
            else:
                self.data += level_code.encode(model, block)
        return found


def _describe(
    coder: Coder, shape: tuple[int, int], sides: tuple[bool, bool], behind: Streams | None, plan: Plan | None = None
) -> Plan:
    """Alphabet, levels, tables: writes a plan, or reads one."""
    alphabet = (plan.alphabet if plan else Alphabet(0, 1, False)).describe(coder)
    chosen = plan.levels if plan else None
    describe_levels = levels.describe_levels if behind is None else behind.describe
    rows, cols = (
        describe_levels(coder, size, side) if used else np.ones(size, np.uint8)
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
        return Plan(alphabet, *sides, behind is not None, chosen, table_of, form, plan.specs, plan.frequencies)
    frequencies = tables.describe(coder, count, form)[1]
    return Plan(alphabet, *sides, behind is not None, chosen, table_of, form, np.zeros((0, 2), np.int32), frequencies)


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
