"""Integer probability tables in few bytes: from counts to frequencies that sum to 4096, and to a description of them.

Two kinds. A ladder table names each frequency by a rung of a ladder of integers (rungs 2**-r apart, r = 1 .. 4) that is
predicted from its neighbours, its mirror image about the mode and the table before; the mode gets what is left. A
geometric table has two numbers, the mode's frequency and a decay. All arithmetic is integer, so that every machine
makes the same table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from attar.coding import streams
from attar.coding.layout import TOTAL
from attar.coding.streams import Coder
from attar.errors import FormatError
from attar.types import Array

GEOMETRIC = 0
KINDS = range(5)
"""0 is geometric; 1 .. 4 are ladders, the higher the finer."""
DECAYS = 64
_MODE_LADDER = 3


@cache
def ladder(fineness: int) -> tuple[int, ...]:
    """0, then integers up to 4096 that grow by a factor of about 1 + 2**-fineness, at least by one."""
    rungs = [0, 1]
    while rungs[-1] < TOTAL:
        rungs.append(min(TOTAL, rungs[-1] + max(1, rungs[-1] >> fineness)))
    return tuple(rungs)


Spec: TypeAlias = list[int]
"""A table as it is described: [rung of the mode, decay], or the rung of every symbol (0 at the mode)."""


@dataclass(frozen=True)
class Form:
    """What the tables of one array share: symbols, the most frequent one, whether the last is the escape, the kind."""

    alphabet: int
    mode: int
    escape: bool
    kind: int

    @property
    def inner(self) -> int:
        """Symbols without the escape."""
        return self.alphabet - self.escape

    def frequencies(self, spec: Spec) -> list[int]:
        """The table [alphabet], summing to 4096; raises FormatError where the mode is left without a share."""
        if self.kind == GEOMETRIC:
            row = self._geometric(*spec)
        else:
            rungs = ladder(self.kind)
            row = [rungs[k] for k in spec]
        row[self.mode] = 0
        row[self.mode] = TOTAL - sum(row)
        if row[self.mode] < 1:
            raise _wrong(f"a sum of {TOTAL - row[self.mode]} without the mode")
        return row

    def _geometric(self, rung: int, decay: int) -> list[int]:
        weight, weights = 1 << 20, [0]
        for _ in range(max(self.mode, self.inner - 1 - self.mode)):
            weights.append(max(1, weight))
            weight = weight * (2 * decay + 1) // (2 * DECAYS)
        row = [weights[abs(i - self.mode)] for i in range(self.inner)]
        room = max(TOTAL - ladder(_MODE_LADDER)[rung] - self.escape, 0)
        total = max(sum(row), 1)
        return [max(1, w * room // total) for w in row] + [1] * self.escape


def fit(counts: Array, form: Form) -> list[Spec] | None:
    """Specs of the tables for counts [tables, alphabet]; None where this kind leaves some table's mode no share."""
    specs: list[Spec] = []
    for row in counts.astype(np.float64):
        spec = _fit_geometric(row, form) if form.kind == GEOMETRIC else _fit_ladder(row, form)
        try:
            form.frequencies(spec)
        except FormatError:
            return None
        specs.append(spec)
    return specs


@cache
def _log_rungs(fineness: int) -> NDArray[np.float64]:
    return np.asarray(np.log(np.asarray(ladder(fineness)[1:], np.float64)))


def _nearest(values: NDArray[np.float64], fineness: int) -> NDArray[np.int64]:
    """Index of the rung nearest in ratio, at least the first."""
    logs = _log_rungs(fineness)
    wanted = np.log(np.maximum(values, 0.5))
    return np.asarray(1 + np.abs(logs[None, :] - wanted[:, None]).argmin(1), np.int64)


def _fit_ladder(counts: NDArray[np.float64], form: Form) -> Spec:
    """The nearest rungs, scaled down until the mode has a share of its own."""
    rungs = np.asarray(ladder(form.kind))
    used = counts > 0
    used[form.mode] = False
    spec = np.zeros(counts.size, np.int64)
    for scale in (1.0, 0.97, 0.93, 0.88, 0.8, 0.7, 0.5):
        spec[used] = _nearest(counts[used] / counts.sum() * TOTAL * scale, form.kind)
        if rungs[spec].sum() < TOTAL:
            break
    return [int(k) for k in spec]


def _fit_geometric(counts: NDArray[np.float64], form: Form) -> Spec:
    """The rung of the mode's frequency, and the maximum-likelihood decay."""
    inner = counts[: form.inner]
    distance = np.abs(np.arange(inner.size) - form.mode)
    others = inner.sum() - inner[form.mode]
    mean = float((inner * distance).sum() / others) if others else 1.0
    decay = min(DECAYS - 1, max(0, int(DECAYS * (1 - 1 / mean))))
    share = counts[form.mode : form.mode + 1] / max(counts.sum(), 1.0) * TOTAL
    return [int(_nearest(share, _MODE_LADDER)[0]), decay]


def describe(
    coder: Coder, tables: int, form: Form, specs: list[Spec] | None = None
) -> tuple[list[Spec], NDArray[np.uint16]]:
    """Writes the specs that `fit` made, or reads as many; with the tables [tables, alphabet]. Raises FormatError."""
    done: list[Spec] = []
    step = _describe_geometric if form.kind == GEOMETRIC else _describe_ladder
    for t in range(tables):
        done.append(step(coder, form, done[-1] if done else None, None if specs is None else specs[t]))
    return done, np.asarray([form.frequencies(spec) for spec in done], np.uint16)


def read_tables(coder: Coder, mode: int, escape: bool, kind: int, out: NDArray[np.uint16]) -> None:
    """Fill out [tables, alphabet]; the twin of native/read_tables.hpp. Raises FormatError."""
    out[:] = describe(coder, len(out), Form(out.shape[1], mode, escape, kind))[1]


def _describe_geometric(coder: Coder, form: Form, previous: Spec | None, given: Spec | None) -> Spec:
    """The mode's rung and the decay, as differences from the table before."""
    del form
    rung, decay = given or (0, 0)
    size = len(ladder(_MODE_LADDER))
    if previous is None:
        rung, decay = coder.bits(7, rung), coder.bits(6, decay)
    else:
        rung = previous[0] + coder.integer(streams.RUNG, rung - previous[0], size)
        decay = previous[1] + coder.integer(streams.DECAY, decay - previous[1], DECAYS)
    if not (0 <= rung < size and 0 <= decay < DECAYS):
        raise _wrong(f"a mode of rung {rung} and a decay of {decay}")
    return [rung, decay]


def _describe_ladder(coder: Coder, form: Form, previous: Spec | None, given: Spec | None) -> Spec:
    """Reaches below and above the mode, then rungs as differences from a prediction."""
    size = len(ladder(form.kind))
    wanted = given or [0] * form.alphabet
    level = [0] * form.alphabet
    low, high = _reaches(coder, form, previous, wanted)
    for position, neighbour, mirror in _outwards(form.inner, form.mode):
        if low <= position <= high:
            guess = _guess(level, previous, form.mode, (position, neighbour, mirror), size)
            level[position] = guess + coder.integer(streams.LEVEL, wanted[position] - guess, size)
            if not 0 <= level[position] < size:
                raise _wrong(f"rung {level[position]} of {size}")
    if form.escape:
        level[-1] = coder.natural(streams.ESCAPE, wanted[-1], size - 1)
    return level


def _outwards(inner: int, mode: int) -> Iterator[tuple[int, int, int]]:
    """Positions from the mode outwards, below before above: (position, its neighbour inwards, its mirror image)."""
    for d in range(1, inner):
        if mode - d >= 0:
            yield mode - d, mode - d + 1, -1
        if mode + d < inner:
            yield mode + d, mode + d - 1, mode - d if mode - d >= 0 else -1


def _reaches(coder: Coder, form: Form, previous: Spec | None, wanted: Spec) -> tuple[int, int]:
    """The first and the last position that may have a frequency, as differences from those of the table before."""
    mode, inner = form.mode, form.inner
    before = [] if previous is None else [i for i in range(inner) if previous[i]]
    used = [i for i in range(inner) if wanted[i]]
    first, last = (min([mode, *before]), max([mode, *before])) if previous else (0, inner - 1)
    low = first + coder.integer(streams.REACH, min([mode, *used]) - first, 256)
    high = last + coder.integer(streams.REACH, max([mode, *used]) - last, 256)
    if not 0 <= low <= mode <= high < inner:
        raise _wrong(f"symbols {low} to {high}")
    return low, high


def _guess(level: Spec, previous: Spec | None, mode: int, place: tuple[int, int, int], size: int) -> int:
    """The rung to expect: the mirror image's, or the table before's, moved as their neighbours did."""
    position, neighbour, mirror = place
    near = 0 if neighbour == mode else level[neighbour]
    if mirror >= 0 and level[mirror]:
        opposite = level[2 * mode - neighbour] if neighbour != mode else 0
        guess = level[mirror] + (near - opposite if opposite and near else 0)
    elif previous is not None and previous[position]:
        before = previous[neighbour] if neighbour != mode else 0
        guess = previous[position] + (near - before if before and near else 0)
    elif neighbour == mode:
        guess = size * 3 // 4
    else:
        guess = near - size // 8
    return min(max(guess, 1), size - 1)


def _wrong(received: str) -> FormatError:
    return FormatError(
        f"rans: a probability table must be one that attar writes. Received {received}. Fetch the file again."
    )


def cost_bits(counts: Array, table: NDArray[np.uint16]) -> float:
    """Bits that the coded symbols take under a table; infinite where it lacks one of them."""
    used = counts > 0
    with np.errstate(divide="ignore"):
        return float(-(counts[used] * np.log2(table[used] / TOTAL)).sum())


def best(counts: Array, mode: int, escape: bool) -> tuple[Form, list[Spec], float]:
    """The form and specs whose description and code are shortest together, and their bits."""
    from attar.coding import kernel  # which has this module's read_tables in its twin

    choices = []
    for kind in KINDS:
        form = Form(counts.shape[1], mode, escape, kind)
        specs = fit(counts, form)
        if specs is not None:
            coder = kernel.kernel().SideEncoder()
            _, table = describe(coder, len(counts), form, specs)
            choices.append((cost_bits(counts, table) + 8 * len(coder.finish()), kind, form, specs))
    bits, _, form, specs = min(choices, key=lambda one: one[:2])
    return form, specs, bits
