"""Probability tables: from side information to frequencies, from frequencies to slots."""

from __future__ import annotations

from second_decoder.numbers import Side


def ladder(fineness: int) -> list[int]:
    """Integers up to 4096."""
    rungs = [0, 1]
    while rungs[-1] < 4096:
        rungs.append(min(4096, rungs[-1] + max(1, rungs[-1] >> fineness)))
    return rungs


def read_tables(side: Side, count: int, width: int, mode: int, escape: int, kind: int) -> list[list[int]]:
    """Frequencies of each table."""
    tables, before = [], None
    for _ in range(count):
        if kind == 0:
            before = geometric(side, before)
            row = weigh(*before, width, mode, escape)
        else:
            before = rungs_of(side, before, ladder(kind), (width, mode, escape))
            row = [ladder(kind)[rung] for rung in before]
        row[mode] = 0
        row[mode] = 4096 - sum(row)
        tables.append(row)
    return tables


def geometric(side: Side, before: tuple[int, int] | None) -> tuple[int, int]:
    """Rung of the mode, decay."""
    if before is None:
        return side.bits(7), side.bits(6)
    rung = before[0] + side.integer(16, len(ladder(3)))
    return rung, before[1] + side.integer(17, 64)


def weigh(rung: int, decay: int, width: int, mode: int, escape: int) -> list[int]:
    """A geometric table but for the mode."""
    weights, x = [0], 1 << 20
    for _ in range(width):
        weights.append(max(1, x))
        x = x * (2 * decay + 1) // 128
    row = [weights[abs(s - mode)] for s in range(width)]
    room, total = max(4096 - ladder(3)[rung] - escape, 0), max(sum(row), 1)
    return [max(1, w * room // total) for w in row] + [1] * escape


def rungs_of(side: Side, before: list[int] | None, rungs: list[int], form: tuple[int, int, int]) -> list[int]:
    """The rung of every symbol, 0 for the mode."""
    width, mode, escape = form
    used = [mode, *(s for s in range(width) if before and before[s])]
    first, last = (min(used), max(used)) if before else (0, width - 1)
    first, last = first + side.integer(15, 256), last + side.integer(15, 256)
    level = [0] * (width + escape)
    for d in range(1, width):
        for p in (mode - d, mode + d):
            if not max(first, 0) <= p <= min(last, width - 1):
                continue
            guess = guess_of(level, before, mode, p, len(rungs))
            level[p] = guess + side.integer(13, len(rungs))
    if escape:
        level[width] = side.natural(14, len(rungs) - 1)
    return level


def guess_of(level: list[int], before: list[int] | None, mode: int, p: int, rungs: int) -> int:
    """What to expect."""
    n = p + 1 if p < mode else p - 1
    near, mirror = (0 if n == mode else level[n]), 2 * mode - p
    if p > mode and mirror >= 0 and level[mirror]:
        opposite = 0 if n == mode else level[2 * mode - n]
        guess = level[mirror] + (near - opposite if near and opposite else 0)
    elif before and before[p]:
        earlier = 0 if n == mode else before[n]
        guess = before[p] + (near - earlier if near and earlier else 0)
    elif n == mode:
        guess = rungs * 3 // 4
    else:
        guess = near - rungs // 8
    return min(max(guess, 1), rungs - 1)


def slots_of(frequencies: list[int], buckets: int) -> list[tuple[int, int, int]]:
    """Symbol, frequency and position of each of 4096 slots."""
    if len(frequencies) > buckets:
        return [(s, f, k) for s, f in enumerate(frequencies) for k in range(f)]
    width = 4096 // buckets
    frequency = frequencies + [0] * (buckets - len(frequencies))
    left, divider, alias = list(frequency), [0] * buckets, list(range(buckets))
    small = [s for s in range(buckets - 1, -1, -1) if left[s] < width]
    large = [s for s in range(buckets - 1, -1, -1) if left[s] >= width]
    while small:
        s, g = small.pop(), large[-1]
        divider[s], alias[s] = left[s], g
        left[g] -= width - left[s]
        if left[g] < width:
            small.append(large.pop())
    following = [width if alias[s] == s else divider[s] for s in range(buckets)]
    slots = []
    for b in range(buckets):
        for w in range(width):
            if alias[b] == b or w < divider[b]:
                slots.append((b, frequency[b], w))
            else:
                slots.append((alias[b], frequency[alias[b]], following[alias[b]]))
                following[alias[b]] += 1
    return slots
