"""Which channels go together in a graph: labels that operators hand on, and their union.

Every axis of a value that holds channels has one label for each position. A product's rows get new ones; an addition
unites those of its operands, a Concat puts them one after the other, a flatten repeats each for its map's positions.
In the end labels that were united are one channel, and channels that are in the same tensors alike make a group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from attar.structure.base import Side
from attar.structure.graph import Along, Contract, Graph, Join, Multiply, Node, Opaque, Part, Permute, Reshape, Vector
from attar.structure.reshaping import relabelled

Labels: TypeAlias = NDArray[np.int64]
Axes: TypeAlias = tuple[Labels | None, ...]
"""The labels of each axis of a value; None for an axis of which nothing can be removed, or that holds no channels."""


class Walk:
    """Labels so far, of values and of tensors' axes, and what is known of them."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.values: dict[str, Axes] = {}
        self.axes: dict[tuple[str, int], Labels] = {}
        self.sides: dict[tuple[str, int], Side] = {}
        self._count = 0
        self._pairs: list[tuple[Labels, Labels]] = []
        self._fixed: list[tuple[Labels, str]] = []

    def fresh(self, count: int) -> Labels:
        """New labels."""
        self._count += count
        return np.arange(self._count - count, self._count)

    def unite(self, a: Labels, b: Labels) -> None:
        """That labels are the same channel, pair by pair; arrays are broadcast."""
        left, right = np.broadcast_arrays(a, b)
        self._pairs.append((left.ravel(), right.ravel()))

    def fix(self, labels: Labels | None, reason: str) -> None:
        """That channels must stay."""
        if labels is not None:
            self._fixed.append((labels, reason))

    def value(self, name: str) -> Axes:
        """The labels of a value; none for a model's input."""
        return self.values.get(name) or (None,) * len(self.graph.values[name])

    def axis(self, tensor: str, axis: int, side: Side) -> Labels:
        """The labels of a tensor's axis, new ones at its first use."""
        key = tensor, axis % len(self.graph.tensors[tensor])
        if key not in self.axes:
            self.axes[key] = self.fresh(self.graph.tensors[tensor][key[1]])
            self.sides[key] = side
        return self.axes[key]

    def classes(self) -> tuple[Labels, dict[int, str]]:
        """The channel that each label is [labels], and the channels that must stay with the first reason."""
        left = np.concatenate([np.zeros(0, np.int64), *(a for a, _ in self._pairs)])
        right = np.concatenate([np.zeros(0, np.int64), *(b for _, b in self._pairs)])
        links = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(self._count, self._count))
        classes = connected_components(links, directed=False)[1].astype(np.int64) if self._count else left
        reasons: dict[int, str] = {}
        for labels, reason in self._fixed:
            for channel in np.unique(classes[labels]):
                reasons.setdefault(int(channel), reason)
        return classes, reasons


Handlers: TypeAlias = Mapping[type[Node], Callable[[Any, Any], None]]


def follow(walk: Walk, handlers: Handlers) -> None:
    """Hand labels on through all nodes, in order; a model's outputs must stay."""
    for node in walk.graph.nodes:
        if all(name in walk.graph.values for name in (*node.inputs, *node.outputs)):
            handlers[type(node)](walk, node)
        else:
            opaque(walk, Opaque(node.place, node.inputs, node.outputs, "its sizes are not known"))
    for name in walk.graph.outputs:
        for labels in walk.values.get(name, ()):
            walk.fix(labels, "an output of the model")


def walked(graph: Graph) -> Walk:
    """The labels of every value and tensor after all nodes."""
    walk = Walk(graph)
    follow(walk, _HANDLERS)
    for (tensor, _), labels in walk.axes.items():
        if tensor in graph.unknown:
            walk.fix(labels, graph.unknown[tensor])
    return walk


def _multiply(walk: Walk, node: Multiply) -> None:
    sizes = walk.graph.tensors[node.weight]
    x, y = list(walk.value(node.inputs[0])), walk.graph.values[node.outputs[0]]
    source = x[node.x_axis] if node.in_axis is not None else None
    channels = walk.graph.values[node.inputs[0]][node.x_axis] if node.in_axis is not None else 0
    depthwise = node.groups > 1 and node.groups == channels
    rows = walk.axis(node.weight, node.out_axis, "with" if depthwise else "out")
    if depthwise:
        _go_along(walk, rows, source)
    elif node.in_axis is not None:
        tied = rows.reshape(node.groups, -1)  # every group of a convolution loses as many rows
        walk.unite(tied, tied[0])
        columns = walk.axis(node.weight, node.in_axis, "in")
        if source is None:
            walk.fix(columns, "it reads what has no channels to remove")
        elif sizes[node.in_axis] * node.groups == len(source):
            walk.unite(source.reshape(node.groups, -1), columns)
        else:
            walk.fix(source, f"read by {node.place} in groups that do not divide them")
    made: list[Labels | None] = [None] * len(y)
    for axis, labels in enumerate(x if not node.window and len(x) == len(y) else ()):
        made[axis] = labels
    if node.window:
        for axis, labels in enumerate(x):
            walk.fix(None if axis == node.x_axis % len(x) else labels, f"summed over by {node.place}")
    made[node.y_axis] = rows
    _vectors(walk, node.vectors, made)
    walk.values[node.outputs[0]] = tuple(made)


def _go_along(walk: Walk, rows: Labels, source: Labels | None) -> None:
    """A depthwise kernel's rows are its input's channels, several in a row for each where there is a multiplier."""
    if source is None:
        walk.fix(rows, "depthwise on what has no channels to remove")
    else:
        walk.unite(rows.reshape(len(source), -1), source[:, None])


def _vectors(walk: Walk, vectors: Sequence[Vector], made: Sequence[Labels | None]) -> None:
    for vector in vectors:
        for own, axis in vector.axes:
            labels, given = walk.axis(vector.tensor, own, "with"), made[axis]
            if given is None or len(given) != len(labels):
                walk.fix(labels, "it goes along with what has no channels to remove")
                walk.fix(given, f"it goes along with {vector.tensor} of another size")
            else:
                walk.unite(labels, given)


def _along(walk: Walk, node: Along) -> None:
    ndim = max(len(walk.value(name)) for name in node.inputs)
    made = [aligned(walk, node, axis) for axis in range(-ndim, 0)]
    _vectors(walk, node.vectors, made)
    mixed = {axis % ndim for axis in node.mixed}
    for axis in mixed:
        walk.fix(made[axis], f"mixed by {node.place}")
        made[axis] = None
    walk.values[node.outputs[0]] = tuple(labels for i, labels in enumerate(made) if not (node.drop and i in mixed))


def aligned(walk: Walk, node: Node, axis: int) -> Labels | None:
    """The labels of one axis (counted from the end) of what operands broadcast to, united."""
    found: list[Labels | None] = []
    widest = max((walk.graph.values[n][axis] for n in node.inputs if len(walk.graph.values[n]) >= -axis), default=1)
    for name in node.inputs:
        operand, sizes = walk.value(name), walk.graph.values[name]
        if len(sizes) < -axis:
            continue
        if sizes[axis] < widest:
            walk.fix(operand[axis], f"broadcast by {node.place}")
        else:
            found.append(operand[axis])
    known = [labels for labels in found if labels is not None]
    if len(known) < len(found):
        for labels in known:
            walk.fix(labels, f"combined by {node.place} with what has no channels to remove")
        return None
    for labels in known[1:]:
        walk.unite(known[0], labels)
    return known[0] if known else None


def join(walk: Walk, node: Join) -> None:
    """Values one after the other keep their labels; what has none gets fixed ones."""
    sizes = walk.graph.values[node.outputs[0]]
    axis = node.axis % len(sizes)
    parts = [walk.value(name)[axis] for name in node.inputs]
    made = [None if i == axis else aligned(walk, node, i - len(sizes)) for i in range(len(sizes))]
    if any(part is not None for part in parts):
        filled = []
        for name, part in zip(node.inputs, parts, strict=True):
            if part is None:
                part = walk.fresh(walk.graph.values[name][axis])
                walk.fix(part, "no channels to remove")
            filled.append(part)
        made[axis] = np.concatenate(filled)
    walk.values[node.outputs[0]] = tuple(made)


def part(walk: Walk, node: Part) -> None:
    """Each part has its own stretch of the labels."""
    source, start = walk.value(node.inputs[0]), 0
    axis = node.axis % len(source)
    labels = source[axis]
    for name in node.outputs:
        stop = start + walk.graph.values[name][axis]
        own = None if labels is None else labels[start:stop]
        walk.values[name] = tuple(own if i == axis else other for i, other in enumerate(source))
        start = stop


def permute(walk: Walk, node: Permute) -> None:
    """Labels move with their axes."""
    source = walk.value(node.inputs[0])
    walk.values[node.outputs[0]] = tuple(source[axis] for axis in node.order)


def _reshape(walk: Walk, node: Reshape) -> None:
    source = walk.value(node.inputs[0])
    before, after = walk.graph.values[node.inputs[0]], walk.graph.values[node.outputs[0]]
    made = relabelled(source, before, after, walk.unite)
    if made is None:
        opaque(walk, Opaque(node.place, node.inputs, node.outputs, f"reshaped by {node.place} across axes"))
        return
    for axis in node.rigid:
        walk.fix(made[axis], f"{node.place} has its size written in code")
    walk.values[node.outputs[0]] = made


def _contract(walk: Walk, node: Contract) -> None:
    left, right = (walk.value(name) for name in node.inputs[:2])
    for labels in (label for name in node.inputs[2:] for label in walk.value(name)):
        walk.fix(labels, f"read by {node.place}")
    walk.fix(left[-1], f"summed by {node.place} with another value")
    walk.fix(right[-2], f"summed by {node.place} with another value")
    ndim = len(walk.graph.values[node.outputs[0]])
    made = [aligned(walk, node, axis) for axis in range(-ndim, -2)]
    walk.values[node.outputs[0]] = (*made, left[-2], right[-1])


def opaque(walk: Walk, node: Opaque) -> None:
    """Whatever is read must stay."""
    for name in node.inputs:
        for labels in walk.values.get(name, ()):
            walk.fix(labels, node.reason)
    for name in node.outputs:
        if name in walk.graph.values:
            walk.values[name] = (None,) * len(walk.graph.values[name])


_HANDLERS: Handlers = {
    Multiply: _multiply,
    Along: _along,
    Join: join,
    Part: part,
    Permute: permute,
    Reshape: _reshape,
    Contract: _contract,
    Opaque: opaque,
}
