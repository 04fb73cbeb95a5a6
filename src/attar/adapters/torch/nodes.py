"""Nodes of an exported program in few words: [unexpected outputs..., operator, arguments..., {keyword: argument}].

A value is referred to by a string: "1" is the one before, "2" the one before that; a tensor of the state by how far it
is from the one that was used last, as "+1" or "-3".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attar.adapters.torch.metas import PLAIN, Sizes, code_meta, full_meta, result_of
from attar.adapters.torch.programs import argument_names
from attar.types import Json

_NAMESPACE = "torch.ops.aten."
_DEFAULT = ".default"
_POSITIONAL, _KEYWORD = 1, 2
"""Kinds of arguments in torch's JSON."""
USES = 1 << 19
"""References that a graph may hold: a damaged file could otherwise make much out of little."""


class Values:
    """What a node may refer to, in order: the state's tensors, the user's inputs, results; and the last tensor used.

    Only the user's inputs have names of their own.
    """

    def __init__(self, state: Sequence[Json], users: Mapping[str, Json]):
        self.metas = [*state, *users.values()]
        self.names = [f"val{place}" for place in range(len(state))] + list(users)
        self.places = {name: place for place, name in enumerate(self.names)}
        self.state = len(state)
        self.last = -1
        self.uses = 0

    def __getitem__(self, name: str) -> Json:
        """A value's metadata; raises KeyError."""
        return self.metas[self.places[name]]

    def add(self, meta: Json) -> str:
        """A new value's name; meta is a tensor's metadata or the expression of a size."""
        name = f"val{len(self.names)}"
        if name in self.places:
            raise ValueError(f"two values {name}")
        self.places[name] = len(self.names)
        self.names.append(name)
        self.metas.append(meta)
        return name

    def back_to(self, count: int, last: int) -> None:
        """Forget all values but the first and set the last use."""
        for name in self.names[count:]:
            del self.places[name]
        del self.names[count:], self.metas[count:]
        self.last = last

    def code(self, name: str) -> str:
        """The reference to a value; raises KeyError."""
        place = self.places[name]
        if place >= self.state:
            return str(len(self.names) - place)
        step, self.last = place - self.last, place
        return f"{step:+d}"

    def full(self, code: str) -> int:
        """The place that a reference means; raises ValueError."""
        if code[:1] in ("+", "-"):
            place = self.last = self.last + int(code)
            known = 0 <= place < self.state
        else:
            place = len(self.names) - int(code)
            known = self.state <= place < len(self.names)
        self.uses += 1
        if not known or self.uses > USES:
            raise ValueError(f"no value {code!r}, or more than {USES} uses of values")
        return place

    def by_kind(self) -> dict[str, dict[str, Json]]:
        """Metadata of tensors and expressions of sizes by name, as torch's graph has them."""
        kinds: dict[str, dict[str, Json]] = {"tensor_values": {}, "sym_int_values": {}}
        for place, name in enumerate(self.names):
            kinds["sym_int_values" if self.is_size(place) else "tensor_values"][name] = self.metas[place]
        return kinds

    def is_size(self, place: int) -> bool:
        """Whether a value is a size, not a tensor."""
        return "sizes" not in self.metas[place]


def results(outputs: Sequence[Json]) -> Iterator[str]:
    """The names of tensors and sizes that a node's outputs define."""
    for output in outputs:
        if "as_tensor" in output:
            yield output["as_tensor"]["name"]
        elif "as_tensors" in output:
            yield from (tensor["name"] for tensor in output["as_tensors"])
        elif "as_sym_int" in output:
            yield output["as_sym_int"]["as_name"]


def code_node(node: Json, place: int, metas: Json, values: Values, sizes: Sizes) -> Json:
    """The short form; the node's results are added to values. Nodes that it cannot say keep torch's form."""
    start = len(values.names), values.last
    if argument_names(node["target"]) is not None:
        code = _coded(node, metas, values, sizes)
        values.back_to(*start)
        if _reads_as(node, code, place, values, sizes):
            return code
        values.back_to(*start)
    bare = {key: value for key, value in node.items() if key != "outputs"}
    code = [*(_code_output(output, metas, PLAIN, sizes) for output in node["outputs"]), bare]
    full_node(code, place, values, sizes)
    return code


def _coded(node: Json, metas: Json, values: Values, sizes: Sizes) -> Json:
    """The short form of a node that calls a known operator."""
    target = node["target"].removeprefix(_NAMESPACE).removesuffix(_DEFAULT)
    arguments = [(given["name"], given["kind"], _code_argument(given["arg"], values)) for given in node["inputs"]]
    keywords = {name: code for name, kind, code in arguments if kind == _KEYWORD}
    usual = _expected(node["target"], node["inputs"], metas)
    outputs = [_code_output(output, metas, usual, sizes) for output in node["outputs"]]
    return [
        *([] if outputs == [0] else outputs),
        target,
        *(code for _, kind, code in arguments if kind == _POSITIONAL),
        *([keywords] if keywords else []),
    ]


def _reads_as(node: Json, code: Json, place: int, values: Values, sizes: Sizes) -> bool:
    try:
        return bool(full_node(code, place, values, sizes) == node)
    except (ValueError, KeyError, IndexError, TypeError):
        return False


def full_node(code: Json, place: int, values: Values, sizes: Sizes) -> Json:
    """The inverse of code_node; raises ValueError, IndexError, KeyError, TypeError, AttributeError."""
    at = [_is_operator(entry) for entry in code].index(True)
    outputs, operator, given = code[:at], code[at], code[at + 1 :]
    if isinstance(operator, dict):
        return {**operator, "outputs": [_full_output(output, PLAIN, values, sizes) for output in outputs]}
    target = _full_target(operator)
    names = argument_names(target)
    keywords = given.pop() if given and _is_keywords(given[-1]) else {}
    if names is None or len(given) > len(names):
        raise ValueError(f"{target} does not take {len(given)} arguments")
    arguments = [(name, _POSITIONAL, argument) for name, argument in zip(names, given, strict=False)]
    arguments += [(name, _KEYWORD, argument) for name, argument in keywords.items()]
    inputs = [{"name": n, "kind": kind, "arg": _full_argument(argument, values)} for n, kind, argument in arguments]
    usual = _expected(target, inputs, values)
    full = [_full_output(output, usual, values, sizes) for output in outputs or [0]]
    found = list(results(full))
    alone = len(full) == 1 and "as_tensors" not in full[0]
    return {
        "target": target,
        "inputs": inputs,
        "outputs": full,
        "metadata": {},
        "name": found[0] if alone and found else f"node{place}",
        "is_hop_single_tensor_return": None,
    }


def _is_operator(entry: Json) -> bool:
    return isinstance(entry, str) or (isinstance(entry, dict) and "target" in entry)


def _is_keywords(entry: Json) -> bool:
    return isinstance(entry, dict) and not any(key.startswith("as_") for key in entry)


def _full_target(code: str) -> str:
    """The operator's whole name: those of aten are without it, and without the default overload's."""
    if code.startswith(("torch.", "_operator.")):
        return code
    return _NAMESPACE + code + ("" if "." in code else _DEFAULT)


def _expected(target: str, inputs: Sequence[Json], metas: Any) -> Json:
    """The most likely metadata of a result; metas gives those of a tensor by its name."""
    return result_of(target, [metas[name] for given in inputs for name in _tensors_of(given["arg"])])


def _tensors_of(argument: Json) -> Iterator[str]:
    """Names of the tensors that an argument holds, in order."""
    for key, value in argument.items():
        if key == "as_tensor":
            yield value["name"]
        elif key == "as_tensors":
            yield from (tensor["name"] for tensor in value)


def _code_argument(argument: Json, values: Values) -> Json:
    """A reference, a number or a list of them; arguments of other types stay as they are."""
    ((field, value),) = argument.items()
    if field == "as_tensor" and set(value) == {"name"}:
        return values.code(value["name"])
    if field == "as_sym_int" and "as_name" in value:
        return values.code(value["as_name"])
    if field == "as_tensors" and value:
        return [values.code(tensor["name"]) for tensor in value]
    if field == "as_optional_tensors" and {"as_none": True} in value:
        return [_code_argument(tensor, values) for tensor in value]
    if field == "as_sym_ints":
        return [values.code(size["as_name"]) if "as_name" in size else size["as_int"] for size in value]
    if field == "as_none":
        return None
    if field in ("as_bool", "as_int", "as_float") or (field == "as_ints" and value):
        return value
    return argument


def _full_argument(code: Json, values: Values) -> Json:
    """The inverse of _code_argument; raises ValueError and KeyError."""
    if code is None:
        return {"as_none": True}
    if isinstance(code, str):
        return _value(values.full(code), values)
    if isinstance(code, dict):
        return code
    if not isinstance(code, list):
        return {_NUMBERS[type(code)]: code}
    if all(type(entry) is int for entry in code):
        return {"as_ints": code}
    entries = [{"as_int": entry} if type(entry) is int else _full_argument(entry, values) for entry in code]
    if None in code:
        return {"as_optional_tensors": entries}
    if all("as_tensor" in entry for entry in entries):
        return {"as_tensors": [entry["as_tensor"] for entry in entries]}
    return {"as_sym_ints": [entry.get("as_sym_int", entry) for entry in entries]}


_NUMBERS = {bool: "as_bool", int: "as_int", float: "as_float"}


def _value(place: int, values: Values) -> Json:
    name = values.names[place]
    return {"as_sym_int": {"as_name": name}} if values.is_size(place) else {"as_tensor": {"name": name}}


def _code_output(output: Json, metas: Json, usual: Json, sizes: Sizes) -> Json:
    """A tensor by code_meta, a size by its own code, None; others stay as they are."""
    ((field, value),) = output.items()
    if field == "as_tensor":
        return code_meta(metas[value["name"]], usual, sizes)
    if field == "as_tensors":
        return {field: [code_meta(metas[tensor["name"]], usual, sizes) for tensor in value]}
    if field == "as_sym_int":
        size = metas[value["as_name"]]
        return sizes.code(size) if "as_expr" in size else size
    return None if field == "as_none" else output


def _full_output(code: Json, usual: Json, values: Values, sizes: Sizes) -> Json:
    """The inverse of _code_output; what it defines is added to values."""
    if code is None:
        return {"as_none": True}
    if (isinstance(code, int) and code < 0) or (isinstance(code, dict) and "as_int" in code):
        return {"as_sym_int": {"as_name": values.add(sizes.spend(sizes.full(code)))}}
    if isinstance(code, dict) and "as_tensors" in code:
        metas = [full_meta(tensor, usual, sizes) for tensor in code["as_tensors"]]
        return {"as_tensors": [{"name": values.add(meta)} for meta in metas]}
    if isinstance(code, dict) and any(key.startswith("as_") for key in code):
        return code
    return {"as_tensor": {"name": values.add(full_meta(code, usual, sizes))}}
