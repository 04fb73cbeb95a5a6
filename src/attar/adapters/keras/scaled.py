"""Whether a Keras model scales 8-bit images itself, so that they go in as they are, from 0 to 255."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from attar.adapters.parts import WIDE

PASSING = (
    "InputLayer", "Identity", "Cast", "Resizing", "CenterCrop", "RandomCrop", "RandomFlip", "RandomRotation",
    "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness", "ZeroPadding2D",
)  # fmt: skip
"""Operations that leave the range of pixels as it is when the model is in use."""


def takes_pixels(model: Any, number: int) -> bool:
    """Whether all that reads this input divides it first, as Rescaling(1 / 255) does; in nested models too."""
    graph = _graph(model)
    inputs = getattr(graph, "inputs", None)
    return bool(inputs) and _fates(graph, inputs[number]) == {"divided"}


def _graph(model: Any) -> Any:
    """What has a model's nodes."""
    return getattr(model, "_functional", None) or model


def _fates(graph: Any, tensor: Any) -> set[str]:
    """What becomes of pixels in a graph: "divided", "used" as they are, handed "out"."""
    nodes = [node for some in getattr(graph, "_nodes_by_depth", {}).values() for node in some]
    readers = [node for node in nodes if any(read is tensor for read in node.input_tensors)]
    handed = {"out"} if any(made is tensor for made in graph.outputs) else set[str]()
    return handed.union(*(_fates_in(graph, node, tensor) for node in readers))


def _fates_in(graph: Any, node: Any, tensor: Any) -> set[str]:
    """The same of one operation and what follows it."""
    made = node.operation
    if isinstance(made, keras.Model) and getattr(_graph(made), "inputs", None):
        inner = _graph(made)
        place = next(place for place, read in enumerate(node.input_tensors) if read is tensor)
        found = _fates(inner, inner.inputs[place])
        return found if "out" not in found else found - {"out"} | _fates(graph, node.outputs[0])
    if type(made).__name__ in PASSING:
        return _fates(graph, node.outputs[0])
    return {"divided" if _divides(made, node.arguments.args, tensor) else "used"}


def _divides(made: Any, arguments: Sequence[Any], tensor: Any) -> bool:
    """Whether an operation brings pixels to numbers about 1."""
    if isinstance(made, keras.layers.Rescaling):
        return bool(np.max(np.abs(made.scale)) * WIDE <= 1)
    if isinstance(made, keras.layers.Normalization):
        return not made.invert and bool(np.min(keras.ops.convert_to_numpy(made.variance)) >= WIDE**2)
    first, second = (*arguments, None, None)[:2]
    if first is not tensor or not isinstance(second, int | float):
        return False
    name = type(made).__name__
    return (name in ("Divide", "TrueDivide") and second >= WIDE) or (name == "Multiply" and 0 < second * WIDE <= 1)
