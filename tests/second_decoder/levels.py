"""Levels in streams of their own."""

from __future__ import annotations

from second_decoder.numbers import Bytes, Side

RUNGS = [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192]


def parts(count: int, number: int) -> list[int]:
    """Sizes of equal parts, the last one perhaps smaller."""
    size = -(-count // number)
    return [min(size, count - at) for at in range(0, count, size)]


def streamed_levels(side: Side, streams: Bytes, count: int) -> list[int]:
    """Block by block."""
    return [level for size in parts(count, -(-count // 4096)) for level in block(side, streams, size)]


def block(side: Side, streams: Bytes, count: int) -> list[int]:
    """A model, then streams."""
    first = side.natural(18, 28)
    last = first + side.natural(19, 28 - first)
    if first == last:
        return [first] * count
    centre = first + side.natural(20, last - first)
    reach = side.bits(2)
    slots = {}
    for distance in range(-reach, reach + 1):
        if first <= centre + distance <= last:
            rungs = [0]
            for _ in range(first, last + 1):
                rungs.append(rungs[-1] + side.integer(21, 15))
            shares = [RUNGS[rung] for rung in rungs[1:]]
            top = rungs[1:].index(max(rungs[1:]))
            shares[top] += 256 - sum(shares)
            slots[distance] = [(first + i, f, k) for i, f in enumerate(shares) for k in range(f)]
    levels = []
    for size in parts(count, 1 if count < 256 else 2 if count < 1024 else 4):
        data = streams.sized()
        head = len(data) if len(data) < 4 else 4 - len(data) % 2
        x, at, level = int.from_bytes(data[:head], "little"), head, centre
        for _ in range(size):
            level, share, position = slots[min(max(level - centre, -reach), reach)][x % 256]
            levels.append(level)
            x = share * (x >> 8) + position
            if x < 1 << 16 and at < len(data):
                x, at = x << 16 | int.from_bytes(data[at : at + 2], "little"), at + 2
        assert x == 0 and at == len(data)
    return levels
