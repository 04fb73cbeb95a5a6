"""A model's graph in the few words that coupling needs: which adapters translate their operators to.

Values (activations) have names and sizes, examples on any axis; a free size is any number that no other is. Tensors
(what is stored) have names and shapes of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Sizes = tuple[int, ...]
Factors: TypeAlias = Literal["", "same", "product", "own"]
"""What an operator makes of positive factors by channel.

"same": all operands and carrying vectors times s give the output times s (sums, ReLU, pooling, batch norm's shift and
mean). "product": factors of operands multiply, and vectors scale the output (products and quotients). "own": the
output's channels are scaled by the carrying vectors alone (the gain and shift of a layer norm). "": not described, so
that no factor may reach it.
"""


@dataclass(frozen=True, slots=True)
class Vector:
    """A stored tensor that an operator broadcasts over its output: (own axis, axis of the output) that go together.

    carries: it is to be scaled with the channels that it goes along with (a bias; not a variance or a slope).
    """

    tensor: str
    axes: tuple[tuple[int, int], ...]
    carries: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """One operator: what it is called in messages, the values it reads, and those it makes."""

    place: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Multiply(Node):
    """A product with a stored weight: channels on x_axis are summed with in_axis, out_axis becomes y_axis.

    in_axis is None for a lookup. window: other axes are summed over as well (a convolution). A depthwise convolution
    is one whose groups are its input's channels; its in_axis is of size one. linear: its output is scaled with its rows
    (not so where an activation is fused with it).
    """

    weight: str
    out_axis: int
    in_axis: int | None
    x_axis: int
    y_axis: int
    groups: int = 1
    window: bool = False
    vectors: tuple[Vector, ...] = ()
    linear: bool = True


@dataclass(frozen=True, slots=True)
class Along(Node):
    """Anything that works position by position, with broadcasting, but for the axes in `mixed`.

    Additions, activations and norms by channel; also pooling, softmax and means, which mix some axes, and drop those
    where `drop`. factors: see `Factors`.
    """

    vectors: tuple[Vector, ...] = ()
    mixed: tuple[int, ...] = ()
    drop: bool = False
    factors: Factors = ""


@dataclass(frozen=True, slots=True)
class Join(Node):
    """Values one after the other along an axis."""

    axis: int


@dataclass(frozen=True, slots=True)
class Part(Node):
    """A value cut along an axis into its outputs, one after the other."""

    axis: int


@dataclass(frozen=True, slots=True)
class Permute(Node):
    """Axes in another order."""

    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reshape(Node):
    """The same elements with other sizes; those of the `rigid` new axes cannot be changed."""

    rigid: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Contract(Node):
    """A product of two values, [..., m, k] and [..., k, n]; other inputs have a say in its first factor.

    Attention is one of its query and its values, the keys beside them.
    """


@dataclass(frozen=True, slots=True)
class Opaque(Node):
    """An operator that is not known here: every channel that it reads must stay, and so must what it makes."""

    reason: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in execution order, the sizes of values and tensors, and the values that the model hands out.

    examples: the size that stands for the number of examples. Values that no node makes are the model's inputs.
    """

    nodes: Sequence[Node]
    values: Mapping[str, Sizes]
    tensors: Mapping[str, Sizes]
    outputs: Sequence[str]
    examples: int
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Tensors that are used in a way that is not described, with the reason."""
    zeros: frozenset[str] = frozenset()
    """Tensors that are constantly zero, whatever they are scaled by: what a folded norm leaves behind."""
