"""Bits from contexts: adaptive counters and their logistic mixture (Mahoney 2005), all in integers.

The twin of native/mixing.hpp. Logits are in 1/256, probabilities of 2**16. A counter is a list [probability of a one of
2**22, how often it was used].
"""

from __future__ import annotations

from functools import cache
from typing import Protocol

CONTEXTS, INPUTS = 6, 8
HARDEST = 2047
HEAVIEST = 1 << 22
SEEN_MOST = 1023
FRESH = (1 << 21, 0)

Counter = list[int]


class Bits(Protocol):
    """A range coder of either direction."""

    def bit(self, share: int, value: int = 0) -> int:
        """Code one bit with the probability of a one, of 2**16."""
        ...


@cache
def squash() -> list[int]:
    """Probabilities by logit + 2048, 24 .. 65512."""
    table = [0] * 4096
    power, table[2048] = 1 << 20, 1 << 15
    for k in range(1, 2048):
        power = power * 1077944331 >> 30  # by e ** (1 / 256)
        share = min((power << 16) // (power + (1 << 20)), 65536 - 24)
        table[2048 + k], table[2048 - k] = share, 65536 - share
    return table


@cache
def stretch() -> list[int]:
    """Logits by probability of 2**12: the first whose probability is as large as the middle of the step."""
    table, k = [], 1
    for p in range(4096):
        while k < 4095 and squash()[k] < 16 * p + 8:
            k += 1
        table.append(k - 2048)
    return table


CONFIDENCE = [512 * n // (2 * n + 3) for n in range(SEEN_MOST + 1)]
"""How far a counter is believed, of 256, by use."""
GAIN = [(1 << 17) // (2 * n + 3) for n in range(SEEN_MOST + 1)]
"""How far it moves, of 2**16, by use."""


class Mixer:
    """The mixture of one kind of bit."""

    def __init__(self) -> None:
        self._weights = [5461] * CONTEXTS + [39322, 0]
        self._seen = 0
        self._rate = 0

    def bit(self, coder: Bits, counters: list[Counter], expected: int, wanted: int, limit: int = SEEN_MOST) -> int:
        """Code one bit by its contexts' counters, which remember `limit` uses, and by the logit that is expected."""
        logits = stretch()
        inputs = [logits[p >> 10] * CONFIDENCE[seen] >> 8 for p, seen in counters]
        inputs += (expected, 256)
        total = sum(weight * x for weight, x in zip(self._weights, inputs, strict=True)) >> 16
        share = squash()[min(max(total, -HARDEST), HARDEST) + 2048]
        bit = coder.bit(share, wanted)
        self._learn(inputs, (bit << 16) - share)
        for counter in counters:
            _count(counter, share, bit, limit)
        return bit

    def _learn(self, inputs: list[int], error: int) -> None:
        if self._seen & 63 == 0:
            self._rate = 24 + 256000 // (1000 + self._seen)
        self._seen = min(self._seen + 1, 1 << 20)
        step = error * self._rate + 128 >> 8
        self._weights = [
            min(max(weight + (x * step + (1 << 13) >> 14), -HEAVIEST), HEAVIEST)
            for weight, x in zip(self._weights, inputs, strict=True)
        ]


def _count(counter: Counter, share: int, bit: int, limit: int) -> None:
    """A context has seen a bit; one that meets its first begins with what the others said."""
    before, seen = counter
    if seen == 0:
        before = share << 6
    target = (1 << 22) - 1 if bit else 0
    counter[0] = before + ((target - before) * GAIN[seen] >> 16)
    counter[1] = min(seen + 1, limit)
