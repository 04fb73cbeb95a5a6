"""Torch modules of forms that few have: what they return, what they take, and layers that see no example alone."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import attar
from adapters import torch_cases
from attar.adapters.base import Adapter
from attar.adapters.torch.adapter import TorchAdapter
from attar.data.fit import fit_inputs
from attar.errors import ModelError
from attar.types import Array, Dataset

X = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
Named = namedtuple("Named", "scores hidden")


@dataclass
class Answer:
    scores: Tensor
    hidden: Tensor


def rebuilt(adapter: Adapter) -> Adapter:
    twin = TorchAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    for layer in adapter.layers():
        twin.write(layer.name, adapter.read(layer.name))
    return twin


def answering(output: Any) -> nn.Module:
    """A module that returns its scores [n, 3] in a container."""
    return torch_cases.Net(lambda model, x: output(model.out(x), x), out=nn.Linear(5, 3))


def test_named_tuples_are_plain_ones_in_a_file() -> None:
    adapter = TorchAdapter.open(answering(lambda y, x: {"both": Named(y, x)}))
    plain = adapter.run({"x": X})
    np.testing.assert_array_equal(rebuilt(adapter).run({"x": X}), plain)
    loaded = rebuilt(adapter).model()(torch.tensor(X))
    assert type(loaded["both"]) is tuple and len(loaded["both"]) == 2


def test_the_first_tensor_of_a_data_class_counts() -> None:
    model = answering(Answer)
    np.testing.assert_array_equal(TorchAdapter.open(model).run({"x": X}), model(torch.tensor(X)).scores.detach())


@pytest.mark.parametrize("output", [lambda y, x: (y.mean(), y), lambda y, x: y.T])
def test_an_output_without_an_axis_of_examples_is_refused(output: Any) -> None:
    with pytest.raises(ModelError, match="first axis of its first output must be that of the 6 examples"):
        TorchAdapter.open(answering(output)).run({"x": X})


def test_a_graph_that_no_file_can_hold_is_a_model_error() -> None:
    """A number that a tensor holds is a symbol that torch does not read back."""
    adapter = TorchAdapter.open(torch_cases.Net(lambda s, x: s.out(x * x.max().item()), out=nn.Linear(5, 3)))
    adapter.run({"x": X})
    with pytest.raises(ModelError, match=r"must be one that a file can hold.*Load with into="):
        adapter.skeleton()


def test_experts_in_one_batched_product_are_a_layer_in_groups() -> None:
    def mixed(model: Any, x: Tensor) -> Tensor:
        parts = x.unflatten(1, (3, 4)).transpose(0, 1)
        return torch.baddbmm(model.shift, parts, model.kernels).transpose(0, 1).flatten(1)

    model = torch_cases.Net(mixed, kernels=torch_cases.parameter(3, 4, 5), shift=torch_cases.parameter(3, 1, 5))
    (layer,) = [layer for layer in TorchAdapter.open(model).layers() if layer.name == "kernels"]
    assert (layer.kind, layer.groups, layer.rows, layer.cols) == ("einsum", 3, 15, 4)


class Positions(nn.Module):
    """A network of constants makes a factor for every input, as continuous position biases are made."""

    def __init__(self) -> None:
        super().__init__()
        self.bias, self.out = nn.Linear(2, 5), nn.Linear(5, 3)
        self.register_buffer("grid", torch.rand(9, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x * self.bias(self.grid).mean(0))  # type: ignore[arg-type]


def test_a_layer_of_constants_has_no_place_for_examples() -> None:
    """Nine positions are no three examples of three."""
    adapter = TorchAdapter.open(Positions())
    with pytest.raises(KeyError, match=r"bias\.weight"):
        adapter.run({"x": X}, {"bias.weight": np.zeros((6, 5), np.float32)})
    shifted = adapter.run({"x": X}, {"out.weight": np.ones((6, 3), np.float32)})
    np.testing.assert_allclose(shifted, adapter.run({"x": X}) + 1, atol=1e-6)


class Lengths(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, steps, batch_first=True, enforce_sorted=False)
        return self.out(self.rnn(packed)[1][-1])  # type: ignore[no-any-return]


def fitted(adapter: Adapter, inputs: dict[str, Array]) -> dict[str, Array]:
    return fit_inputs(Dataset(inputs), adapter.inputs()).arrays()


@pytest.mark.parametrize("seed", range(40))
def test_integers_of_an_input_of_which_only_the_name_is_known_stay(seed: int) -> None:
    torch.manual_seed(seed)  # of some, other examples move in the last digit where the first one has another length
    adapter = TorchAdapter.open(Lengths())
    batch = fitted(adapter, {"x": np.ones((6, 4, 3), np.float32), "steps": np.array([1, 2, 3, 4, 1, 2])})
    assert batch["steps"].dtype == np.int64
    assert adapter.run(batch, {"out.weight": np.zeros((6, 2), np.float32)}).shape == (6, 2)


def test_numbers_for_what_is_a_mask_by_its_name_stay() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(5, 3)

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return self.out(x if mask is None else x * mask)  # type: ignore[no-any-return]

    model = Masked()
    batch = fitted(TorchAdapter.open(model), {"x": X, "mask": X})
    np.testing.assert_array_equal(TorchAdapter.open(model).run(batch), model(*[torch.tensor(X)] * 2).detach())


def test_integers_become_floats_where_the_model_takes_no_others() -> None:
    adapter = TorchAdapter.open(torch_cases.Net(lambda s, x: s.out(x.reshape(-1, 5)), out=nn.Linear(5, 3)))
    whole = np.arange(30).reshape(6, 5)
    batch = fitted(adapter, {"x": whole})
    plain = adapter.run(batch)
    assert batch["x"].dtype == np.int64 and adapter.inputs()[0].dtype == "float32"
    np.testing.assert_array_equal(rebuilt(adapter).run({"x": whole}), plain)
    np.testing.assert_array_equal(adapter.run({"x": whole.astype(np.float32)}), plain)


class Difference(nn.Module):
    """One body for two inputs, whose answers are subtracted: a shift of its outputs cancels, errors do not."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8))
        self.out = nn.Linear(8, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.out(self.body(a) - self.body(b))  # type: ignore[no-any-return]


def test_twins_that_are_subtracted_keep_their_last_layer() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    data = {name: rng.normal(size=(200, 12)).astype(np.float32) for name in "ab"}
    result = attar.compress(Difference(), data, metric="cosine", max_drop=0.05, guarantee="estimate", evaluations=3)
    assert result.within and result.ratio > 2


class ByKeyword(torch.nn.Module):
    """Products whose operands go by PyTorch's own names, which differ from function to function."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (torch.nn.Parameter(torch.randn(8, 8)) for _ in range(2))
        self.three = torch.nn.Parameter(torch.randn(1, 8, 8))
        self.bias = torch.nn.Parameter(torch.randn(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.addmm(input=self.bias, mat1=torch.mm(x, mat2=self.one).relu(), mat2=self.two)
        more = torch.bmm(input=x[:, None].transpose(0, 1), mat2=self.three)
        return more.baddbmm(batch1=x[None], batch2=self.three, beta=0.5)[0]


def test_operands_may_go_by_their_names() -> None:
    torch.manual_seed(0)
    adapter = TorchAdapter.open(ByKeyword().eval())
    assert {layer.name for layer in adapter.layers()} == {"one", "two", "three"}
