"""From whatever the user calls a model to the adapter that takes it, checked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attar import registry
from attar.adapters.base import Adapter, Leading, Packable, Texted
from attar.adapters.foreign import refusal
from attar.archive import Archive, read_archive
from attar.coding.kernel import over_chunks
from attar.errors import AttarError, FormatError, ModelError, UsageError
from attar.methods.base import Expanding, Scaled
from attar.types import Layer, Weight
from attar.user_code import user_function

TOGETHER = 1 << 24
"""Weights that are decoded at once."""
PICKLE_OPCODES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def open_model(model: object, factory: str | None = None) -> Adapter:
    """A private copy of a model object or file; raises ModelError, FormatError, UsageError."""
    packed = isinstance(model, str | os.PathLike) and Path(model).suffix == ".attar"
    model = model_of(model, None if packed else factory)
    if packed and isinstance(model, Path):
        return from_archive(read_archive(model), made_by(factory))
    for name in registry.names("adapter"):
        adapter = registry.get("adapter", name)
        if adapter.accepts(model):
            opened: Adapter = adapter.open(model)
            return opened
    raise _refusal(model)


def as_it_came(adapter: Adapter) -> Adapter:
    """The model as it came, where the adapter's private copy need not answer the same; otherwise the adapter."""
    came: Adapter | None = getattr(adapter, "came", None)
    return came or adapter


def observing(adapter: Adapter, metric: str, output: str | None = None) -> Adapter:
    """The adapter, told which metric looks at its outputs, where these depend on that, and at which of them.

    output: None for the first. Raises UsageError where it has none of the name.
    """
    if isinstance(adapter, Texted):
        adapter.observe(metric)
    return adapter if output is None else led(adapter, output)


def led(adapter: Adapter, output: str) -> Adapter:
    """The adapter, of whose outputs another than the first is looked at; raises UsageError."""
    if not isinstance(adapter, Leading):
        raise UsageError(
            f"output {output!r}: of {adapter.framework} models, and of what is streamed, none can be named. Received "
            "one. Leave it out."
        )
    adapter.lead(output)
    return adapter


def model_of(model: object, factory: str | None = None) -> object:
    """What an adapter's `open` takes: the object, an existing Path, or a path with the function that makes its module.

    Raises UsageError where there is no such path or function.
    """
    if not isinstance(model, str | os.PathLike):
        return model
    path = Path(model)
    if not path.exists():
        raise UsageError(f"model: the path must exist. Received {str(path)!r}. Check the spelling.")
    if factory is None:
        return path
    user_function(factory, "factory")
    return registry.get("factory", "torch")(factory, path)


def made_by(factory: str | None) -> object | None:
    """What the user's function makes, for an archive without a graph; raises UsageError."""
    return None if factory is None else user_function(factory, "factory")()


def _refusal(model: object) -> AttarError:
    """Why no adapter takes it."""
    suffixes = sorted({s for name in registry.names("adapter") for s in registry.get("adapter", name).suffixes if s})
    foreign = refusal(model)
    if foreign is not None:
        return foreign
    if isinstance(model, Mapping):
        return ModelError(
            f"model: it must be an ONNX, PyTorch, Keras or TFLite model. Received a {type(model).__name__}. Give a "
            "state dict with its network, by a file and --factory, or write weights alone to a file (safetensors, "
            ".npz) and give --bits, without data."
        )
    if not isinstance(model, Path):
        return ModelError(
            f"model: it must be an ONNX, PyTorch, Keras or TFLite model. Received {type(model).__name__!r}. "
            f"Pass a model object or a file ending in {', '.join(suffixes)}."
        )
    if model.is_dir():
        return ModelError(
            f"model {str(model)!r}: a folder must hold a config.json and safetensors, as Hugging Face models do. "
            f"Received one without. Save the model as one of {', '.join(suffixes)}, or by save_pretrained."
        )
    if model.is_file():
        with model.open("rb") as file:
            head = file.read(4)
        if head[:2] in PICKLE_OPCODES or (head == b"PK\3\4" and model.suffix in (".bin", ".ckpt")):
            return FormatError(
                f"model {model.name!r}: attar never unpickles a file. Received a pickle. Save the model as ONNX, "
                ".pt2, .keras; or save its state_dict by safetensors.torch.save_file, and compress that by --factory, "
                "the function that makes the model, or without a network and data by --bits."
            )
    return ModelError(
        f"model {model.name!r}: the ending must be one of {', '.join(suffixes)}. Received {model.suffix!r}. "
        "Export the model to one of these, or give --factory for a PyTorch state dict."
    )


def from_archive(archive: Archive, into: object | None = None) -> Adapter:
    """The model of an archive, decoded; over a copy of `into` where it is given."""
    adapter = _shell(archive, into)
    for some in _together(archive.layers):
        for name, weight in zip(some, over_chunks(lambda name: decode(archive, name), some), strict=True):
            adapter.write(name, weight)
    return adapter


def _together(layers: Sequence[Layer]) -> Iterator[list[str]]:
    """Names of layers that are decoded at once: TOGETHER weights and a layer in memory beside the model."""
    some, size = [], 0
    for layer in layers:
        some.append(layer.name)
        size += layer.size
        if size >= TOGETHER:
            yield some
            some, size = [], 0
    yield some


def packed_model(archive: Archive, into: object | None = None, keep_bytes: int = 0) -> Any:
    """The model of an archive, which decodes weights when it reads them; raises ModelError where it cannot."""
    adapter = _shell(archive, into)
    if not isinstance(adapter, Packable):
        raise ModelError(
            "packed: models of PyTorch decode their weights when they use them. Received a "
            f"{adapter.framework} model. Load it without packed."
        )
    return adapter.packed(lambda name: decode(archive, name), [layer.name for layer in archive.layers], keep_bytes)


def _shell(archive: Archive, into: object | None) -> Adapter:
    """The model of an archive, or a copy of `into`, with everything in its place but the weights of its layers."""
    if archive.files:
        raise UsageError(
            "archive: it must hold a compressed model. Received a packed checkpoint. `attar unpack` writes it as "
            "it was, and attar.open reads its tensors."
        )
    if archive.parts:
        raise UsageError(
            "archive: it must hold a compressed model. Received a data set. `attar data unpack` writes its files."
        )
    framework = archive.meta.get("framework")
    if framework not in list(registry.names("adapter")):
        raise FormatError(
            f"manifest: the framework must be one of {', '.join(registry.names('adapter'))}. Received {framework!r}. "
            "Fetch the file again, or upgrade attar."
        )
    cls = registry.get("adapter", str(framework))
    remainder = archive.remainder()
    if into is not None:
        adapter: Adapter = cls.open(into)
        _check_same(adapter, archive)
        adapter.restore(remainder)
        return adapter
    skeleton = archive.skeleton()
    if skeleton is None:
        raise ModelError(
            "archive: the file holds weights without the model's graph. Received no model to put them into. "
            "Call attar.load(path, into=model)."
        )
    made: Adapter = cls.rebuild(skeleton, remainder)
    return made


def decode(archive: Archive, name: str) -> Weight:
    """One layer of an archive; raises FormatError where its arrays are not what its method writes."""
    used = archive.method(name)
    if used not in registry.REGISTRY["method"]:
        known = ", ".join(registry.names("method"))
        raise FormatError(f"section {name!r}: the method must be one of {known}. Received {used!r}. Upgrade attar.")
    try:
        weight = _decoded(archive, name, registry.get("method", used))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise _misfit(name, used, f"{type(error).__name__}: {error}") from error
    layer = next(layer for layer in archive.layers if layer.name == name)
    shape, bias = (layer.rows, layer.cols), weight.bias
    if weight.matrix.shape != shape or (bias is not None and bias.shape != shape[:1]):
        raise _misfit(name, used, f"a matrix {list(weight.matrix.shape)} for {list(shape)}")
    return weight


def _misfit(name: str, method: str, received: str) -> FormatError:
    return FormatError(
        f"section {name!r}: its arrays must be what the method {method!r} writes. Received {received}. "
        "Fetch the file again."
    )


def _decoded(archive: Archive, name: str, method: Any) -> Weight:
    layer = next(layer for layer in archive.layers if layer.name == name)
    if not isinstance(method, Scaled):
        encoded = archive.encoded(name)
        if isinstance(method, Expanding) and method.shape(encoded) != (layer.rows, layer.cols):
            raise ValueError(f"arrays for {method.shape(encoded)} for {layer.rows} x {layer.cols}")
        weight: Weight = method.decode(encoded)
        return weight
    row, column, bias = method.scales(archive.encoded(name, without=method.CODES))
    # Before anything is multiplied: shapes that broadcast could ask for any amount of memory.
    if row.shape != (layer.rows,) or column.ndim != 2 or column.shape[1] not in (1, layer.cols):
        raise ValueError(f"scales of {row.shape} and {column.shape} for {layer.rows} x {layer.cols}")
    return Weight(archive.scaled(name, method.CODES, row, column), bias)


def _check_same(adapter: Adapter, archive: Archive) -> None:
    """That the model has the archive's layers, before anything is changed."""
    have = {layer.name: (layer.rows, layer.cols) for layer in adapter.layers() if layer.tied_to is None}
    for layer in archive.layers:
        shape = have.get(layer.name)
        if shape != (layer.rows, layer.cols):
            raise ModelError(
                f"layer {layer.name!r}: the model must have it with {layer.rows} x {layer.cols} weights. "
                f"Received {'none of that name' if shape is None else f'{shape[0]} x {shape[1]}'}. "
                "Pass a model of the class that was compressed."
            )


def check_weights(weights: dict[str, Weight]) -> None:
    """That there is something to compress and that every value is a number; raises ModelError."""
    if not weights:
        raise ModelError(
            "model: it must have at least one layer that can be compressed. Received none. "
            "`attar inspect` lists what was skipped and why."
        )
    for name, weight in weights.items():
        bad = int(weight.matrix.size - np.isfinite(weight.matrix).sum())
        if weight.bias is not None:
            bad += int(weight.bias.size - np.isfinite(weight.bias).sum())
        if bad:
            raise ModelError(
                f"layer {name!r}: every weight must be a finite number. Received {bad} NaN or infinite values. "
                "The training has diverged: use an earlier checkpoint."
            )
