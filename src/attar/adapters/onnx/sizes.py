"""Sizes of an ONNX graph's values as plain numbers: every free size stands for itself as a large prime."""

from __future__ import annotations

from onnx import ModelProto, TypeProto, shape_inference

from attar.adapters.onnx.tensors import INLINE_ELEMENTS, Store, named, put

PRIMES = (1000003, 1000033, 1000037, 1000039, 1000081, 1000099, 1000117, 1000121, 1000133, 1000151, 1000159, 1000171)
"""Sizes that no channel count has, and whose products are told apart."""


def value_sizes(store: Store) -> tuple[dict[str, tuple[int, ...]], int]:
    """The sizes of the main graph's values, as far as inference knows them, and the number that examples have."""
    model = ModelProto()
    model.CopyFrom(store.model)
    del model.graph.value_info[:]
    for name, tensor in named(model):  # scales of a Resize, for one
        values = store.slots[name].values
        if values is not None and values.size <= INLINE_ELEMENTS:
            put(tensor, values)
    free: dict[str, int] = {}
    for value in model.graph.input:
        _settle(value.type, free)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except (shape_inference.InferenceError, ValueError, RuntimeError):
        graph = model.graph
    found: dict[str, tuple[int, ...]] = {}
    for value in [*graph.value_info, *graph.input, *graph.output]:
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            found[value.name] = tuple(int(d.dim_value) for d in tensor.shape.dim)
    stored = {tensor.name for tensor in graph.initializer}
    first = next((found[v.name] for v in graph.input if v.name not in stored and found.get(v.name)), (1,))
    return found, first[0]


def _settle(kind: TypeProto, free: dict[str, int]) -> None:
    """Give every free size of an input a number, the same for the same name."""
    for dim in kind.tensor_type.shape.dim:
        if not dim.HasField("dim_value") or dim.dim_value <= 0:
            name = dim.dim_param or f"size {len(free)}"
            dim.dim_value = free.setdefault(name, PRIMES[len(free) % len(PRIMES)])
