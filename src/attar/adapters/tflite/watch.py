"""Copies of a model with more outputs (what layers see) or more inputs (perturbations of what they hand on)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from attar.adapters.tflite.sites import Site
from attar.adapters.tflite.store import Store

ALONE = ("RELU", "RELU6", "RELU_N1_TO_1")
"""Activations inside of operators, by the schema's names, which are those of operators too; ADD takes them as well."""


def activation(store: Store, site: Site) -> str:
    """The schema's name of what the operator does to Y before it hands it on."""
    options = store.model.subgraphs[site.graph].operators[site.index].builtinOptions
    number = int(getattr(options, "fusedActivationFunction", 0) or 0)
    names = vars(store.schema.ActivationFunctionType).items()
    return next((name for name, value in names if value == number and name[0] != "_"), "")


def watching(store: Store, tensors: Sequence[int], sites: Sequence[Site]) -> tuple[bytes, dict[int, int]]:
    """A model whose outputs are these tensors, and Y of these sites by the operator's number: (bytes, tensors of Y)."""
    edited = store.edited()
    graph = edited.model.subgraphs[0]
    plain: dict[int, int] = {}
    operators: list[Any] = []
    wanted = {site.index: site for site in sites if site.output is not None}
    for index, operator in enumerate(graph.operators):
        operators.append(operator)
        site = wanted.get(index)
        if site is None:
            continue
        kind = activation(store, site)
        plain[index] = operator.outputs[0]
        if kind != "NONE":
            plain[index] = _split(graph, operator)
            operators.append(
                edited.schema.OperatorT(opcodeIndex=edited.code_of(kind), inputs=[plain[index]], outputs=[site.output])
            )
    graph.operators = operators
    return _packed(edited, [*tensors, *plain.values()]), plain


def perturbable(store: Store, sites: Sequence[Site], shapes: Sequence[Sequence[int]]) -> tuple[bytes, list[int]]:
    """A model with one more input for each site, of these shapes, added to Y: (bytes, the inputs' tensors)."""
    edited = store.edited()
    graph, schema = edited.model.subgraphs[0], edited.schema
    places = {site.index: number for number, site in enumerate(sites)}
    added: list[int] = [0] * len(sites)
    operators: list[Any] = []
    for index, operator in enumerate(graph.operators):
        operators.append(operator)
        number = places.get(index)
        if number is None:
            continue
        kind = activation(store, sites[number])
        output = operator.outputs[0]
        plain = _split(graph, operator)
        delta = schema.TensorT(shape=list(shapes[number]), name=f"attar/delta/{number}", buffer=0)
        graph.tensors.append(delta)
        added[number] = len(graph.tensors) - 1
        options = schema.AddOptionsT(fusedActivationFunction=getattr(schema.ActivationFunctionType, kind))
        operators.append(
            schema.OperatorT(
                opcodeIndex=edited.code_of("ADD"),
                inputs=[plain, added[number]],
                outputs=[output],
                builtinOptionsType=schema.BuiltinOptions.AddOptions,
                builtinOptions=options,
            )
        )
    graph.operators = operators
    graph.inputs = [*graph.inputs, *added]
    return _packed(edited, graph.outputs[:1]), added


def _split(graph: Any, operator: Any) -> int:
    """Take the activation out of an operator: the new tensor that it hands on instead."""
    if hasattr(operator.builtinOptions, "fusedActivationFunction"):
        operator.builtinOptions.fusedActivationFunction = 0
    plain = _twin(graph, operator.outputs[0])
    operator.outputs[0] = plain
    return plain


def _twin(graph: Any, index: int) -> int:
    """A new tensor like another."""
    twin = copy.copy(graph.tensors[index])
    twin.name, twin.buffer = f"attar/plain/{index}/{len(graph.tensors)}", 0
    graph.tensors.append(twin)
    return len(graph.tensors) - 1


def _packed(edited: Store, outputs: Sequence[int]) -> bytes:
    edited.model.subgraphs[0].outputs = list(dict.fromkeys(outputs))
    edited.model.signatureDefs = None
    return edited.packed()
