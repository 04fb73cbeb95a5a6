"""Copies of a model with more outputs (what layers see) or more inputs (perturbations of what they hand on)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import ModelProto, NodeProto, helper

from attar.adapters.onnx_fold import TYPE_OF
from attar.adapters.onnx_session import Session
from attar.adapters.onnx_sites import Site
from attar.adapters.onnx_tensors import Store


def delta_name(number: int) -> str:
    """The input that perturbs the number-th perturbable site."""
    return f"attar/delta/{number}"


def watching(store: Store, names: Sequence[str], sites: Sequence[Site]) -> Session:
    """A session that can be asked for these tensors of the main graph."""

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

    return Session(store, edit)


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
    """Every use of each weight in the main graph that has the owner's canonical form."""
    found: dict[str, list[Site]] = {}
    form = {site.layer.name: (site.form.kind, site.form.rows, site.form.cols, site.form.groups) for site in sites}
    for site in sites:
        owner = site.layer.tied_to or site.layer.name
        if site.top and form[site.layer.name] == form[owner]:
            found.setdefault(owner, []).append(site)
    return found
