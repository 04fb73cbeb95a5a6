"""Sizes and tensors' metadata of an exported program in few words: what follows from something else is left out.

"Full" is as torch.export's JSON has it, a "code" is what a skeleton stores.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from attar.types import Json

FLOAT32 = 7
PLAIN = {
    "device": {"index": None, "type": "cpu"}, "layout": 7, "storage_offset": {"as_int": 0}, "dtype": FLOAT32,
    "sizes": [], "strides": [], "requires_grad": False,
}  # fmt: skip
"""A tensor of which nothing is known."""
ROOM = 1 << 28
"""Characters that all values may take: a damaged file could otherwise make much out of little."""
VALUE = 1000
"""Characters that a value and its node take beside its sizes, about."""
_LONG = re.compile(r"Symbol\('([suz]f?\d+)', positive=True, integer=True\)")
_SHORT = re.compile(r"(?<!')\b([suz]f?\d+)\b")


class Sizes:
    """Codes of sizes: a number that is known as itself, an expression as -1 - its place in a table."""

    def __init__(self, table: Iterable[Json] = ()):
        self._full = [_full_expression(entry) for entry in table]
        self._places = {str(entry): place for place, entry in enumerate(self._full)}
        self._room = ROOM

    def table(self) -> list[Json]:
        """The expressions so far."""
        return [_expression(entry) for entry in self._full]

    def symbols(self) -> list[str]:
        """Names of the expressions that are one symbol."""
        names = [_LONG.fullmatch(entry["as_expr"]["expr_str"]) for entry in self._full]
        return [name[1] for name in names if name]

    def code(self, size: Json) -> Json:
        """Of {"as_int": n} or {"as_expr": ...}, which is put into the table; anything else stays as it is."""
        if set(size) == {"as_int"} and size["as_int"] >= 0:
            return size["as_int"]
        if set(size) != {"as_expr"}:
            return size
        if str(size) not in self._places:
            self._places[str(size)] = len(self._full)
            self._full.append(size)
        return -1 - self._places[str(size)]

    def full(self, code: Json) -> Json:
        """The inverse of code; raises IndexError."""
        if not isinstance(code, int):
            return code
        return {"as_int": code} if code >= 0 else self._full[-1 - code]

    def spend(self, value: Json) -> Json:
        """Count one more value, a tensor's metadata or a size; raises ValueError where there is no more room."""
        sizes = (*value["sizes"], *value["strides"]) if "sizes" in value else (value,)
        self._room -= VALUE + sum(len(str(size)) for size in sizes)
        if self._room < 0:
            raise ValueError(f"the values take more than {ROOM} characters")
        return value


def _expression(full: Json) -> Json:
    """[text, hint] where the symbols in it are the usual ones and the hint is a number."""
    inner = full["as_expr"]
    text = _LONG.sub(r"\1", inner["expr_str"])
    hint = inner.get("hint")
    short = [text, *hint.values()] if isinstance(hint, dict) else full
    return short if short is full or _full_expression(short) == full else full


def _full_expression(code: Json) -> Json:
    if isinstance(code, dict):
        return {"as_expr": {**code["as_expr"], "expr_str": str(code["as_expr"]["expr_str"])}}
    text, hint = code
    text = _SHORT.sub(r"Symbol('\1', positive=True, integer=True)", text)
    return {"as_expr": {"expr_str": text, "hint": {"as_int": hint}}}


def code_meta(meta: Json, usual: Json, sizes: Sizes) -> Json:
    """0 where it is as usual, the sizes where these alone differ, otherwise the fields that do."""
    other = {field: value for field, value in meta.items() if usual.get(field) != value}
    if "sizes" in other:
        other["strides"] = meta["strides"]
        if meta["strides"] == contiguous(meta["sizes"]):
            del other["strides"]
    for field in ("sizes", "strides"):
        if field in other:
            other[field] = [sizes.code(size) for size in other[field]]
    if "storage_offset" in other:
        other["storage_offset"] = sizes.code(other["storage_offset"])
    return other["sizes"] if list(other) == ["sizes"] else other or 0


def full_meta(code: Json, usual: Json, sizes: Sizes) -> Json:
    """The inverse of code_meta; raises ValueError and IndexError."""
    other = dict(code) if isinstance(code, dict) else {} if code == 0 else {"sizes": code}
    for field in ("sizes", "strides"):
        if field in other:
            other[field] = [sizes.full(size) for size in other[field]]
    if "storage_offset" in other:
        other["storage_offset"] = sizes.full(other["storage_offset"])
    if "sizes" in other:
        other.setdefault("strides", contiguous(other["sizes"]))
    if other.get("strides", ()) is None:
        raise ValueError(f"no strides of {other['sizes']}")
    return sizes.spend({**usual, **other})


def contiguous(sizes: Json) -> Json:
    """Strides of a contiguous tensor whose only free size is its first; None otherwise."""
    strides, total = [], 1
    for place, size in reversed(list(enumerate(sizes))):
        strides.append({"as_int": total})
        if "as_int" in size:
            total *= max(size["as_int"], 1)
        elif place:
            return None
    return strides[::-1]


def result_of(target: str, tensors: Sequence[Json]) -> Json:
    """The most likely metadata of an operator's result: those of its first tensor, with a product's own channels."""
    if not tensors:
        return PLAIN
    meta = {**tensors[0], "storage_offset": {"as_int": 0}, "requires_grad": False}
    channels = _CHANNELS.get(target)
    if channels is not None and len(tensors) > 1 and meta["sizes"] and tensors[1]["sizes"]:
        meta["sizes"] = list(meta["sizes"])
        meta["sizes"][channels] = tensors[1]["sizes"][0]
        meta["strides"] = contiguous(meta["sizes"])
    return meta


_CHANNELS = {
    "torch.ops.aten.linear.default": -1,
    **{f"torch.ops.aten.conv{axes}d.default": -1 - axes for axes in (1, 2, 3)},
}
"""Products by the axis that has as many entries as the weight has rows."""
