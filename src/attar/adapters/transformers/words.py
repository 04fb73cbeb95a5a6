"""Lists of words in the files of a tokenizer, written once: a vocabulary may stand in two files, and in its merges.

Runs of JSON strings, `"word": 17` counting up, `"a b"` or `["a", "b"]`, are taken out of a file's text. What is left
are parts: text, and [list, form, glue, plain, first], which says how a list is written there. A list is its words with
line ends between, or [head, list, tail]: words, the merges of another list without their space, words (a vocabulary
of byte pairs; Sennrich et al. 2016). Only what comes back to the byte is taken out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attar.types import Json

LEAST = 64
"""Words that are worth a list."""
ITEM = re.compile(
    r'(?P<before>\[\s*)"(?P<one>S)"(?P<within>\s*,\s*)"(?P<two>S)"(?P<behind>\s*\])'
    r'|"(?P<counted>S)"(?P<colon>\s*:\s*)(?P<number>\d+)|"(?P<word>S)"'.replace("S)", r'(?:[^"\\]|\\.)*)')
)
"""A pair, a word with its number, or a word."""
GLUE = ("before", "within", "behind", "colon")
PAIRS, NUMBERED, PLAIN, LINES = "pairs", "numbered", "plain", "lines"
NUMBER = 12
"""Characters of a number at most."""

Lists = list[Json]
Run = tuple[int, int, str, str, list[str], int]
"""Where it starts and stops, its words by lines, form, glue and first number."""


def taken_out(files: Mapping[str, Json]) -> tuple[Lists, dict[str, Json]]:
    """Lists, and files (text by name; what is no text stays) as their parts where lists stand in them."""
    found: dict[str, int] = {}
    made = {name: text if not isinstance(text, str) else _parts(text, found) for name, text in files.items()}
    # Lines of text files last: they are lists only where a list of JSON says so.
    made = {
        name: _by_lines(text, found) if isinstance(text, str) and not name.endswith(".json") else text
        for name, text in made.items()
    }
    return _derived(list(found)), made


def put_back(lists: Lists, files: Mapping[str, Json], most: int) -> dict[str, Json]:
    """The inverse; raises ValueError beyond `most` characters, and what lookups raise, for anything else."""
    words, made, left = _words(lists, most), dict(files), most
    for name, parts in files.items():
        if isinstance(parts, Mapping):
            texts = []
            for part in parts["parts"]:
                texts.append(part if isinstance(part, str) else _written(words[_index(part[0])], part[1:], left))
                left -= len(texts[-1])
            if left < 0:
                raise ValueError(f"more than {most} characters")
            made[name] = "".join(texts)
    return made


def _parts(text: str, found: dict[str, int]) -> Json:
    """A file's parts, its lists added to those found; the text itself where there are none."""
    parts: list[Json] = []
    done = 0
    for start, stop, whole, form, glue, first in _runs(text):
        for plain in (False, True):
            told: list[Json] = [form, glue, plain, first]
            if _written(whole.split("\n"), told, len(text)) == text[start:stop]:
                parts += [text[done:start], [found.setdefault(whole, len(found)), *told]]
                done = stop
                break
    return {"parts": [*parts, text[done:]]} if parts else text


def _runs(text: str) -> Iterator[Run]:
    """All long runs, in order."""
    items: list[re.Match[str]] = []
    between: str | None = None
    for item in ITEM.finditer(text):
        gap = text[items[-1].end() : item.start()] if items else ""
        if items and between in (None, gap) and _follows(items[-1], item, gap):
            between = gap
        else:
            yield from _run(items, between)
            items, between = [], None
        items.append(item)
    yield from _run(items, between)


def _follows(last: re.Match[str], item: re.Match[str], gap: str) -> bool:
    """Whether an item is written as the one before it, with nothing but a comma between."""
    same = gap.strip() == "," and last.group(*GLUE) == item.group(*GLUE)
    return same and (last["number"] is None or int(item["number"]) == int(last["number"]) + 1)


def _run(items: Sequence[re.Match[str]], between: str | None) -> Iterator[Run]:
    """One run, where it is long enough and JSON."""
    if len(items) < LEAST or between is None or len(items[-1]["number"] or "") > NUMBER:
        return
    before, within, behind, colon = (part or "" for part in items[0].group(*GLUE))
    form = PAIRS if before else NUMBERED if colon else PLAIN
    names = {PAIRS: ("one", "two"), NUMBERED: ("counted",), PLAIN: ("word",)}[form]
    try:
        words = [" ".join(json.loads(f'"{item[name]}"') for name in names) for item in items]
        whole = "\n".join(words)
        whole.encode()
    except ValueError:  # no JSON, or half of a surrogate pair
        return
    if whole and whole.split("\n") == words:
        glue = [before, within or colon, behind, between]
        yield items[0].start(), items[-1].end(), whole, form, glue, int(items[0]["number"] or 0)


def _by_lines(text: str, found: Mapping[str, int]) -> Json:
    """A text file in which a list stands line by line, as its parts."""
    lines = f"\n{text}\n"
    for whole, number in found.items():
        at = lines.find(f"\n{whole}\n")
        if at >= 0:
            return {"parts": [text[:at], [number, LINES, ["", "", "", "\n"], False, 0], text[at + len(whole) :]]}
    return text


def _derived(lists: Sequence[str]) -> Lists:
    """Lists, those that are mostly the merges of another as what is before and behind."""
    split = [text.split("\n") for text in lists]
    merges = [number for number, words in enumerate(split) if all(word.count(" ") == 1 for word in words)]
    made: Lists = list(lists)
    for number, words in enumerate(split):
        for other in merges if number not in merges else ():
            joined = [word.replace(" ", "") for word in split[other]]
            at = words.index(joined[0]) if joined[0] in words else len(words)
            if words[at : at + len(joined)] == joined:
                made[number] = [words[:at], other, words[at + len(joined) :]]
    return made


def _words(lists: Lists, most: int) -> list[list[str]]:
    """The words of each list; raises ValueError where one is made of what is not a list of its own, or no text."""
    made: list[list[str]] = []
    left = most
    for entry in lists:
        if isinstance(entry, str):
            words = entry.split("\n")
        else:
            head, other, tail = entry
            source = lists[_index(other)]
            if not isinstance(source, str):
                raise ValueError("a list of a list that has no words of its own")
            words = [*head, *source.replace(" ", "").split("\n"), *tail]
            if not all(isinstance(word, str) for word in words):
                raise ValueError("a word that is no text")
        left -= sum(map(len, words)) + len(words)
        if left < 0:  # told before the next one is made: many lists of one may be few bytes
            raise ValueError(f"more than {most} characters")
        made.append(words)
    return made


def _index(value: Any) -> int:
    """A list's number; raises ValueError for what would count from the end."""
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"list {value!r}")
    return value


def _written(words: Sequence[str], told: Sequence[Json], most: int) -> str:
    """A list as it stands in a file; raises ValueError where it would be longer than `most`.

    told: form; glue, which stands before an item, within it, behind it, and between two; whether letters are ASCII
    alone; first number.
    """
    form, glue, plain, first = told
    if not isinstance(first, int) or not 0 <= first < 10**NUMBER:
        raise ValueError(f"the number {str(first)[:NUMBER]}")
    before, within, behind, between = map(str, glue)
    if sum(map(len, words)) + (len(words) - 1) * sum(map(len, glue)) > most:
        raise ValueError(f"more than {most} characters")
    if form == LINES:
        return between.join(words)

    def quoted(word: str) -> str:
        return json.dumps(word, ensure_ascii=plain)

    if form == PLAIN:
        return between.join(map(quoted, words))
    if form == NUMBERED:
        numbers = range(first, first + len(words))
        return between.join(f"{quoted(word)}{within}{number}" for word, number in zip(words, numbers, strict=True))
    if form != PAIRS:
        raise ValueError(f"the form {form!r}")
    pairs = [word.partition(" ") for word in words]
    return between.join(f"{before}{quoted(one)}{within}{quoted(two)}{behind}" for one, _, two in pairs)
