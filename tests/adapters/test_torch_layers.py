"""What is found in a model, folded, skipped, measured by gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from adapters import torch_cases
from attar.adapters.torch.adapter import TorchAdapter
from attar.errors import DataError, ModelError
from attar.search.divergence import divergence
from attar.types import Weight


def folded(name: str) -> dict[str, bool]:
    return {layer.name: layer.has_bias for layer in TorchAdapter.open(torch_cases.make(name)).layers()}


def test_batch_norms_become_biases() -> None:
    model = torch_cases.make("conv")
    adapter = TorchAdapter.open(model)
    assert folded("conv") == {"0.weight": True, "3.weight": True, "5.weight": True, "7.weight": True}
    copy = adapter.model()
    assert torch.equal(copy[1].weight, torch.ones(8))
    assert not copy[1].running_mean.any()
    assert not copy[3].bias.any()
    np.testing.assert_array_equal(adapter.read("0.weight").bias, copy[1].bias.detach().numpy())
    assert not adapter.remainder()


@pytest.mark.parametrize(
    "function",
    [
        lambda s, x: s.norm(s.layer(x)) + s.layer(x),
        lambda s, x: (lambda y: s.norm(y) + y)(s.layer(x)),
        lambda s, x: s.norm(torch.relu(s.layer(x))),
        lambda s, x: s.norm(s.layer(s.norm(x))),
    ],
    ids=["layer twice", "two consumers", "activation between", "norm twice"],
)
def test_batch_norms_stay_where_they_are_not_the_only_consumer(function: Any) -> None:
    torch.manual_seed(0)
    model = torch_cases.stirred(torch_cases.Net(function, layer=nn.Conv1d(4, 4, 1), norm=nn.BatchNorm1d(4)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    after = TorchAdapter.open(model).model().state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("change", ["affine", "tracking", "dtype"])
def test_batch_norms_without_what_folding_needs_stay(change: str) -> None:
    norm = nn.BatchNorm1d(4, affine=change != "affine", track_running_stats=change != "tracking")
    model = nn.Sequential(nn.Conv1d(3, 4, 1, bias=False), norm)
    adapter = TorchAdapter.open(model.half() if change == "dtype" else model)
    assert not adapter.layers()[0].has_bias


def test_a_norm_over_steps_is_refused_rather_than_folded_wrongly() -> None:
    model = torch_cases.stirred(nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)))
    adapter = TorchAdapter.open(model)
    with pytest.raises(ModelError, match="one vector"):
        adapter.run({"x": np.ones((2, 5, 3), np.float32)})


def test_skipped_weights_have_reasons() -> None:
    model = torch_cases.Net(
        lambda s, x: s.a(s.b(x, x)) + s.hidden[:2, :3].sum(),
        a=nn.Linear(4, 3),
        b=nn.Bilinear(6, 6, 4),
        hidden=torch_cases.parameter(4, 4),
    )
    skipped = TorchAdapter.open(model).skipped()
    assert set(skipped) == {"b.weight", "hidden"}
    assert "bilinear" in skipped["b.weight"]


def test_a_tied_weight_has_one_owner() -> None:
    adapter = TorchAdapter.open(torch_cases.make("tied"))
    layers = {layer.name: layer for layer in adapter.layers()}
    assert layers["head.weight"].tied_to == "table.weight"
    with pytest.raises(KeyError):
        adapter.read("head.weight")


def test_shared_and_unused_modules() -> None:
    batches = torch_cases.batches_of("shared")
    adapter = TorchAdapter.open(torch_cases.make("shared"))
    stats = adapter.moments(batches)
    assert (stats["a.weight"].count, stats["b.weight"].count) == (14, 7)
    assert (stats["a.weight"].samples, stats["b.weight"].samples) == (7, 7)
    assert set(TorchAdapter.open(torch_cases.make("unused")).moments(batches)) == {"a.weight"}


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn"])
def test_recurrent_states_are_those_of_a_cell_by_cell_run(name: str) -> None:
    batch = torch_cases.batches_of(name)[0]
    model = torch_cases.make(name).eval()
    captures = {c.name: c for c in TorchAdapter.open(model).capture([batch])}
    x = torch.tensor(batch["x"])
    rnn: Any = model.rnn
    outputs = rnn(x.transpose(0, 1) if not rnn.batch_first else x)[0].detach()
    outputs = outputs if not rnn.batch_first else outputs.transpose(0, 1)
    top = f"rnn.weight_hh_l{rnn.num_layers - 1}"
    forward = torch.cat([torch.zeros(1, 4, 5), outputs[:-1, :, :5]]).reshape(-1, 5)
    np.testing.assert_allclose(captures[top].x[0].T, forward, atol=1e-6)
    if rnn.bidirectional:
        backward = torch.cat([outputs[1:, :, 5:], torch.zeros(1, 4, 5)]).reshape(-1, 5)
        np.testing.assert_allclose(captures[f"{top}_reverse"].x[0].T, backward, atol=1e-6)


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_packed_sequences_show_only_the_steps_that_run(kind: Any) -> None:
    torch.manual_seed(0)
    rnn = kind(6, 5, batch_first=True, bidirectional=True)
    model = torch_cases.Net(torch_cases.packed, rnn=rnn, out=nn.Linear(5, 3))
    x = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    captures = {c.name: c for c in TorchAdapter.open(model).capture([{"x": x}])}
    lengths = [1, 2, 3, 4]
    assert captures["rnn.weight_ih_l0"].x.shape == (1, 6, sum(lengths))
    for name, direction in (("rnn.weight_hh_l0", 0), ("rnn.weight_hh_l0_reverse", 1)):
        expected = []
        for row, length in zip(x, lengths, strict=True):
            out = rnn(torch.tensor(row[None, :length]))[0][0].detach().numpy()[:, direction * 5 : direction * 5 + 5]
            zero = np.zeros((1, 5), np.float32)
            expected.append(np.concatenate([out[1:], zero] if direction else [zero, out[:-1]]))
        found, wanted = captures[name].x[0].T, np.concatenate(expected)
        np.testing.assert_allclose(np.sort(found, 0), np.sort(wanted, 0), atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_dtypes_read_as_float32_and_write_back_bit_for_bit(dtype: str) -> None:
    model = torch_cases.make("dense").to(getattr(torch, dtype))
    adapter = TorchAdapter.open(model)
    for layer in adapter.layers():
        assert layer.dtype == dtype
        weight = adapter.read(layer.name)
        adapter.write(layer.name, Weight(weight.matrix * 2, weight.bias))
        adapter.write(layer.name, weight)
    for name, value in adapter.model().state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    adapter.restore(adapter.remainder())


def test_several_inputs_go_by_name_and_logits_are_found() -> None:
    model = torch_cases.TwoInputs()
    adapter = TorchAdapter.open(model)
    rng = np.random.default_rng(0)
    batch = {"extra": rng.normal(size=(3, 4)), "ids": rng.integers(0, 11, (3, 2))}
    logits = model(torch.tensor(batch["ids"]), torch.tensor(batch["extra"]).float())["logits"]
    np.testing.assert_allclose(adapter.run(batch), logits.detach().numpy(), atol=1e-6)
    assert [spec.name for spec in adapter.inputs()] == ["ids", "extra"]
    with pytest.raises(DataError, match="ids"):
        adapter.run({"extra": batch["extra"], "other": batch["ids"]})
    twin = TorchAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    for layer in adapter.layers():
        twin.write(layer.name, adapter.read(layer.name))
    np.testing.assert_allclose(twin.run(batch), logits.detach().numpy(), atol=1e-6)


def test_gradients_and_perturbations_give_the_same_sensitivities() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))
    batch = {"x": np.random.default_rng(0).normal(size=(4000, 20)).astype(np.float32)}
    adapter = TorchAdapter.open(model)
    fisher, plain, step = adapter.fisher([batch], seed=1), adapter.run(batch), 0.03
    for name, found in fisher.items():
        expected = np.zeros(len(found))
        for row in range(len(found)):
            delta = np.zeros((4000, len(found)), np.float32)
            delta[:, row] = step
            expected[row] = 2 * divergence(plain, adapter.run(batch, {name: delta}), "logits").mean() / step**2
        np.testing.assert_allclose(found, expected, rtol=0.15, atol=0.02 * expected.max(), err_msg=name)
    np.testing.assert_array_equal(adapter.fisher([batch], seed=1)["0.weight"], fisher["0.weight"])


def test_gradients_of_convolutions_are_summed_over_positions_and_then_squared() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.Flatten(), nn.Linear(12, 4))
    batch = {"x": np.random.default_rng(0).normal(size=(2000, 2, 5)).astype(np.float32)}
    adapter = TorchAdapter.open(model)
    whole = adapter.fisher([batch], seed=0)["0.weight"]
    # A channel's shift at all positions is the dense layer's input: pull the dense layer's Fisher matrix back.
    logits = adapter.run(batch).astype(np.float64)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    matrix = adapter.read("2.weight").matrix.astype(np.float64).reshape(4, 3, 4).sum(2)
    information = np.einsum("nk,kl->kl", p, np.eye(4)) / len(p) - p.T @ p / len(p)
    expected = np.einsum("kc,kl,lc->c", matrix, information, matrix)
    np.testing.assert_allclose(whole, expected, rtol=0.15)


def test_inputs_are_described_as_far_as_the_graph_tells(tmp_path: Any) -> None:
    def spec(model: Any) -> Any:
        return TorchAdapter.open(model).inputs()[0]

    assert spec(torch_cases.make("conv")).shape == (None, 3, None, None)
    assert spec(torch_cases.make("transposed")).shape == (None, 3, None, None)
    assert spec(torch_cases.make("embedding")).dtype == "int64"
    assert spec(torch_cases.make("dense")).shape == ()
    assert spec(torch_cases.program_case("dense", tmp_path).model()).shape == (None, 6)
    assert spec(torch_cases.script_case("conv", tmp_path, traced=True).model()).shape == (None, 3, None, None)


def test_a_program_with_a_fixed_batch_is_refused() -> None:
    program = torch.export.export(torch_cases.make("dense").eval(), (torch.ones(2, 6),))
    with pytest.raises(ModelError, match="batch axis must be free"):
        TorchAdapter.open(program)
