"""A module as torch.export describes it, in JSON without weights, code or debugging notes; and back."""

from __future__ import annotations

import base64
import io
import json
import logging
import warnings
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._export.serde import serialize as serde
from torch.utils import _pytree as pytree

from attar.adapters.torch import inputs as torch_inputs
from attar.adapters.torch.compact import expand, shrink
from attar.adapters.torch.files import to_array
from attar.adapters.torch.forms import Site, dtype_name, memory
from attar.adapters.torch.programs import check_program
from attar.adapters.torch.source import Source, from_program
from attar.adapters.torch.tensors import (
    code_sites,
    code_tensors,
    full_sites,
    full_tensors,
    known_example,
    known_tensors,
)
from attar.errors import FormatError, ModelError
from attar.types import Array, Json

CPU = torch.device("cpu")
VERSION = 2
LARGEST = 1 << 40
"""Bytes that a model's tensors may take: a file that claims more is not believed."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a skeleton makes: a source whose layers and remainder are zero, and the rest of an adapter."""

    source: Source
    sites: list[Site]
    skipped: dict[str, str]
    constants: dict[str, float]
    example: dict[str, Array]


def dump(
    source: Source,
    sites: Sequence[Site],
    skipped: Mapping[str, str],
    constants: Mapping[str, float],
    example: Mapping[str, Array],
    rest: Mapping[str, Tensor],
) -> bytes:
    """The skeleton; rest are the tensors of the remainder. Raises ModelError where there can be none."""
    program = program_of(source, example)
    described = _described(program)
    stored = {site.name for site in sites} | set(rest) | set(constants)
    stored |= {site.bias.name for site in sites if site.bias is not None}
    firsts: dict[tuple[int, ...], str] = {}
    tensors: dict[str, Json] = {}
    aliases: dict[str, str] = {}
    for name, tensor in program.state_dict.items():
        owner = firsts.setdefault(memory(tensor), name)
        if owner != name:
            aliases[name] = owner
            continue
        parameter = int(isinstance(tensor, torch.nn.Parameter))
        value = [constants[name]] if name in constants else [] if name in stored else [_packed(tensor)]
        tensors[name] = [list(tensor.shape), dtype_name(tensor.dtype), parameter, *value]
    described = stripped(described)
    known = known_tensors(described)
    values, other = code_tensors(tensors, known)
    shapes = {n: [list(a.shape), a.dtype.name] for n, a in example.items()}
    content = {
        "version": VERSION,
        "program": shrink(described),
        "sites": code_sites(sites, known),
        "values": values,
        "tensors": other,
        "skipped": dict(skipped),
        "aliases": aliases,
        "lifted": {n: _packed(t) for n, t in program.constants.items() if isinstance(t, Tensor)},
    }
    content = {name: part for name, part in content.items() if part}
    if shapes != known_example(described):
        content["example"] = shapes
    return json.dumps(content, separators=(",", ":")).encode()


def _described(program: torch.export.ExportedProgram) -> Json:
    """torch's own JSON of a program, which `load` would take; raises ModelError."""
    try:
        described = json.loads(serde.serialize(program).exported_program)
        check_program(described, "skeleton")
    except Exception as error:
        raise ModelError(
            "model: its graph must be one that a file can hold as data, for a file that stands alone. Received one "
            f"that is not ({_why(error)}). Load with into=, or save a state dict."
        ) from error
    return described


def program_of(source: Source, example: Mapping[str, Array]) -> torch.export.ExportedProgram:
    """The program that came in, or the module exported on zeros of the remembered shapes, with a free batch axis.

    A module on a GPU is exported from a copy on the CPU.
    Raises ModelError where there is none.
    """
    if source.program is not None:
        return source.program
    if source.kind == "script":
        raise ModelError(
            "TorchScript model: an archive must not hold code, and a script is code. Received one. Use "
            "torch.export, or load with into=."
        )
    if not example:
        raise ModelError("model: its input shapes must be known for a skeleton. Received no batch yet. Run one before.")
    dtype = next((t.dtype for t in source.tensors.values() if t.is_floating_point()), torch.float32)
    network, device = source.network, next((t.device for t in source.tensors.values()), CPU)
    if device.type != CPU.type:  # fused kernels of a GPU have no description
        network, device = deepcopy(network).to(CPU), CPU
    tensors = {name: torch_inputs.to_tensor(array, dtype, device) for name, array in example.items()}
    signature = torch_inputs.Signature.of(source.network)
    args, kwargs = signature.split(tensors)
    free = {0: torch.export.Dim.DYNAMIC}
    shapes: Any = tuple(free for _ in args) if signature.names else (tuple(free for _ in args),)
    if kwargs:
        args, kwargs, shapes = (), tensors, dict.fromkeys(tensors, free)
    try:
        with torch.no_grad(), quiet():
            return _without_classes(torch.export.export(network, args, kwargs, dynamic_shapes=shapes))
    except Exception as error:
        raise ModelError(
            f"model {type(source.network).__name__}: torch.export must take it, with a free batch axis, for a file "
            f"that stands alone. Received a module that it refuses ({_why(error)}). Load with into=, or save a state "
            "dict."
        ) from error


def _without_classes(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program, changed in place: named tuples among its outputs are plain ones, which need no class to be read."""
    signature = program.module_call_graph[0].signature
    assert signature is not None
    signature.out_spec = _plain_tree(signature.out_spec)
    return program


def _plain_tree(spec: pytree.TreeSpec) -> pytree.TreeSpec:
    children = [_plain_tree(child) for child in spec.children()]
    if spec.type is namedtuple:
        return pytree.TreeSpec(tuple, None, children)
    return pytree.TreeSpec(spec.type, spec.context, children) if children else spec


@contextmanager
def quiet() -> Iterator[None]:
    """Within, torch does not tell what it could not export, in pages of graphs and in warnings."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _why(error: Exception) -> str:
    """The reason for a refused export in one line."""
    text = str(error)
    if "specialized it to be a constant" in text:
        return "its code fixes the batch size, perhaps by len(x) or int(x.shape[0]) in place of x.shape[0]"
    if "data-dependent" in text:
        return "its code branches on the values of tensors"
    return (text.strip().splitlines() or [type(error).__name__])[0][:200]


def stripped(program: Json) -> Json:
    """The program, changed in place: without what only debuggers read (also in graphs inside the graph) and guards.

    It is one for the CPU, whatever it was exported on: a file is opened where there is no GPU, too.
    """
    module = program["graph_module"]
    for node in _nodes_of(module["graph"]):
        node["metadata"] = {}
    module["metadata"] = {}
    module["module_call_graph"] = module["module_call_graph"][:1]
    program["guards_code"] = []
    _on_cpu(program)
    return program


def _on_cpu(value: Json) -> None:
    """Make every device in it the CPU, in place."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict) and set(value) == {"type", "index"}:
        value |= {"type": "cpu", "index": None}
    for part in parts:
        _on_cpu(part)


def _nodes_of(graph: Json) -> Iterator[Json]:
    """All nodes of a graph and of the graphs among their arguments."""
    for node in graph["nodes"]:
        yield node
        for given in node["inputs"]:
            if "as_graph" in given["arg"]:
                yield from _nodes_of(given["arg"]["as_graph"]["graph"])


def _packed(tensor: Tensor) -> Json:
    array = to_array(tensor)
    return [list(array.shape), dtype_name(tensor.dtype), base64.b64encode(array.tobytes()).decode()]


def _unpacked(entry: Json) -> Tensor:
    shape, name, data = entry
    dtype = _dtype(name)
    raw = np.frombuffer(base64.b64decode(data, validate=True), np.uint8)
    if len(raw) != prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(raw)} bytes for shape {shape}")
    if not raw.size:
        return torch.zeros(shape, dtype=dtype)
    return torch.from_numpy(raw.copy()).view(dtype).reshape(shape)


def _zeros(shape: Json, dtype: torch.dtype) -> Tensor:
    """Zeros that take no memory before something else is written there."""
    raw = np.zeros(prod(shape) * dtype.itemsize, np.uint8)
    return torch.from_numpy(raw).view(dtype).reshape(shape) if raw.size else torch.zeros(shape, dtype=dtype)


def _dtype(name: Json) -> torch.dtype:
    dtype = getattr(torch, str(name), None)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"no dtype {name!r}")
    return dtype


def load(skeleton: bytes) -> Parts:
    """The parts of an adapter; raises FormatError for anything that `dump` would not write."""
    try:
        content = json.loads(skeleton)
        if content["version"] != VERSION:
            raise FormatError(
                f"skeleton: its version must be {VERSION}. Received {content['version']!r}. Use the "
                "attar that wrote it."
            )
        content["program"] = expand(content["program"])
        check_program(content["program"], "skeleton")
        return _parts(content)
    except FormatError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise FormatError(
            f"skeleton: it must describe an exported program. Received a damaged one ({first}). Compress the model "
            "again."
        ) from error


def _parts(content: Json) -> Parts:
    known = known_tensors(content["program"])
    sites = full_sites(content["sites"], known)
    state, constants = _state(content, known)
    shapes = content["example"] if "example" in content else known_example(content["program"])
    example = {str(n): np.zeros(shape, np.dtype(str(dtype))) for n, (shape, dtype) in shapes.items()}
    lifted = {name: _unpacked(entry) for name, entry in content.get("lifted", {}).items()}
    described = json.dumps(content["program"]).encode()
    # Dictionaries in the place of bytes: nothing is unpickled. Sample inputs are not needed.
    artifact = serde.SerializedArtifact(described, state, lifted, b"")  # type: ignore[arg-type]
    program = serde.deserialize(artifact)
    source = from_program(program)
    for site in sites:
        if source.tensors[site.name].shape != site.shape:
            raise ValueError(f"{site.name}: shape {site.shape} is not the program's")
    return Parts(source, sites, dict(content.get("skipped", {})), constants, example)


def _state(content: Json, known: Mapping[str, Json]) -> tuple[dict[str, Any], dict[str, float]]:
    """Tensors by name, zeros where they are to be filled, and the values of constant ones."""
    aliases = dict(content.get("aliases", {}))
    tensors = full_tensors(content.get("values", []), content.get("tensors", {}), known)
    tensors = {name: entry for name, entry in tensors.items() if name not in aliases}
    claimed = sum(prod(shape) * _dtype(dtype).itemsize for shape, dtype, *_ in tensors.values())
    if claimed > LARGEST:
        raise FormatError(f"skeleton: tensors must take less than {LARGEST} bytes. Received {claimed}. Check the file.")
    state: dict[str, Any] = {}
    constants: dict[str, float] = {}
    for name, (shape, dtype, parameter, *value) in tensors.items():
        if value and isinstance(value[0], list):
            tensor = _unpacked(value[0])
        else:
            tensor = torch.full(shape, value[0], dtype=_dtype(dtype)) if value else _zeros(shape, _dtype(dtype))
            constants.update({name: float(value[0])} if value else {})
        state[name] = torch.nn.Parameter(tensor, requires_grad=tensor.is_floating_point()) if parameter else tensor
    return state | {name: state[owner] for name, owner in aliases.items()}, constants
