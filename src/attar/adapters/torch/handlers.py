"""PyTorch modules and functions in the words of `attar.structure.graph`: one short handler for each kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import fx, nn

from attar.adapters.torch import functions as torch_functions
from attar.adapters.torch.calls import name_of
from attar.adapters.torch.functions import Handler, added_axes
from attar.adapters.torch.functions import argument as _argument
from attar.adapters.torch.groups import Reader
from attar.structure.graph import Contract, Factors, Join, Multiply, Node, Permute, Reshape, Vector

ModuleHandler = Callable[[Reader, fx.Node, Any], Node | None]


def handle(reader: Reader, node: fx.Node) -> Node | None:
    """The neutral node; None where the operator is not known or used in a way that is not described."""
    if node.name not in reader.values:
        return None
    if node.op != "call_module":
        name = name_of(node.target)
        handler = FUNCTIONS.get(name) or FUNCTIONS.get(name.removesuffix("_"))
        return handler(reader, node) if handler else None
    module = reader.modules[str(node.target)]
    if not node.args or not reader.is_value(node.args[0]):
        return None
    for base, own in MODULES:
        if type(module) in base:
            return own(reader, node, module)
    return None


def _conv(reader: Reader, node: fx.Node, module: Any) -> Node | None:
    axes = (0, 1) if not module.transposed else (1, 0)
    weight, batched = reader.name(module.weight), reader.rank(node.args[0]) == module.weight.ndim
    if weight is None or not batched or (module.transposed and module.groups > 1):
        return None
    vectors = reader.along_axis(module.bias, 1)
    return Multiply(node.name, _first(node), (node.name,), weight, *axes, 1, 1, module.groups, True, vectors)


def _linear(reader: Reader, node: fx.Node, module: Any) -> Node | None:
    weight, vectors = reader.name(module.weight), reader.along_axis(module.bias, reader.rank(node) - 1)
    return None if weight is None else _product(node, weight, (0, 1), vectors)


def _embedding(reader: Reader, node: fx.Node, module: Any) -> Node | None:
    weight = reader.name(module.weight)
    if weight is None or module.max_norm is not None:
        return None
    return Multiply(node.name, _first(node), (node.name,), weight, 1, None, -1, -1)


def _norm(reader: Reader, node: fx.Node, module: Any) -> Node | None:
    """Batch and instance norms: by channel, which is the second axis."""
    if isinstance(module, nn.modules.instancenorm._InstanceNorm) and reader.rank(node) < 3:
        return None
    stored = module.running_mean is not None
    own = [(module.weight, not stored), (module.bias, True), (module.running_mean, stored), (module.running_var, False)]
    vectors = [replace(v, carries=carries) for part, carries in own for v in reader.along_axis(part, 1)]
    return reader.along(node, node.args[:1], more=vectors, factors="same" if stored else "own")


def _layer_norm(reader: Reader, node: fx.Node, module: Any) -> Node | None:
    count = len(module.normalized_shape)
    own = [name for part in (module.weight, module.bias) if (name := reader.name(part)) is not None]
    vectors = [replace(reader.broadcast(name, reader.rank(node)), carries=True) for name in own]
    return reader.along(node, node.args[:1], range(-count, 0), more=vectors, factors="own")


def _prelu(reader: Reader, node: fx.Node, module: Any) -> Node | None:
    vectors = reader.along_axis(module.weight, 1) if module.num_parameters > 1 else ()
    return reader.along(node, node.args[:1], more=vectors, factors="same")


def _same(reader: Reader, node: fx.Node, _: Any = None) -> Node | None:
    return reader.along(node, node.args[:1])


def _homogeneous(reader: Reader, node: fx.Node, _: Any = None) -> Node | None:
    return reader.along(node, node.args[:1], factors="same")


def _spatial(reader: Reader, node: fx.Node, module: Any = None) -> Node | None:
    """Pooling, padding, resizing: all axes but those of examples and channels."""
    factors: Factors = "" if isinstance(module, nn.LPPool1d | nn.LPPool2d) else "same"
    return reader.along(node, node.args[:1], range(2, reader.rank(node.args[0])), factors=factors)


def _softmax(reader: Reader, node: fx.Node, module: Any = None) -> Node | None:
    dim = module.dim if module is not None else _argument(node, 1, "dim", None)
    return reader.along(node, node.args[:1], (dim,)) if isinstance(dim, int) else None


def _flatten(reader: Reader, node: fx.Node, _: Any = None) -> Node | None:
    return Reshape(node.name, _first(node), (node.name,)) if reader.is_value(node.args[0]) else None


def _pad(reader: Reader, node: fx.Node) -> Node | None:
    pads = _argument(node, 1, "pad", None)
    if not isinstance(pads, list | tuple):
        return None
    zero = _argument(node, 3, "value", None) in (None, 0)
    return reader.along(node, node.args[:1], range(-(len(pads) // 2), 0), factors="same" if zero else "")


def _function_linear(reader: Reader, node: fx.Node) -> Node | None:
    weight, bias = reader.stored(_argument(node, 1, "weight")), _argument(node, 2, "bias")
    if weight is None or not reader.is_value(node.args[0]) or (bias is not None and reader.stored(bias) is None):
        return None
    vectors = () if bias is None else (reader.broadcast(str(reader.stored(bias)), reader.rank(node)),)
    return _product(node, weight, (0, 1), vectors)


def _binary(reader: Reader, node: fx.Node) -> Node | None:
    return None if node.kwargs.get("out") is not None else reader.along(node, [*node.args, *node.kwargs.values()])


def _sum(reader: Reader, node: fx.Node) -> Node | None:
    """Numbers are the same for all channels, whatever their factors."""
    items = [*node.args, *node.kwargs.values()]
    plain = all(reader.is_value(item) or reader.stored(item) is not None for item in items)
    if node.kwargs.get("out") is not None:
        return None
    return reader.along(node, items, factors="same" if plain else "")


def _times(reader: Reader, node: fx.Node) -> Node | None:
    if node.kwargs.get("out") is not None or len(node.args) != 2:
        return _binary(reader, node)
    return reader.along(node, node.args, factors="" if node.kwargs else "product")


def _quotient(reader: Reader, node: fx.Node) -> Node | None:
    """By a number or a stored tensor: another divisor would take its factors away again."""
    plain = len(node.args) == 2 and not node.kwargs and not reader.is_value(node.args[1])
    if node.kwargs.get("out") is not None:
        return None
    items = [*node.args, *node.kwargs.values()]
    return reader.along(node, items, factors="product" if plain else "", carries=False)


def _matmul(reader: Reader, node: fx.Node) -> Node | None:
    left: Any = node.args[0]
    right: Any = node.args[1]
    if reader.is_value(left) and reader.is_value(right):
        wide = min(reader.rank(left), reader.rank(right)) >= 2
        return Contract(node.name, (left.name, right.name), (node.name,)) if wide else None
    weight = reader.stored(right)
    if weight is None or len(reader.tensors[weight].shape) != 2:
        return None
    return _product(node, weight, (1, 0))


def _cat(reader: Reader, node: fx.Node) -> Node | None:
    items: Any = node.args[0]
    dim: Any = _argument(node, 1, "dim", 0)
    if not isinstance(items, list | tuple) or not all(reader.is_value(item) for item in items):
        return None
    return Join(node.name, tuple(item.name for item in items), (node.name,), int(dim))


def _view(reader: Reader, node: fx.Node) -> Node | None:
    """Numbers in the code are rigid, those that come from a tensor's size follow it."""
    target: Any = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], list | tuple) else node.args[1:]
    target = target or node.kwargs.get("shape") or node.kwargs.get("size")
    if not reader.is_value(node.args[0]) or not isinstance(target, list | tuple):
        return None
    rigid = tuple(i for i, size in enumerate(target) if isinstance(size, int) and size > 0)
    return Reshape(node.name, _first(node), (node.name,), rigid)


def _permute(reader: Reader, node: fx.Node) -> Node | None:
    given: Any = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], list | tuple) else node.args[1:]
    order: Any = given or node.kwargs.get("dims")
    if not reader.is_value(node.args[0]) or not _whole(order):
        return None
    ndim = reader.rank(node)
    return Permute(node.name, _first(node), (node.name,), tuple(int(axis) % ndim for axis in order))


def _transpose(reader: Reader, node: fx.Node) -> Node | None:
    ndim = reader.rank(node)
    pair = [_argument(node, 1, "dim0", -2), _argument(node, 2, "dim1", -1)]
    if not reader.is_value(node.args[0]) or not _whole(pair):
        return None
    order = list(range(ndim))
    order[pair[0]], order[pair[1]] = order[pair[1]], order[pair[0]]
    return Permute(node.name, _first(node), (node.name,), tuple(order))


def _reduce(reader: Reader, node: fx.Node) -> Node | None:
    dims, keep = _argument(node, 1, "dim"), _argument(node, 2, "keepdim", False)
    if not reader.is_value(node.args[0]):
        return None
    dims = tuple(range(reader.rank(node.args[0]))) if dims is None else (dims,) if isinstance(dims, int) else dims
    return reader.along(node, node.args[:1], dims, drop=not keep, factors="same") if _whole(dims) else None


def _getitem(reader: Reader, node: fx.Node) -> Node | None:
    """Slices and single entries; what they cut must stay."""
    index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    if not reader.is_value(node.args[0]):
        return None
    if not all(isinstance(part, slice | int) for part in index):
        return added_axes(reader, node)
    cut = [i for i, part in enumerate(index) if part != slice(None)]
    dropped = [i for i, part in enumerate(index) if isinstance(part, int)]
    if dropped and dropped != cut:
        return None
    return reader.along(node, node.args[:1], cut, drop=bool(dropped), factors="same")


def _product(node: fx.Node, weight: str, axes: tuple[int, int], vectors: tuple[Vector, ...] = ()) -> Multiply:
    """A matrix product over the last axis; axes: the weight's rows and columns."""
    return Multiply(node.name, _first(node), (node.name,), weight, *axes, -1, -1, 1, False, vectors)


def _first(node: fx.Node) -> tuple[str, ...]:
    source: Any = node.args[0]
    return (source.name,)


def _whole(values: Any) -> bool:
    return isinstance(values, Sequence) and all(isinstance(value, int) for value in values)


def _kinds(names: str) -> tuple[type, ...]:
    return tuple(getattr(nn, name) for name in names.split() if hasattr(nn, name))


MODULES: tuple[tuple[tuple[type, ...], ModuleHandler], ...] = (
    (_kinds("Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d"), _conv),
    (_kinds("Linear"), _linear),
    (_kinds("Embedding"), _embedding),
    (_kinds("BatchNorm1d BatchNorm2d BatchNorm3d InstanceNorm1d InstanceNorm2d InstanceNorm3d"), _norm),
    (_kinds("LayerNorm RMSNorm"), _layer_norm),
    (_kinds("PReLU"), _prelu),
    (
        _kinds(
            "ReLU6 ELU SELU CELU GELU SiLU Mish Sigmoid Hardsigmoid Hardswish Hardtanh Tanh Softplus Softsign "
            "LogSigmoid Tanhshrink Threshold AlphaDropout"
        ),
        _same,
    ),
    (_kinds("Identity ReLU LeakyReLU Dropout Dropout1d Dropout2d Dropout3d"), _homogeneous),
    (
        _kinds(
            "MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d LPPool1d LPPool2d AdaptiveAvgPool1d "
            "AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d Upsample "
            "UpsamplingNearest2d ZeroPad1d UpsamplingBilinear2d ZeroPad2d ZeroPad3d ReflectionPad1d "
            "ReflectionPad2d ReplicationPad1d ReplicationPad2d"
        ),
        _spatial,
    ),
    (_kinds("Softmax LogSoftmax"), _softmax),
    (_kinds("Flatten"), _flatten),
)
_NAMES: tuple[tuple[str, Handler], ...] = (
    (
        "relu6 elu selu celu gelu silu mish sigmoid hardsigmoid hardswish hardtanh tanh softplus softsign logsigmoid "
        "exp log sqrt rsqrt square erf clamp clip float to type_as",
        _same,
    ),
    ("relu leaky_relu abs neg dropout dropout2d contiguous clone detach", _homogeneous),
    (
        "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
        "adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d interpolate",
        _spatial,
    ),
    ("add iadd sub isub maximum minimum", _sum),
    ("mul imul", _times),
    ("truediv div", _quotient),
    ("pow", _binary),
    ("softmax log_softmax", _softmax),
    ("flatten squeeze unsqueeze", _flatten),
    ("view reshape", _view),
    ("permute", _permute),
    ("transpose swapaxes t", _transpose),
    ("mean sum amax amin", _reduce),
    ("cat concat concatenate", _cat),
    ("linear", _function_linear),
    ("matmul bmm", _matmul),
    ("pad", _pad),
    ("getitem", _getitem),
)
FUNCTIONS: dict[str, Handler] = {
    **torch_functions.FUNCTIONS, **{name: handler for names, handler in _NAMES for name in names.split()}
}  # fmt: skip
