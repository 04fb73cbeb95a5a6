"""Torch weights as canonical matrices: which axes of a parameter are rows, and the bias that belongs to them.

A form is a split of the parameter's axes, a permutation (group and row axes first) and a reshape, so that going to the
matrix and back changes no bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from attar.types import Json, Layer

COUNTER = "num_batches_tracked"
"""Batch norms count training batches in a buffer of this name; it is of no use in inference."""


@dataclass(frozen=True, slots=True)
class Form:
    """split: the parameter's shape with group axes cut out; order: its axes, rows first; row_axes: their number."""

    kind: str
    split: tuple[int, ...]
    order: tuple[int, ...]
    row_axes: int
    groups: int = 1

    @property
    def rows(self) -> int:
        """Number of rows of all groups."""
        return prod(self.split[axis] for axis in self.order[: self.row_axes])

    @property
    def cols(self) -> int:
        """Number of columns of one group."""
        return prod(self.split[axis] for axis in self.order[self.row_axes :])

    def matrix(self, tensor: Tensor) -> Tensor:
        """The parameter as [rows, cols]; a view where there can be one."""
        return tensor.reshape(self.split).permute(self.order).reshape(self.rows, self.cols)

    def tensor(self, matrix: Tensor, shape: Sequence[int]) -> Tensor:
        """The exact inverse of matrix."""
        inverse = sorted(range(len(self.order)), key=self.order.__getitem__)
        return matrix.reshape([self.split[axis] for axis in self.order]).permute(inverse).reshape(tuple(shape))

    def same_matrix(self, other: Form) -> bool:
        """Whether both see a parameter as the same matrix, whatever they call it."""
        ours = (self.split, self.order, self.row_axes, self.groups)
        return ours == (other.split, other.order, other.row_axes, other.groups)


@dataclass(frozen=True, slots=True)
class Bias:
    """A parameter [stop - start of its entries] that is added to a layer's rows."""

    name: str
    start: int = 0
    stop: int | None = None

    def of(self, tensors: dict[str, Tensor]) -> Tensor:
        """The entries, a view."""
        return tensors[self.name][self.start : self.stop]


@dataclass(frozen=True, slots=True)
class Site:
    """One compressible parameter: its name in the state dict, how it is a matrix, its bias, the owner if tied."""

    name: str
    form: Form
    shape: tuple[int, ...]
    dtype: str
    bias: Bias | None = None
    tied_to: str | None = None

    def layer(self) -> Layer:
        """The framework-free description."""
        form = self.form
        return Layer(
            self.name, form.kind, form.rows, form.cols, self.shape, form.groups, self.dtype,
            self.bias is not None, self.tied_to,
        )  # fmt: skip

    def to_json(self) -> Json:
        """For a skeleton."""
        form, bias = self.form, self.bias
        return {
            "name": self.name, "shape": self.shape, "dtype": self.dtype, "tied_to": self.tied_to,
            "form": [form.kind, form.split, form.order, form.row_axes, form.groups],
            "bias": None if bias is None else [bias.name, bias.start, bias.stop],
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Json) -> Site:
        """The inverse of to_json; raises KeyError, TypeError, ValueError on anything else."""
        kind, split, order, row_axes, groups = data["form"]
        form = Form(str(kind), _sizes(split), _sizes(order), int(row_axes), int(groups))
        shape = _sizes(data["shape"])
        if sorted(form.order) != list(range(len(form.split))) or prod(form.split) != prod(shape):
            raise ValueError(f"form {data['form']} does not fit shape {shape}")
        if not 0 < form.row_axes < len(form.order) or form.rows % form.groups:
            raise ValueError(f"form {data['form']} has no rows or columns")
        bias = None if data["bias"] is None else Bias(str(data["bias"][0]), *data["bias"][1:])
        return cls(str(data["name"]), form, shape, str(data["dtype"]), bias, data["tied_to"])


def _sizes(values: Json) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


def dense_form(shape: Sequence[int], perm: Sequence[int] = (0, 1)) -> Form:
    """A matrix [out, in] = parameter.permute(perm)."""
    return Form("dense", tuple(shape), tuple(perm), 1)


def conv_form(shape: Sequence[int], groups: int) -> Form:
    """A convolution kernel [O, C / groups, k...]."""
    return Form("conv", tuple(shape), tuple(range(len(shape))), 1, groups)


def conv_transpose_form(shape: Sequence[int], groups: int) -> Form:
    """A transposed convolution's kernel [C, O / groups, k...]: rows (O, k...), columns a group's input channels."""
    channels, *rest = shape
    if groups == 1:
        return Form("conv_transpose", tuple(shape), (*range(1, len(shape)), 0), len(rest))
    split = (groups, channels // groups, *rest)
    return Form("conv_transpose", split, (0, *range(2, len(split)), 1), len(rest) + 1, groups)


def lookup_form(shape: Sequence[int]) -> Form:
    """An embedding [ids, width]: rows are the width, columns the ids."""
    return Form("embedding", tuple(shape), (1, 0), 1)


def recurrent_form(shape: Sequence[int]) -> Form:
    """A recurrent kernel [gates, inputs or states]."""
    return Form("recurrent", tuple(shape), (0, 1), 1)


def memory(tensor: Tensor) -> tuple[int, ...]:
    """What tells tied tensors from others: they may be different objects over the same memory."""
    if not tensor.numel():
        return (id(tensor),)
    return (tensor.data_ptr(), *tensor.shape, *tensor.stride())


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype as numpy and ml_dtypes have it."""
    return str(dtype).removeprefix("torch.")


def covered(sites: Sequence[Site], tensors: Mapping[str, Tensor]) -> set[tuple[int, ...]]:
    """Bias tensors of which every entry belongs to a layer."""
    entries: dict[tuple[int, ...], int] = {}
    for site in sites:
        if site.bias is not None:
            key = memory(tensors[site.bias.name])
            entries[key] = entries.get(key, 0) + site.bias.of(dict(tensors)).numel()
    return {memory(t) for t in tensors.values() if entries.get(memory(t)) == t.numel()}
