"""The short form of a program says the same as torch's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch._export.serde import serialize as serde  # noqa: E402

from adapters import torch_cases  # noqa: E402
from attar.adapters.torch_compact import expand, shrink  # noqa: E402


def described(name: str) -> Any:
    x = torch_cases.example(name)
    program = torch.export.export(torch_cases.make(name).eval(), (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    content = json.loads(serde.serialize(program).exported_program)
    for node in content["graph_module"]["graph"]["nodes"]:
        node["metadata"] = {}
    return content


def renamed(program: Any, names: dict[str, str]) -> str:
    """The program's text with every quoted name replaced, keys in order."""
    text = json.dumps(program, sort_keys=True)
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    return json.dumps(json.loads(text), sort_keys=True)


@pytest.mark.parametrize("name", ["conv", "lstm", "attention", "einsum", "dropout", "half"])
def test_expand_undoes_shrink_but_for_names(name: str) -> None:
    program = described(name)
    again = expand(json.loads(json.dumps(shrink(program))))
    old = list(program["graph_module"]["graph"]["tensor_values"])
    new = list(again["graph_module"]["graph"]["tensor_values"])
    pairs = dict(zip(old, new, strict=True))
    marks = {name: f"<{place}>" for place, name in enumerate(old)}
    assert renamed(program, marks) == renamed(again, {pairs[name]: mark for name, mark in marks.items()})
    assert len(json.dumps(shrink(program))) < 0.6 * len(json.dumps(program))


def test_shrink_does_not_modify_its_argument() -> None:
    program = described("conv")
    before = json.dumps(program)
    shrink(program)
    assert json.dumps(program) == before
