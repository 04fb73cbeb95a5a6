"""The short form of a program says the same as torch's own, is small, and makes no other error than it says."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._export.serde import serialize as serde

from adapters import torch_cases
from attar.adapters.torch import metas
from attar.adapters.torch.adapter import TorchAdapter
from attar.adapters.torch.compact import expand, shrink
from attar.adapters.torch.skeleton import stripped
from attar.archive.blobs import code_skeleton
from attar.errors import FormatError, ModelError

EXAMPLES = Path(__file__).parents[2] / "examples"
FREE = {0: torch.export.Dim.DYNAMIC}


class Odd(nn.Module):
    """A graph in the graph, a buffer that is not saved, a constant, tensors in a list, None in a list, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.outer = nn.Linear(4, 4)
        self.inner = nn.Linear(4, 4)
        self.register_buffer("scale", torch.ones(4), persistent=False)
        self.norm = nn.BatchNorm1d(4, affine=False)

    def forward(self, x: Tensor, factor: int = 2) -> dict[str, Any]:
        x = self.outer(x)
        with torch.no_grad():
            y = self.inner(x)
        left, right = torch.chunk(self.norm(y) * self.scale + torch.tensor([1.0, 2, 3, 4]), 2, 1)
        return {"left": left * factor, "both": (right, x[:, [0, 1]])}


def exported(name: str) -> Any:
    if name == "odd":
        return torch.export.export(Odd().eval(), (torch.ones(2, 4), 3), dynamic_shapes=(FREE, None))
    if name == "keywords":
        inputs = {"ids": torch.zeros(2, 3, dtype=torch.long), "extra": torch.zeros(2, 4)}
        return torch.export.export(
            torch_cases.TwoInputs().eval(), (), inputs, dynamic_shapes={"ids": FREE, "extra": FREE}
        )
    x = torch_cases.example(name)
    return torch.export.export(torch_cases.make(name).eval(), (x,), dynamic_shapes=(FREE,))


def described(name: str) -> Any:
    return stripped(json.loads(serde.serialize(exported(name)).exported_program))


def numbered(program: Any) -> str:
    """The program's text, every value's and node's name replaced by the place where it is first defined."""
    program, inner = without_graphs(program)
    names: dict[str, str] = {}
    for spec in program["graph_module"]["signature"]["input_specs"]:
        ((kind, given),) = spec.items()
        if kind not in ("user_input", "constant_input"):
            names[given["arg"]["name"]] = f"<{kind} {given.get(f'{kind}_name')}>"
    for place, node in enumerate(program["graph_module"]["graph"]["nodes"]):
        found = json.dumps(node["outputs"]).split('name": "')[1:]
        names.update({part.split('"')[0]: f"<{place}.{number}>" for number, part in enumerate(found)})
        names.setdefault(node["name"], f"<{place}>")
    text = json.dumps(program, sort_keys=True)
    for old, new in names.items():
        text = text.replace(f'name": "{old}"', f'name": "{new}"')
    renamed = json.loads(text)
    graph = renamed["graph_module"]["graph"]
    for kind in ("tensor_values", "sym_int_values"):
        graph[kind] = {names.get(name, name): value for name, value in graph[kind].items()}
    return json.dumps([renamed, inner], sort_keys=True)


def without_graphs(value: Any) -> tuple[Any, list[Any]]:
    """A copy without the graphs in it, which have names of their own, and these."""
    if not isinstance(value, dict | list):
        return value, []
    if isinstance(value, dict) and "as_graph" in value:
        return {}, [value]
    keys = list(value) if isinstance(value, dict) else range(len(value))
    parts = [without_graphs(value[key]) for key in keys]
    copy = dict(zip(keys, (part for part, _ in parts), strict=True))
    return copy if isinstance(value, dict) else list(copy.values()), [graph for _, found in parts for graph in found]


@pytest.mark.parametrize(
    "name", ["conv", "lstm", "attention", "einsum", "dropout", "half", "tied", "cells", "odd", "keywords"]
)
def test_expand_undoes_shrink_but_for_names(name: str) -> None:
    program = described(name)
    short = shrink(program)
    assert "graph_module" not in short
    assert numbered(expand(json.loads(json.dumps(short)))) == numbered(program)
    assert len(json.dumps(short)) < (0.4 if name == "odd" else 0.15) * len(json.dumps(program))


def test_shrink_does_not_modify_its_argument() -> None:
    program = described("conv")
    before = json.dumps(program)
    shrink(program)
    assert json.dumps(program) == before


def test_names_that_clash_leave_the_program_as_it_is() -> None:
    text = json.dumps(described("conv")).replace('"input"}', '"val3"}').replace('"input": {', '"val3": {')
    program = json.loads(text)
    assert shrink(program) == program
    assert expand(program) == program


def test_any_change_of_a_program_survives() -> None:
    """What the short form has no word for is stored beside it."""
    program = described("conv")
    rng = random.Random(0)
    for _ in range(100):
        changed = json.loads(json.dumps(program))
        place, key = rng.choice(list(leaves(changed)))
        place[key] = rng.choice([None, True, 0, -1, 2.5, "text", [], {}, [1, "1"], {"as_int": 3}])
        assert numbered_or_text(expand(json.loads(json.dumps(shrink(changed))))) == numbered_or_text(changed)


def leaves(value: Any) -> Any:
    """(container, key) of every entry that is neither name nor container."""
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(entry, dict | list):
            yield from leaves(entry)
        elif key not in ("name", "as_name"):
            yield value, key


def numbered_or_text(program: Any) -> str:
    try:
        return numbered(program)
    except (KeyError, TypeError, ValueError, AttributeError):
        return json.dumps(program, sort_keys=True)


@pytest.mark.parametrize(("name", "most"), {"lenet300": 220, "lenet5": 280, "resnet20": 580, "dwcnn": 530}.items())
def test_skeletons_of_the_example_networks_are_small(name: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from torch_models import MODELS  # type: ignore[import-not-found]

    adapter = TorchAdapter.open(torch_cases.stirred(MODELS[name]()).eval())
    batch = {adapter.inputs()[0].name: np.random.default_rng(0).random((3, 1, 28, 28), np.float32)}
    expected = adapter.run(batch)
    skeleton = adapter.skeleton()
    assert len(code_skeleton(skeleton)[2]) <= most
    again = TorchAdapter.rebuild(skeleton, adapter.remainder())
    for layer in adapter.layers():
        again.write(layer.name, adapter.read(layer.name))
    np.testing.assert_array_equal(again.run(batch), expected)
    assert [layer.name for layer in again.layers()] == [layer.name for layer in adapter.layers()]
    assert list(again.inputs()) == list(adapter.inputs())


def test_skeletons_hold_no_source_code_and_no_paths() -> None:
    """Also where a graph within the graph has notes of its own."""
    adapter = TorchAdapter.open(torch.export.export(Odd().eval(), (torch.ones(2, 4),), dynamic_shapes=(FREE,)))
    batch = {"x": np.ones((5, 4), np.float32)}
    expected = adapter.run(batch)
    skeleton = adapter.skeleton().decode()
    assert "wrap_with_set_grad_enabled" in skeleton
    for note in ("stack_trace", ".py", "line ", "torch_fn", "nn_module_stack"):
        assert note not in skeleton
    again = TorchAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    for layer in adapter.layers():
        again.write(layer.name, adapter.read(layer.name))
    np.testing.assert_array_equal(again.run(batch), expected)


@pytest.mark.parametrize("name", ["conv", "lstm", "attention"])
def test_altered_skeletons_load_or_are_format_errors(name: str) -> None:
    adapter = torch_cases.module_case(name).open()
    skeleton, remainder = adapter.skeleton(), adapter.remainder()
    rng = random.Random(1)
    refused = 0
    for _ in range(60):
        content = json.loads(skeleton)
        place, key = rng.choice(list(leaves(content)))
        place[key] = rng.choice([None, True, 0, -1, 1 << 70, 2.5, "+99", "-99", "0", "1", [], {}, [[]], {"=": 0}])
        try:
            TorchAdapter.rebuild(json.dumps(content).encode(), remainder)
        except (FormatError, ModelError):  # the latter where the remainder is another model's
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    "operator",
    [
        "torch.hub.load", "torch.ops.aten.from_file.default", "from_file", "_operator.attrgetter", "relu.__init__",
        "__class__", "torch.ops.load_library.__call__", "torch.ops.aten.relu", "#extension",
    ],
)  # fmt: skip
def test_short_programs_may_not_name_code(operator: str) -> None:
    adapter = torch_cases.module_case("dense").open()
    content = json.loads(adapter.skeleton())
    content["program"]["nodes"][1][0] = operator
    with pytest.raises(FormatError):
        TorchAdapter.rebuild(json.dumps(content).encode(), adapter.remainder())


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"inputs": {"input": [1] * 7000}, "nodes": [["relu", "1"]] * 7000}, "values take more"),
        ({"nodes": [["relu", "1"]] * 38_000}, "values take more"),
        ({"nodes": [[-1, "sym_size.int", "1"], *[[-1, "_operator.mul", "1", 1]] * 38_000]}, "values take more"),
        ({"nodes": [["cat", ["1"] * 600_000]]}, "uses of values"),
    ],
    ids=["axes", "tensors", "sizes", "references"],
)
def test_little_text_cannot_become_much(changed: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metas, "ROOM", metas.ROOM >> 3)  # an eighth of it is used up in an eighth of the time
    adapter = torch_cases.module_case("dense").open()
    content = json.loads(adapter.skeleton())
    content["program"].update(changed)
    with pytest.raises(FormatError, match=reason):
        TorchAdapter.rebuild(json.dumps(content).encode(), adapter.remainder())


def test_sites_that_repeat_and_text_too_deep_are_format_errors() -> None:
    adapter = torch_cases.module_case("dense").open()
    content = json.loads(adapter.skeleton())
    with pytest.raises(FormatError, match="twice"):
        TorchAdapter.rebuild(json.dumps({**content, "sites": [[0, 0], [0, 0]]}).encode(), adapter.remainder())
    text = json.dumps({**content, "skipped": "here"}).replace('"here"', "[" * 100_000 + "]" * 100_000)
    with pytest.raises(FormatError):
        TorchAdapter.rebuild(text.encode(), adapter.remainder())
