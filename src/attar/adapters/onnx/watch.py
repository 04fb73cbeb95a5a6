"""Copies of a model with more outputs (what layers see) or more inputs (perturbations of what they hand on)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import ModelProto, NodeProto, helper

from attar.adapters.onnx.fold import TYPE_OF
from attar.adapters.onnx.graph import is_op
from attar.adapters.onnx.session import Session
from attar.adapters.onnx.sites import Site
from attar.adapters.onnx.tensors import Store
from attar.types import Matrix

LARGEST_EXACT = 16777213
"""The largest prime below 2^24, up to which float32 counts."""


def delta_name(number: int) -> str:
    """The input that perturbs the number-th perturbable site."""
    return f"attar/delta/{number}"


def watching(store: Store, names: Sequence[str], sites: Sequence[Site]) -> Session:
    """A session that can be asked for these tensors of the main graph, which are large: see Session for the arena."""

    def edit(model: ModelProto) -> None:
        for site in sites:
            node = model.graph.node[site.index]
            if site.own_output and not (node.output and node.output[0]):
                rest = list(node.output)[1:]
                del node.output[:]
                node.output.extend([site.own_output, *rest])
        have = {value.name for value in model.graph.output}
        for name in names:
            if name not in have:
                model.graph.output.add(name=name)

    return Session(store, edit, arena=False)


def perturbable(store: Store, sites: Sequence[Site]) -> Session:
    """A session with one more input for each site, added to the site's output before anything reads it."""

    def edit(model: ModelProto) -> None:
        after = {site.index: number for number, site in enumerate(sites)}
        nodes: list[NodeProto] = []
        for index, node in enumerate(model.graph.node):
            kept = NodeProto()
            kept.CopyFrom(node)
            nodes.append(kept)
            if index in after:
                number = after[index]
                plain, given = f"attar/plain/{number}", delta_name(number)
                nodes.append(helper.make_node("Add", [plain, given], [kept.output[0]], name=f"attar/add/{number}"))
                kept.output[0] = plain
                kind = TYPE_OF[sites[number].chain.dtype]
                model.graph.input.append(helper.make_tensor_value_info(given, kind, None))
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    return Session(store, edit)


def uses_by_owner(sites: Sequence[Site]) -> Mapping[str, list[Site]]:
    """Every use of each weight in the main graph that has the owner's canonical matrix (not its transpose, say)."""
    owners = {site.layer.name: site for site in sites if site.layer.tied_to is None}
    found: dict[str, list[Site]] = {}
    for site in sites:
        owner = owners[site.layer.tied_to or site.layer.name]
        if site.top and (site is owner or _same_layout(site, owner)):
            found.setdefault(owner.layer.name, []).append(site)
    return found


def _same_layout(site: Site, owner: Site) -> bool:
    """Whether both uses put each stored element at the same place of the matrix."""
    one, other = site.form, owner.form
    if (one.kind, one.rows, one.cols, one.groups) != (other.kind, other.rows, other.cols, other.groups):
        return False
    return np.array_equal(_layout(site), _layout(owner))


def _layout(site: Site) -> Matrix:
    """The number of each stored element, as float32 holds it, where the matrix has it."""
    chain = site.chain
    numbers = (np.arange(chain.slot.array.size) % LARGEST_EXACT).astype(np.float32).reshape(chain.slot.shape)
    for step in chain.steps:
        if not is_op(step.node, "Cast"):
            numbers = step.forward(numbers)
    return site.form.matrix(numbers)
