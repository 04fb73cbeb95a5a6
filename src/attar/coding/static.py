"""Static models for rANS: alphabet, levels and tables chosen for the shortest file, described in few bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from attar.coding import kernel, levels, order, streams, symbols, tables
from attar.coding.layout import MAX_TABLES
from attar.coding.levels import Levels
from attar.coding.order import Chunk
from attar.coding.streams import Coder, Reader, sized
from attar.coding.symbols import I64, U8, Alphabet
from attar.errors import FormatError

T = TypeVar("T")
SIDES = ((False, False), (True, False), (False, True), (True, True))
"""Row and column levels that are tried; only none or both in matrices of more than LARGE codes."""
LARGE = 1 << 18
CLOSE = 1.03
"""Plans whose estimate is this close to the best are written, to compare their actual sizes."""


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

    def chunks(self) -> list[Chunk]:
        """The order of coding."""
        return list(order.chunks(self.levels, self.table_of))


@dataclass(frozen=True)
class Coded:
    """A matrix ready to be written: its plan, its chunks with their symbols, its escaped values in the order of
    coding, and about how many bits a symbol takes.
    """

    plan: Plan
    chunks: list[tuple[Chunk, U8]]
    escaped: NDArray[np.uint64]
    bits: float


def make_plan(values: I64) -> Coded:
    """The plan with the fewest bits for a matrix (or a [1, n])."""
    alphabet = symbols.choose(values.ravel())
    coded, escaped = alphabet.symbols(values.ravel())
    coded = coded.reshape(values.shape)
    plans = [_planned(coded, alphabet, sides) for sides in _sides(values.shape)]
    likely = min(bits for bits, _, _ in plans) * CLOSE + 64
    sure = [(code + 8 * len(write_plan(plan)), code, plan) for bits, code, plan in plans if bits <= likely]
    _, code, plan = min(sure, key=lambda one: one[0])
    return _ordered(coded, escaped, plan, code)


def _ordered(coded: U8, escaped: NDArray[np.uint64], plan: Plan, bits: float) -> Coded:
    """Symbols and escaped values, given row by row, in the order of coding."""

    def one(chunk: Chunk) -> U8:
        result = np.empty(chunk.size, np.uint8)
        source = np.ascontiguousarray(coded[:, chunk.span])
        kernel.kernel().collect(source, chunk.rows, chunk.columns, chunk.runs, result)
        return result

    chunks = plan.chunks()
    parts = kernel.over_chunks(one, chunks)
    if escaped.size:
        outside = plan.alphabet.width
        found = [
            order.places(c, np.flatnonzero(p == outside), coded.shape[1]) for c, p in zip(chunks, parts, strict=True)
        ]
        escaped = escaped[np.searchsorted(np.flatnonzero(coded.ravel() == outside), np.concatenate(found))]
    return Coded(plan, list(zip(chunks, parts, strict=True)), escaped, bits / coded.size)


def _sides(shape: tuple[int, ...]) -> tuple[tuple[bool, bool], ...]:
    if min(shape) == 1:
        return SIDES[:1]
    return SIDES if shape[0] * shape[1] <= LARGE else (SIDES[0], SIDES[3])


def _planned(coded: U8, alphabet: Alphabet, sides: tuple[bool, bool]) -> tuple[float, float, Plan]:
    """The plan with levels on some sides: all its bits, estimated; those of the code, exact; itself."""
    shape = (coded.shape[0], coded.shape[1])
    chosen = levels.fitted(coded, alphabet.values(), *sides) if any(sides) else levels.flat(shape)
    counts = np.zeros((chosen.classes, 256), np.int64)
    kernel.kernel().count_classes(coded, chosen.rows, chosen.cols, counts)
    counts = counts[:, : alphabet.size]
    table_of, merged = levels.merged(counts) if any(sides) else (np.zeros(len(counts), np.uint8), counts.sum(0)[None])
    mode = int(merged[:, : alphabet.width].sum(0).argmax())
    form, specs, bits = tables.best(merged, mode, alphabet.escape)
    frequencies = np.asarray([form.frequencies(spec) for spec in specs], np.uint16)
    plan = Plan(alphabet, *sides, chosen, table_of, form, specs, frequencies)
    bits += sum(levels.run_bits(side) for side, used in zip((chosen.rows, chosen.cols), sides, strict=True) if used)
    return bits, tables.cost_bits(merged, frequencies), plan


def write_plan(plan: Plan) -> bytes:
    """The side information."""
    coder = kernel.kernel().SideEncoder()
    shape = (plan.levels.rows.size, plan.levels.cols.size)
    _describe(coder, shape, (plan.by_row, plan.by_column), plan)
    data: bytes = coder.finish()
    return data


def read_plan(data: memoryview, shape: tuple[int, int], by_row: bool, by_column: bool) -> Plan:
    """What `write_plan` wrote for a matrix of this shape; raises FormatError."""
    with kernel.refused("side information", len(data)):
        coder = kernel.kernel().SideDecoder(bytes(data))
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
    frequencies = np.empty((int(table_of.max()) + 1, alphabet.size), np.uint16)
    if plan:
        frequencies = tables.describe(coder, len(frequencies), form, plan.specs)[1]
    else:
        kernel.kernel().read_tables(coder, mode, alphabet.escape, kind, frequencies)
    return Plan(alphabet, *sides, chosen, table_of, form, plan.specs if plan else [], frequencies)


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


def encode_chunks(coded: Coded) -> bytes:
    """Chunks one after the other, each but the last with its length in front."""
    prepared = kernel.kernel().EncodeTables(coded.plan.frequencies)

    def one(item: tuple[Chunk, U8]) -> bytes:
        chunk, part = item
        return kernel.encode(part, chunk.runs, prepared, coded.bits / 8 * part.size)

    done = kernel.over_chunks(one, coded.chunks)
    return b"".join(sized(data) for data in done[:-1]) + done[-1]


def decode_chunks(reader: Reader, plan: Plan, act: Callable[[Chunk, U8], T]) -> list[T]:
    """act(chunk, its symbols) for every chunk, on threads where there are several; raises FormatError."""
    chunks = plan.chunks()
    data = [reader.sized() for _ in chunks[:-1]] + [reader.rest()]
    prepared = kernel.kernel().DecodeTables(plan.frequencies)

    def one(item: tuple[Chunk, memoryview]) -> T:
        chunk, part = item
        return act(chunk, kernel.decode(part, chunk.size, chunk.runs, prepared))

    return kernel.over_chunks(one, list(zip(chunks, data, strict=True)))
