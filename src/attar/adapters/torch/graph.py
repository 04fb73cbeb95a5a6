"""Read a model's graph: which parameters it uses how, and which batch norms directly follow a layer.

The graph is a symbolic trace of a module, or that of an exported program; both have nodes that call a function with
other nodes, and nodes that are a parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import torch
from torch import fx, nn

from attar.adapters.torch.calls import Call, Operand, name_of, parse
from attar.adapters.torch.forms import dtype_name, memory
from attar.adapters.torch.inputs import Signature, expected
from attar.adapters.torch.scaled import is_transform, origin, scaled_inputs
from attar.errors import ModelError
from attar.types import TensorSpec

OPENED = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.Embedding,
)  # fmt: skip
"""Modules that a trace looks into, so that their weights appear in it."""
LOOKUPS = (nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True, slots=True)
class Norm:
    """A batch norm by the names of its tensors, and the layer before it by its parameter's and bias' name."""

    weight: str
    bias: str
    mean: str
    variance: str
    epsilon: float
    layer: str
    layer_bias: str | None
    flat: bool
    """Whether it is right only if the layer's output has two axes, which the graph does not tell."""


@dataclass(frozen=True, slots=True)
class Graph:
    """What a graph tells: the uses of parameters with biases by name, batch norms to fold, and what inputs must be."""

    calls: tuple[Call, ...] = ()
    norms: tuple[Norm, ...] = ()
    inputs: Mapping[str, TensorSpec] = field(default_factory=dict)
    scaled: frozenset[str] = frozenset()
    """Inputs that are pixels from 0 to 255."""


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Layers with a weight are opened; other torch modules are leaves, and torchvision's transforms.

        These ask for the type of what they get, which would end the trace.
        """
        return is_transform(m) or (type(m) not in OPENED and super().is_leaf_module(m, module_qualified_name))


def trace(model: nn.Module, names: dict[tuple[int, ...], str]) -> Graph:
    """The graph of a module by symbolic tracing; one without calls where its code cannot be traced."""
    try:
        graph = _Tracer().trace(model)
    except Exception:  # noqa: BLE001 - the caller's forward may raise anything when it is given proxies
        return Graph(inputs=_supposed(model))
    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    constants: dict[fx.Node, str] = {}
    held: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            held[node] = reduce(getattr, str(node.target).split("."), model)  # made of buffers, too
            if node.target in tensors:
                constants[node] = names.get(memory(held[node]), str(node.target))
    modules = dict(model.named_modules())
    found = _read(graph, constants, {n: tuple(t.shape) for n, t in tensors.items()}, modules)
    return replace(found, scaled=frozenset(scaled_inputs(graph, held.get, modules)))


def _supposed(model: nn.Module) -> dict[str, TensorSpec]:
    """What the first input must be where no graph tells: ids, if the first weight is an embedding."""
    weighty = (module for module in model.modules() if next(module.parameters(recurse=False), None) is not None)
    signature = Signature.of(model)
    names = (signature.required or signature.names)[:1]
    return {name: TensorSpec(name, "int64", ()) for name in names if isinstance(next(weighty, None), LOOKUPS)}


def exported(program: torch.export.ExportedProgram) -> Graph:
    """The graph of an exported program; weights that share memory are one, by their first name."""
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    firsts: dict[tuple[int, ...], str] = {}
    for target in names.values():
        tensor = program.state_dict.get(target)
        if tensor is not None:
            firsts.setdefault(memory(tensor), target)
    constants, shapes = {}, {}
    for node in program.graph.nodes:
        target = names.get(node.name) if node.op == "placeholder" else None
        tensor = None if target is None else program.state_dict.get(target)
        if target is not None and tensor is not None:
            first = firsts[memory(tensor)]
            constants[node] = first
            shapes[first] = tuple(tensor.shape)
    return replace(_read(program.graph, constants, shapes, {}), inputs=described(program))


def scaled_by(program: torch.export.ExportedProgram, tensors: Mapping[str, torch.Tensor]) -> frozenset[str]:
    """Inputs of an exported program that are pixels from 0 to 255, by its tensors as they are now."""
    signature, stored = program.graph_signature, {**program.constants, **tensors}
    names = {
        **signature.inputs_to_parameters, **signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants,
    }  # fmt: skip
    return frozenset(scaled_inputs(program.graph, lambda node: stored.get(names.get(node.name, "")), {}))


def described(program: torch.export.ExportedProgram) -> dict[str, TensorSpec]:
    """The program's inputs; raises ModelError where the number of examples is fixed."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    tensors = {
        n: values[n] for n in program.graph_signature.user_inputs if isinstance(values.get(str(n)), torch.Tensor)
    }
    if tensors and all(t.ndim and isinstance(t.shape[0], int) for t in tensors.values()):
        raise ModelError(
            f"exported program: the batch axis must be free. Received {[t.shape[0] for t in tensors.values()]}. "
            "Export it with dynamic_shapes={0: torch.export.Dim.DYNAMIC} for every input."
        )
    return {
        str(name): TensorSpec(str(name), dtype_name(t.dtype), tuple(n if isinstance(n, int) else None for n in t.shape))
        for name, t in tensors.items()
    }


def _read(
    graph: fx.Graph, constants: dict[fx.Node, str], shapes: dict[str, tuple[int, ...]], modules: dict[str, nn.Module]
) -> Graph:
    def find(value: Any) -> Operand | None:
        return _operand(value, constants, shapes)

    calls: list[Call] = []
    norms: list[Norm] = []
    made: dict[fx.Node, Call] = {}
    for node in graph.nodes:
        if node.op == "call_function" or node.op == "call_method":
            if node.op == "call_function" and not _is_torch(node.target):
                continue
            found = parse(name_of(node.target), node.args, node.kwargs, find, _ndim)
            found = [replace(call, bias=constants.get(call.bias)) for call in found if call.weight.rows is None]
            calls.extend(found)
            if found:
                made[node] = found[0]
        norm = _norm(node, made, constants, modules)
        if norm is not None:
            norms.append(norm)
    inputs = {
        str(given.target): expected(call, str(given.target))
        for call in reversed(calls)
        for given in [origin(call.x)]
        if isinstance(given, fx.Node) and given.op == "placeholder"
    }
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(modules[str(node.target)], LOOKUPS):
            ids = (*node.args, *node.kwargs.values())[0]
            if isinstance(ids, fx.Node) and ids.op == "placeholder":
                inputs[str(ids.target)] = TensorSpec(str(ids.target), "int64", ())
    return Graph(tuple(calls), tuple(_unshared(norms, graph, constants, modules)), inputs)


def _is_torch(target: Any) -> bool:
    module = getattr(target, "__module__", None) or ""
    return isinstance(target, torch._ops.OpOverload) or module.split(".")[0] in ("torch", "_operator")


def _ndim(value: Any) -> int | None:
    """The number of axes of a node's tensor, where an export recorded it."""
    meta = value.meta.get("val") if isinstance(value, fx.Node) else None
    return meta.ndim if isinstance(meta, torch.Tensor) else None


def _operand(value: Any, constants: dict[fx.Node, str], shapes: dict[str, tuple[int, ...]]) -> Operand | None:
    """A parameter's node, or a transposition of one."""
    if not isinstance(value, fx.Node):
        return None
    if value in constants:
        shape = shapes[constants[value]]
        return Operand(constants[value], shape, tuple(range(len(shape))))
    name = name_of(value.target)
    if value.op == "call_function" and value.target is getattr and value.args[1:] in (("T",), ("mT",)):
        name = "t"
    if value.op not in ("call_function", "call_method") or name not in ("t", "transpose", "permute", "numpy_T"):
        return None
    inner = _operand(value.args[0], constants, shapes)
    axes = permutation(name, value.args[1:], inner)
    return None if inner is None or axes is None else replace(inner, perm=tuple(inner.perm[axis] for axis in axes))


def permutation(name: str, args: Sequence[Any], inner: Operand | None) -> list[int] | None:
    """The axes in their order after t, transpose or permute; None where the arguments are not constants."""
    if inner is None:
        return None
    axes = list(range(len(inner.perm)))
    if name in ("t", "numpy_T"):
        return axes[::-1] if len(axes) == 2 else None
    if name == "transpose":
        if not all(isinstance(a, int) for a in args):
            return None
        axes[args[0]], axes[args[1]] = axes[args[1]], axes[args[0]]
        return axes
    order = args[0] if args and isinstance(args[0], list | tuple) else args
    return [axes[a] for a in order] if all(isinstance(a, int) for a in order) and len(order) == len(axes) else None


def _norm(
    node: fx.Node, made: dict[fx.Node, Call], constants: dict[fx.Node, str], modules: dict[str, nn.Module]
) -> Norm | None:
    """The batch norm that a node is, if a layer's node is its input and has no other user."""
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or source not in made or len(source.users) != 1:
        return None
    call = made[source]
    if call.op not in ("conv", "product") or call.form.kind not in ("conv", "dense"):
        return None
    if call.op == "product" and call.labels[2][-1] != "r":
        return None
    if call.op == "product" and _ndim(source) not in (None, 2):
        return None
    flat = call.op == "product" and _ndim(source) is None
    found = _module_norm(node, modules) if node.op == "call_module" else _function_norm(node, constants)
    if found is None:
        return None
    bias_known = call.bias is not None or len(source.args) < 3 or source.args[2] is None
    if not bias_known and source.kwargs.get("bias") is None:
        return None
    return Norm(*found, call.weight.name, call.bias, flat)


def _module_norm(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[str, str, str, str, float] | None:
    path = str(node.target)
    module: Any = modules.get(path)
    if type(module) not in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        return None
    if not module.affine or not module.track_running_stats or module.running_mean is None:
        return None
    parts = ("weight", "bias", "running_mean", "running_var")
    weight, bias, mean, variance = (f"{path}.{part}" for part in parts)
    return weight, bias, mean, variance, float(module.eps)


def _function_norm(node: fx.Node, constants: dict[fx.Node, str]) -> tuple[str, str, str, str, float] | None:
    """aten.batch_norm(x, weight, bias, mean, variance, training, momentum, eps, ...) and its kin."""
    target = str(node.target)
    places = {"aten.batch_norm.default": 7, "aten._native_batch_norm_legit_no_training.default": 6}
    if node.op != "call_function" or target not in places or node.kwargs:
        return None
    epsilon = node.args[places[target]]
    names = [constants.get(arg) if isinstance(arg, fx.Node) else None for arg in node.args[1:5]]
    training = target == "aten.batch_norm.default" and node.args[5]
    if training or any(name is None for name in names) or not isinstance(epsilon, float):
        return None
    weight, bias, mean, variance = (str(name) for name in names)
    return weight, bias, mean, variance, epsilon


def _unshared(
    norms: Sequence[Norm], graph: fx.Graph, constants: dict[fx.Node, str], modules: dict[str, nn.Module]
) -> list[Norm]:
    """Those whose tensors, and whose layer's, nothing else uses."""
    uses: dict[str, int] = {}
    for node in graph.nodes:
        if node in constants:
            uses[constants[node]] = uses.get(constants[node], 0) + len(node.users)
        if node.op == "call_module":
            module = modules[str(node.target)]
            for name, _ in (*module.named_parameters(), *module.named_buffers()):
                uses[f"{node.target}.{name}"] = uses.get(f"{node.target}.{name}", 0) + 1
    return [
        norm
        for norm in norms
        if all(uses.get(n, 0) == 1 for n in (norm.weight, norm.bias, norm.mean, norm.variance, norm.layer))
        and (norm.layer_bias is None or uses.get(norm.layer_bias, 0) == 1)
    ]
