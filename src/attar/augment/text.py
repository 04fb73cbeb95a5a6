"""Changes of text, one at a time: words and the spaces between them, so that all else of a text stays.

Each takes the text, its parameters and `draw`, which gives uniform float64 [1, n] in [0, 1).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from attar.augment.images import Draw

WORD = re.compile(r"\S+")
KEPT = re.compile(r"\d|^(no|not|never|none|nor|neither|without|nothing|nobody|cannot)\b|n['’]t\b", re.IGNORECASE)
"""Words that no change drops, moves or misspells: numbers, and English negations, which turn what a text says."""
ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEAR = {
    letter: "".join(row[at + side] for side in (-1, 1) if 0 <= at + side < len(row))
    for row in ROWS
    for at, letter in enumerate(row)
}
"""The letters beside a letter on a keyboard."""
LEAST_LETTERS = 4
"""Letters of a word from which on it is misspelt: shorter ones become other words."""


@dataclass(frozen=True)
class Drop:
    """Words left out; never all of them, numbers and negations never."""

    share: float = field(default=0.05, metadata={"help": "share of words that go", "low": 0.0, "high": 0.9})


@dataclass(frozen=True)
class Swap:
    """Neighbouring words exchanged; numbers and negations stay where they are."""

    share: float = field(default=0.05, metadata={"help": "share of words that move", "low": 0.0, "high": 1.0})


@dataclass(frozen=True)
class Typos:
    """Slips of the finger in words of four letters and more: a key beside, a letter left out, twice, exchanged."""

    share: float = field(default=0.05, metadata={"help": "share of words with a slip", "low": 0.0, "high": 1.0})


@dataclass(frozen=True)
class Case:
    """Words in small letters, or with a capital, or all in capitals."""

    share: float = field(default=0.05, metadata={"help": "share of words that change", "low": 0.0, "high": 1.0})


def drop(text: str, p: Drop, draw: Draw) -> str:
    """Words with the space beside them (EDA's random deletion, Wei and Zou 2019); line breaks stay."""
    words, gaps = WORD.findall(text), WORD.split(text)
    chances = draw(len(words))[0]
    gone = [at for at, word in enumerate(words) if chances[at] < p.share and not KEPT.search(word)]
    left = set(gone[1:] if len(gone) == len(words) else gone)
    pieces: list[str] = []
    gap = gaps[0]
    for at, word in enumerate(words):
        after = gaps[at + 1]
        if at in left:
            gap = after if pieces and "\n" in after and "\n" not in gap else gap
        else:
            pieces += [gap, word]
            gap = after
    return "".join([*pieces, gaps[-1]])


def swap(text: str, p: Swap, draw: Draw) -> str:
    """Each chosen word with the next (EDA's random swap, of neighbours); spaces stay where they are."""
    words = WORD.findall(text)
    chances = draw(len(words))[0]
    at = 0
    while at < len(words) - 1:
        if chances[at] < p.share / 2 and not KEPT.search(words[at]) and not KEPT.search(words[at + 1]):
            words[at], words[at + 1] = words[at + 1], words[at]
            at += 1
        at += 1
    return _with(text, words)


def typos(text: str, p: Typos, draw: Draw) -> str:
    """One slip in each chosen word, of four kinds drawn evenly."""
    words = WORD.findall(text)
    chances, kinds, places, sides = draw(4, len(words))[0]
    for at in [at for at in range(len(words)) if chances[at] < p.share]:
        word = words[at]
        letters = [i for i, letter in enumerate(word) if letter.isalpha()]
        if len(letters) >= LEAST_LETTERS and not KEPT.search(word):
            place = letters[1 + int(places[at] * (len(letters) - 1))]
            words[at] = SLIPS[int(kinds[at] * len(SLIPS))](word, place, float(sides[at]))
    return _with(text, words)


def _near(word: str, at: int, side: float) -> str:
    """A neighbouring key; letters that the keyboard has not stay."""
    keys = NEAR.get(word[at].lower(), word[at])
    key = keys[int(side * len(keys))]
    return word[:at] + (key.upper() if word[at].isupper() else key) + word[at + 1 :]


SLIPS: tuple[Callable[[str, int, float], str], ...] = (
    _near,
    lambda word, at, _: word[:at] + word[at + 1 :],
    lambda word, at, _: word[: at + 1] + word[at:],
    lambda word, at, _: word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :],
)


def case(text: str, p: Case, draw: Draw) -> str:
    """Each chosen word in one of three ways."""
    words = WORD.findall(text)
    chances, kinds = draw(2, len(words))[0]
    ways = (str.lower, str.capitalize, str.upper)
    return _with(text, [
        ways[int(kinds[at] * 3)](word) if chances[at] < p.share else word for at, word in enumerate(words)
    ])  # fmt: skip


def _with(text: str, words: list[str]) -> str:
    """The text with other words in the places of its own."""
    others = iter(words)
    return WORD.sub(lambda _: next(others), text)
