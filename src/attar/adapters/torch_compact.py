"""torch.export's JSON of a program in fewer words, without loss: short names, plain arguments and metadata.

A skeleton is stored in every archive, and for a small model the verbose form would weigh more than the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attar.types import Json

PLAIN = {"device": {"index": None, "type": "cpu"}, "layout": 7, "storage_offset": {"as_int": 0}}
"""Fields of a tensor that are left out where they are these; strides and requires_grad where contiguous and False."""


def shrink(program: Json) -> Json:
    """The program with its graph rewritten; everything that is not in the usual form stays as it is."""
    module = program["graph_module"]
    names = _short_names(module)
    graph = module["graph"]
    short = {
        **graph,
        "inputs": _renamed(graph["inputs"], names),
        "outputs": _renamed(graph["outputs"], names),
        "nodes": [_node(node, names) for node in graph["nodes"]],
        "tensor_values": [[names.get(n, n), _tensor(value)] for n, value in graph["tensor_values"].items()],
    }
    signature = _renamed(module["signature"], names)
    return {**program, "graph_module": {**module, "graph": short, "signature": signature}}


def expand(program: Json) -> Json:
    """The inverse of shrink, but for the names of tensors inside; raises KeyError, TypeError, ValueError."""
    module = program["graph_module"]
    graph = module["graph"]
    full = {
        **graph,
        "nodes": [_full_node(node) for node in graph["nodes"]],
        "tensor_values": {str(name): _full_tensor(value) for name, value in graph["tensor_values"]},
    }
    return {**program, "graph_module": {**module, "graph": full}}


def _short_names(module: Json) -> dict[str, str]:
    """New names of tensors: all but the user's inputs, which forward's signature shows."""
    kept = {_deep_name(spec["user_input"]) for spec in module["signature"]["input_specs"] if "user_input" in spec}
    values = [name for name in module["graph"]["tensor_values"] if name not in kept]
    taken = set(module["graph"]["sym_int_values"]) | kept
    return {name: f"v{place}" for place, name in enumerate(values) if f"v{place}" not in taken}


def _deep_name(value: Json) -> str | None:
    """The tensor name in {"arg": {"as_tensor": {"name": ...}}}."""
    while isinstance(value, dict):
        if isinstance(value.get("name"), str):
            return str(value["name"])
        value = next(iter(value.values()), None)
    return None


def _renamed(value: Json, names: Mapping[str, str]) -> Json:
    """A copy in which every {"name": tensor} has its new name."""
    if isinstance(value, list):
        return [_renamed(entry, names) for entry in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"name"} and isinstance(value["name"], str):
        return {"name": names.get(value["name"], value["name"])}
    return {key: _renamed(entry, names) for key, entry in value.items()}


def _node(node: Json, names: Mapping[str, str]) -> Json:
    """[target, inputs, outputs]; the node's own name where it is not its first output's."""
    plain = not node["metadata"] and node["is_hop_single_tensor_return"] is None
    if not plain or set(node) != _NODE or len(node["outputs"]) != 1:
        return _renamed({**node, "name": names.get(node["name"], node["name"])}, names)
    inputs = [[a["name"], a["kind"], _argument(a["arg"], names)] for a in node["inputs"]]
    output = _argument(node["outputs"][0], names)
    name = names.get(node["name"], node["name"])
    return [node["target"].removeprefix(_PREFIX), inputs, output, *([] if name == output else [name])]


_NODE = {"target", "inputs", "outputs", "metadata", "name", "is_hop_single_tensor_return"}
_PREFIX = "torch.ops."


def _full_node(node: Json) -> Json:
    if isinstance(node, dict):
        return node
    target, inputs, output, *name = node
    prefix = "" if str(target).startswith(("_operator", "math", "torch", "#")) else _PREFIX
    first = output if isinstance(output, str) else _deep_name(output)
    return {
        "target": prefix + target,
        "inputs": [{"name": n, "kind": kind, "arg": _full_argument(arg)} for n, kind, arg in inputs],
        "outputs": [_full_argument(output)],
        "metadata": {},
        "name": name[0] if name else first,
        "is_hop_single_tensor_return": None,
    }


def _argument(value: Json, names: Mapping[str, str]) -> Json:
    """A tensor as its name, whole numbers as they are, the rest as torch has it."""
    if set(value) == {"as_tensor"} and set(value["as_tensor"]) == {"name"}:
        name = value["as_tensor"]["name"]
        return names.get(name, name)
    if value == {"as_none": True}:
        return None
    for key, fits in _SIMPLE.items():
        if set(value) == {key} and fits(value[key]):
            return value[key]
    return _renamed(value, names)


def _full_argument(value: Json) -> Json:
    if isinstance(value, str):
        return {"as_tensor": {"name": value}}
    if isinstance(value, dict):
        return value
    if value is None:
        return {"as_none": True}
    return {next(key for key, fits in _SIMPLE.items() if fits(value)): value}


def _is_int(value: Any) -> bool:
    return type(value) is int


_SIMPLE: dict[str, Callable[[Any], bool]] = {
    "as_bool": lambda value: type(value) is bool,
    "as_int": _is_int,
    "as_ints": lambda value: isinstance(value, list) and bool(value) and all(map(_is_int, value)),
}
"""Arguments whose type tells the field."""


def _tensor(value: Json) -> Json:
    """[dtype, sizes], and [strides, requires_grad] where they are unusual; as torch has it on another device."""
    own = {key: entry for key, entry in value.items() if key in ("dtype", "sizes", "strides", "requires_grad")}
    if {**own, **PLAIN} != value:
        return value
    sizes, strides = ([n.get("as_int", n) for n in value[key]] for key in ("sizes", "strides"))
    usual = strides == _contiguous(sizes) and not value["requires_grad"]
    return [value["dtype"], sizes, *([] if usual else [strides, value["requires_grad"]])]


def _full_tensor(value: Json) -> Json:
    if isinstance(value, dict):
        return value
    dtype, sizes, *more = value
    strides, gradient = more or (_contiguous(sizes), False)

    def wide(numbers: Json) -> Json:
        return [{"as_int": n} if isinstance(n, int) else n for n in numbers]

    return {**PLAIN, "dtype": dtype, "sizes": wide(sizes), "strides": wide(strides), "requires_grad": gradient}


def _contiguous(sizes: Json) -> Json:
    """Strides of a contiguous tensor whose only free size is its first; None otherwise."""
    strides, total = [], 1
    for place, size in reversed(list(enumerate(sizes))):
        strides.append(total)
        if isinstance(size, int):
            total *= max(size, 1)
        elif place:
            return None
    return strides[::-1]
