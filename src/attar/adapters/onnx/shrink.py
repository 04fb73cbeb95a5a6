"""A smaller ONNX model: stored tensors without the channels that go, and the numbers in the graph that count them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto, TensorProto, helper

from attar.adapters.onnx.chain import resolve
from attar.adapters.onnx.graph import attribute, is_op, scopes
from attar.adapters.onnx.reader import stored_axis
from attar.adapters.onnx.tensors import Slot, Store, put, stays_inside
from attar.structure.base import Index
from attar.structure.graph import Multiply
from attar.structure.groups import Coupled
from attar.types import Array


def shrunk(store: Store, coupled: Coupled, keep: Mapping[str, Array]) -> Store:
    """A new store; the old one shares no message with it. Raises UsageError for a keep that cannot be."""
    positions, removed = coupled.positions(keep), coupled.removed(keep)
    smaller = store.clone()
    for (tensor, axis), kept in positions.items():
        slot = smaller.slots[tensor]
        slot.values = np.ascontiguousarray(slot.array.take(kept, axis))
        _resize(slot)
    graph = smaller.model.graph
    inputs = {value.name: value for value in graph.input}
    for tensor in graph.initializer:
        if tensor.name in inputs:
            for dim, size in zip(inputs[tensor.name].type.tensor_type.shape.dim, tensor.dims, strict=False):
                dim.dim_value = size
    _numbers(smaller, coupled, removed)
    _targets_on_the_way(store, smaller, positions)
    _tidy(store, smaller)
    if len(removed):
        del graph.value_info[:]
    return smaller.refreshed()


def _resize(slot: Slot) -> None:
    del slot.proto.dims[:]
    slot.proto.dims.extend(slot.array.shape)
    if stays_inside(slot.proto):
        put(slot.proto, slot.array)


def _numbers(store: Store, coupled: Coupled, removed: Index) -> None:
    """Groups of depthwise convolutions, targets of reshapes, sizes of splits."""
    root = scopes(store)
    made = {node.outputs[0]: node for node in coupled.graph.nodes if isinstance(node, Multiply)}
    version = max((o.version for o in store.model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    for node in root.graph.node:
        multiply = made.get(node.output[0]) if node.output else None
        if multiply is not None and multiply.groups > 1:
            channels = coupled.graph.values[multiply.inputs[0]][multiply.x_axis]
            if multiply.groups == channels:
                _set(node, "group", coupled.size(multiply.inputs[0], multiply.x_axis, removed))
        elif is_op(node, "Reshape") and node.output[0] in coupled.values:
            chain = resolve(root, node.input[1]) if len(node.input) > 1 else None
            given = attribute(node, "shape") if chain is None else chain.read()
            if given is not None:
                _target(store, node, given, coupled, removed)
        elif is_op(node, "Split") and node.output[0] in coupled.values:
            _parts(store, node, coupled, removed, by_input=version >= 13)


def _targets_on_the_way(before: Store, store: Store, positions: Mapping[tuple[str, int], Index]) -> None:
    """Sizes of reshapes between a stored tensor and its user; read from the old graph, where they still fit."""
    root = scopes(before)
    for old, node in zip(root.graph.node, store.model.graph.node, strict=True):
        chain = resolve(root, old.output[0]) if is_op(old, "Reshape") else None
        if chain is None:
            continue
        sizes = list(chain.shape)
        for axis in range(len(sizes)):
            own = stored_axis(chain, axis)
            if own is not None and (chain.slot.name, own) in positions and sizes[axis] > 1:
                sizes[axis] = len(positions[chain.slot.name, own])
        if sizes != list(chain.shape):
            _put_target(store, node, sizes)


def _target(store: Store, node: NodeProto, given: Array, coupled: Coupled, removed: Index) -> None:
    """Reshape's sizes, where they count channels that went."""
    name, sizes = node.output[0], [int(size) for size in given]
    changed = {
        axis: coupled.size(name, axis, removed)
        for axis, size in enumerate(sizes)
        if size > 0 and coupled.size(name, axis, removed) != coupled.graph.values[name][axis]
    }
    if not changed:
        return
    _put_target(store, node, [changed.get(axis, size) for axis, size in enumerate(sizes)])


def _put_target(store: Store, node: NodeProto, sizes: list[int]) -> None:
    if len(node.input) > 1:
        node.input[1] = _constant(store, f"{node.output[0]}_shape", sizes)
    else:
        _set(node, "shape", sizes)


def _parts(store: Store, node: NodeProto, coupled: Coupled, removed: Index, *, by_input: bool) -> None:
    """Split's sizes, where they count channels that went."""
    axis = attribute(node, "axis", 0)
    sizes = [coupled.size(name, axis, removed) for name in node.output]
    if sizes == [coupled.graph.values[name][axis] for name in node.output]:
        return
    for item in [item for item in node.attribute if item.name in ("num_outputs", "split")]:
        node.attribute.remove(item)
    if not by_input:
        _set(node, "split", sizes)
        return
    del node.input[1:]
    node.input.append(_constant(store, f"{node.output[0]}_sizes", sizes))


def _tidy(before: Store, store: Store) -> None:
    """Drop the whole numbers that a reshape or split read before, and nothing reads now."""
    graph, old, new = store.model.graph, scopes(before).uses, scopes(store).uses
    kept = {value.name for value in graph.input}
    for tensor in [t for t in graph.initializer if t.data_type == TensorProto.INT64]:
        if old[tensor.name] and not new[tensor.name] and tensor.name not in kept:
            graph.initializer.remove(tensor)


def _constant(store: Store, name: str, values: list[int]) -> str:
    """A new stored tensor of whole numbers, under a name that nothing has; it stays inside the message."""
    graph = store.model.graph
    taken = set(store.slots) | {out for node in graph.node for out in node.output}
    while name in taken:
        name += "_"
    store.add(graph, name, np.asarray(values, np.int64), TensorProto.INT64)
    put(store.slots[name].proto, store.slots[name].array)
    return name


def _set(node: NodeProto, name: str, value: int | list[int]) -> None:
    for item in [item for item in node.attribute if item.name == name]:
        node.attribute.remove(item)
    node.attribute.append(helper.make_attribute(name, value))
