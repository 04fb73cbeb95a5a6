"""Whether the graph of a PyTorch model scales 8-bit images itself, so that they go in as they are, from 0 to 255."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from attar.adapters.parts import FEW, WIDE
from attar.adapters.torch.calls import name_of

Value = Callable[[fx.Node], Tensor | None]
"""The stored tensor that a node is, None for others."""
ALIKE = (
    "float", "half", "double", "to", "type", "to_copy", "contiguous", "clone", "detach", "lift_fresh_copy", "alias",
)  # fmt: skip
"""Functions that leave values and axes as they are, by name without underscores at its ends."""
MOVING = (
    "permute", "transpose", "reshape", "view", "flatten", "unsqueeze", "squeeze", "interpolate", "pad", "getitem",
)  # fmt: skip
"""Those that leave the range of pixels as wide as it is, and may move axes."""
SIZES = ("size", "dim", "getattr", "sym_size", "assert_tensor_metadata")
"""Those that ask for sizes and the like alone."""
DIVIDED, MULTIPLIED = ("div", "truediv", "true_divide", "itruediv", "divide"), ("mul", "imul", "multiply")
MOVED = ("add", "sub", "iadd", "isub", "subtract")


def scaled_inputs(graph: fx.Graph, value: Value, modules: dict[str, nn.Module]) -> set[str]:
    """Names of the placeholders that all their readers divide first, by one stored number or one for each channel."""
    found = {node: _fates(node, value, modules) for node in graph.nodes if node.op == "placeholder"}
    return {str(node.target) for node, fates in found.items() if fates == {True}}


def is_transform(module: nn.Module) -> bool:
    """Whether it is one of torchvision's transforms."""
    return type(module).__module__.startswith("torchvision.transforms")


def origin(node: Any) -> Any:
    """What a value is made of, number by number: a conversion, a scale or a shift leaves axes as they are."""
    while isinstance(node, fx.Node) and node.op in ("call_function", "call_method") and node.args:
        if _name(node) not in (*ALIKE, *DIVIDED, *MULTIPLIED, *MOVED) or not isinstance(node.args[0], fx.Node):
            break
        node = node.args[0]
    return node


def _name(node: fx.Node) -> str:
    return name_of(node.target).strip("_")


def _fates(node: fx.Node, value: Value, modules: dict[str, nn.Module]) -> set[bool]:
    """For each use of pixels whether they are divided there."""
    return set[bool]().union(*(_fates_in(node, user, value, modules) for user in node.users))


def _fates_in(pixels: fx.Node, user: fx.Node, value: Value, modules: dict[str, nn.Module]) -> set[bool]:
    """The same of one use and what follows it."""
    module = modules.get(str(user.target)) if user.op == "call_module" else None
    if isinstance(module, nn.Identity | nn.Upsample):
        return _fates(user, value, modules)
    if module is not None and is_transform(module) and type(module).__name__ == "Normalize":
        return {min(map(abs, module.std)) >= WIDE}  # type: ignore[operator,arg-type]
    if user.op not in ("call_function", "call_method") or not user.args:
        return {False}
    name, (first, second) = _name(user), (*user.args, None)[:2]
    if name in SIZES:
        return set()
    if (name in (*ALIKE, *MOVING) or name.startswith("upsample")) and first is pixels:
        return _fates(user, value, modules)
    by = _stored(second if first is pixels else first, value)
    if name in DIVIDED and first is pixels:
        return {by is not None and bool(by.abs().min() >= WIDE)}
    if name in MULTIPLIED:
        return {by is not None and bool(by.abs().max() * WIDE <= 1)}
    return _fates(user, value, modules) if name in MOVED and by is not None else {False}


def _stored(given: Any, value: Value) -> Tensor | None:
    """A few stored numbers, also where their axes are moved; None for what is none, or as large as an image."""
    if isinstance(given, int | float):
        return torch.tensor(float(given))
    while isinstance(given, fx.Node) and value(given) is None and given.op in ("call_function", "call_method"):
        if _name(given) not in (*ALIKE, *MOVING) or not given.args:
            return None
        given = given.args[0]
    tensor = value(given) if isinstance(given, fx.Node) else None
    return tensor.detach() if tensor is not None and 0 < tensor.numel() <= FEW else None
