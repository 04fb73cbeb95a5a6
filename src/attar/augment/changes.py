"""The changes that there are, by kind of example: a new one is a function, its parameters and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.augment import audio, images, tables, text
from attar.errors import UsageError
from attar.parameters import checked
from attar.types import Array


@dataclass(frozen=True)
class Change:
    """Parameters and function; `idle` are the parameters under which nothing changes.

    `usual`: whether it is done where a plan names no changes, because it keeps the labels of nearly all data.
    """

    Params: type
    apply: Callable[..., Any]
    idle: Mapping[str, float]
    usual: bool = False

    @property
    def help(self) -> str:
        """One line."""
        return str(self.Params.__doc__)


CHANGES: dict[str, dict[str, Change]] = {
    "images": {
        "flip": Change(images.Flip, images.flip, {"share": 0}),
        "shift": Change(images.Shift, images.shift, {"reach": 0}, usual=True),
        "rotate": Change(images.Rotate, images.rotate, {"degrees": 0}),
        "zoom": Change(images.Zoom, images.zoom, {"share": 0}),
        "brightness": Change(images.Brightness, images.brightness, {"share": 0}, usual=True),
        "contrast": Change(images.Contrast, images.contrast, {"share": 0}, usual=True),
        "noise": Change(images.Noise, images.noise, {"share": 0}, usual=True),
        "erase": Change(images.Erase, images.erase, {"side": 0}),
    },
    "audio": {
        "speed": Change(audio.Speed, audio.speed, {"share": 0}),
        "shift": Change(audio.Shift, audio.shift, {"reach": 0}, usual=True),
        "gain": Change(audio.Gain, audio.gain, {"decibels": 0}, usual=True),
        "noise": Change(audio.Noise, audio.noise, {"share": 0}, usual=True),
    },
    "text": {
        "drop": Change(text.Drop, text.drop, {"share": 0}, usual=True),
        "swap": Change(text.Swap, text.swap, {"share": 0}, usual=True),
        "typos": Change(text.Typos, text.typos, {"share": 0}, usual=True),
        "case": Change(text.Case, text.case, {"share": 0}),
    },
    "tables": {
        "interpolate": Change(tables.Interpolate, tables.interpolate, {"share": 0}),
        "jitter": Change(tables.Jitter, tables.jitter, {"share": 0}, usual=True),
        "missing": Change(tables.Missing, tables.missing, {"share": 0}),
    },
}
"""By kind and name, in the order in which they are done."""

Params = Mapping[str, Any]
"""The parameters of chosen changes by name."""


def chosen(kinds: Iterable[str], given: Mapping[str, Mapping[str, Any]], place: str) -> dict[str, Any]:
    """Parameters by name of the given changes, in the order in which they are done; the usual ones where none is given.

    Raises UsageError for an unknown name, an unknown parameter, or a value out of range; `place` is the table's.
    """
    known = {name: change for kind in kinds for name, change in CHANGES[kind].items()}
    for name, values in given.items():
        if name not in known:
            raise UsageError(
                f"{place or 'recipe'}: a change of {' and '.join(kinds)} must be one of {', '.join(known)}. "
                f"Received {name!r}. Correct the name."
            )
        if not isinstance(values, Mapping):
            raise UsageError(
                f"{_inside(place, name)}: a change must be a table of parameters. Received {values!r}. "
                f"Write [{_inside(place, name)}], with its parameters below."
            )
    wanted = given or {name: {} for name, change in known.items() if change.usual}
    return {
        name: checked(change.Params, _inside(place, name), wanted[name])
        for name, change in known.items()
        if name in wanted
    }


def _inside(place: str, name: str) -> str:
    """The place of a table within another."""
    return f"{place}.{name}" if place else name


GOLDEN = np.uint64(0x9E3779B97F4A7C15)
AT_ONCE = 1 << 20
"""Random numbers that are made at once."""
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function."""
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


class Keyed:
    """Uniform numbers [examples, *shape], an example's from (seed, change, its index, copy) alone.

    One stream of SplitMix64 (Steele, Lea and Flood 2014) for each example, all of them advanced at once: a numpy
    Generator for each would be a loop in Python, and one for all would make an example's numbers depend on its block.
    """

    def __init__(self, seed: int, change: str, indices: Array, copy: int) -> None:
        base = np.frombuffer(blake2b(f"{seed} {change} {copy}".encode(), digest_size=8).digest(), "<u8")
        with np.errstate(over="ignore"):
            self.keys = _mixed(base + (np.asarray(indices).astype(np.uint64) + np.uint64(1)) * GOLDEN)
        self.used = 0

    def __call__(self, *shape: int) -> NDArray[np.float64]:
        """The next numbers in [0, 1)."""
        count = int(np.prod(shape, dtype=np.int64))
        found = np.empty((len(self.keys), count))
        size = max(AT_ONCE // max(len(self.keys), 1), 1)
        for start in range(0, count, size):
            lanes = np.arange(start, min(start + size, count), dtype=np.uint64) + np.uint64(self.used + 1)
            with np.errstate(over="ignore"):
                bits = _mixed(self.keys[:, None] + lanes * GOLDEN)
            found[:, start : start + size] = (bits >> np.uint64(11)) * 2.0**-53
        self.used += count
        return found.reshape(len(self.keys), *shape)


Draws = Callable[[str], images.Draw]
"""By name of the change, what it draws from."""


def change_planes(x: Array, kind: str, params: Params, draws: Draws, span: images.Span) -> Array:
    """A batch of images [n, c, h, w] or sounds [n, c, samples] with the changes done in order; dtype and range stay."""
    x = np.ascontiguousarray(x)  # sums over an example are then the same in every block
    for name, params_of in params.items():
        x = images.finished(CHANGES[kind][name].apply(x, params_of, draws(name), span), x.dtype, span)
        x = np.ascontiguousarray(x)
    return x


def change_text(value: str, params: Params, draws: Draws) -> str:
    """A text with the changes done in order."""
    for name, params_of in params.items():
        value = CHANGES["text"][name].apply(value, params_of, draws(name))
    return value


def change_rows(columns: tables.Columns, rows: NDArray[np.int64], params: Params, draws: Draws) -> NDArray[np.float64]:
    """Rows of a table of numbers with the changes done in order."""
    return columns.changed(rows, [(CHANGES["tables"][name].apply, params[name], draws(name)) for name in params])
