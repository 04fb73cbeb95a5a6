"""Static models for rANS: alphabet, levels and tables chosen for the shortest file, described in few bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.coding import kernel, levels, symbols, tables
from attar.coding.kernel import CHUNK
from attar.coding.levels import Levels
from attar.coding.streams import Coder, Decoder, Encoder, Reader, sized
from attar.coding.symbols import I64, U8, Alphabet
from attar.coding.twin import MAX_TABLES
from attar.errors import FormatError
from attar.types import Array

NO_CONTEXTS = np.zeros(0, np.uint8)
SIDES = ((False, False), (True, False), (False, True), (True, True))
CLOSE = 1.03
"""Plans whose estimate is this close to the best are written, to compare their actual sizes."""
BATCH = 8
"""Chunks that are in memory, decoded, at a time."""


@dataclass(frozen=True)
class Plan:
    """All that the chunks of one array share. specs describe the tables; the frequencies follow from them."""

    alphabet: Alphabet
    by_row: bool
    by_column: bool
    levels: Levels
    table_of: U8
    form: tables.Form
    specs: list[tables.Spec]
    frequencies: NDArray[np.uint16]

    def contexts(self, start: int, count: int) -> U8:
        """The chunk's tables; empty where there is one."""
        return NO_CONTEXTS if len(self.frequencies) == 1 else self.levels.contexts(start, count, self.table_of)


def make_plan(values: I64) -> tuple[Plan, U8, NDArray[np.uint64]]:
    """The plan with the fewest bits, the symbols [n] and the escaped values of a matrix (or of [1, n])."""
    alphabet = symbols.choose(values.ravel())
    coded, escaped = alphabet.symbols(values.ravel())
    plans = []
    for sides in SIDES if min(values.shape) > 1 else SIDES[:1]:
        chosen = levels.fitted(values, *sides) if any(sides) else levels.flat(values.shape)
        plans.append(_planned(coded, alphabet, chosen, sides))
    likely = min(bits for bits, _, _ in plans) * CLOSE + 64
    sure = [(code + 8 * len(write_plan(plan)), plan) for bits, code, plan in plans if bits <= likely]
    return min(sure, key=lambda one: one[0])[1], coded, escaped


def _planned(coded: U8, alphabet: Alphabet, chosen: Levels, sides: tuple[bool, bool]) -> tuple[float, float, Plan]:
    """The plan for given levels: all its bits, estimated; those of the code, exact; itself."""
    counts = _class_counts(coded, alphabet.size, chosen if any(sides) else None)
    table_of, merged = levels.merged(counts) if any(sides) else (np.zeros(1, np.uint8), counts)
    mode = int(merged[:, : alphabet.width].sum(0).argmax())
    form, specs, bits = tables.best(merged, mode, alphabet.escape)
    frequencies = np.asarray([form.frequencies(spec) for spec in specs], np.uint16)
    plan = Plan(alphabet, *sides, chosen, table_of, form, specs, frequencies)
    bits += sum(levels.run_bits(side) for side, used in zip((chosen.rows, chosen.cols), sides, strict=True) if used)
    return bits, tables.cost_bits(merged, frequencies), plan


def _class_counts(coded: U8, alphabet: int, chosen: Levels | None) -> Array:
    """How often each symbol occurs in each class, [classes, alphabet]."""
    if chosen is None:
        return np.bincount(coded, minlength=alphabet)[None, :]
    total = np.zeros(chosen.classes * alphabet, np.int64)
    same = np.arange(chosen.classes, dtype=np.uint8)
    for at in range(0, coded.size, CHUNK):
        part = coded[at : at + CHUNK]
        index = chosen.contexts(at, part.size, same).astype(np.int64) * alphabet + part
        total += np.bincount(index, minlength=total.size)
    return total.reshape(-1, alphabet)


def write_plan(plan: Plan) -> bytes:
    """The side information."""
    coder = Encoder()
    shape = (plan.levels.rows.size, plan.levels.cols.size)
    _describe(coder, shape, (plan.by_row, plan.by_column), plan)
    return coder.finish()


def read_plan(data: memoryview, shape: tuple[int, int], by_row: bool, by_column: bool) -> Plan:
    """What `write_plan` wrote for a matrix of this shape; raises FormatError."""
    coder = Decoder(data)
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
    table_of = np.zeros(1, np.uint8)
    if any(sides):
        table_of = _describe_ranges(coder, chosen.classes, plan.table_of if plan else None)
    middle = alphabet.width // 2
    mode = middle + coder.integer("mode", plan.form.mode - middle if plan else 0, 256)
    kind = coder.bits(3, plan.form.kind if plan else 0)
    if not 0 <= mode < alphabet.width or kind not in tables.KINDS:
        raise FormatError(
            f"rans: the mode must be a symbol and the kind 0 to 4. Received {mode} and {kind}. Fetch the file again."
        )
    form = tables.Form(alphabet.size, mode, alphabet.escape, kind)
    specs, frequencies = tables.describe(coder, int(table_of.max()) + 1, form, plan.specs if plan else None)
    return Plan(alphabet, *sides, chosen, table_of, form, specs, frequencies)


def _describe_ranges(coder: Coder, classes: int, table_of: U8 | None) -> U8:
    """table_of [classes]: how many classes each table serves, in order."""
    given = [] if table_of is None else [int(n) for n in np.bincount(table_of)]
    runs: list[int] = []
    while sum(runs) < classes:
        left = classes - sum(runs)
        runs.append(1 + coder.natural("classes", given[len(runs)] - 1 if given else 0, left - 1))
    if len(runs) > MAX_TABLES:
        raise FormatError(f"rans: there may be {MAX_TABLES} tables. Received {len(runs)}. Fetch the file again.")
    return np.repeat(np.arange(len(runs)), runs).astype(np.uint8)


def encode_chunks(coded: U8, plan: Plan) -> bytes:
    """Chunks one after the other, each but the last with its length in front."""

    def one(at: int) -> bytes:
        part = coded[at : at + CHUNK]
        return kernel.encode(part, plan.contexts(at, part.size), plan.frequencies)

    chunks = kernel.over_chunks(one, range(0, coded.size, CHUNK))
    return b"".join(sized(chunk) for chunk in chunks[:-1]) + chunks[-1]


def decode_chunks(reader: Reader, plan: Plan, count: int) -> Iterator[U8]:
    """The symbols, chunk by chunk, decoded on threads where there are several; raises FormatError."""
    starts = range(0, count, CHUNK)
    data = [reader.sized() for _ in starts[:-1]] + [reader.rest()]

    def one(item: tuple[int, memoryview]) -> U8:
        at, chunk = item
        size = min(CHUNK, count - at)
        return kernel.decode(chunk, size, plan.contexts(at, size), plan.frequencies)

    work = list(zip(starts, data, strict=True))
    for first in range(0, len(work), BATCH):
        yield from kernel.over_chunks(one, work[first : first + BATCH])
