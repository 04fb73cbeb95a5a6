"""ONNX operators that move elements and make shapes, in PyTorch; shapes are integer tensors, computed exactly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor

from attar.adapters.onnx.torch_resize import resize, upsample
from attar.adapters.onnx.torch_spec import Function, Maker, Spec, always, axes_of, ints, no_gradient


def _reshape(spec: Spec) -> Function:
    keep_zero = bool(spec.get("allowzero", 0))

    def reshape(x: Tensor, given: Tensor | None = None) -> Tensor:
        sizes = ints(given) or list(spec.get("shape", ()))
        return x.reshape([x.shape[i] if n == 0 and not keep_zero else n for i, n in enumerate(sizes)])

    return reshape


def _flatten(spec: Spec) -> Function:
    axis = spec.get("axis", 1)

    def flatten(x: Tensor) -> Tensor:
        at = axis if axis >= 0 else axis + x.ndim
        return x.reshape(math.prod(x.shape[:at]), math.prod(x.shape[at:]))

    return flatten


def _transpose(spec: Spec) -> Function:
    order = spec.get("perm")
    return lambda x: x.permute(order or tuple(reversed(range(x.ndim))))


def _squeeze(spec: Spec) -> Function:
    def squeeze(x: Tensor, given: Tensor | None = None) -> Tensor:
        axes = axes_of(spec, given)
        return x.squeeze() if axes is None else x.squeeze(tuple(axes))

    return squeeze


def _unsqueeze(spec: Spec) -> Function:
    def unsqueeze(x: Tensor, given: Tensor | None = None) -> Tensor:
        axes = axes_of(spec, given) or ()
        rank = x.ndim + len(axes)
        for axis in sorted(a % rank for a in axes):
            x = x.unsqueeze(axis)
        return x

    return unsqueeze


def _concat(spec: Spec) -> Function:
    axis = spec.get("axis", 1)
    return lambda *parts: torch.cat(parts, axis)


def _split(spec: Spec) -> Function:
    axis, sizes = spec.get("axis", 0), spec.get("split")
    count = spec.get("num_outputs", spec.outputs)

    def split(x: Tensor, given: Tensor | None = None) -> Any:
        parts = ints(given) or sizes
        return torch.split(x, list(parts) if parts else -(-x.shape[axis] // count), axis)

    return split


def _slice(spec: Spec) -> Function:
    old = [spec.get(name) for name in ("starts", "ends", "axes")]

    def cut(x: Tensor, *given: Tensor | None) -> Tensor:
        starts, ends, axes, steps = [*map(ints, given), *[None] * (4 - len(given))] if given else [*old, None]
        for i, (start, end) in enumerate(zip(starts or (), ends or (), strict=True)):
            axis, step = axes[i] if axes else i, steps[i] if steps else 1
            x = _part(x, axis % x.ndim, start, end, step)
        return x

    return cut


def _part(x: Tensor, axis: int, start: int, end: int, step: int) -> Tensor:
    """A slice along one axis; unlike Python's, one that goes backwards starts inside, wherever its start is."""
    size = x.shape[axis]
    start, end = (n + size if n < 0 else n for n in (start, end))
    if step > 0:
        return x[(slice(None),) * axis + (slice(min(max(start, 0), size), min(max(end, 0), size), step),)]
    places = range(min(max(start, 0), size - 1), min(max(end, -1), size - 1), step)
    return x.index_select(axis, torch.tensor(list(places), dtype=torch.int64))


def _gather(spec: Spec) -> Function:
    axis = spec.get("axis", 0)

    def gather(x: Tensor, places: Tensor) -> Tensor:
        at = axis % x.ndim
        flat = places.reshape(-1).long() % x.shape[at]
        return x.index_select(at, flat).reshape(*x.shape[:at], *places.shape, *x.shape[at + 1 :])

    return gather


def _gather_elements(spec: Spec) -> Function:
    axis = spec.get("axis", 0)
    return lambda x, places: torch.gather(x, axis, places.long() % x.shape[axis])


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(ints(shape) or ())))


def _tile(x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat(ints(repeats) or ())


def _pad(spec: Spec) -> Function:
    mode = {"edge": "replicate", "wrap": "circular"}.get(spec.get("mode", "constant"), spec.get("mode", "constant"))
    old, fill = spec.get("pads"), spec.get("value", 0.0)

    def pad(
        x: Tensor, given: Tensor | None = None, value: Tensor | None = None, chosen: Tensor | None = None
    ) -> Tensor:
        sizes = ints(given) or list(old or ())
        half = len(sizes) // 2
        axes = ints(chosen) or range(half)
        pairs = [(0, 0)] * x.ndim
        for i, axis in enumerate(axes):
            pairs[axis % x.ndim] = sizes[i], sizes[half + i]
        if mode == "constant":
            flat = [size for pair in reversed(pairs) for size in pair]
            return F.pad(x, flat, value=fill if value is None else value.item())
        for axis, (before, after) in enumerate(pairs):  # PyTorch pads some of the last axes only
            if before or after:
                moved = x.movedim(axis, -1)
                wide = F.pad(moved.reshape(1, -1, moved.shape[-1]), (before, after), mode=mode)
                x = wide.reshape(*moved.shape[:-1], -1).movedim(-1, axis)
        return x

    return pad


def _shape(spec: Spec) -> Function:
    start, end = spec.get("start", 0), spec.get("end")
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


def _constant(spec: Spec) -> Function:
    """Numbers in attributes; tensors are stored, see Program."""
    for name, kind in (("value_float", torch.float32), ("value_floats", torch.float32),
                       ("value_int", torch.int64), ("value_ints", torch.int64)):  # fmt: skip
        if name in spec.attributes:
            made = torch.tensor(spec.get(name), dtype=kind)
            return lambda: made
    raise no_gradient(spec.label, "neither numbers nor a tensor of them")


def _constant_of_shape(spec: Spec) -> Function:
    given = spec.get("value")
    value = np.zeros(1, np.float32) if given is None else numpy_helper.to_array(given)
    one = torch.tensor(value.astype(np.float32) if value.dtype == np.float16 else value).reshape(-1)[0]
    return lambda shape: one.expand(ints(shape) or ()).clone()


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _trilu(spec: Spec) -> Function:
    function = torch.triu if spec.get("upper", 1) else torch.tril
    return lambda x, k=None: function(x, 0 if k is None else int(k))


def _cumsum(spec: Spec) -> Function:
    spec.refuse("exclusive", 0)
    spec.refuse("reverse", 0)
    return lambda x, axis: torch.cumsum(x, int(axis), dtype=x.dtype)


def _depth_to_space(spec: Spec) -> Function:
    size, mode = spec.get("blocksize"), spec.get("mode", "DCR")

    def move(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        if mode == "CRD":
            return F.pixel_shuffle(x, size)
        parts = x.reshape(n, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return parts.reshape(n, c // size**2, h * size, w * size)

    return move


def _space_to_depth(spec: Spec) -> Function:
    size = spec.get("blocksize")

    def move(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        parts = x.reshape(n, c, h // size, size, w // size, size).permute(0, 3, 5, 1, 2, 4)
        return parts.reshape(n, c * size**2, h // size, w // size)

    return move


def _einsum(spec: Spec) -> Function:
    equation = spec.get("equation")
    return lambda *values: torch.einsum(equation, *values)


SHAPES: dict[tuple[str, str], Maker] = {
    ("", name): maker
    for name, maker in {
        "Reshape": _reshape, "Flatten": _flatten, "Transpose": _transpose, "Squeeze": _squeeze,
        "Unsqueeze": _unsqueeze, "Concat": _concat, "Split": _split, "Slice": _slice, "Gather": _gather,
        "GatherElements": _gather_elements, "Expand": always(_expand), "Tile": always(_tile), "Pad": _pad,
        "Shape": _shape, "Size": always(lambda x: torch.tensor(x.numel())), "Constant": _constant,
        "ConstantOfShape": _constant_of_shape, "Range": always(_range), "Trilu": _trilu, "CumSum": _cumsum,
        "DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth, "Einsum": _einsum, "Resize": resize,
        "Upsample": upsample,
    }.items()
}  # fmt: skip
