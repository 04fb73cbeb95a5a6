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

GEOMETRIC = 0
KINDS = range(5)
"""0 is geometric; 1 .. 4 are ladders, the higher the finer."""
DECAYS = 64
MODE_LADDER = 3


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
        room = max(TOTAL - ladder(MODE_LADDER)[rung] - self.escape, 0)
        total = max(sum(row), 1)
        return [max(1, w * room // total) for w in row] + [1] * self.escape


def describe(
    coder: Coder, tables: int, form: Form, specs: list[Spec] | None = None
) -> tuple[list[Spec], NDArray[np.uint16]]:
    """Writes the specs that `fit` made, or reads as many; with the tables [tables, alphabet]. Raises FormatError."""
    done: list[Spec] = []
    step = _describe_geometric if form.kind == GEOMETRIC else _describe_ladder
    for t in range(tables):
        done.append(step(coder, form, done[-1] if done else None, None if specs is None else specs[t]))
    return done, np.asarray([form.frequencies(spec) for spec in done], np.uint16)


def _describe_geometric(coder: Coder, form: Form, previous: Spec | None, given: Spec | None) -> Spec:
    """The mode's rung and the decay, as differences from the table before."""
    del form
    rung, decay = given or (0, 0)
    size = len(ladder(MODE_LADDER))
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


def write_tables(coder: Coder, alphabet: int, mode: int, escape: bool, kind: int, specs: NDArray[np.int32]) -> None:
    """Describe tables by specs [tables, max(alphabet, 2)], as native/fit_tables.hpp does."""
    form = Form(alphabet, mode, escape, kind)
    describe(coder, len(specs), form, specs[:, : 2 if kind == GEOMETRIC else alphabet].tolist())
