"""Scales moved in Hugging Face models of every kind: norms, values of attention, gated layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from adapters.transformers_models import MODELS, batches, by_transformers, folder, loaded
from attar.adapters.transformers.load import Slices
from attar.adapters.transformers.model import TransformersModel
from attar.adapters.transformers.recording import recorded, scales_of
from attar.structure.graph import Opaque
from attar.structure.scaling import ScalingSettings, move
from kits import structure_laws
from kits.structure_laws import Case

FOLD = ScalingSettings(moves="fold")
SCALABLE = {
    "bert": 2, "masked": 3, "classifier": 3, "llama": 8, "untied": 9, "gpt2": 6, "phi3": 7, "mixtral": 5, "whisper": 8,
    "t5": 10, "vit": 4, "half": 8,
}  # fmt: skip
"""Groups in each: of a norm before attention or a feed-forward layer, of its values, of a gated layer's linear half."""


class Opener:
    """What the kit opens models with."""

    open = staticmethod(TransformersModel.opened)


def opened(name: str) -> TransformersModel:
    return TransformersModel.opened(folder(name))


@pytest.mark.parametrize("law", structure_laws.SCALING, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", [name for name in MODELS if name != "half"])
def test_laws(name: str, law: Any) -> None:
    law(
        Case(
            Opener, lambda: folder(name), batches(name), lambda path, _, batch: by_transformers(path, batch),
            tolerance=2e-5, scalable=SCALABLE[name],
        )
    )  # fmt: skip


class TransformersModel_:
    open = staticmethod(TransformersModel.opened)


def test_what_is_read_by_what() -> None:
    groups = {g.made[0].tensor: [m.tensor for m in g.read] for g in opened("llama").structure().scalable}
    first = "model.layers.0."
    assert groups[f"{first}input_layernorm.weight"] == [f"{first}self_attn.{x}_proj.weight" for x in "qkv"]
    assert groups[f"{first}self_attn.v_proj.weight"] == [f"{first}self_attn.o_proj.weight"]
    assert groups[f"{first}mlp.up_proj.weight"] == [f"{first}mlp.down_proj.weight"]
    assert "model.norm.weight" not in groups, "its reader is tied to the embeddings, which are looked up as well"
    assert opened("untied").structure().scalable[-1].made[0].tensor == "model.norm.weight"


def test_values_go_together_in_all_heads() -> None:
    """Two heads of keys and values for four of queries: what is at one place of a head has one factor."""
    (group,) = (g for g in opened("llama").structure().scalable if "layers.1.self_attn.v_proj" in g.name)
    np.testing.assert_array_equal(group.made[0].index, np.arange(8).reshape(2, 4).T)
    np.testing.assert_array_equal(group.read[0].index, np.arange(16).reshape(4, 4).T)


@pytest.mark.parametrize("name", ["whisper", "t5", "bert", "vit"])
def test_everything_that_the_model_gives_stays(name: str) -> None:
    """Not the task's output alone: states of an encoder, vectors of a pooler."""
    adapter = opened(name)
    rng = np.random.default_rng(0)
    moved = move(adapter, adapter.moments(batches(name)), ScalingSettings(moves="smooth", alpha=rng.uniform()))[0]
    inputs = {key: torch.tensor(values) for key, values in batches(name)[0].items()}
    with torch.no_grad():
        expected, found = (one.model().float()(**inputs) for one in (adapter, moved))
    for key, value in expected.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-4)


def test_a_folded_gain_is_one(tmp_path: Path) -> None:
    adapter = opened("gpt2")
    moved, report = move(adapter, {}, FOLD)
    assert len(report.factors) == 4 and report.left == {}
    moved.save(tmp_path / "folded")
    network = loaded(tmp_path / "folded")
    for block in network.transformer.h:
        for norm in (block.ln_1, block.ln_2):
            torch.testing.assert_close(norm.weight.abs(), torch.ones(16))
    assert not torch.allclose(network.transformer.ln_f.weight.abs(), torch.ones(16), atol=1e-3), "its reader is tied"


def test_half_precision_moves_by_powers_of_two() -> None:
    """No bit of a bfloat16 model's outputs changes, and none of its weights is rounded anew."""
    adapter = opened("half")
    for moves in ("equalise", "smooth", "fold"):
        moved, report = move(adapter, adapter.moments(batches("half")), ScalingSettings(moves=moves))
        factors = np.concatenate(list(report.factors.values()))
        np.testing.assert_array_equal(np.log2(factors), np.rint(np.log2(factors)))
        assert report.left == {} and (factors != 1).any()
        for batch in batches("half"):
            np.testing.assert_array_equal(moved.run(batch), adapter.run(batch))


def test_float16_moves_within_narrow_bounds() -> None:
    adapter = opened("gpt2")
    adapter._dtype = torch.float16
    adapter = adapter.copied()
    rest = {name: np.array(values) for name, values in adapter.remainder().items()}
    rest["transformer.h.0.ln_1.weight"][:2] = 2.0**-12, 2.0**9
    adapter.restore(rest)
    moved, report = move(adapter, {}, FOLD)
    factors = report.factors["transformer.h.0.ln_1.weight#0"]
    assert report.left == {} and factors[0] == 16 and factors[1] == 1 / 16
    for batch in batches("gpt2"):
        np.testing.assert_allclose(moved.run(batch), adapter.run(batch), atol=1e-3)


def test_experts_are_taken_whole() -> None:
    """Which experts a run visits is chance: what they read keeps its scale, whether this run has them or not."""
    adapter = opened("mixtral")
    names = [member.tensor for group in adapter.structure().scalable for member in (*group.made, *group.read)]
    assert not any("experts" in name or "gate.weight" in name or "post_attention" in name for name in names)
    assert any("input_layernorm" in name for name in names)


# What the recorder makes of code that it does not know


class Net(nn.Module):
    """A norm written out, then what a test puts between it and what reads it."""

    def __init__(self, between: Any) -> None:
        super().__init__()
        self.first, self.gain = nn.Linear(6, 8, bias=False), nn.Parameter(torch.rand(8) + 0.5)
        self.second = nn.Linear(8, 3)
        self.between = between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states = self.first(x)
        states = states * torch.rsqrt(states.square().mean(-1, keepdim=True) + 1e-6) * self.gain
        return self.second(self.between(states))


def written(states: torch.Tensor) -> torch.Tensor:
    made = torch.zeros_like(states)
    made[:, :4] = states[:, :4]
    return made


def looked_at(states: torch.Tensor) -> torch.Tensor:
    return states if states.sum().item() > 1e9 else functional.relu(states)


BETWEEN: dict[str, tuple[Any, int]] = {
    "nothing": (lambda s: s, 1),
    "relu": (functional.relu, 1),
    "relu in place": (lambda s: functional.relu(s.clone(), inplace=True), 1),
    "gelu": (functional.gelu, 0),
    "halves": (lambda s: torch.cat(s.split(4, -1), -1), 1),
    "turned": (lambda s: s[:, None].expand(5, 2, 8).mean(1), 1),
    "written into": (written, 0),
    "its sum decides": (looked_at, 0),
    "by itself": (lambda s: s * s, 0),
    "heads": (lambda s: s.view(5, 2, 4).transpose(0, 1).transpose(0, 1).reshape(5, 8), 1),
    "a constant from outside": (lambda s: s + torch.ones(8), 0),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_what_lies_between_decides(name: str) -> None:
    between, groups = BETWEEN[name]
    net = Net(between).eval()
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    found = scales_of(net, lambda: net(x), 5).scalable
    assert len(found) == groups, [group.name for group in found]
    if not groups:
        return
    (group,) = found
    expected = net(x).detach()
    factors = torch.rand(group.channels, generator=torch.Generator().manual_seed(1)) + 0.5
    with torch.no_grad():
        for members, by in ((group.made, factors), (group.read, 1 / factors)):
            for member in members:
                tensor = net.get_parameter(member.tensor)
                whole = torch.ones(tensor.shape[member.axis])
                whole[torch.tensor(member.index)] = by[:, None]
                tensor *= whole if member.axis == tensor.ndim - 1 else whole[:, None]
    torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-5)


def test_a_module_with_experts_is_one_call() -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = Slices([nn.Parameter(torch.randn(8, 8)) for _ in range(3)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.parts[0]

    mixture = Mixture()
    net = Net(mixture).eval()
    x = torch.randn(5, 6)
    graph = recorded(net, lambda: net(x), 5)
    assert [n.reason for n in graph.nodes if isinstance(n, Opaque)] == ["read by Mixture"]
    assert {name for name, why in graph.unknown.items() if why == "read by Mixture"} == {
        "between.parts.0", "between.parts.1", "between.parts.2",
    }  # fmt: skip
    assert scales_of(net, lambda: net(x), 5).scalable == ()
    assert not mixture._forward_hooks and not mixture._forward_pre_hooks, "nothing is left behind"
