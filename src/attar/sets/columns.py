"""The columns of a block of a table: each as numbers, as codes of its words or as text, whichever is smallest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attar.archive.base import broken, count
from attar.coding import encode_array
from attar.sets import mixed, numbers, parents
from attar.sets.grids import Column
from attar.types import Array, Json

U8 = NDArray[np.uint8]
FEW = 256
"""Words of a column whose codes are coded beside those of others; with more, they are coded by themselves."""
BESIDE = 1.1
"""What a column may cost beside others, as a share of what it costs by itself: others may follow from it."""


@dataclass
class Coded:
    """Columns as they are written: a record for each, the arrays, and all their words, one after the other."""

    specs: list[Json] = field(default_factory=list)
    arrays: dict[str, Array] = field(default_factory=dict)
    words: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class _Way:
    """One way to write a column, and the bytes that it takes."""

    size: float
    spec: Json
    arrays: Mapping[str, Array]
    words: Sequence[bytes]


def encode(columns: Sequence[Column]) -> Coded | None:
    """The columns of a grid; records are ["codes", words], ["names", words], ["numbers", digits, width, delta, words],
    ["text", codec, bytes]. None where codes are as good as one and the same.
    """
    found = [_dictionary(cells) for cells in columns]
    ways = [_apart(cells, words) for cells, words in zip(columns, found, strict=True)]
    few = [j for j, words in enumerate(found) if len(words) <= FEW]
    matrix = _matrix(columns, found, few)
    if few:
        bits = parents.contexts_for(matrix)[1]
        costs = [bits[k] / 8 + sum(map(len, found[j])) / 2 for k, j in enumerate(few)]
        better = [k for k, j in enumerate(few) if costs[k] < BESIDE * ways[j].size]
        few, matrix = [few[k] for k in better], matrix[:, better]
    out = Coded()
    for j, way in enumerate(ways):
        spec, words = (["codes", len(found[j])], found[j]) if j in few else (way.spec, way.words)
        out.specs.append(spec)
        out.words += words
        if j not in few:
            out.arrays.update({f"{name} {j}": array for name, array in way.arrays.items()})
    if few:
        out.arrays.update(_mixed(matrix, [len(found[j]) for j in few]))
        if matrix.size > mixed.allowed(out.arrays["matrix"].size, mixed.CODES_A_BYTE):
            return None
    return out


def _dictionary(cells: Column) -> list[bytes]:
    """The words of a column, numbers by value."""
    words = set(cells)
    if len(words) <= FEW and all(word.isdigit() for word in words):
        return sorted(words, key=_by_value)
    return sorted(words)


def _by_value(word: bytes) -> tuple[int, bytes, bytes]:
    """Orders digits by their number, which may have more of them than Python makes a number of."""
    number = word.lstrip(b"0")
    return len(number), number, word


def _matrix(columns: Sequence[Column], found: Sequence[list[bytes]], few: Sequence[int]) -> U8:
    """The codes of the columns with few words [rows, columns]."""
    out = np.zeros((len(columns[0]), len(few)), np.uint8)
    for k, j in enumerate(few):
        at = {word: code for code, word in enumerate(found[j])}
        out[:, k] = [at[cell] for cell in columns[j]]
    return out


def _mixed(matrix: U8, words: Sequence[int]) -> dict[str, Array]:
    distances, _ = parents.contexts_for(matrix)
    data = mixed.encode(matrix.ravel(), distances, _bits(words), mixed.STEADY)
    flat = distances.reshape(-1, mixed.REACH).astype(np.int16)
    return {"matrix": np.frombuffer(data, np.uint8), "distances": flat}


def _bits(words: Sequence[int]) -> U8:
    return np.array([max(1, (number - 1).bit_length()) for number in words], np.uint8)


def _apart(cells: Column, words: list[bytes]) -> _Way:
    """The smallest way of a column by itself."""
    ways = []
    parsed = numbers.parsed(cells)
    if parsed is not None:
        for delta in (False, True):
            arrays = numbers.arrays_of(parsed, delta)
            spec: Json = ["numbers", parsed.digits, parsed.width, int(delta), len(parsed.words)]
            ways.append(_Way(_size(arrays, parsed.words), spec, arrays, parsed.words))
    if FEW < len(words) < len(cells) // 2:
        at = {word: code for code, word in enumerate(words)}
        names: dict[str, Array] = {"names": np.array([at[cell] for cell in cells], np.uint32)}
        ways.append(_Way(_size(names, words), ["names", len(words)], names, words))
    if len(words) > FEW and (parsed is None or parsed.kinds.size):
        text = b"\n".join(cells)
        codec, data = mixed.code_bytes(text)
        ways.append(_Way(data.size, ["text", codec, len(text)], {"text": data}, ()))
    # What has few words and is no number is coded beside others, whatever that takes.
    return min(ways, key=lambda way: way.size, default=_Way(float("inf"), None, {}, ()))


def _size(arrays: Mapping[str, Array], words: Sequence[bytes]) -> float:
    """Bytes; words are taken to halve."""
    coded = sum(len(encode_array(array, "dense")[1]) for array in arrays.values())
    return coded + sum(len(word) + 1 for word in words) / 2


def decode(
    specs: Sequence[Json], arrays: Mapping[str, Array], words: Sequence[bytes], rows: int, most: int, place: str
) -> list[Column]:
    """The columns of `rows` cells, of `most` bytes together at most; raises FormatError."""
    taken = iter(_shares(specs, words, place))
    found: list[Column] = []
    codes = _codes(specs, arrays, rows, place)
    used = {"matrix", "distances"} if codes is not None else set()
    for j, spec in enumerate(specs):
        mine, own = next(taken), {name: arrays[f"{name} {j}"] for name in _NAMES if f"{name} {j}" in arrays}
        used |= {f"{name} {j}" for name in own}
        column = _column(spec, own, mine, codes, rows, most, f"{place}, column {j}")
        found.append(column)
        most -= sum(map(len, column))
    if set(arrays) != used or most < 0:
        raise broken(
            place, "its arrays must belong to columns, of no more bytes than stated", repr(sorted(arrays))[:200]
        )
    return found


_NAMES = ("values", "places", "kinds", "names", "text")
_FIELDS: dict[str, tuple[type, ...]] = {
    "codes": (int,), "names": (int,), "numbers": (int, int, int, int), "text": (str, int),
}  # fmt: skip
"""What follows the kind in a column's record; the number of words is last, but for text."""


def _shares(specs: Sequence[Json], words: Sequence[bytes], place: str) -> list[tuple[bytes, ...]]:
    """The words of each column."""
    out, at = [], 0
    for spec in specs:
        fields = _FIELDS.get(spec[0]) if isinstance(spec, list) and spec and isinstance(spec[0], str) else None
        right = fields is not None and len(spec) == 1 + len(fields)
        if not right or not all(type(x) is kind for x, kind in zip(spec[1:], fields or (), strict=True)):
            raise broken(place, f"a column must be one of {', '.join(_FIELDS)}", repr(spec)[:100], "Upgrade attar.")
        if any(isinstance(x, int) and not 0 <= x < 1 << 40 for x in spec[1:]):
            raise broken(place, "a column's numbers must be 0 or more", repr(spec)[:100])
        number = 0 if spec[0] == "text" else int(spec[-1])
        if number > len(words) - at:
            raise broken(place, f"{len(words)} words must suffice", f"{at + number} asked for")
        out.append(tuple(words[at : at + number]))
        at += number
    if at != len(words):
        raise broken(place, "every word must belong to a column", f"{len(words)} for {at}")
    return out


def _codes(specs: Sequence[Json], arrays: Mapping[str, Array], rows: int, place: str) -> dict[int, U8] | None:
    """Codes by column, for those that are coded beside each other."""
    few = [j for j, spec in enumerate(specs) if spec[0] == "codes"]
    if not few:
        return None
    data, flat = arrays.get("matrix"), arrays.get("distances")
    shape = (len(few) * mixed.CONTEXTS, mixed.REACH)
    if data is None or flat is None or data.dtype != np.uint8 or data.ndim != 1:
        raise broken(place, "codes need a matrix and distances", repr(sorted(arrays))[:200])
    if flat.dtype != np.int16 or flat.shape != shape or not all(1 <= specs[j][1] <= FEW for j in few):
        raise broken(place, f"distances must be int16 {list(shape)}, words 1 to {FEW}", f"{flat.dtype} {flat.shape}")
    distances = flat.astype(np.int32).reshape(len(few), mixed.CONTEXTS, mixed.REACH)
    bits, number = _bits([specs[j][1] for j in few]), count((rows, len(few)))
    symbols = mixed.decode(data, distances, bits, mixed.STEADY, number, mixed.CODES_A_BYTE).reshape(rows, len(few))
    return {j: symbols[:, k] for k, j in enumerate(few)}


def _column(
    spec: Json, arrays: Mapping[str, Array], words: tuple[bytes, ...], codes: dict[int, U8] | None, rows: int,
    most: int, place: str,
) -> Column:  # fmt: skip
    kind = spec[0]
    if kind == "numbers":
        return numbers.texts(numbers.numbers_from((spec[1], spec[2], spec[3]), words, arrays, rows, place))
    if kind == "text":
        return _text(spec, arrays, rows, most, place)
    if kind == "codes":
        assert codes is not None
        own = codes[int(place.rpartition(" ")[2])]
    else:
        own = arrays.get("names", np.zeros(0))
        if own.dtype != np.uint32 or own.shape != (rows,):
            raise broken(place, f"names must be uint32 [{rows}]", f"{own.dtype} {list(own.shape)}")
    number = np.bincount(own, minlength=len(words)) if own.size and int(own.max()) < len(words) else None
    if number is None or sum(int(n) * len(word) for n, word in zip(number, words, strict=True)) > most:
        raise broken(place, f"codes must be below {len(words)}, their words of {most} bytes together", "others")
    return list(map(words.__getitem__, own.tolist()))


def _text(spec: Json, arrays: Mapping[str, Array], rows: int, most: int, place: str) -> Column:
    data = arrays.get("text")
    if data is None or data.dtype != np.uint8 or data.ndim != 1 or spec[2] > most + rows:
        raise broken(place, f"its text must be bytes, {most + rows} at most", str(spec[2]))
    cells = mixed.bytes_of(spec[1], data, spec[2])
    if cells.count(b"\n") != rows - 1:
        raise broken(place, f"its text must have {rows} lines", str(cells.count(b"\n") + 1))
    return cells.split(b"\n")
