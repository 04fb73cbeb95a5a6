"""torch.export's JSON of a program in few words, without loss but for the names of values inside.

A skeleton is stored in every archive, and for a small model the verbose form would weigh more than the weights. What
follows from the rest is left out: names of values and arguments, outputs, sizes that an operator keeps. Where a program
is not what its short form says, the difference is stored beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from attar.adapters.torch.metas import PLAIN, Sizes, code_meta, full_meta
from attar.adapters.torch.nodes import Values, code_node, full_node, results
from attar.adapters.torch.state import ORDER, full_state, state_of, tree_of
from attar.types import Json


def shrink(program: Json) -> Json:
    """The short form; the program itself where its nodes use what is neither tensor, size nor plain argument."""
    try:
        named = _renamed_program(program)
        short = _short(named)
        other = _difference(named, _usual(short))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return program
    return short if other is None else {**short, "other": other}


def expand(short: Json) -> Json:
    """The inverse of shrink but for names; raises KeyError, TypeError, ValueError, IndexError, AttributeError."""
    if "graph_module" in short:
        return short
    return _patched(_usual(short), short["other"]) if "other" in short else _usual(short)


def _short(program: Json) -> Json:
    """What the usual program of that kind is made from."""
    module, sizes = program["graph_module"], Sizes()
    graph, state = module["graph"], state_of(module)
    metas = {**graph["tensor_values"], **graph["sym_int_values"]}
    users = {name: metas[name] for name in _users(module)}
    inputs = {name: code_meta(meta, PLAIN, sizes) for name, meta in users.items()}
    tree = tree_of(state, sizes)
    values = Values([entry.meta for entry in state], users)
    nodes = [code_node(node, place, metas, values, sizes) for place, node in enumerate(graph["nodes"])]
    outputs = [values.code(output["as_tensor"]["name"]) for output in graph["outputs"]]
    version = program["schema_version"]
    return {
        "torch": [program["torch_version"], version["major"], version["minor"], program["opset_version"]["aten"]],
        "sizes": sizes.table(),
        "inputs": inputs,
        "state": tree,
        "nodes": nodes,
        **({} if outputs == ["1"] else {"outputs": outputs}),
        **({"keywords": True} if _by_keyword(module) else {}),
    }


def _users(module: Json) -> list[str]:
    """Names of the user's inputs that are tensors."""
    given = [spec["user_input"]["arg"] for spec in module["signature"]["input_specs"] if "user_input" in spec]
    return [argument["as_tensor"]["name"] for argument in given if "as_tensor" in argument]


def _by_keyword(module: Json) -> bool:
    """Whether the user's inputs are given by name."""
    names = _users(module)
    return bool(names) and module["module_call_graph"][0]["signature"]["in_spec"] == _in_spec(names, keywords=True)


def _usual(short: Json) -> Json:
    """The program that a short form says, without its differences."""
    sizes = Sizes(short["sizes"])
    state = full_state(short["state"], sizes)
    users = {name: full_meta(code, PLAIN, sizes) for name, code in short["inputs"].items()}
    values = Values([entry.meta for entry in state], users)
    nodes = [full_node(code, place, values, sizes) for place, code in enumerate(short["nodes"])]
    outputs = [{"as_tensor": {"name": values.names[values.full(code)]}} for code in short.get("outputs", ["1"])]
    state.sort(key=lambda entry: ORDER[entry.kind])
    inputs = [{"as_tensor": {"name": name}} for name in [*(entry.value for entry in state), *users]]
    torch_version, major, minor, aten = short["torch"]
    call = {
        "forward_arg_names": list(users), "inputs": [], "outputs": [], "out_spec": _out_spec(len(outputs)),
        "in_spec": _in_spec(list(users), keywords="keywords" in short),
    }  # fmt: skip
    user_specs = [{"user_input": {"arg": {"as_tensor": {"name": name}}}} for name in users]
    module = {
        "graph": {
            "inputs": inputs, "outputs": outputs, "nodes": nodes, **values.by_kind(),
            "sym_float_values": {}, "sym_bool_values": {}, "custom_obj_values": {}, "is_single_tensor_return": False,
        },
        "signature": {
            "input_specs": [*(entry.spec() for entry in state), *user_specs],
            "output_specs": [{"user_output": {"arg": output}} for output in outputs],
        },
        "module_call_graph": [{"fqn": "", "signature": call}],
        "metadata": {},
        "treespec_namedtuple_fields": {},
    }  # fmt: skip
    return {
        "graph_module": module,
        "opset_version": {"aten": aten},
        "range_constraints": {name: {"min_val": 2, "max_val": None} for name in sizes.symbols()},
        "schema_version": {"major": major, "minor": minor},
        "verifiers": ["TRAINING"],
        "torch_version": torch_version,
        "guards_code": [],
    }


_LEAF: Json = {"type": None, "context": None, "children_spec": []}


def _container(kind: str, context: str, children: Sequence[Json]) -> Json:
    return {"type": f"builtins.{kind}", "context": context, "children_spec": list(children)}


def _in_spec(names: Sequence[str], *, keywords: bool) -> str:
    """How torch writes that forward takes tensors, by position or by name."""
    leaves = [_LEAF] * len(names)
    args = _container("tuple", "null", [] if keywords else leaves)
    kwargs = _container("dict", json.dumps(list(names) if keywords else []), leaves if keywords else [])
    return json.dumps([1, _container("tuple", "null", [args, kwargs])])


def _out_spec(count: int) -> str:
    """How torch writes that forward gives one tensor, or a tuple of them."""
    return json.dumps([1, _LEAF if count == 1 else _container("tuple", "null", [_LEAF] * count)])


def _renamed_program(program: Json) -> Json:
    """With the names of values that expand gives: the user's inputs keep theirs; raises ValueError on a clash."""
    module = program["graph_module"]
    graph, users = module["graph"], _users(module)
    old = [entry.value for entry in state_of(module)] + users
    for node in graph["nodes"]:
        old += results(node["outputs"])
    names = {name: name if name in users else f"val{place}" for place, name in enumerate(old)}
    for place, node in enumerate(graph["nodes"]):
        names.setdefault(node["name"], f"node{place}")
    kept = {*graph["sym_float_values"], *graph["sym_bool_values"]}
    if len({*names.values()} | kept) != len(names) + len(kept):
        raise ValueError("two values of one name")
    renamed: Json = _renamed(program, names)
    graph = renamed["graph_module"]["graph"]
    for node in graph["nodes"]:
        node["name"] = names[node["name"]]
    for field in ("tensor_values", "sym_int_values"):
        graph[field] = {names.get(name, name): value for name, value in graph[field].items()}
    return renamed


def _renamed(value: Json, names: Mapping[str, str]) -> Json:
    """A copy with the new name of every value that is referred to; graphs inside have names of their own."""
    if isinstance(value, list):
        return [_renamed(entry, names) for entry in value]
    if not isinstance(value, dict):
        return value
    for field in ("name", "as_name"):
        if list(value) == [field] and isinstance(value[field], str):
            return {field: names.get(value[field], value[field])}
    return {key: entry if key == "as_graph" else _renamed(entry, names) for key, entry in value.items()}


def _difference(new: Json, old: Json) -> Json:
    """What turns old into new: {key or place: difference}, {"=": value}, or None where they are the same."""
    found: dict[str, Any]
    if isinstance(new, dict) and isinstance(old, dict) and set(old) <= set(new):
        parts = {key: _difference(new[key], old[key]) if key in old else {"=": new[key]} for key in new}
    elif isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        parts = {str(place): _difference(*pair) for place, pair in enumerate(zip(new, old, strict=True))}
    else:
        return None if type(new) is type(old) and new == old else {"=": new}
    found = {key: part for key, part in parts.items() if part is not None}
    return found or None


def _patched(old: Json, difference: Json) -> Json:
    """The inverse of difference; raises KeyError, ValueError, IndexError, TypeError."""
    if "=" in difference:
        return difference["="]
    if isinstance(old, list):
        changed: Any = list(old)
        for place, part in difference.items():
            changed[int(place)] = _patched(changed[int(place)], part)
        return changed
    return {**old, **{key: _patched(old.get(key), part) for key, part in difference.items()}}
