"""The `dense` coder, from its section of docs/format.md."""

from __future__ import annotations

import struct

from second_decoder.numbers import Bytes, Range

ROOTS = [
    1048576, 1095000, 1143480, 1194106, 1246974, 1302182, 1359834, 1420039,
    1482910, 1548564, 1617125, 1688721, 1763487, 1841563, 1923096, 2008239,
]  # fmt: skip
PART = [max(k for k in range(16) if ROOTS[k] <= 2**20 + 2**14 * m) for m in range(64)]


def squash_table() -> list[int]:
    """The shares for x = -2047 .. 2047, at x + 2048."""
    table, power = [1 << 15] * 4096, 1 << 20
    for x in range(1, 2048):
        power = (power * 1077944331) >> 30
        table[2048 + x] = min((power << 16) // (power + (1 << 20)), 65512)
        table[2048 - x] = 65536 - table[2048 + x]
    return table


SQUASH = squash_table()
STRETCH = [next((x for x in range(1, 4096) if SQUASH[x] >= 16 * p + 8), 4095) - 2048 for p in range(4096)]


def clip(x: int, low: int, high: int) -> int:
    """The nearest in low .. high."""
    return min(max(x, low), high)


def f32(x: float) -> float:
    """Rounded to float32."""
    return struct.unpack("f", struct.pack("f", x))[0]


def lg(x: int) -> int:
    """Sixteenths of a logarithm."""
    top = x.bit_length() - 1
    return 16 * top + PART[((x << 6) >> top) & 63]


class Predictor:
    """A float32 for each column of a row."""

    def __init__(self, rows: int, cols: int, energy: int) -> None:
        self.on = rows >= 4 and 2 <= cols <= 4096
        blocks = -(-cols // 1024)
        self.width = -(-cols // blocks)
        self.factor = [[0.0] * self.width for _ in range(cols if self.on else 0)]
        self.diagonal = [f32(energy * self.width * 3 // 5)] * cols
        self.word = [0.0] * cols

    def learn_row(self, row: list[int]) -> None:
        """The values of a whole row."""
        for first in range(0, len(row), self.width):
            rest = [float(v) for v in row[first : first + self.width]]
            share = 1.0
            for j, p in enumerate(rest):
                if p == 0:
                    continue
                before, scaled = self.diagonal[first + j], f32(share * p)
                after = f32(before + f32(scaled * p))
                share = f32(f32(share * before) / after)
                self.diagonal[first + j] = after
                gain, column = f32(scaled / after), self.factor[first + j]
                for i in range(j + 1, len(rest)):
                    rest[i] = f32(rest[i] - f32(p * column[i]))
                    column[i] = f32(column[i] + f32(gain * rest[i]))

    def learn(self, c: int, value: int) -> None:
        """The value of a column."""
        error = f32(value - self.word[c])
        at = c % self.width
        for i in range(1, min(self.width - at, len(self.word) - c)):
            self.word[c + i] = f32(self.word[c + i] + f32(self.factor[c][at + i] * error))

    def said(self, c: int) -> int:
        """The word as an integer."""
        return clip(round(clip(self.word[c], -2000, 2000)), -2000, 2000)


class Node:
    """The mixture of one kind of bit."""

    def __init__(self) -> None:
        self.weights = [5461] * 6 + [39322, 0]
        self.seen = self.rate = 0


class Decoder:
    """One array."""

    def __init__(self, data: bytes, rows: int, cols: int, head: tuple[int, int, int]) -> None:
        self.range = Range(data)
        self.shift, level, self.period = head
        self.mean = (181 << (level // 2)) >> 7 if level % 2 else 1 << (level // 2)
        self.rows, self.cols = rows, cols
        self.predictor = Predictor(rows, cols, self.mean + (self.mean**2 >> 7))
        self.nodes = [Node() for _ in range(20)]
        self.counters: dict[tuple, list[int]] = {}
        self.weights = [0] * 11
        self.contexts: list[tuple] = []
        self.expected = 0

    def run(self) -> list[int]:
        """All values, row by row."""
        result: list[int] = []
        errors, count, columns = 0, 0, [0] * self.cols
        now: dict[int, int] = {}
        for r in range(self.rows):
            before, now = now, {}
            self.predictor.word = [0.0] * self.cols
            if self.predictor.on and r:
                self.predictor.learn_row([before[c] for c in range(self.cols)])
            overall, row = max(1, 16 * (errors + self.mean) // (count + 16)), 0
            for c in range(self.cols):
                said = self.predictor.said(c) if self.predictor.on else 0
                p = self.period
                seen = [now.get(c - 1, 0), now.get(c - 2, 0), before.get(c, 0), now.get(c - p, 0),
                        now.get(c - p - 1, 0), now.get(c - p + 1, 0), now.get(c - 2 * p, 0), before.get(c - p, 0),
                        now.get(c - p + 2, 0), now.get(c - p - 2, 0), said]  # fmt: skip
                taps = [clip(x, -1023, 1023) for x in seen]
                guess = clip(sum(w * x for w, x in zip(self.weights, taps, strict=True)) >> 16, -2000, 2000)
                row_log = lg(max(1, (16 * row + 4 * overall) // (c + 4)))
                column_log = lg(max(1, (16 * columns[c] + 4 * overall) // (r + 4)))
                self.look((r, c), (row_log, row_log + column_log - lg(overall)), (guess, said), seen)
                value = self.value()
                result.append(value)
                now[c] = s = clip((value * 16) >> self.shift, -32767, 32767)
                if self.predictor.on:
                    self.predictor.learn(c, s)
                power = 256 + sum(x * x for x in taps)
                wrong = (clip(s, -1023, 1023) - guess) << 20
                gain = wrong // power if wrong >= 0 else -(-wrong // power)
                self.weights = [
                    clip(w + ((gain * x) >> 10), -(1 << 20), 1 << 20) for w, x in zip(self.weights, taps, strict=True)
                ]
                error = abs(s - said)
                errors, row, count = errors + error, row + error, count + 1
                columns[c] += error
        return result

    def look(self, place: tuple[int, int], logs: tuple[int, int], words: tuple[int, int], seen: list[int]) -> None:
        """The six contexts."""
        row_log, self.expected = logs
        size = clip(self.expected >> 3, 0, 31)
        guess, said = half_octaves(words[0]) + 16, half_octaves(words[1]) + 16
        near = [clip(abs(x) // 16, 0, 2) * (-1 if x < 0 else 1) + 2 for x in (seen[0], seen[2], seen[3])]
        self.contexts = [
            (0, place[1] % 4096, min(row_log // 16, 15)), (1, place[0]), (2, *near), (3, guess, size),
            (4, said, guess // 2), (5, fine(words[1]), size),
        ]  # fmt: skip

    def bit(self, n: int) -> int:
        """One bit of a node."""
        node = self.nodes[n]
        counters = [self.counters.setdefault((*context, "node", n), [1 << 21, 0]) for context in self.contexts]
        inputs = [(STRETCH[p >> 10] * (512 * seen // (2 * seen + 3))) >> 8 for p, seen in counters]
        expected = 0
        if n == 0 or 2 <= n <= 15:
            log = self.expected if n == 0 else max(self.expected, 48)
            expected = clip(((log - 128) * 11356) >> 10, -2047, 2047)
        inputs += [expected, 256]
        x = clip(sum(w * i for w, i in zip(node.weights, inputs, strict=True)) >> 16, -2047, 2047)
        share = SQUASH[x + 2048]
        bit = self.range.bit(share)
        if node.seen % 64 == 0:
            node.rate = 24 + 256000 // (1000 + node.seen)
        node.seen = min(node.seen + 1, 1 << 20)
        step = (((bit << 16) - share) * node.rate + 128) >> 8
        node.weights = [
            clip(w + ((i * step + 8192) >> 14), -(1 << 22), 1 << 22) for w, i in zip(node.weights, inputs, strict=True)
        ]
        for counter in counters:
            p, seen = counter
            p = share << 6 if seen == 0 else p
            counter[0] = p + (((bit * ((1 << 22) - 1) - p) * ((1 << 17) // (2 * seen + 3))) >> 16)
            counter[1] = min(seen + 1, 1023)
        return bit

    def value(self) -> int:
        """Magnitude, then sign."""
        found = self.bit(0)
        if found:
            while found < 15 and self.bit(1 + found):
                found += 1
            if found == 15:
                length = 0
                while self.bit(16):
                    length += 1
                beyond = 1
                for _ in range(length):
                    beyond = 2 * beyond + self.bit(17)
                found += beyond - 1
        for k in range(self.shift):
            found = 2 * found + (self.bit(18 + k) if k < 2 else self.range.bit(1 << 15))
        return -found if found and self.bit(1) else found


def half_octaves(x: int) -> int:
    """-15 .. 15."""
    size = min(lg(abs(x)) // 8 + 1, 15) if x else 0
    return size if x >= 0 else -size


def fine(x: int) -> int:
    """-31 .. 31."""
    size = abs(x) if abs(x) < 16 else min(16 + (lg(abs(x)) - 64) // 2, 31)
    return size if x >= 0 else -size


def decode(data: Bytes, shape: list[int]) -> list[int]:
    """The values."""
    size = 1
    for axis in shape:
        size *= axis
    if not size:
        return []
    rows, cols = shape if len(shape) == 2 and min(shape) > 1 else (1, size)
    head = data.take(1)[0]
    centre = data.signed() if head & 32 else 0
    shift = data.varint() if head & 64 else 0
    period = data.varint() if head & 128 else 3
    return [v + centre for v in Decoder(data.rest(), rows, cols, (shift, head & 31, period)).run()]
