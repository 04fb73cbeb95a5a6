"""Data made to fit a model's inputs: layout, dtype, scale; what cannot be told is an error, not a guess."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from attar.data.images import pictured
from attar.errors import DataError, UsageError
from attar.types import Array, Dataset, Scaled, TensorSpec

PIECE = 64
"""Examples held as bytes that are made floats at once to look at them."""
CHANNELS = (1, 2, 3, 4)
"""Lengths that an axis of channels may have where nothing else tells."""


def fit_inputs(
    dataset: Dataset,
    specs: Sequence[TensorSpec],
    *,
    scale: float | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    as_bytes: bool = False,
) -> Dataset:
    """The data set with its inputs as the model takes them; labels stay.

    A model with one input takes the only array whatever its name; one with several takes them by name, optional ones
    where they are given, and arrays that it does not know are left out. For each:

    - shape: as it is; a missing channel axis added, an axis of one removed; channels last <-> first where one fits;
      [n, h, w] flattened to [n, h * w], and back for one channel;
    - dtype: uint8 becomes float / 255 (unless `scale` is given, or the model scales pixels itself and none of scale,
      mean and std is given), other numbers the model's float; integers stay exact;
    - float inputs x become (scale * x - mean) / std, mean and std for all or one for each channel;
    - uint8 images of a model with preprocessing of its own (`TensorSpec.pixels`): framed by it where they have another
      size than it makes, and scaled by it where none of scale, mean and std is given.

    as_bytes: uint8 that becomes float is held as it is, and made float where it is run (`attar.types.Scaled`).
    Raises DataError that names both shapes and dtypes, for NaN or infinity with their count, UsageError for a bad
    scale, mean or std.
    """
    _check_options(scale, mean, std)
    if not len(dataset):
        raise DataError(f"data {dataset.origin!r}: the set must not be empty. Received no examples. Add some.")
    chosen = _by_name(dataset, specs)
    fitted: dict[str, Array | Scaled] = {}
    for spec in specs:
        if spec.name in chosen:
            given, scales = chosen[spec.name], (scale, mean, std)
            if spec.pixels is not None and given.dtype == np.uint8:
                given = pictured(given, spec.pixels, spec.shape)
                scales = scales if scales != (None, None, None) else (1.0, *spec.pixels.scales())
            elif spec.scales_pixels and given.dtype == np.uint8:
                scales = scales if scales != (None, None, None) else (1.0, None, None)
            shaped = _shaped(given, spec, dataset.origin)
            fitted[spec.name] = _typed(shaped, spec, dataset.origin, *scales, as_bytes=as_bytes)
    return Dataset(fitted, dataset.labels, dataset.origin, dataset.class_names)


def _by_name(dataset: Dataset, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """One array for each of the model's inputs."""
    inputs = dataset.arrays()
    if not specs:
        raise DataError("model: it must have an input. Received none.")
    needed = [spec.name for spec in specs if not spec.optional]
    if len(needed) == 1 and len(inputs) == 1:
        return {needed[0]: next(iter(inputs.values()))}
    missing = [name for name in needed if name not in inputs]
    if missing:
        raise DataError(
            f"data {dataset.origin!r}: the model's inputs {', '.join(needed)} must be there by name. Received "
            f"{', '.join(inputs)}. Add {', '.join(missing)}, call labels y, or wrap a model that takes a dict in one "
            "that names its inputs."
        )
    return {spec.name: inputs[spec.name] for spec in specs if spec.name in inputs}


def _shaped(x: Array, spec: TensorSpec, origin: str) -> Array:
    """The array in the model's shape; the first axis, the batch, is free."""
    want = spec.shape[1:]
    if not spec.shape or _fits(x.shape[1:], want):
        return x
    if len(want) == 1 and x.ndim > 2 and _fits((math.prod(x.shape[1:]),), want) and want[0] is not None:
        return x.reshape(len(x), -1)
    found = [moved for moved in _layouts(x, len(want)) if _fits(moved.shape[1:], want)]
    if found and len({moved.shape for moved in found}) == 1:
        return np.ascontiguousarray(found[0])
    if x.ndim == 2 and None not in want and 1 in want and math.prod(n for n in want if n) == x.shape[1]:
        return x.reshape(len(x), *(int(n) for n in want if n))
    raise DataError(
        f"data {origin!r}: input {spec.name!r} must have shape {_said(spec.shape)} {spec.dtype}. Received "
        f"{_said((None, *x.shape[1:]))} {x.dtype}, which {'fits in two ways' if found else 'does not fit'}. Reshape it."
    )


def _fits(have: Sequence[int], want: Sequence[int | None]) -> bool:
    """Equal in every axis that is not free."""
    return len(have) == len(want) and all(w is None or w == h for h, w in zip(have, want, strict=True))


def _layouts(x: Array, rank: int) -> list[Array]:
    """Other ways to see the same examples with `rank` axes besides the batch."""
    have = x.ndim - 1
    if have == rank - 1:
        return [x[:, None], x[..., None]]
    if have == rank + 1:
        return [x.squeeze(axis) for axis in (1, x.ndim - 1) if x.shape[axis] == 1][:1]
    if have == rank and rank > 1:
        moved = []
        if x.shape[-1] in CHANNELS:
            moved.append(np.moveaxis(x, -1, 1))
        if x.shape[1] in CHANNELS:
            moved.append(np.moveaxis(x, 1, -1))
        return moved
    return []


def _typed(
    x: Array, spec: TensorSpec, origin: str, scale: float | None, mean: object, std: object, *, as_bytes: bool
) -> Array | Scaled:
    """The array in the model's dtype, scaled; raises DataError where that cannot be, or is not finite."""
    if x.dtype == bool and not spec.shape:
        return x  # nothing but a name is known: the dtype is a guess, and a truth value none
    whole = _is_integer(spec.dtype)
    if spec.guessed and x.dtype != np.uint8:
        if not whole and np.issubdtype(x.dtype, np.integer) and (scale, mean, std) == (None, None, None):
            return x  # ids, lengths and the like
        whole = whole and x.dtype.kind != "f"
    if whole:
        return _whole(x, spec, origin)
    if np.issubdtype(x.dtype, np.complexfloating):
        raise DataError(f"data {origin!r}: input {spec.name!r} must be {spec.dtype}. Received {x.dtype}.")
    floats = partial(_floats, dtype=spec.dtype, scale=scale, mean=mean, std=std)
    values = Scaled(x, floats) if as_bytes and x.dtype == np.uint8 else floats(x)
    step = PIECE if isinstance(values, Scaled) else max(len(values), 1)
    bad = sum(_broken(values[start : start + step]) for start in range(0, len(values), step))
    if bad:
        raise DataError(
            f"data {origin!r}: input {spec.name!r} must be finite. Received NaN or infinity in {bad} of {len(values)} "
            "examples. Leave them out."
        )
    return values


def _broken(values: Array) -> int:
    """How many examples have NaN or infinity."""
    return len(values) - int(np.count_nonzero(np.isfinite(values).reshape(len(values), -1).all(1)))


def _floats(x: Array, dtype: str, scale: float | None, mean: object, std: object) -> Array:
    """Numbers scaled, value by value, in the model's dtype."""
    factor = (1 / 255 if x.dtype == np.uint8 else 1.0) if scale is None else scale
    kind = np.dtype(dtype if dtype in ("float16", "float32", "float64") else "float32")
    wide = np.dtype(np.float64 if kind == np.float64 else np.float32)
    with np.errstate(over="ignore"):  # what overflows is infinite, and told of by `_typed`
        values = x if x.dtype == wide else x.astype(wide)
    if factor != 1:
        values = np.multiply(values, wide.type(factor), out=_own(values, x))
    if mean is not None:
        values = np.subtract(values, _per_channel(mean, values, "mean").astype(wide), out=_own(values, x))
    if std is not None:
        values = np.divide(values, _per_channel(std, values, "std").astype(wide), out=_own(values, x))
    with np.errstate(over="ignore"):
        return values.astype(kind, copy=False)


def _own(values: Array, given: Array) -> Array | None:
    """Where to compute in place: not in the user's array."""
    return None if values is given else values


def _is_integer(dtype: str) -> bool:
    """Whether a spec's dtype holds ids or truth values."""
    return dtype.startswith(("int", "uint", "bool"))


def _whole(x: Array, spec: TensorSpec, origin: str) -> Array:
    """Integers, exactly, in the model's dtype."""
    dtype = np.dtype(spec.dtype)
    if x.dtype == dtype:
        return x
    exact = x.dtype == bool or np.issubdtype(x.dtype, np.integer)
    low, high = (0, 1) if spec.dtype.startswith("bool") else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    if not exact or (x.size and (int(x.min()) < low or int(x.max()) > high)):
        received = f"{x.dtype}" + (f" from {x.min()} to {x.max()}" if exact and x.size else "")
        raise DataError(f"data {origin!r}: input {spec.name!r} must be {spec.dtype}. Received {received}. Convert it.")
    return x.astype(dtype)


def _per_channel(values: object, x: Array, name: str) -> Array:
    """mean or std shaped so that it broadcasts over [n, ...] along the channel axis."""
    array = np.asarray(values, np.float64).ravel()
    if array.size == 1:
        return array.reshape(())
    axes = [axis for axis in dict.fromkeys((1, x.ndim - 1)) if x.shape[axis] == array.size] if x.ndim > 1 else []
    if len(axes) != 1:
        raise UsageError(
            f"{name}: it must be one number, or one for each channel. Received {array.size} for inputs of shape "
            f"{x.shape[1:]}."
        )
    return array.reshape([-1 if axis == axes[0] else 1 for axis in range(x.ndim)])


def _check_options(scale: float | None, mean: object, std: object) -> None:
    """Finite numbers, and nothing that is divided by zero or would erase the inputs."""
    for name, value in (("scale", scale), ("mean", mean), ("std", std)):
        if value is None:
            continue
        try:
            array = np.asarray(value, np.float64)
        except (TypeError, ValueError):
            array = np.array(np.nan)
        if not array.size or not np.isfinite(array).all() or (name != "mean" and np.any(array == 0)):
            zero = "" if name == "mean" else " other than zero"
            raise UsageError(f"{name}: it must be a finite number{zero}. Received {value!r}.")


def _said(shape: Sequence[int | None]) -> str:
    """A shape as people read it."""
    return "[" + ", ".join("n" if size is None else str(size) for size in shape) + "]"
