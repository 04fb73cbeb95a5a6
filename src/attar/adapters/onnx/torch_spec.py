"""What the tables of ONNX operators in PyTorch are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor

from attar.errors import ModelError

Function = Callable[..., Any]
"""Takes a node's inputs in order (None for those left out) and gives its first output, or a sequence of all."""
REMEDY = "Compress without recovery (--no-train), or give the model to attar in PyTorch or Keras."

TYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float32,
    TensorProto.BFLOAT16: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.UINT16: torch.int32,
    TensorProto.INT32: torch.int32,
    TensorProto.UINT32: torch.int64,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT64: torch.int64,
    TensorProto.BOOL: torch.bool,
}
"""What each type is computed in."""


def no_gradient(label: str, what: str = "one that is not in the table") -> ModelError:
    """The error for an operator, or a use of it, that cannot be trained through."""
    return ModelError(f"{label}: training needs its gradient. Received {what}. {REMEDY}")


@dataclass(frozen=True)
class Spec:
    """A node: its label for messages, attributes, the operator set's version, and how many outputs are used."""

    label: str
    attributes: Mapping[str, Any]
    opset: int
    outputs: int

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def refuse(self, name: str, *allowed: Any) -> None:
        """Raises ModelError where an attribute is there and none of the allowed values."""
        if name in self.attributes and self.attributes[name] not in allowed:
            raise no_gradient(self.label, f"{name}={self.attributes[name]}")

    def single(self) -> None:
        """Raises ModelError where more than the first output is used."""
        if self.outputs > 1:
            raise no_gradient(self.label, f"{self.outputs} outputs")


Maker = Callable[[Spec], Function]


def always(function: Function) -> Maker:
    """An operator without attributes."""
    return lambda _: function


def ints(tensor: Tensor | None) -> list[int] | None:
    """A tensor of shapes, axes or sizes as numbers."""
    return None if tensor is None else [int(i) for i in tensor.reshape(-1).tolist()]


def axes_of(spec: Spec, tensor: Tensor | None) -> Sequence[int] | None:
    """Axes, which newer operator sets give as an input."""
    found = ints(tensor)
    return spec.get("axes") if found is None else found
