"""Every layer of an ONNX model: where its weight and bias are stored, what it reads and what it hands on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto, shape_inference

from attar.adapters.onnx.chain import Chain, resolve
from attar.adapters.onnx.forms import Form, gather, spread
from attar.adapters.onnx.graph import Scope, attribute, is_op, scopes
from attar.adapters.onnx.ops import FINDERS, Constants, Match, find
from attar.adapters.onnx.tensors import Slot, Store
from attar.types import Array, Layer, Matrix, Weight

SMALLEST = 16
"""Weights below which compressing a layer cannot pay for its description."""
RECURRENT = {"LSTM", "GRU", "RNN"}
INLINE = ": onnx.inliner.inline_local_functions makes plain nodes of it"
"""What to do about a weight that a function of the model uses."""


@dataclass(frozen=True)
class Bias:
    """A stored constant that is added to every row of a layer's output."""

    chain: Chain
    axes: tuple[int, ...]
    sizes: tuple[int, ...]

    def read(self) -> Matrix:
        """[rows], float32."""
        return gather(self.chain.read(), self.axes, self.sizes).astype(np.float32)

    def write(self, bias: Array) -> None:
        """Store [rows]."""
        shape = self.chain.shape
        self.chain.write(spread(bias, self.axes, self.sizes, max(len(shape), len(self.axes))).reshape(shape))


@dataclass(frozen=True)
class Norm:
    """A batch normalisation that is folded into the layer before it."""

    scale: Slot
    shift: Slot
    mean: Slot
    variance: Slot
    epsilon: float


@dataclass(frozen=True)
class Site:
    """One use of a weight: the layer, its node (the index-th of the graph) and what can be seen of it."""

    layer: Layer
    scope: Scope
    index: int
    form: Form
    chain: Chain
    sources: tuple[str, ...]
    output: str | None
    """The tensor that is W X plus `own`; None where the operator does not show one."""
    own: Bias | None = None
    """What the node (or the Add behind it) itself adds; taken off the output in a capture."""
    own_scale: float = 1.0
    bias: Bias | None = None
    norm: Norm | None = None
    prior: Bias | None = None
    """The bias in front of `norm`, which folding sets to zero."""
    own_output: str = ""

    @property
    def top(self) -> bool:
        """Whether it is in the main graph, where it can be watched."""
        return self.scope.parent is None

    @property
    def node(self) -> NodeProto:
        """The operator."""
        node: NodeProto = self.scope.graph.node[self.index]
        return node

    def read(self) -> Weight:
        """Canonical matrix and bias."""
        return Weight(self.form.matrix(self.chain.read()), None if self.bias is None else self.bias.read())

    def write(self, weight: Weight) -> None:
        """Put them back, in the type that is stored."""
        self.chain.write(self.form.weight(np.asarray(weight.matrix, np.float32)))
        if self.bias is not None and weight.bias is not None:
            self.bias.write(np.asarray(weight.bias, np.float32))


def find_sites(store: Store) -> tuple[list[Site], dict[str, str]]:
    """All layers in execution order, and the weights that are left alone with the reason."""
    root = scopes(store)
    inferred = _inferred(store)
    sites: dict[str, Site] = {}
    owner_of: dict[str, str] = {}
    small: set[str] = set()
    for scope, index in _walk(root):
        node = scope.graph.node[index]
        constants = _constants(scope, node)
        shapes = Constants({i: chain.shape for i, chain in constants.items()}, _shapes_of(node, inferred))
        for match in find(node, shapes):
            chain = constants[match.weight]
            site = _site(scope, index, match, chain)
            if site.layer.size < SMALLEST:
                small.add(chain.slot.name)
                continue
            key = chain.slot.name if chain.exact else chain.result
            site = _tied(site, key, owner_of, sites)
            sites[site.layer.name] = site
    found = _settle_biases(list(sites.values()), root)
    return found, _skipped(store, root, found, small)


def _walk(scope: Scope) -> Iterator[tuple[Scope, int]]:
    for index in range(len(scope.graph.node)):
        yield scope, index
        for body in scope.inside.get(index, ()):
            yield from _walk(body)


def _constants(scope: Scope, node: NodeProto) -> dict[int, Chain]:
    """The node's inputs that come from stored floating-point values."""
    found = {}
    for i, name in enumerate(node.input):
        chain = resolve(scope, name) if name else None
        if chain is not None and chain.dtype.name in ("float32", "float64", "float16", "bfloat16"):
            found[i] = chain
    return found


def _inferred(store: Store) -> dict[str, tuple[int, ...]]:
    """Shapes of the main graph's tensors, -1 where free; a failed inference means that fewer layers are found."""
    try:
        graph = shape_inference.infer_shapes(store.model).graph
    except (shape_inference.InferenceError, ValueError, RuntimeError):
        graph = store.model.graph
    found = {}
    for value in [*graph.value_info, *graph.input, *graph.output]:
        tensor = value.type.tensor_type
        if tensor.HasField("shape"):
            found[value.name] = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
    return found


def _shapes_of(node: NodeProto, inferred: dict[str, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    return {i: inferred[name] for i, name in enumerate(node.input) if name in inferred}


def _site(scope: Scope, index: int, match: Match, chain: Chain) -> Site:
    form, node = match.form, scope.graph.node[index]
    own = own_bias(scope, node, match)
    name = chain.slot.name if chain.exact else chain.result
    layer = Layer(name, form.kind, form.rows, form.cols, chain.shape, form.groups, chain.dtype.name)
    return Site(
        layer=layer,
        scope=scope,
        index=index,
        form=form,
        chain=chain,
        sources=match.sources,
        output=node.output[0] if match.shown else None,
        own=own,
        own_scale=match.bias_scale,
        own_output=match.own_output,
    )


def own_bias(scope: Scope, node: NodeProto, match: Match) -> Bias | None:
    """The constant that the node itself adds, where it is one value for each row."""
    if match.bias is None or len(node.input) <= match.bias or not node.input[match.bias]:
        return None
    chain = resolve(scope, node.input[match.bias])
    if chain is None:
        return None
    if node.op_type != "Gemm":
        return Bias(chain, (-1,), (match.form.rows,)) if chain.shape == (match.form.rows,) else None
    return _by_row(chain, match.form)


def _by_row(chain: Chain, form: Form) -> Bias | None:
    """A constant that is broadcast over a layer's output and has one value for each row."""
    axes, shape = form.row_axes, chain.shape
    if axes is None or not shape or len(shape) < max(-a for a in axes):
        return None
    wanted = [1] * len(shape)
    for axis, size in zip(axes, form.row_sizes, strict=True):
        wanted[axis] = size
    return Bias(chain, axes, form.row_sizes) if list(shape) == wanted else None


def _tied(site: Site, key: str, owner_of: dict[str, str], sites: dict[str, Site]) -> Site:
    """The first user of a weight owns it; the others get a name of their own."""
    owner = owner_of.setdefault(key, site.layer.name)
    if owner not in sites:
        return site
    name = f"{site.layer.name}@{site.node.name or site.node.output[0]}"
    while name in sites:
        name += "+"
    return replace(site, layer=replace(site.layer, name=name, tied_to=owner))


def _settle_biases(sites: list[Site], root: Scope) -> list[Site]:
    """Give each layer that has its weight for itself the bias that it alone uses."""
    shared = {site.layer.tied_to for site in sites}
    settled = []
    for site in sites:
        if site.layer.tied_to is None and site.layer.name not in shared:
            site = _with_bias(site, root)
        settled.append(site)
    return settled


def _with_bias(site: Site, root: Scope) -> Site:
    """The node's own bias, or that of an Add behind it, or the shift of the batch norm behind both."""
    own, tail = site.own, site.output
    node_has_bias = site.own is not None or _has_other_bias(site)
    if tail is not None and not node_has_bias and (added := _added(site, tail)) is not None:
        own, tail = added[0], added[1]
    bias = own if own is not None and site.own_scale == 1 and _alone(own.chain) else None
    norm = None
    if tail is not None and (own is None or bias is not None) and (own is not None or not node_has_bias):
        norm = _norm(site, tail)
    if norm is not None:
        shift = Bias(Chain(norm.shift, (), norm.shift.name, root), (-1,), (site.form.rows,))
        return replace(site, layer=replace(site.layer, has_bias=True), norm=norm, bias=shift, prior=bias)
    if bias is None or bias.chain.slot.name == site.chain.slot.name or not bias.chain.exact:
        return site
    return replace(site, layer=replace(site.layer, has_bias=True), bias=bias)


def _has_other_bias(site: Site) -> bool:
    """Whether the node adds something that is not one stored value for each row."""
    return len(site.node.input) > 2 and bool(site.node.input[2]) and site.node.op_type in ("Gemm", "Conv", "FusedConv")


def _alone(chain: Chain) -> bool:
    """Whether nothing else uses the stored tensor."""
    if any(is_op(step.node, "Concat") for step in chain.steps):
        return False
    names = [chain.result] + [step.node.input[0] for step in chain.steps]
    return chain.slot.floating and all(chain.scope.home(name).uses[name] == 1 for name in names)  # type: ignore[union-attr]


def _only_user(site: Site, name: str) -> NodeProto | None:
    """The one node that reads a tensor; None where there are more, or where it is an output."""
    users = site.scope.users.get(name, [])
    return users[0] if len(users) == 1 and site.scope.uses[name] == 1 else None


def _added(site: Site, tail: str) -> tuple[Bias, str] | None:
    """The constant that an Add directly behind the layer adds to each row, and the sum's name."""
    node = _only_user(site, tail)
    if node is None or not is_op(node, "Add"):
        return None
    chain = resolve(site.scope, node.input[1] if node.input[0] == tail else node.input[0])
    bias = None if chain is None else _by_row(chain, site.form)
    return None if bias is None else (bias, node.output[0])


def _norm(site: Site, tail: str) -> Norm | None:
    """The batch norm behind a layer, where it can be folded into it."""
    node = _only_user(site, tail)
    if node is None or not is_op(node, "BatchNormalization") or node.input[0] != tail or not _foldable(site):
        return None
    if attribute(node, "training_mode", 0) or any(node.output[1:]):
        return None
    slots = []
    for name in node.input[1:5]:
        chain = resolve(site.scope, name)
        if chain is None or chain.steps or not _alone(chain) or chain.shape != (site.form.rows,):
            return None
        if chain.dtype != site.chain.dtype:
            return None
        slots.append(chain.slot)
    scale, shift, mean, variance = slots
    return Norm(scale, shift, mean, variance, attribute(node, "epsilon", 1e-5))


def _foldable(site: Site) -> bool:
    """Whether rows are the output's second axis, and the stored weight is used here only and is float32."""
    if site.form.kind not in ("conv", "dense") or not _alone(site.chain) or site.chain.dtype.name != "float32":
        return False
    return site.form.kind == "conv" or (site.node.op_type == "Gemm" and site.form.row_axes == (-1,))


def _skipped(store: Store, root: Scope, sites: list[Site], small: set[str]) -> dict[str, str]:
    """Stored tensors of two or more axes that are no layer's, with the reason."""
    used = {site.chain.slot.name for site in sites} | {s.bias.chain.slot.name for s in sites if s.bias}
    readers: dict[str, set[str]] = {}
    for scope in root.all():
        for node in scope.graph.node:
            for name in filter(None, node.input):
                chain = resolve(scope, name)
                if chain is not None:
                    readers.setdefault(chain.slot.name, set()).add(node.op_type)
    functions = {function.name for function in store.model.functions}
    sparse = {item.values.name: "a sparse tensor" for scope in root.all() for item in scope.graph.sparse_initializer}
    return sparse | {
        slot.name: _reason(slot, readers.get(slot.name, set()), small, functions)
        for slot in store.slots.values()
        if len(slot.shape) >= 2 and slot.name not in used
    }


def _reason(slot: Slot, readers: set[str], small: set[str], functions: set[str]) -> str:
    count = int(np.prod(slot.shape))
    if not readers:
        return f"nothing reads it, or a function of the model does{INLINE}" if functions else "nothing reads it"
    if not slot.floating:
        return f"integer weights, read by {', '.join(sorted(readers))}"
    if count < SMALLEST or slot.name in small:
        return f"fewer than {SMALLEST} weights"
    names = ", ".join(sorted(readers))
    if readers <= functions:
        return f"read by {names}, a function of the model{INLINE}"
    if readers <= RECURRENT:
        return f"biases or an initial state, read by {names}"
    if readers <= {op for _, op in FINDERS}:
        return f"read by {names} in a way that is no product of this matrix and one input"
    return f"read by {names}, which attar does not map to a matrix product"
