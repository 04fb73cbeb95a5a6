"""Which channels can be scaled so that the model's function stays: made s times larger, read s times smaller.

The walk of `coupling` again, with labels that stand for a factor instead of a channel: a depthwise kernel has two for
each of its rows (its input's and its output's), what is added together shares one, and whatever is not positively
homogeneous holds its own at one. What an operator makes of factors is `Along.factors`, said by the adapter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from attar.structure.base import Index, Member, Scalable, Side
from attar.structure.coupling import Handlers, Labels, Walk, follow, join, opaque, part, permute
from attar.structure.graph import Along, Contract, Graph, Join, Multiply, Opaque, Part, Permute, Reshape, Vector
from attar.structure.occurrences import alike, index_of
from attar.structure.reshaping import relabelled

Key = tuple[str, int, bool]
"""A tensor, its axis, and whether it is divided by the factors (it reads the channels)."""


class Factors(Walk):
    """Labels so far; carriers are the axes of tensors that are multiplied (made) or divided (read) by the factors."""

    def __init__(self, graph: Graph, still: Collection[str] = ()):
        """still: products with a gain whose other operand is known to keep its own scale."""
        super().__init__(graph)
        self.still = still
        self.gained: dict[str, Labels] = {}
        self.carriers: dict[Key, Labels] = {}
        self.side: dict[Key, Side] = {}
        self._roles: dict[str, set[frozenset[tuple[int, bool]]]] = {}

    def carrier(self, tensor: str, axis: int, side: Side, *, read: bool = False) -> Labels:
        """The labels of a tensor's axis, new ones at its first use."""
        key = tensor, axis % len(self.graph.tensors[tensor]), read
        if key not in self.carriers:
            self.carriers[key] = self.fresh(self.graph.tensors[tensor][key[1]])
            self.side[key] = side
        return self.carriers[key]

    def used(self, tensor: str, *axes: tuple[int, bool]) -> None:
        """That an operator uses a tensor with factors on these axes (axis, read), and no others."""
        ndim = len(self.graph.tensors[tensor])
        self._roles.setdefault(tensor, set()).add(frozenset((axis % ndim, read) for axis, read in axes))

    def settle(self) -> None:
        """Hold tensors that operators use in different ways, or in one that is not described."""
        for (tensor, _, _), labels in self.carriers.items():
            if tensor in self.graph.unknown:
                self.fix(labels, self.graph.unknown[tensor])
            elif len(self._roles.get(tensor, ())) != 1:
                self.fix(labels, f"{tensor} is used in several ways")

    def standing(self, classes: Index, reasons: Mapping[int, str]) -> list[str]:
        """Products with a gain, whose other operand cannot be scaled after all."""
        held = np.array(sorted(reasons), np.int64)
        return [place for place, labels in self.gained.items() if np.isin(classes[labels], held).all()]


def scalable(graph: Graph) -> tuple[Scalable, ...]:
    """Groups of two or more channels that are made somewhere, read somewhere, and homogeneous in between.

    Where a value cannot be scaled, a gain that it is multiplied by can (a norm that is written as a quotient and a
    product): that shows at the end of the walk, which is then done again.
    """
    walk, classes, reasons = _walked(graph, ())
    again = walk.standing(classes, reasons)
    if again:
        walk, classes, reasons = _walked(graph, again)
    found: list[Scalable] = []
    for places, channels in alike(walk.carriers, classes, reasons).items():
        keys = [key for key, _ in places]
        if len(channels) < 2 or {read for _, _, read in keys} != {True, False}:
            continue
        found.append(_group(walk, classes, dict(places), channels, len(found)))
    return tuple(found)


def _walked(graph: Graph, still: Collection[str]) -> tuple[Factors, Labels, dict[int, str]]:
    walk = Factors(graph, still)
    follow(walk, _HANDLERS)
    walk.settle()
    return walk, *walk.classes()


def _group(walk: Factors, classes: Index, counts: dict[Key, int], channels: Index, number: int) -> Scalable:
    members: dict[bool, list[Member]] = {False: [], True: []}
    for (tensor, axis, read), count in counts.items():
        index = index_of(classes[walk.carriers[tensor, axis, read]], channels, count)
        members[read].append(Member(tensor, axis, index, walk.side[tensor, axis, read]))
    return Scalable(f"{members[False][0].tensor}#{number}", len(channels), tuple(members[False]), tuple(members[True]))


def _multiply(walk: Factors, node: Multiply) -> None:
    sizes = walk.graph.tensors[node.weight]
    x, y = list(walk.value(node.inputs[0])), walk.graph.values[node.outputs[0]]
    source = x[node.x_axis] if node.in_axis is not None else None
    channels = walk.graph.values[node.inputs[0]][node.x_axis] if node.in_axis is not None else 0
    depthwise = node.groups > 1 and node.groups == channels
    rows = walk.carrier(node.weight, node.out_axis, "out")
    if node.in_axis is None:
        walk.used(node.weight, (node.out_axis, False))
    else:
        axis = node.out_axis if depthwise else node.in_axis
        columns = walk.carrier(node.weight, axis, "with" if depthwise else "in", read=True)
        walk.used(node.weight, (node.out_axis, False), (axis, True))
        if source is None:
            walk.fix(columns, "it reads what has no factors")
        elif depthwise:
            walk.unite(columns.reshape(len(source), -1), source[:, None])
        elif sizes[node.in_axis] * node.groups == len(source):
            walk.unite(source.reshape(node.groups, -1), columns)
        else:
            walk.fix(source, f"read by {node.place} in groups that do not divide them")
            walk.fix(columns, f"read by {node.place} in groups that do not divide them")
    made: list[Labels | None] = list(x) if not node.window and len(x) == len(y) else [None] * len(y)
    for axis, labels in enumerate(x if node.window or len(x) != len(y) else ()):
        walk.fix(None if axis == node.x_axis % len(x) else labels, f"summed over by {node.place}")
    made[node.y_axis] = rows
    for vector in node.vectors:
        _carry(walk, vector, made)
    if not node.linear:
        for labels in made:
            walk.fix(labels, f"{node.place} is not homogeneous")
    walk.values[node.outputs[0]] = tuple(made)


def _carry(walk: Factors, vector: Vector, made: Sequence[Labels | None]) -> None:
    """A vector that is added: it must have an entry for every channel that is scaled, unless it is zero."""
    if vector.tensor in walk.graph.zeros:
        return
    own = {axis: place for place, axis in vector.axes}
    walk.used(vector.tensor, *((place, False) for place in own.values()))
    for axis, labels in enumerate(made):
        carried = walk.carrier(vector.tensor, own[axis], "with") if axis in own else None
        if labels is None or carried is None or len(labels) != len(carried):
            walk.fix(labels, f"{vector.tensor} is the same for channels")
            walk.fix(carried, "it goes along with what has no factors")
        else:
            walk.unite(labels, carried)


def _along(walk: Factors, node: Along) -> None:
    ndim = max(len(walk.value(name)) for name in node.inputs)
    mixed = {axis % ndim for axis in node.mixed}
    made: list[Labels | None] = [None] * ndim
    if node.factors in ("same", "product"):
        made = [_shared(walk, node, axis) for axis in range(-ndim, 0)]
        for axis in mixed:
            walk.fix(made[axis], f"mixed by {node.place}")
            made[axis] = None
    else:
        for name in node.inputs:
            for labels in walk.value(name):
                walk.fix(labels, f"{node.place} is not homogeneous")
    sizes = walk.graph.values[node.outputs[0]]
    for axis, labels in enumerate(made if not node.drop else ()):
        if labels is not None and len(labels) != sizes[axis]:
            walk.fix(labels, f"broadcast by {node.place}")
            made[axis] = None
    _vectors(walk, node, made)
    walk.values[node.outputs[0]] = tuple(labels for i, labels in enumerate(made) if not (node.drop and i in mixed))


def _vectors(walk: Factors, node: Along, made: list[Labels | None]) -> None:
    """Stored operands: shifts go with the factors, gains make new ones where what they scale has none."""
    along = {axis for vector in node.vectors for _, axis in vector.axes}
    single = len(along) == 1 and all(vector.carries and vector.axes for vector in node.vectors)
    for vector in node.vectors:
        if node.factors == "same" and vector.carries:
            _carry(walk, vector, made)
        elif node.factors == "own" and single:
            ((place, axis),) = vector.axes
            walk.used(vector.tensor, (place, False))
            labels, before = walk.carrier(vector.tensor, place, "with"), made[axis]
            if before is not None:
                walk.unite(labels, before)
            made[axis] = labels
        elif node.factors == "product" and single and len(node.vectors) == 1:
            ((place, axis),) = vector.axes
            made[axis] = _gained(walk, node, vector, place, made[axis])
        else:
            walk.used(vector.tensor)


def _gained(walk: Factors, node: Along, vector: Vector, place: int, before: Labels | None) -> Labels | None:
    """The factors of a product with a gain: its own where the other operand has none, else those of the operand."""
    if before is not None:
        walk.gained[node.place] = before
        if node.place not in walk.still:
            walk.used(vector.tensor)
            return before
        walk.fix(before, f"multiplied by {vector.tensor}")
    walk.used(vector.tensor, (place, False))
    return walk.carrier(vector.tensor, place, "out")


def _shared(walk: Factors, node: Along, axis: int) -> Labels | None:
    """The labels of one axis (counted from the end) of what operands give; what cannot have factors is held."""
    operands = [(walk.value(name), walk.graph.values[name]) for name in node.inputs]
    found = [labels[axis] if len(sizes) >= -axis else None for labels, sizes in operands]
    known = [labels for labels in found if labels is not None]
    if not known:
        return None
    if node.factors == "same" and len(known) == len(found) and len({len(labels) for labels in known}) == 1:
        for labels in known[1:]:
            walk.unite(known[0], labels)
        return known[0]
    widest = max(sizes[axis] for _, sizes in operands if len(sizes) >= -axis)
    if node.factors == "product" and len(known) == 1 and len(known[0]) == widest:
        return known[0]
    for labels in known:
        walk.fix(labels, f"{node.place} combines it with what has other factors")
    return None


def _reshape(walk: Factors, node: Reshape) -> None:
    before, after = walk.graph.values[node.inputs[0]], walk.graph.values[node.outputs[0]]
    made = relabelled(walk.value(node.inputs[0]), before, after, walk.unite, last=True)
    if made is None:
        opaque(walk, Opaque(node.place, node.inputs, node.outputs, f"reshaped by {node.place} across axes"))
    else:
        walk.values[node.outputs[0]] = made


def _contract(walk: Factors, node: Contract) -> None:
    """A product of two values: rows of the left and columns of the right hand their factors on."""
    left, right, *others = (walk.value(name) for name in node.inputs)
    for labels in (*left[:-2], left[-1], *right[:-1], *(labels for other in others for labels in other)):
        walk.fix(labels, f"summed by {node.place} with another value")
    ndim = len(walk.graph.values[node.outputs[0]])
    walk.values[node.outputs[0]] = (*(None,) * (ndim - 2), left[-2], right[-1])


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
