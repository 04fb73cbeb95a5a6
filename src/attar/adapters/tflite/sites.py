"""Every layer of a TFLite model: where its weight and bias are stored, what it reads and what it hands on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attar.adapters.tflite.forms import (
    Convolution,
    Form,
    Gate,
    Lookup,
    Product,
    Steps,
    TransposedConvolution,
)
from attar.adapters.tflite.store import Place, Store
from attar.types import Layer, Weight

SMALLEST = 16
"""Weights below which compressing a layer cannot pay for its description."""
FLOATS = ("float32", "float16")
LSTM_WEIGHTS = {k: (k >= 5) for k in range(1, 9)}
"""Inputs of UNIDIRECTIONAL_SEQUENCE_LSTM that are kernels, and whether of the state."""


@dataclass(frozen=True)
class Match:
    """A weight of an operator: its place among the inputs, its form, the inputs that X is made of, that of the bias.

    sources below zero are outputs: -1 is the first.
    """

    weight: int
    form: Form
    sources: tuple[int, ...]
    bias: int | None = None


@dataclass(frozen=True)
class Site:
    """One use of a weight: the layer, its operator (the index-th of the graph) and what can be seen of it."""

    layer: Layer
    graph: int
    index: int
    form: Form
    stored: Place
    """The tensor with the values, in front of DEQUANTIZE where there is one."""
    sources: tuple[int, ...]
    """Tensors that X is made of."""
    output: int | None
    """The tensor that is Y, plus the operator's own bias, behind its own activation; None where none shows Y."""
    bias: Place | None = None
    """The stored values that are the layer's bias."""
    own: Place | None = None
    """The stored values that the operator adds, whether they are the layer's or shared."""
    added: Place | None = None
    """What the operator reads them as, behind DEQUANTIZE where there is one."""

    @property
    def top(self) -> bool:
        """Whether it is in the main graph, where it can be watched."""
        return self.graph == 0

    def read(self, store: Store) -> Weight:
        """Canonical matrix and bias."""
        values = store.values(self.stored)
        assert values is not None
        bias = None if self.bias is None else np.array(store.values(self.bias), np.float32)
        return Weight(self.form.matrix(values), bias)

    def write(self, store: Store, weight: Weight) -> None:
        """Put them back, in the type that is stored."""
        store.put(self.stored, self.form.weight(np.asarray(weight.matrix, np.float32)))
        if self.bias is not None and weight.bias is not None:
            store.put(self.bias, np.asarray(weight.bias, np.float32))


def find_sites(store: Store) -> tuple[list[Site], dict[str, str]]:
    """All layers in execution order, and the weights that are left alone with the reason; raises ValueError."""
    names = {store.buffer(place): name for name, place in store.names.items()}
    finders = {getattr(store.schema.BuiltinOperator, name): finder for name, finder in FINDERS.items()}
    used = _uses(store)
    sites: list[Site] = []
    skipped: dict[str, str] = {}
    owner_of: dict[int, Site] = {}
    for number, graph in enumerate(store.model.subgraphs):
        made_by = _converted(store, number)
        for index, operator in enumerate(graph.operators):
            for match in finders.get(store.code(operator), _nothing)(store, number, operator):
                stored = _stored(store, number, made_by, operator.inputs, match.weight)
                if stored is None or store.buffer(stored) not in names:
                    continue
                name = names[store.buffer(stored)]
                if (reason := _left(store, stored, match.form)) is not None:
                    skipped.setdefault(name, reason)
                    continue
                site = _site(store, (number, index, made_by), match, stored, name)
                owner = owner_of.setdefault(store.buffer(stored), site)
                if owner is not site and not _alike(owner.form, site.form):
                    skipped[name] = "used by two operators that lay it out differently"
                    continue
                sites.append(site)
    sites = [site for site in sites if site.layer.name not in skipped]
    return list(_settled(sites, used, store)), {**skipped, **_others(store, sites, skipped)}


def _nothing(store: Store, graph: int, operator: Any) -> Iterator[Match]:  # noqa: ARG001
    yield from ()


def _converted(store: Store, graph: int) -> dict[int, int]:
    """Outputs of DEQUANTIZE, and the tensors that they are made of."""
    number = store.schema.BuiltinOperator.DEQUANTIZE
    operators = store.model.subgraphs[graph].operators
    return {o.outputs[0]: o.inputs[0] for o in operators if store.code(o) == number and o.outputs and o.inputs}


def _stored(store: Store, graph: int, made_by: dict[int, int], inputs: list[int], at: int) -> Place | None:
    """The stored tensor that an operator's input is, or is widened from."""
    if at >= len(inputs) or inputs[at] < 0:
        return None
    place = Place(graph, made_by.get(inputs[at], inputs[at]))
    return place if store.values(place) is not None else None


def _left(store: Store, stored: Place, form: Form) -> str | None:
    """Why a weight is left alone; None where it is a layer."""
    if store.dtype(stored) not in FLOATS:
        return f"its values are {store.dtype(stored)} already, on a grid of their own: `attar pack` keeps every bit"
    if form.rows * form.cols < SMALLEST:
        return f"fewer than {SMALLEST} weights: their description would outweigh them"
    return None


def _site(store: Store, at: tuple[int, int, dict[int, int]], match: Match, stored: Place, name: str) -> Site:
    number, index, made_by = at
    operator, form = store.model.subgraphs[number].operators[index], match.form
    shape = tuple(int(size) for size in store.tensor(stored).shape)
    if shape != _shape(store, number, operator, match.weight):
        raise ValueError(f"tensor {name!r} of another shape behind DEQUANTIZE")
    layer = Layer(name, form.kind, form.rows, form.cols, shape, form.groups, store.dtype(stored))
    sources = tuple(operator.inputs[k] if k >= 0 else operator.outputs[-1 - k] for k in match.sources)
    own = None if match.bias is None else _stored(store, number, made_by, operator.inputs, match.bias)
    if own is not None and (store.dtype(own) not in FLOATS or tuple(store.tensor(own).shape) != (form.rows,)):
        own = None
    added = None if own is None or match.bias is None else Place(number, operator.inputs[match.bias])
    output = operator.outputs[0] if form.shown else None
    return Site(layer, number, index, form, stored, sources, output, None, own, added)


def _uses(store: Store) -> Counter[object]:
    """How many operators, and outputs, read each buffer (by number) and each tensor (by place)."""
    count: Counter[object] = Counter()
    for number, graph in enumerate(store.model.subgraphs):
        readers = [*(set(operator.inputs) for operator in graph.operators), graph.outputs]
        places = [Place(number, index) for read in readers for index in read if index >= 0]
        count.update(places)
        count.update(store.buffer(place) for place in places)
    return count


def _settled(sites: list[Site], used: Counter[object], store: Store) -> Iterator[Site]:
    """The sites with biases that are one layer's alone, and each weight's first use as its owner."""
    times = Counter(site.layer.name for site in sites)
    first: set[str] = set()
    for site in sites:
        name = site.layer.name
        if times[name] == 1 and site.own is not None and used[store.buffer(site.own)] == used[site.added] == 1:
            yield replace(site, bias=site.own, layer=replace(site.layer, has_bias=True))
        elif name not in first:
            first.add(name)
            yield site
        else:
            again = f"{name}/{site.graph}/{site.index}"
            yield replace(site, layer=replace(site.layer, name=again, tied_to=name))


def _alike(one: Form, other: Form) -> bool:
    """Whether both uses put each stored element at the same place of the matrix."""
    return type(one) is type(other) and (one.rows, one.cols, one.groups) == (other.rows, other.cols, other.groups)


def _others(store: Store, sites: list[Site], skipped: dict[str, str]) -> dict[str, str]:
    """Stored floats of two or more axes that no layer has."""
    mine = {site.layer.tied_to or site.layer.name for site in sites}
    found = {}
    for name, place in store.names.items():
        values = store.values(place)
        wide = values is not None and values.size >= SMALLEST and sum(size > 1 for size in values.shape) > 1
        if wide and name not in mine and name not in skipped and not store.stays_inside(place):
            found[name] = "read by an operator which attar does not map to a matrix product"
    return found


def _shape(store: Store, graph: int, operator: Any, at: int) -> tuple[int, ...]:
    """The shape of an operator's input; () where it is not given."""
    if at >= len(operator.inputs) or operator.inputs[at] < 0:
        return ()
    return tuple(int(size) for size in store.tensor(Place(graph, operator.inputs[at])).shape)


def _conv(store: Store, graph: int, operator: Any) -> Iterator[Match]:
    weight, x, options = _shape(store, graph, operator, 1), _shape(store, graph, operator, 0), operator.builtinOptions
    if len(weight) == 4 and len(x) == 4 and weight[3] and not x[3] % weight[3]:
        form = Convolution(weight, (0, 3, 1, 2), x[3] // weight[3], _steps(store, options, "HW"))
        if form.rows and not form.rows % form.groups:
            yield Match(1, form, (0,), 2)


def _conv3d(store: Store, graph: int, operator: Any) -> Iterator[Match]:
    weight, options = _shape(store, graph, operator, 1), operator.builtinOptions
    if len(weight) == 5 and len(_shape(store, graph, operator, 0)) == 5:
        yield Match(1, Convolution(weight, (4, 3, 0, 1, 2), 1, _steps(store, options, "DHW")), (0,), 2)


def _depthwise(store: Store, graph: int, operator: Any) -> Iterator[Match]:
    weight, x, options = _shape(store, graph, operator, 1), _shape(store, graph, operator, 0), operator.builtinOptions
    if len(weight) == 4 and len(x) == 4 and x[3] and weight[0] == 1 and not weight[3] % x[3]:
        yield Match(1, Convolution(weight, (3, 0, 1, 2), x[3], _steps(store, options, "HW")), (0,), 2)


def _steps(store: Store, options: Any, axes: str) -> Steps:
    strides = tuple(int(getattr(options, f"stride{axis}")) for axis in axes)
    dilations = tuple(int(getattr(options, f"dilation{axis}Factor")) for axis in axes)
    if min(strides + dilations) < 1:
        raise ValueError(f"a convolution with steps of {strides} and {dilations}")
    return Steps(strides, dilations, options.padding == store.schema.Padding.SAME)


def _transposed(store: Store, graph: int, operator: Any) -> Iterator[Match]:
    weight = _shape(store, graph, operator, 1)
    if len(weight) == 4 and len(_shape(store, graph, operator, 2)) == 4:
        yield Match(1, TransposedConvolution(weight), (2,))


def _dense(store: Store, graph: int, operator: Any) -> Iterator[Match]:
    weight = _shape(store, graph, operator, 1)
    if len(weight) == 2 and not operator.builtinOptions.weightsFormat:
        yield Match(1, Product(weight), (0,), 2)


def _matmul(store: Store, graph: int, operator: Any) -> Iterator[Match]:
    weight, options = _shape(store, graph, operator, 1), operator.builtinOptions
    if len(weight) >= 2 and set(weight[:-2]) <= {1} and not options.adjX:
        yield Match(1, Product(weight, turned=not options.adjY), (0,))


def _lookup(store: Store, graph: int, operator: Any) -> Iterator[Match]:
    weight = _shape(store, graph, operator, 1)
    if len(weight) >= 2:
        yield Match(1, Lookup(weight), (0,))


def _gather(store: Store, graph: int, operator: Any) -> Iterator[Match]:
    weight, options = _shape(store, graph, operator, 0), operator.builtinOptions
    if len(weight) >= 2 and (options is None or not (options.axis or options.batchDims)):
        yield Match(0, Lookup(weight), (1,))


def _lstm(store: Store, graph: int, operator: Any) -> Iterator[Match]:
    time_first = bool(operator.builtinOptions.timeMajor)
    for at, state in LSTM_WEIGHTS.items():
        shape = _shape(store, graph, operator, at)
        if len(shape) == 2:
            yield Match(at, Gate(shape, state=state, time_first=time_first), (-1,) if state else (0,))


FINDERS: dict[str, Callable[[Store, int, Any], Iterator[Match]]] = {
    "CONV_2D": _conv,
    "CONV_3D": _conv3d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": _matmul,
    "EMBEDDING_LOOKUP": _lookup,
    "GATHER": _gather,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
}
"""By the schema's name of an operator: the weights that it has."""
