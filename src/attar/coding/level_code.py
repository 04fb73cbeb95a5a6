"""Row or column levels as static rANS streams: native/level_code.hpp in numpy.

A level is read by one look-up in the table that the level before it names, and not bit by bit. Shares of a table are
out of 256 and stand on a ladder of 16 rungs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from attar.coding import streams
from attar.coding.fit_levels import HIGHEST
from attar.coding.fixed import FRACTION, log2_fixed
from attar.coding.layout import Malformed
from attar.coding.streams import Coder, Reader, sized
from attar.coding.symbols import I64, U8

RUNGS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)
BITS, LOW = 8, 1 << 16
BLOCK = 4096
"""Levels, at most, that have a model of their own."""
PIECES = ((256, 1), (1024, 2))
"""Streams of a block by its levels (below the bound), four above: while one waits for its table others go on."""
REACH = 3
_BOUNDS = np.array([isqrt(RUNGS[k - 1] * RUNGS[k] << 32) for k in range(2, len(RUNGS))])
"""Where the next rung is nearer in ratio, in 2**-16 of a share."""
_SCALES = (128, 112, 96, 80, 64)
_SHARE_BITS, _ZERO_BITS = 4, 1


@dataclass
class Model:
    """Levels first .. last. The level before, as its distance from the centre up to reach, names a table: the rungs
    [last - first + 1] of each distance that occurs.
    """

    first: int
    last: int
    centre: int
    reach: int = 0
    rungs: dict[int, list[int]] = field(default_factory=dict)

    def context(self, level: int) -> int:
        """The distance that names the table behind a level."""
        return min(max(level - self.centre, -self.reach), self.reach)

    @property
    def contexts(self) -> list[int]:
        """Distances that occur."""
        around = range(-self.reach, self.reach + 1)
        return [distance for distance in around if self.first <= self.centre + distance <= self.last]

    def shares(self, context: int) -> list[int]:
        """Of 256, by level - first; raises Malformed where the most frequent is left without any."""
        rungs = self.rungs[context]
        found = [RUNGS[rung] for rung in rungs]
        mode = rungs.index(max(rungs))
        found[mode] = 0
        found[mode] = (1 << BITS) - sum(found)
        if found[mode] < 1:
            raise Malformed("a level must have a share of a table")
        return found


def describe(coder: Coder, given: Model | None = None) -> Model:
    """Write a model, or read one; raises Malformed."""
    model = given or Model(0, 0, 0)
    first = coder.natural(streams.FIRST, model.first, HIGHEST)
    last = first + coder.natural(streams.LAST, model.last - model.first, HIGHEST - first)
    if first == last:
        return Model(first, last, first)
    centre = first + coder.natural(streams.AROUND, model.centre - first, last - first)
    found = Model(first, last, centre, coder.bits(2, model.reach))
    for context in found.contexts:
        wanted = given.rungs[context] if given else [0] * (last - first + 1)
        rungs: list[int] = []
        found.rungs[context] = rungs
        for rung in wanted:
            before = rungs[-1] if rungs else 0
            rungs.append(before + coder.integer(streams.SHARE, rung - before, len(RUNGS) - 1))
            if not 0 <= rungs[-1] < len(RUNGS):
                raise Malformed("a level must have a share of a table")
    return found


def fit(levels: U8) -> Model:
    """The model of the fewest bits for the levels of a block [n], n > 0."""
    first, last = int(levels.min()), int(levels.max())
    pairs = np.zeros((last - first + 1, last - first + 1), np.int64)
    centre = int(np.bincount(levels).argmax())
    for piece in _pieces(levels):
        before = np.concatenate([[centre], piece[:-1]]).astype(np.intp)
        np.add.at(pairs, (before - first, piece.astype(np.intp) - first), 1)
    models = [_fitted(Model(first, last, centre, reach), pairs) for reach in range(REACH + 1 if last > first else 1)]
    return min(models, key=lambda one: one[0])[1]


def _fitted(model: Model, pairs: I64) -> tuple[int, Model]:
    """The bits of tables and levels in 2**-16, and the model with its tables."""
    bits = 0
    context = np.clip(np.arange(model.first, model.last + 1) - model.centre, -model.reach, model.reach)
    for one in model.contexts:
        counts = pairs[context == one].sum(0)
        model.rungs[one] = _rungs(counts)
        used = counts > 0
        bits += int(np.where(used, _SHARE_BITS, _ZERO_BITS).sum()) << FRACTION
        shares = np.array(model.shares(one))[used]
        bits += int((counts[used] * ((BITS << FRACTION) - log2_fixed(shares))).sum())
    return bits, model


def _rungs(counts: I64) -> list[int]:
    """Rungs of levels that occur so often: the nearest, but that the first of the highest is that of the most frequent,
    for which some is left.
    """
    total, mode = int(counts.sum()), int(counts.argmax())
    if not total:
        return [0] * counts.size
    for scale in _SCALES:
        share = (counts << (BITS + 16)) // total * scale >> 7
        rungs = np.where(counts > 0, 1 + np.searchsorted(_BOUNDS, share, side="right"), 0).tolist()
        others = rungs[:mode] + rungs[mode + 1 :]
        rungs[mode] = max([1, rungs[mode], *(rung + 1 for rung in rungs[:mode]), *rungs[mode + 1 :]])
        if sum(RUNGS[rung] for rung in others) < 1 << BITS:
            break
    return list(rungs)


def blocks(levels: U8) -> list[U8]:
    """A list of levels [n], n > 0, in equal parts, the last one perhaps smaller."""
    return _parts(levels, -(-levels.size // BLOCK))


def _pieces(levels: U8) -> list[U8]:
    """What each stream of a block holds."""
    return _parts(levels, next((pieces for bound, pieces in PIECES if levels.size < bound), 4))


def _parts(levels: U8, count: int) -> list[U8]:
    size = -(-levels.size // count)
    return [levels[start : start + size] for start in range(0, levels.size, size)]


def far(levels: U8) -> int:
    """How many levels are more than REACH from the centre of their block."""
    centres = [(block.astype(np.int64), int(np.bincount(block).argmax())) for block in blocks(levels)]
    return sum(int((np.abs(block - centre) > REACH).sum()) for block, centre in centres)


def encode(model: Model, levels: U8) -> bytes:
    """The streams of a block; none where all its levels are one."""
    if model.first == model.last:
        return b""
    return b"".join(sized(_encode_piece(model, piece.tolist())) for piece in _pieces(levels))


def _encode_piece(model: Model, levels: list[int]) -> bytes:
    x, words = 0, []
    shares = {context: model.shares(context) for context in model.contexts}
    for before, level in zip([model.centre, *levels[:-1]][::-1], levels[::-1], strict=True):
        table, place = shares[model.context(before)], level - model.first
        if x >= table[place] << (32 - BITS):
            words.append(x & (LOW - 1))
            x >>= 16
        x = (x // table[place] << BITS) + sum(table[:place]) + x % table[place]
    size = max((x.bit_length() + 7) // 8, 3 if words else 0)
    return x.to_bytes(size, "little") + np.array(words[::-1], "<u2").tobytes()


def decode(model: Model, reader: Reader, levels: U8) -> None:
    """Fill the levels of a block; raises Malformed, or FormatError where the bytes do not suffice."""
    levels[:] = model.first
    if model.first != model.last:
        slots = {context: _slots(model.shares(context), model.first) for context in model.contexts}
        for piece in _pieces(levels):
            _decode_piece(model, slots, bytes(reader.sized()), piece)


def _slots(shares: list[int], first: int) -> list[tuple[int, int, int]]:
    """Level, share and position of each of 256 slots."""
    return [(first + place, share, k) for place, share in enumerate(shares) for k in range(share)]


def _decode_piece(
    model: Model, slots: dict[int, list[tuple[int, int, int]]], data: bytes, levels: NDArray[np.uint8]
) -> None:
    head = len(data) if len(data) < 4 else 4 - len(data) % 2
    x, words = int.from_bytes(data[:head], "little"), np.frombuffer(data, "<u2", offset=head).tolist()
    level, at = model.centre, 0
    for i in range(levels.size):
        level, share, position = slots[model.context(level)][x & 255]
        levels[i] = level
        x = share * (x >> BITS) + position
        if x < LOW and at < len(words):
            x = x << 16 | words[at]
            at += 1
    if x or at != len(words):
        raise Malformed("the levels do not end where they began")
