"""Typed reading of JSON records: what is not of the stated type is a FormatError, never a surprise later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from attar.archive.base import MOST_AXES, ArrayInfo, broken, count
from attar.types import Json

T = TypeVar("T")


def typed(value: Json, kind: type[T], place: str) -> T:
    """The value, which is of this type."""
    if not isinstance(value, kind):
        raise broken(place, f"it must be a {kind.__name__}", type(value).__name__)
    return value


def row(value: Json, kinds: Sequence[Any], place: str) -> list[Any]:
    """A list with fields of these types; integers are 0 or more and not booleans."""
    found = typed(value, list, place)
    right = len(found) == len(kinds) and all(
        isinstance(x, kind) and not isinstance(x, bool) for x, kind in zip(found, kinds, strict=True)
    )
    if not right or any(isinstance(x, int) and not 0 <= x < 1 << 62 for x in found):
        raise broken(place, f"a record has {len(kinds)} fields of fixed types", repr(found)[:200])
    return found


def shape(value: list[Json], place: str) -> tuple[int, ...]:
    """Axes of 0 or more."""
    axes = tuple(_axes(value, place, lambda x: isinstance(x, int) and not isinstance(x, bool) and 0 <= x < 1 << 40))
    # An empty array takes no memory, but numpy multiplies its other axes.
    if 0 in axes and count(tuple(max(axis, 1) for axis in axes)) >= 1 << 48:
        raise broken(place, "the axes of an empty array must multiply to less than 2**48", repr(value)[:200])
    return axes


def array(item: Json, place: str) -> ArrayInfo:
    """[name, dtype, shape, coder, nbytes]."""
    name, dtype, axes, coder, nbytes = row(item, (str, str, list, str, int), place)
    return ArrayInfo(name, dtype, shape(axes, place), coder, nbytes)


def array_json(info: ArrayInfo) -> list[Json]:
    """What `array` reads."""
    return [info.name, info.dtype, list(info.shape), info.coder, info.nbytes]


def _axes(value: list[Json], place: str, right: Callable[[Json], bool]) -> list[int]:
    if len(value) > MOST_AXES or not all(right(x) for x in value):
        raise broken(place, f"a shape has up to {MOST_AXES} axes of 0 or more", repr(value)[:200])
    return value


def unique(names: Sequence[str], place: str) -> None:
    """That no name is there twice."""
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})[0]
        raise broken(place, "names must differ", f"{twice!r} twice")
