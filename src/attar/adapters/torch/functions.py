"""Functions that transformers are written with, in the words of `attar.structure.graph`; see handlers.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import fx

from attar.adapters.torch.calls import name_of
from attar.adapters.torch.groups import Reader
from attar.structure.graph import Contract, Multiply, Node, Reshape

Handler = Callable[[Reader, fx.Node], Node | None]


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """One that may be given by its place or by its name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def _layer_norm(reader: Reader, node: fx.Node) -> Node | None:
    """layer_norm(x, shape, weight, bias, eps), rms_norm(x, shape, weight, eps): gain and shift are the factors."""
    shape = argument(node, 1, "normalized_shape")
    parts = [argument(node, 2, "weight")]
    if name_of(node.target) == "layer_norm":
        parts.append(argument(node, 3, "bias"))
    own = [reader.stored(part) for part in parts if part is not None]
    if not isinstance(shape, list | tuple) or None in own or not reader.is_value(node.args[0]):
        return None
    vectors = [replace(reader.broadcast(str(name), reader.rank(node)), carries=True) for name in own]
    return reader.along(node, node.args[:1], range(-len(shape), 0), more=vectors, factors="own")


def _embedding(reader: Reader, node: fx.Node) -> Node | None:
    """embedding(ids, weight, padding_idx, max_norm)."""
    ids: Any = node.args[0]
    weight = reader.stored(argument(node, 1, "weight"))
    if weight is None or not reader.is_value(ids) or argument(node, 3, "max_norm") is not None:
        return None
    return Multiply(node.name, (ids.name,), (node.name,), weight, 1, None, -1, -1)


def _addmm(reader: Reader, node: fx.Node) -> Node | None:
    """addmm(bias, x, weight), without factors of its own."""
    if node.kwargs or len(node.args) != 3:
        return None
    bias, weight, source = reader.stored(node.args[0]), reader.stored(node.args[2]), node.args[1]
    if bias is None or weight is None or not isinstance(source, fx.Node) or not reader.is_value(source):
        return None
    vectors = (reader.broadcast(bias, reader.rank(node)),)
    return Multiply(node.name, (source.name,), (node.name,), weight, 1, 0, -1, -1, 1, False, vectors)


def _attention(reader: Reader, node: fx.Node) -> Node | None:
    """scaled_dot_product_attention(query, key, value, ...): weights from two values, means of the third."""
    items = [argument(node, place, name) for place, name in enumerate(("query", "key", "value"))]
    if not all(reader.is_value(item) for item in items):
        return None
    mask = argument(node, 3, "attn_mask")
    others = [items[1], *([mask] if isinstance(mask, fx.Node) and reader.is_value(mask) else [])]
    names = (items[0].name, items[2].name, *(other.name for other in others))
    return Contract(node.name, names, (node.name,))


def _expand(reader: Reader, node: fx.Node) -> Node | None:
    """Axes of size one made longer; no new ones."""
    source: Any = node.args[0]
    if not reader.is_value(source) or reader.rank(source) != reader.rank(node):
        return None
    return reader.along(node, node.args[:1], factors="same")


def added_axes(reader: Reader, node: fx.Node) -> Node | None:
    """x[:, None, ...] that cuts nothing."""
    source: Any = node.args[0]
    index: Any = node.args[1] if isinstance(node.args[1], tuple | list) else (node.args[1],)
    whole = all(part is None or part is Ellipsis or part == slice(None) for part in index)
    return Reshape(node.name, (source.name,), (node.name,)) if whole and reader.is_value(source) else None


FUNCTIONS: dict[str, Handler] = {
    "layer_norm": _layer_norm, "rms_norm": _layer_norm, "embedding": _embedding, "addmm": _addmm,
    "scaled_dot_product_attention": _attention, "expand": _expand, "expand_as": _expand,
}  # fmt: skip
