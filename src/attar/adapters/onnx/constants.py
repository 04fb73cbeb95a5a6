"""Weights that a graph computes from stored values alone: weight norm, fake quantisation, parts of a tensor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

from attar.adapters.onnx.chain import resolve
from attar.adapters.onnx.graph import STANDARD, Scope
from attar.adapters.onnx.ops import FINDERS
from attar.adapters.onnx.tensors import Slot, Store, put
from attar.types import Array

MOST_NAMES = 200
"""Values that computing one weight may take; anything larger is part of the model, not of a weight."""
NEWER = 21
RANDOM = ("Random", "Multinomial", "Bernoulli", "Dropout")
FAILURES = (RuntimeError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, AttributeError)
"""What the reference evaluator raises for an operator or an attribute that it does not know."""


def computed(root: Scope) -> list[tuple[Scope, str]]:
    """Inputs of weight-holding operators that only stored values lead to, and that no chain explains: (home, name)."""
    found: dict[tuple[str, str], tuple[Scope, str]] = {}
    for scope, known in _known(root, frozenset()):
        for node in scope.graph.node:
            domain = "" if node.domain in STANDARD else node.domain
            if (domain, node.op_type) not in FINDERS:
                continue
            for name in known.intersection(node.input[:3]):
                home = scope.home(name)
                if home is not None and resolve(scope, name) is None and _ancestors(scope, name) is not None:
                    found[home.path, name] = home, name
    return list(found.values())


def _known(scope: Scope, outer: frozenset[str]) -> Iterator[tuple[Scope, set[str]]]:
    """Each graph with the names in it whose values stored tensors alone make, found in execution order."""
    known = set(outer - scope.given) | set(scope.slots)
    for index, node in enumerate(scope.graph.node):
        for body in scope.inside.get(index, ()):
            yield from _known(body, frozenset(known))
        if _pure(node) and known.issuperset(filter(None, node.input)):
            known.update(filter(None, node.output))
    yield scope, known


def _ancestors(scope: Scope, name: str) -> tuple[list[NodeProto], list[Slot]] | None:
    """The nodes, in order, and the stored tensors that a value is computed from; None where it is not constant."""
    nodes: list[NodeProto] = []
    slots: dict[str, Slot] = {}
    homes: dict[str, Scope] = {}

    def visit(here: Scope, wanted: str) -> bool:
        home = here.home(wanted)
        if home is None or homes.setdefault(wanted, home) is not home or len(homes) > MOST_NAMES:
            return False
        if wanted in home.slots:
            slots[wanted] = home.slots[wanted]
            return True
        node = home.makers.get(wanted)
        if node is None or not _pure(node):
            return False
        if node in nodes:
            return True
        if not all(visit(home, used) for used in node.input if used):
            return False
        nodes.append(node)
        return True

    return (nodes, list(slots.values())) if visit(scope, name) else None


def _pure(node: NodeProto) -> bool:
    """Whether a node computes the same from the same inputs, and nothing hides in it."""
    hidden = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
    return node.domain in STANDARD and not hidden and not node.op_type.startswith(RANDOM)


def value_of(store: Store, scope: Scope, name: str) -> Array | None:
    """The value, by ONNX's reference evaluator; None where it does not know how."""
    found = _ancestors(scope, name)
    if found is None:
        return None
    nodes, slots = found
    graph = helper.make_graph(nodes, "constant", [], [helper.make_empty_tensor_value_info(name)])
    made = {output for node in nodes for output in node.output}
    for slot in slots:
        tensor = TensorProto()
        tensor.CopyFrom(slot.proto)
        put(tensor, slot.array)
        if tensor.name not in made:
            graph.initializer.append(tensor)
    # The evaluator knows some operators (QuantizeLinear) in their newer versions only; these do the same.
    for version in (None, NEWER):
        domains = [
            helper.make_opsetid(o.domain, version if version and o.domain in STANDARD else o.version)
            for o in store.model.opset_import
        ]
        try:
            values: Any = ReferenceEvaluator(helper.make_model(graph, opset_imports=domains)).run(None, {})
        except FAILURES:
            continue
        return values[0] if isinstance(values[0], np.ndarray) else None
    return None
