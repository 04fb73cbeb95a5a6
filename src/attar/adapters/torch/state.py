"""The tensors of an exported program in few words: parameters, buffers and constants as a tree of names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from attar.adapters.torch.metas import PLAIN, Sizes, code_meta, contiguous, full_meta
from attar.types import Json

ORDER = {"parameter": 0, "buffer": 1, "hidden": 1, "tensor_constant": 2}
"""Kinds of tensors by their place among a program's inputs; hidden are buffers that are not persistent."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the state: its name there, its name in the graph, its metadata."""

    kind: str
    name: str
    value: str
    meta: Json

    def spec(self) -> Json:
        """As torch has it among a program's inputs."""
        argument: dict[str, Any] = {"arg": {"name": self.value}}
        if ORDER[self.kind] == 1:
            return {"buffer": {**argument, "buffer_name": self.name, "persistent": self.kind == "buffer"}}
        return {self.kind: {**argument, f"{self.kind}_name": self.name}}


def state_of(module: Json) -> list[Entry]:
    """The tensors in the order of a state dict: a module's buffers after its parameters; constants last."""
    metas = module["graph"]["tensor_values"]
    specs = [next(iter(spec.items())) for spec in module["signature"]["input_specs"]]
    found = [_entry(kind, spec, metas) for kind, spec in specs if kind in ORDER]
    parameters, buffers, constants = ([e for e in found if ORDER[e.kind] == place] for place in range(3))
    later = [_module(entry.name) for entry in parameters]
    merged: list[Entry] = []
    for parameter in parameters:
        here = later.pop(0)
        merged.append(parameter)
        if here not in later[:1]:
            waiting = set(later)
            while buffers and _module(buffers[0].name) not in waiting:
                merged.append(buffers.pop(0))
    return [*merged, *buffers, *constants]


def _entry(kind: str, spec: Json, metas: Json) -> Entry:
    name, value = spec[f"{kind}_name"], spec["arg"]["name"]
    return Entry("hidden" if kind == "buffer" and not spec["persistent"] else kind, name, value, metas[value])


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def tree_of(state: Sequence[Entry], sizes: Sizes) -> Json:
    """Modules as objects within each other; a parameter is its sizes, others are [kind, code] by code_meta.

    Where the names are not in the order of such a tree, they are not split.
    """
    codes = {}
    base = PLAIN
    for entry in state:
        code = code_meta(entry.meta, _expected(entry.kind, base), sizes)
        plain = entry.kind == "parameter" and not isinstance(code, dict)
        codes[entry.name] = code if plain else [entry.kind, code]
        base = _base(entry.meta, base)
    tree: dict[str, Any] = {}
    for name, code in codes.items():
        *modules, last = name.split(".")
        inner = tree
        for module in modules:
            inner = inner.setdefault(module, {})
            if not isinstance(inner, dict):
                return codes
        inner[last] = code
    return tree if [name for name, _ in _leaves(tree, "")] == list(codes) else codes


def full_state(tree: Json, sizes: Sizes) -> list[Entry]:
    """The inverse of tree_of, with new names for values; raises ValueError and KeyError."""
    state: list[Entry] = []
    base = PLAIN
    for name, code in _leaves(tree, ""):
        kind = "parameter"
        if isinstance(code, list) and code and isinstance(code[0], str):
            kind, code = code
        meta = full_meta(code, _expected(kind, base), sizes)
        state.append(Entry(kind, name, f"val{len(state)}", meta))
        base = _base(meta, base)
    return state


def _leaves(tree: Json, prefix: str) -> Iterator[tuple[str, Json]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _base(meta: Json, base: Json) -> Json:
    """The last tensor of two or more axes: the vectors after it have an entry for each of its rows."""
    return meta if len(meta["sizes"]) > 1 else base


def _expected(kind: str, base: Json) -> Json:
    """The most likely metadata of a tensor after base."""
    sizes = base["sizes"][:1]
    return {**base, "sizes": sizes, "strides": contiguous(sizes), "requires_grad": kind == "parameter"}
