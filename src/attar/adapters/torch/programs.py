"""Read exported programs (.pt2) that hold tensors and plain operators only; refuse others before torch reads them.

`torch.export.load` unpickles objects, evaluates shape expressions and resolves operator names to any attribute of
torch. Here an archive is checked first: no pickled weights or objects, no compiled code, shape expressions of known
names, operators that are registered operators. Guards (Python code) are never run.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Sequence
from typing import Any

import torch

from attar.errors import FormatError
from attar.types import Json

NAMESPACES = ("aten", "onednn", "prims", "quantized", "quantized_decomposed", "torchvision")
FORBIDDEN = ("from_file",)
"""Operators that reach beyond their tensors."""
_PLAIN = re.compile(
    r"_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|getitem|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.sym_(int|float|max|min|sum|not|ite|sqrt|sin|cos)"
    r"|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast)"
)
_WORD = re.compile(r"[A-Za-z_]\w*")
_SYMBOL = re.compile(r"[suz]f?\d+")
_QUOTED = re.compile(r"Symbol\('(\w{1,20})'(?:, (?:positive|nonnegative|integer|real|finite)=(?:True|False))*\)")
_POWER = re.compile(r"Pow\((\w+), Integer\(\d\)\)")
_FUNCTIONS = frozenset(
    (
        "FloorDiv", "Mod", "PythonMod", "ModularIndexing", "Max", "Min", "TruncToInt", "TruncToFloat",
        "CeilToInt", "FloorToInt", "RoundToInt", "IntTrueDiv", "FloatTrueDiv", "CleanDiv", "PowByNatural",
        "ToFloat", "Identity", "Where", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "True", "False",
        "int_oo", "oo", "Mul", "Add", "Integer", "Rational", "Float",
    )
)  # fmt: skip
_EXPRESSION = re.compile(r"[\w\s+\-*/(),<>=!&|~.]{1,300}")


def read(data: bytes, place: str) -> torch.export.ExportedProgram:
    """The program in a .pt2 file; raises FormatError."""
    try:
        _check_archive(data, place)
        return torch.export.load(io.BytesIO(data))
    except FormatError:
        raise
    except (
        zipfile.BadZipFile,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        AssertionError,
        IndexError,
        AttributeError,
    ) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
        raise FormatError(
            f"{place}: it must be an exported program. Received a damaged or unknown one ({first}). Save it anew by "
            "torch.export.save."
        ) from error


def _check_archive(data: bytes, place: str) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name.partition("/")[2] for name in archive.namelist()]
        if len(set(archive.namelist())) != len(names):
            raise FormatError(
                f"{place}: the names in a program's archive must differ. Received one twice. Save it anew."
            )
        models = 0
        for entry, name in zip(archive.namelist(), names, strict=True):
            if name.startswith("data/aotinductor/"):
                raise FormatError(
                    f"{place}: a program must not hold compiled code. Received {name}. Save it by torch.export.save."
                )
            if name.startswith("models/"):
                models += 1
                check_program(json.loads(archive.read(entry)), place)
            elif re.fullmatch(r"data/(weights|constants)/.*config\.json", name):
                _check_payload(json.loads(archive.read(entry)), place)
            elif re.fullmatch(r"data/(weights|constants)/.*\.pt", name):
                raise FormatError(
                    f"{place}: weights must be stored as bytes. Received a pickle, {name}. Save it by a newer torch."
                )
            elif name.startswith("data/sample_inputs/"):
                _check_samples(archive.read(entry), place)
        if models != 1:
            raise FormatError(f"{place}: there must be one program. Received {models}. Save one model in a file.")


def _check_payload(config: Json, place: str) -> None:
    """Every weight and constant is raw bytes."""
    for name, entry in config["config"].items():
        if entry["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
            raise FormatError(
                f"{place}: weights and constants must be plain tensors. Received an object at {name!r}. Remove "
                "custom objects."
            )


def _check_samples(data: bytes, place: str) -> None:
    """torch.export.load falls back to unpickling anything: read it with weights_only first."""
    from pickle import UnpicklingError

    if not data:
        return  # a program without samples, as those that are rebuilt from an archive
    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise FormatError(
            f"{place}: sample inputs must be tensors. Received other objects. Export with plain inputs."
        ) from error


def check_program(program: Json, place: str) -> None:
    """Raise FormatError for operators, expressions or containers that could run code."""
    for key, value in _entries(program):
        if key == "target" and isinstance(value, str):
            _check_operator(value, place)
        elif key == "expr_str":
            _check_expression(value, place)
        elif key in ("in_spec", "out_spec") and "__enum__" in str(value):
            raise FormatError(
                f"{place}: inputs and outputs must be plain containers. Received an enum in {key}. Export with "
                "plain types."
            )
    for symbol in program["range_constraints"]:
        _check_expression(symbol, place)


def _entries(value: Json) -> Any:
    """Every (key, value) at any depth."""
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, dict):
            yield from top.items()
            stack.extend(top.values())
        elif isinstance(top, list):
            stack.extend(top)


def _check_operator(target: str, place: str) -> None:
    if _PLAIN.fullmatch(target) or re.fullmatch(r"\w+", target):
        return  # a bare word is the name of a tensor in a signature, or of a tensor's method
    parts = target.split(".")
    if parts[:2] == ["torch", "ops"]:
        if _operator(target) is not None:
            return
    elif parts[0] not in ("torch", "_operator", "math") and not target.startswith("#"):
        return  # a dotted name of a parameter in a signature; torch takes it for a string
    raise FormatError(
        f"{place}: a program may only call registered operators. Received {target!r}. Export it with torch.export."
    )


def _operator(target: str) -> Any:
    """The registered operator of that name, an overload or all of them; None where there is none to be called."""
    parts = target.split(".")
    if parts[:2] != ["torch", "ops"] or len(parts) not in (4, 5) or parts[2] not in NAMESPACES or parts[3] in FORBIDDEN:
        return None
    packet = getattr(getattr(torch.ops, parts[2]), parts[3], None)
    found = packet if len(parts) == 4 else getattr(packet, parts[4], None)
    if not isinstance(packet, torch._ops.OpOverloadPacket):
        return None
    return found if isinstance(found, torch._ops.OpOverload | torch._ops.OpOverloadPacket) else None


def argument_names(target: str) -> Sequence[str] | None:
    """Names of an operator's arguments, in order; None where it is not registered or has no fixed ones."""
    if target.startswith("_operator."):
        return ("a", "b")
    found = _operator(target)
    if not isinstance(found, torch._ops.OpOverload):
        return None
    return [argument.name for argument in found._schema.arguments]


def _check_expression(text: Any, place: str) -> None:
    """Sizes are evaluated by sympy: allow numbers, operators, symbols and known functions, nothing else."""
    known: Any = isinstance(text, str)
    if known:
        text = _POWER.sub(r"\1", _QUOTED.sub(r"\1", text))
        known = _EXPRESSION.fullmatch(text) and "**" not in text
    if known:
        known = all(w in _FUNCTIONS or _SYMBOL.fullmatch(w) for w in _WORD.findall(text))
        known = known and not re.search(r"\.\s*[A-Za-z_]|[\w)]\s*\.\s*[A-Za-z_(]", text)
    if not known:
        raise FormatError(
            f"{place}: a size must be an expression of symbols. Received {str(text)[:60]!r}. Export it with "
            "torch.export."
        )
