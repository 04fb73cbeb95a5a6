"""Columns of numbers: their text as integers, the digits behind each point, and the words that are no numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.archive.base import broken
from attar.types import Array

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
MOST_WORDS = 255
LONGEST = 18
"""Digits of a number: 64 bits hold them."""
_NUMBER = re.compile(rb"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?")
_PADDED = re.compile(rb"[0-9]+")


@dataclass(frozen=True)
class Numbers:
    """A column as numbers in units of 10^-digits; `width`: all have so many digits, zeros in front (else 0).

    values int64 [numbers]; places uint8 [numbers]: digits behind the point, empty where they are the same everywhere;
    kinds uint8 [rows], 0: a number, k: words[k - 1]; empty where all are numbers.
    """

    digits: int
    width: int
    values: I64
    places: U8
    kinds: U8
    words: tuple[bytes, ...]


def parsed(cells: Sequence[bytes]) -> Numbers | None:
    """A column as numbers that are written as here; None where less than half of it is, or its words are too many."""
    found = [_NUMBER.fullmatch(cell) for cell in cells]
    padded = _padded(cells)
    if padded is not None:
        return padded
    kept = [match if match is not None and _canonical(match) else None for match in found]
    others = Counter(cell for cell, match in zip(cells, kept, strict=True) if match is None)
    if len(others) > MOST_WORDS or 2 * sum(others.values()) > len(cells):
        return None
    numbers = [match.groups() for match in kept if match is not None]
    behind = [len(fraction) if fraction else 0 for _, _, fraction in numbers]
    digits = max(behind)
    if max(len(whole) for _, whole, _ in numbers) + digits > LONGEST:
        return None
    values = [
        int(sign + whole + (fraction or b"") + b"0" * (digits - place))
        for (sign, whole, fraction), place in zip(numbers, behind, strict=True)
    ]
    words = tuple(sorted(others))
    at = {word: k + 1 for k, word in enumerate(words)}
    kinds = np.array(
        [0 if match else at[cell] for cell, match in zip(cells, kept, strict=True)] if words else [], np.uint8
    )
    places = np.array(behind if min(behind) < digits else [], np.uint8)
    return Numbers(digits, 0, np.array(values, np.int64), places, kinds, words)


def _canonical(match: re.Match[bytes]) -> bool:
    """Whether the text follows from the value and its digits: there is no minus before a zero."""
    sign, whole, fraction = match.groups()
    return not sign or bool((whole + (fraction or b"")).strip(b"0"))


def _padded(cells: Sequence[bytes]) -> Numbers | None:
    """Digits only, as many in every cell, and zeros in front of some."""
    width = len(cells[0])
    if not 1 < width <= LONGEST or not any(cell[:1] == b"0" for cell in cells):
        return None
    if any(len(cell) != width or _PADDED.fullmatch(cell) is None for cell in cells):
        return None
    empty = np.zeros(0, np.uint8)
    return Numbers(0, width, np.array([int(cell) for cell in cells], np.int64), empty, empty, ())


def texts(numbers: Numbers) -> list[bytes]:
    """Inverse of parsed: the cells."""
    if numbers.width:
        written = [b"%0*d" % (numbers.width, value) for value in numbers.values.tolist()]
    elif numbers.places.size:
        pairs = zip(numbers.values.tolist(), numbers.places.tolist(), strict=True)
        written = [_written(value, numbers.digits, place) for value, place in pairs]
    elif numbers.digits:
        written = [_written(value, numbers.digits, numbers.digits) for value in numbers.values.tolist()]
    else:
        written = [b"%d" % value for value in numbers.values.tolist()]
    if not numbers.kinds.size:
        return written
    take = iter(written)
    return [next(take) if kind == 0 else numbers.words[kind - 1] for kind in numbers.kinds.tolist()]


def _written(value: int, digits: int, place: int) -> bytes:
    size = abs(value) // 10 ** (digits - place)
    whole, fraction = divmod(size, 10**place)
    sign = b"-" if value < 0 else b""
    return b"%s%d.%0*d" % (sign, whole, place, fraction) if place else b"%s%d" % (sign, whole)


def arrays_of(numbers: Numbers, delta: bool) -> dict[str, Array]:
    """By name, those that say something; values as differences from the row before where `delta`."""
    values = np.diff(numbers.values, prepend=np.int64(0)) if delta else numbers.values
    return {"values": values, **{
        name: array for name, array in (("places", numbers.places), ("kinds", numbers.kinds)) if array.size
    }}  # fmt: skip


def numbers_from(
    spec: tuple[int, int, int], words: tuple[bytes, ...], arrays: Mapping[str, Array], rows: int, place: str
) -> Numbers:
    """A column read: (digits, width, 1 for differences); raises FormatError."""
    digits, width, delta = spec
    if digits > LONGEST or width > LONGEST or delta > 1 or len(words) > MOST_WORDS:
        raise broken(place, f"numbers have {LONGEST} digits at most", str(spec))
    kinds = _bytes(arrays, "kinds", rows if words else 0, place)
    if kinds.size and int(kinds.max()) > len(words):
        raise broken(place, f"kinds must be 0 to {len(words)}", str(int(kinds.max())))
    count = rows - int(np.count_nonzero(kinds))
    values = arrays.get("values")
    if values is None or values.dtype != np.int64 or values.shape != (count,):
        raise broken(place, f"values must be int64 [{count}]", "another array")
    places = _bytes(arrays, "places", count if "places" in arrays else 0, place)
    if places.size and int(places.max()) > digits:
        raise broken(place, f"numbers have {digits} digits behind the point at most", str(int(places.max())))
    # Differences add up modulo 2^64, as they were taken.
    return Numbers(digits, width, np.cumsum(values) if delta else values, places, kinds, words)


def _bytes(arrays: Mapping[str, Array], name: str, count: int, place: str) -> U8:
    found = arrays.get(name, np.zeros(0, np.uint8))
    if found.dtype != np.uint8 or found.shape != (count,):
        raise broken(place, f"{name} must be uint8 [{count}]", f"{found.dtype} {list(found.shape)}")
    return found
