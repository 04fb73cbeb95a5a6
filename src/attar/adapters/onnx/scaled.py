"""Whether an ONNX graph scales 8-bit images itself, so that they go in as they are, from 0 to 255."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from attar.adapters.onnx.chain import resolve
from attar.adapters.onnx.graph import Scope, is_op
from attar.adapters.parts import FEW, WIDE
from attar.types import Array

PASSING = ("Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Resize", "Pad", "Gather")
"""Operators that leave the range of pixels as wide as it is, as Add and Sub of a stored mean do."""


def takes_pixels(root: Scope, name: str) -> bool:
    """Whether all that reads an input divides it first, by one stored number or one for each channel."""
    return _fates(root, name) == {True}


def _fates(root: Scope, name: str) -> set[bool]:
    """For each use of pixels whether they are divided there."""
    readers = root.users.get(name, [])
    handed = {False} if root.uses[name] > len(readers) else set[bool]()
    return handed.union(*(_fates_in(root, node, name) for node in readers))


def _fates_in(root: Scope, node: NodeProto, name: str) -> set[bool]:
    """The same of one node and what follows it."""
    if is_op(node, "Div") and node.input[0] == name:
        by = _stored(root, node.input[1])
        return {by is not None and bool(np.abs(by).min(initial=np.inf) >= WIDE)}
    if is_op(node, "Mul", "Add", "Sub"):
        by = _stored(root, node.input[1] if node.input[0] == name else node.input[0])
        if by is None or is_op(node, "Mul"):
            return {by is not None and bool(np.abs(by).max(initial=0) * WIDE <= 1)}
    elif not is_op(node, *PASSING) or node.input[0] != name:
        return {False}
    return _fates(root, node.output[0])


def _stored(root: Scope, name: str) -> Array | None:
    """A few stored numbers; None for what is none, or as large as an image."""
    chain = resolve(root, name)
    return None if chain is None or np.prod(chain.slot.shape) > FEW else chain.read()
