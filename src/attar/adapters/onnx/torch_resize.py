"""ONNX's Resize and Upsample in PyTorch, axis by axis: every output reads one or two places of the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attar.adapters.onnx.torch_spec import Function, Spec, ints, no_gradient

Places = NDArray[np.float32]

Coordinates = Callable[[Places, np.float32, int, int], Places]
"""(output places, scale, size before, size after) -> input places."""


def _half_pixel(x: Places, scale: np.float32, *_: int) -> Places:
    return (x + 0.5) / scale - 0.5


def _pytorch_half_pixel(x: Places, scale: np.float32, _: int, new: int) -> Places:
    return (x + 0.5) / scale - 0.5 if new > 1 else x * 0


def _asymmetric(x: Places, scale: np.float32, *_: int) -> Places:
    return x / scale


def _align_corners(x: Places, _: np.float32, old: int, new: int) -> Places:
    return x * (old - 1) / (new - 1) if new > 1 else x * 0


_COORDINATES: dict[str, Coordinates] = {
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "asymmetric": _asymmetric,
    "align_corners": _align_corners,
}
_NEAREST: dict[str, Callable[[Places], Places]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def resize(spec: Spec) -> Function:
    """Nearest and linear; raises ModelError for the other modes."""
    coordinates = spec.get("coordinate_transformation_mode", "half_pixel" if spec.opset >= 11 else "asymmetric")
    nearest = spec.get("nearest_mode", "round_prefer_floor" if spec.opset >= 11 else "floor")
    if spec.get("mode", "nearest") not in ("nearest", "linear") or coordinates not in _COORDINATES:
        raise no_gradient(spec.label, f"mode={spec.get('mode', 'nearest')} with {coordinates}")
    spec.refuse("antialias", 0)
    spec.refuse("keep_aspect_ratio_policy", "stretch")

    def run(x: Tensor, *given: Tensor | None) -> Tensor:
        scales, sizes = (given[0], None) if spec.opset < 11 else (*given[1:], None, None)[:2]
        axes = spec.get("axes", tuple(range(x.ndim)))
        rounding = _NEAREST[nearest] if spec.get("mode", "nearest") == "nearest" else None
        return _resized(x, axes, _factors(scales), ints(sizes), _COORDINATES[coordinates], rounding)

    return run


def upsample(spec: Spec) -> Function:
    """The older Upsample, with scales as an attribute or an input."""
    rounding = np.floor if spec.get("mode", "nearest") == "nearest" else None
    old = spec.get("scales")
    return lambda x, scales=None: _resized(x, range(x.ndim), old or _factors(scales), None, _asymmetric, rounding)


def _factors(scales: Tensor | None) -> Sequence[float] | None:
    return None if scales is None or not scales.numel() else scales.tolist()


def _resized(
    x: Tensor,
    axes: Sequence[int],
    scales: Sequence[float] | None,
    sizes: Sequence[int] | None,
    coordinates: Coordinates,
    rounding: Callable[[Places], Places] | None,
) -> Tensor:
    """By scales, or to sizes, of these axes; rounding to the nearest place, or linear where it is None."""
    for i, axis in enumerate(axes):
        old = x.shape[axis]
        new = int(np.floor(np.float32(old) * np.float32(scales[i]))) if scales else (sizes or ())[i]
        scale = scales[i] if scales else new / old
        if new == old and scale == 1:
            continue
        # In float32, as runtimes compute them: ties between two places fall as theirs do.
        places = coordinates(np.arange(new, dtype=np.float32), np.float32(scale), old, new)
        if rounding is not None:
            x = x.index_select(axis, _index(rounding(places), old))
            continue
        places = np.clip(places, 0, old - 1)
        low = np.floor(places)
        share = torch.tensor(places - low, dtype=x.dtype).reshape([-1] + [1] * (x.ndim - 1 - axis % x.ndim))
        before, after = x.index_select(axis, _index(low, old)), x.index_select(axis, _index(low + 1, old))
        x = before * (1 - share) + after * share
    return x


def _index(places: Places, size: int) -> Tensor:
    return torch.tensor(np.clip(places, 0, size - 1).astype(np.int64))
