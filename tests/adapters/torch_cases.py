# ruff: noqa: E501
"""Small torch models of every kind, as cases for the adapter laws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence

from attar.adapters.torch.adapter import FactorySpec, TorchAdapter
from attar.types import Array
from kits.adapter_laws import Batch, Case


class Net(nn.Module):
    """Modules by name, and a forward made of a function."""

    def __init__(self, function: Callable[..., Any], **modules: nn.Module | nn.Parameter):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.out = nn.Linear(10, 3)

    def forward(self, ids: Tensor, extra: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
        return {"hidden": ids, "logits": self.out(torch.cat([self.table(ids).mean(1), extra * scale], 1))}


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) / shape[0] ** 0.5)


def stirred(model: nn.Module) -> nn.Module:
    """Batch norms with statistics unlike an identity."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.normal_(module.bias)
    return model


def tied() -> nn.Module:
    model = Net(lambda s, x: s.head(torch.relu(s.body(s.table(x)))).mean(1), table=nn.Embedding(9, 6), body=nn.Linear(6, 6), head=nn.Linear(6, 9, bias=False))  # fmt: skip
    model.head.weight = model.table.weight  # type: ignore[assignment]
    return model


def filtered() -> nn.Module:
    """A fixed transform kept in a buffer, as in front ends for sound, and a buffer that is no matrix."""
    model = Net(lambda s, x: s.out(torch.relu(F.conv1d(x, s.basis) + s.shift).flatten(1)), out=nn.Linear(16, 3))
    model.register_buffer("basis", torch.randn(4, 5, 3))
    model.register_buffer("shift", torch.randn(4, 4))
    return model


def packed(model: Any, x: Tensor) -> Tensor:
    lengths = torch.arange(len(x)) % x.shape[1] + 1
    sequence = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    state = model.rnn(sequence)[1]
    return model.out((state[0] if isinstance(state, tuple) else state)[-1])


def attention(model: Any, x: Tensor) -> Tensor:
    return model.out(model.mha(x, x, x, need_weights=False)[0].mean(1))


def cross(model: Any, x: Tensor) -> Tensor:
    return model.mha(x[:, :2], x, x.flip(1))[0].mean(1)


def cells(model: Any, x: Tensor) -> Tensor:
    n = x.shape[0]
    h, s = x.new_zeros(n, 5), (x.new_zeros(n, 4), x.new_zeros(n, 4))
    for step in x.unbind(1):
        h = model.gru(step, h)
        s = model.lstm(h, s)
    return s[0]


IMAGE, ROW, SERIES = (3, 7, 6), (6,), (5, 6)
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...] | str]] = {
    "dense": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4, bias=False)), ROW),
    "dense-norm": (lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)), ROW),
    "positions": (lambda: Net(lambda s, x: s.b(torch.relu(s.a(x))).sum(1), a=nn.Linear(6, 4), b=nn.Linear(4, 3)), SERIES),
    "conv": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, (3, 1), padding=(1, 0), groups=8), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 1, groups=2),
            nn.Flatten(), nn.Linear(72, 3),
        ),
        IMAGE,
    ),
    "conv-paddings": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, (2, 3), padding="same", dilation=2), nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular", bias=False),
            nn.Conv2d(4, 2, 3, padding="valid"), nn.Flatten(),
        ),
        IMAGE,
    ),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(5, 4, 3, dilation=2, padding=2), nn.ReLU(), nn.Conv1d(4, 2, 2), nn.Flatten()), SERIES),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(2, 4, (1, 2, 2), groups=2, stride=(1, 2, 1)), nn.Flatten()), (2, 3, 4, 4)),
    "transposed": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1), nn.ReLU(),
            nn.ConvTranspose2d(4, 6, 2, groups=2, dilation=2), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        ),
        IMAGE,
    ),
    "embedding": (lambda: Net(lambda s, x: s.out(s.table(x).mean(1)), table=nn.Embedding(9, 6), out=nn.Linear(6, 4)), "ids"),
    "bag": (lambda: Net(lambda s, x: s.out(s.table(x)), table=nn.EmbeddingBag(9, 6, mode="mean"), out=nn.Linear(6, 4)), "ids"),
    "tied": (tied, "ids"),
    "lstm": (lambda: Net(lambda s, x: s.out(s.rnn(x)[0][:, -1]), rnn=nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True), out=nn.Linear(10, 3)), SERIES),
    "gru": (lambda: Net(lambda s, x: s.out(s.rnn(x.transpose(0, 1))[1][-1]), rnn=nn.GRU(6, 5, bias=False), out=nn.Linear(5, 3)), SERIES),
    "rnn": (lambda: Net(lambda s, x: s.out(s.rnn(x)[0].mean(1)), rnn=nn.RNN(6, 5, batch_first=True), out=nn.Linear(5, 3)), SERIES),
    "cells": (lambda: Net(cells, gru=nn.GRUCell(6, 5), lstm=nn.LSTMCell(5, 4)), SERIES),
    "attention": (lambda: Net(attention, mha=nn.MultiheadAttention(6, 2, batch_first=True), out=nn.Linear(6, 3)), SERIES),
    "attention-kv": (lambda: Net(attention, mha=nn.MultiheadAttention(6, 2, kdim=6, vdim=6, batch_first=True, bias=False), out=nn.Linear(6, 3)), SERIES),
    "cross": (lambda: Net(cross, mha=nn.MultiheadAttention(6, 2, batch_first=True, add_bias_kv=True)), SERIES),
    "encoder": (lambda: Net(lambda s, x: s.block(x).mean(1), block=nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)), SERIES),
    "raw": (lambda: Net(lambda s, x: x @ s.w + F.linear(x, s.v, s.b) + (s.u.t() @ x[:, :, None])[:, :, 0], w=parameter(6, 3), v=parameter(3, 6), b=parameter(3), u=parameter(6, 3)), ROW),
    "einsum": (
        lambda: Net(
            lambda s, x: torch.einsum("bthk,hkd->btd", torch.tanh(torch.einsum("btd,dhk->bthk", x, s.q)), s.o).sum(1)
            + torch.einsum("btd,tde->be", x, s.g) + torch.einsum("...td,tde->...te", x, s.e).mean(1),
            q=parameter(6, 2, 3), o=parameter(2, 3, 4), g=parameter(5, 6, 4), e=parameter(5, 6, 4),
        ),
        SERIES,
    ),
    "filtered": (filtered, SERIES),
    "shared": (lambda: Net(lambda s, x: s.a(torch.relu(s.a(x))) + s.b(x), a=nn.Linear(6, 6), b=nn.Linear(6, 6)), ROW),
    "conv-twice": (
        lambda: Net(lambda s, x: s.a(3 + torch.relu(s.a(x))).flatten(1), a=nn.Conv2d(3, 3, 3, padding=1)), IMAGE
    ),
    "unused": (lambda: Net(lambda s, x: s.a(x), a=nn.Linear(6, 4), b=nn.Linear(6, 4)), ROW),
    "weight-norm": (lambda: nn.Sequential(weight_norm(nn.Linear(6, 5)), nn.ReLU(), nn.Linear(5, 2)), ROW),
    "half": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)).half(), ROW),
    "double": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)).double(), ROW),
    "dropout": (lambda: Net(lambda s, x: F.dropout(s.a(x), 0.2, training=True), a=nn.Linear(6, 4)), ROW),
}  # fmt: skip


INEXACT = ("double", "attention", "attention-kv", "cross", "encoder")
"""float64 is handed on in float32, and an exported attention uses other kernels."""


EXPORTED = ("conv", "lstm", "einsum", "tied")
"""Models whose export is tested in every run; that of the others is slow in sum."""


def pairs(names: Iterable[str], laws: Iterable[Any]) -> list[Any]:
    """Parameters (name, law) of a test, the exports of most models marked as slow."""
    found = []
    for name in names:
        for law in laws:
            heavy = law.__name__ in ("law_rebuild", "law_skeleton_holds_no_weights") and name not in EXPORTED
            marks = [pytest.mark.slow] if heavy else []
            found.append(pytest.param(name, law, id=f"{name}-{law.__name__}", marks=marks))
    return found


def make(name: str) -> nn.Module:
    torch.manual_seed(sum(name.encode()))
    return stirred(MODELS[name][0]())


def batches_of(name: str, sizes: Sequence[int] = (4, 3)) -> list[dict[str, Array]]:
    shape, rng = MODELS[name][1], np.random.default_rng(0)
    if shape == "ids":
        return [{"x": rng.integers(0, 9, (n, 5))} for n in sizes]
    return [{"x": rng.normal(size=(n, *shape)).astype(np.float32)} for n in sizes]  # type: ignore[misc]


def first(output: Any) -> Array:
    while not isinstance(output, Tensor):
        output = output["logits"] if isinstance(output, dict) else output[0]
    return np.asarray(output.detach().float().cpu().numpy())


def run_module(model: Any, batch: Batch) -> Array:
    """By torch alone, in eval mode, the mode restored; random numbers as attar has them."""
    training = model.training
    dtype, device = next(model.parameters()).dtype, next(model.parameters()).device
    x = torch.tensor(next(iter(batch.values()))).to(device)
    if not isinstance(model, torch.fx.GraphModule):
        model.train(False)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        torch.default_generator.manual_seed(0)
        output = first(model(x.to(dtype) if x.is_floating_point() else x))
    if not isinstance(model, torch.fx.GraphModule):
        model.train(training)
    return output


def module_case(name: str) -> Case:
    """A module handed over as an object; the adapter has seen one batch, as a skeleton needs it."""
    batches = batches_of(name)

    class Primed(TorchAdapter):
        @classmethod
        def open(cls, model: object) -> Any:
            if isinstance(model, Path):
                model = FactorySpec(f"adapters.torch_cases:{FACTORIES[name]}", model)
            adapter = super().open(model)
            adapter.run(batches[0])
            return adapter

        @classmethod
        def accepts(cls, model: object) -> bool:
            return super().accepts(model) or (isinstance(model, Path) and model.suffix == ".safetensors" and model.is_file())  # fmt: skip

    def run_saved(path: Path, batch: Batch) -> Array:
        from safetensors.torch import load_model

        model = plain(name)
        load_model(model, path)
        return run_module(model, batch)

    tolerance = 2e-2 if name == "half" else 2e-5
    return Case(
        Primed,
        lambda: make(name),
        batches,
        run_module,
        run_saved,
        tolerance,
        name not in INEXACT,
        random=name == "dropout",
    )


def plain(name: str) -> nn.Module:
    """The module that a saved state dict fits: without parametrisations."""
    model = make(name)
    for module in model.modules():
        if nn.utils.parametrize.is_parametrized(module):
            nn.utils.parametrize.remove_parametrizations(module, "weight")
    return model


FACTORIES = {name: f"make_{name.replace('-', '_')}" for name in MODELS}
globals().update({FACTORIES[name]: (lambda name=name: plain(name)) for name in MODELS})


def program_case(name: str, folder: Path) -> Case:
    """The same module as a .pt2 file."""
    batches = batches_of(name)

    def model() -> Path:
        path = folder / f"{name}.pt2"
        if not path.exists():
            x = example(name)
            program = torch.export.export(make(name).eval(), (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
            torch.export.save(program, path)
        return path

    def run_original(model: Any, batch: Batch) -> Array:
        return run_module(torch.export.load(model).module(), batch)

    return Case(TorchAdapter, model, batches, run_original, run_original, 2e-5, name not in INEXACT)


def script_case(name: str, folder: Path, *, traced: bool) -> Case:
    """The same module as a TorchScript file."""
    batches = batches_of(name)

    def model() -> Path:
        path = folder / f"{name}.pt"
        if not path.exists():
            module = make(name).eval()
            script = torch.jit.trace(module, example(name)) if traced else torch.jit.script(module)
            script.save(str(path))
        return path

    def run_original(model: Any, batch: Batch) -> Array:
        return run_module(torch.jit.load(str(model)), batch)

    return Case(TorchAdapter, model, batches, run_original, run_original, 2e-5)


def example(name: str) -> Tensor:
    x = torch.tensor(batches_of(name)[0]["x"])
    return x.to(next(make(name).parameters()).dtype) if x.is_floating_point() else x
