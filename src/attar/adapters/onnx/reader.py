"""What a handler of `onnx_handlers` asks of an ONNX graph: stored tensors behind an input, sizes, axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from onnx import NodeProto

from attar.adapters.onnx.chain import Chain, resolve
from attar.adapters.onnx.graph import Scope, attribute, is_op
from attar.structure.graph import Sizes, Vector
from attar.structure.reshaping import runs


@dataclass
class Reader:
    """One graph on its way into neutral nodes."""

    scope: Scope
    values: dict[str, Sizes]
    tensors: dict[str, Sizes]
    unknown: dict[str, str] = field(default_factory=dict)

    def chain(self, node: NodeProto, place: int) -> Chain | None:
        """The stored tensor at an input; None where it is missing or computed."""
        name = node.input[place] if len(node.input) > place else ""
        return resolve(self.scope, name) if name else None

    def ints(self, node: NodeProto, name: str, place: int) -> tuple[int, ...] | None:
        """An attribute, or in newer versions a constant input, of whole numbers; None where missing or computed."""
        given: tuple[int, ...] | None = attribute(node, name)
        if given is None and (chain := self.chain(node, place)) is not None and chain.slot.values is not None:
            given = tuple(int(i) for i in chain.read().ravel())
        return given

    def rank(self, name: str) -> int:
        """A value's number of axes; raises KeyError where it is not known."""
        return len(self.values[name])

    def vector(self, chain: Chain, ndim: int, at: int | None = None) -> Vector | None:
        """A constant that is broadcast over a value of `ndim` axes; with `at`, its one axis goes along that one."""
        pairs = []
        for axis, size in enumerate(chain.shape):
            if size > 1 or at is not None:
                own = stored_axis(chain, axis)
                if own is None:
                    return None
                pairs.append((own, axis - len(chain.shape) + ndim if at is None else at % ndim))
        return Vector(chain.slot.name, tuple(pairs))

    def computed(self, name: str) -> bool:
        """Whether an input is a value, not a stored tensor."""
        return bool(name) and resolve(self.scope, name) is None


def resolve_in(reader: Reader) -> Callable[[str], Chain | None]:
    """`resolve` in the reader's graph, None for no name."""
    return lambda name: resolve(reader.scope, name) if name else None


def stored_axis(chain: Chain, axis: int) -> int | None:
    """The axis of the stored tensor that an axis which the node sees comes from; None where it is not one axis."""
    shapes = [chain.slot.shape, *(step.shape for step in chain.steps)]
    for step, before, after in reversed(list(zip(chain.steps, shapes, shapes[1:], strict=False))):
        if is_op(step.node, "Transpose"):
            axis = (attribute(step.node, "perm") or tuple(reversed(range(len(before)))))[axis]
        elif before != after:
            found = [old for old, new in runs(before, after) or [] if axis in new]
            wide = [own for old in found for own in old if before[own] == after[axis]]
            if not found or len(wide) != 1 or any(before[own] > 1 for own in found[0] if own != wide[0]):
                return None
            axis = wide[0]
        elif not is_op(step.node, "Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze"):
            return None
    return axis
