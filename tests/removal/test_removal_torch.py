# ruff: noqa: E501
"""Removal of channels from PyTorch modules: the laws, and what code can and cannot follow."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapters.torch_cases import Net, run_module, stirred
from attar.adapters.torch.adapter import TorchAdapter
from attar.errors import ModelError
from kits import structure_laws as laws

EXAMPLES = Path(__file__).parents[2] / "examples"


class Block(nn.Module):
    """A residual block with a squeeze-and-excitation gate, written with functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.squeeze, self.excite = nn.Linear(8, 4), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3))))))
        y = y * gate.view(gate.size(0), -1, 1, 1)
        y += x
        return F.relu(y)


def gated() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def branches(s: Any, x: Tensor) -> Tensor:
    joined = torch.cat([s.a(x), F.max_pool2d(s.b(x), 1)], 1)
    y = F.pad(F.relu(s.c(joined) + joined), (1, 1))
    return s.out(torch.flatten(y, 1))


def through_size(s: Any, x: Tensor) -> Tensor:
    b, c, h, w = s.a(x).shape
    return s.out(torch.relu(s.a(x)).view(b, c, h * w).permute(0, 2, 1)).sum(1)


def literal(s: Any, x: Tensor) -> Tensor:
    return s.out(torch.relu(s.a(x)).view(-1, 4 * 25))


def fixed(s: Any, x: Tensor) -> Tensor:
    y = s.norm(s.a(x))
    return s.out(s.mha(y, y, y)[0].softmax(-1)).mean(1)


def tied() -> nn.Module:
    model = Net(lambda s, x: s.out(torch.relu(s.b(torch.relu(s.a(x))))), a=nn.Linear(6, 6), b=nn.Linear(6, 6), out=nn.Linear(6, 3))  # fmt: skip
    first = nn.Linear(5, 6)
    model.b.weight = model.a.weight  # type: ignore[assignment]
    return nn.Sequential(first, model)


IMAGE = (3, 7, 7)
NETS: dict[str, tuple[Any, Any, int]] = {
    "gated": (gated, IMAGE, 5),
    "branches": (
        lambda: Net(branches, a=nn.Conv2d(3, 4, 3), b=nn.Conv2d(3, 6, 3), c=nn.Conv2d(10, 10, 1), out=nn.Linear(350, 4)),
        IMAGE,
        2,
    ),
    "depthwise": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.PReLU(8), nn.Conv2d(8, 16, 3, padding=1, groups=8, bias=False),
            nn.BatchNorm2d(16), nn.Hardtanh(), nn.Conv2d(16, 12, 1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 8, 1, groups=4),
            nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32, 10), nn.Dropout(), nn.Linear(10, 4),
        ),
        IMAGE,
        4,
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 6, 2, 2), nn.InstanceNorm2d(6, affine=True), nn.Upsample(scale_factor=2),
                              nn.ReflectionPad2d(1), nn.Conv2d(6, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten()),
        IMAGE,
        1,
    ),
    "sizes": (lambda: Net(through_size, a=nn.Conv2d(3, 6, 3), out=nn.Linear(6, 4)), IMAGE, 1),
    "tied": (tied, (5,), 1),
    "embedding": (lambda: Net(lambda s, x: s.out(torch.relu(s.hid(s.table(x))).sum(1)), table=nn.Embedding(9, 8), hid=nn.Linear(8, 6), out=nn.Linear(6, 3)), "ids", 2),
    "feed_forward": (lambda: Net(lambda s, x: s.norm(x + s.down(F.gelu(s.up(x)))).mean(1), up=nn.Linear(6, 16), down=nn.Linear(16, 6), norm=nn.LayerNorm(6)), (4, 6), 1),
}  # fmt: skip
TRAINED = {"lenet5": 3, "dwcnn": 5, "resnet20": 12}
SCALABLE = {
    "gated": 5, "branches": 2, "depthwise": 4, "transposed": 1, "sizes": 1, "tied": 1, "embedding": 2, "feed_forward": 0,
    "lenet5": 3, "dwcnn": 9, "resnet20": 12,
}  # fmt: skip
"""Groups that can be scaled."""


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name not in TRAINED:
        return stirred(NETS[name][0]())
    sys.path.insert(0, str(EXAMPLES))
    from torch_models import MODELS

    model = MODELS[name]()
    model.load_state_dict(torch.load(EXAMPLES / "models" / f"{name}.pt", weights_only=True))
    return model


def run_plain(path: Path, model: nn.Module, batch: Any) -> np.ndarray:
    """The module, from a state dict and by way of an export that loads without its class."""
    state = torch.load(path, weights_only=True) if path.suffix != ".safetensors" else None
    if state is None:
        from safetensors.torch import load_file

        state = load_file(path)
    for parameter in model.parameters():
        parameter.data.zero_()
    model.load_state_dict(state, strict=False)  # of tied tensors the file has one
    return run_module(model, batch)


def case(name: str) -> laws.Case:
    rng = np.random.default_rng(0)
    shape = (1, 28, 28) if name in TRAINED else NETS[name][1]
    x = rng.integers(0, 9, (4, 5)) if shape == "ids" else rng.normal(size=(4, *shape)).astype(np.float32)
    count = TRAINED.get(name) or NETS[name][2]
    silent = name not in ("gated", "transposed")  # a sigmoid; a norm of nothing
    options = {"silent": silent, "least": count, "scalable": SCALABLE[name]}
    return laws.Case(TorchAdapter, lambda: make(name), [{"x": x}], run_plain, 2e-5, **options)


# An export takes seconds.
SLOW = [(name, laws.law_rebuild) for name in (*NETS, *TRAINED) if name != "depthwise"]
SLOW += [(name, law) for name in TRAINED for law in (laws.law_one_group, laws.law_silent, laws.law_again)]


@pytest.mark.parametrize(
    ("name", "law"),
    [
        pytest.param(n, law, id=f"{n}-{law.__name__}", marks=[pytest.mark.slow] if (n, law) in SLOW else [])
        for n in [*NETS, *TRAINED]
        for law in laws.LAWS
    ],
)
def test_laws(name, law):
    law(case(name))


def opened(model: nn.Module, x: Any) -> Any:
    adapter = TorchAdapter.open(model)
    adapter.run({"x": x})
    return adapter


def test_attributes_follow():
    adapter = case("depthwise").open()
    model = adapter.shrunk(laws.some(adapter.structure().groups)).model()
    assert (model[0].out_channels, model[1].num_features, model[2].num_parameters) == (4, 4, 4)
    assert (model[3].in_channels, model[3].out_channels, model[3].groups) == (4, 8, 4)
    assert (model[6].in_channels, model[6].out_channels) == (8, model[7].num_features)
    assert model[9].groups == 4
    assert (model[12].in_features, model[12].out_features, model[14].in_features) == (model[9].out_channels * 4, 5, 5)


def test_an_export_of_the_smaller_module_loads_without_its_class(tmp_path):
    adapter = case("gated").open()
    smaller = adapter.shrunk(laws.some(adapter.structure().groups))
    x = torch.tensor(case("gated").batches[0]["x"])
    program = torch.export.export(smaller.model().eval(), (x,))
    torch.export.save(program, tmp_path / "small.pt2")
    found = torch.export.load(tmp_path / "small.pt2").module()(x).detach().numpy()
    np.testing.assert_allclose(found, smaller.run({"x": x.numpy()}), atol=1e-5)


def test_sizes_written_in_code_must_stay():
    model = Net(literal, a=nn.Conv2d(3, 4, 3), out=nn.Linear(100, 5))
    structure = opened(model, np.zeros((2, *IMAGE), np.float32)).structure()
    assert structure.groups == ()
    assert "written in code" in structure.fixed["a.weight"]


def test_attention_and_layer_norms_must_stay():
    model = Net(fixed, a=nn.Linear(6, 8), norm=nn.LayerNorm(8), mha=nn.MultiheadAttention(8, 2), out=nn.Linear(8, 3))
    structure = opened(model, np.zeros((2, 4, 6), np.float32)).structure()
    assert structure.groups == ()
    assert structure.fixed["a.weight"] == "mixed by norm"


def test_a_batch_must_have_run():
    with pytest.raises(ModelError, match="has run a batch"):
        TorchAdapter.open(make("gated")).structure()


def test_code_that_does_not_trace_says_so():
    model = Net(lambda s, x: s.b(s.a(x)) if x.sum() > 0 else s.b(-s.a(x)), a=nn.Linear(6, 5), b=nn.Linear(5, 4))
    with pytest.raises(ModelError, match=r"traceable by torch\.fx"):
        opened(model, np.ones((2, 6), np.float32)).structure()


def test_a_program_is_declined(tmp_path):
    x = torch.ones(3, 6)
    program = torch.export.export(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)), (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))  # fmt: skip
    torch.export.save(program, tmp_path / "m.pt2")
    with pytest.raises(ModelError, match="exported graph"):
        opened(tmp_path / "m.pt2", x.numpy()).structure()


def test_the_same_weights_have_the_same_groups_as_in_onnx():
    from attar.adapters.onnx.adapter import OnnxAdapter

    for name in TRAINED:
        ours = case(name).open().structure()
        theirs = OnnxAdapter.open(EXAMPLES / "models" / f"{name}.onnx").structure()
        assert [(g.name, g.channels) for g in ours.groups] == [(g.name, g.channels) for g in theirs.groups]
        assert ours.macs == theirs.macs
