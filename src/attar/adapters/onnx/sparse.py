"""Sparse initializers of ONNX: values that are not zero and their linearised positions (COO).

Runtimes make them dense when they load a model, so that a sparse file is smaller on disk and nothing else. The same is
done here on opening; in writing, a tensor becomes sparse where that takes fewer bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from onnx import GraphProto, ModelProto, SparseTensorProto, TensorProto

from attar.adapters.onnx.tensors import DTYPES, FLOATS, Slot, bodies_of, decoded, put
from attar.errors import FormatError
from attar.types import Array

IR_VERSION = 5
"""The first version of the format with sparse initializers."""
OVERHEAD = 64
"""Bytes that a sparse tensor takes besides values and positions, at most."""
FREE, EXPANSION = 1 << 20, 1 << 14
"""Elements that a sparse tensor may always stand for, and those that each of its values may besides."""


def densified(model: ModelProto) -> ModelProto:
    """The same message with dense initializers; those with external data or packed types stay. Raises FormatError."""
    for graph in _graphs(model.graph):
        dense = [_dense(sparse) for sparse in graph.sparse_initializer]
        left = [sparse for sparse, tensor in zip(graph.sparse_initializer, dense, strict=True) if tensor is None]
        del graph.sparse_initializer[:]
        graph.sparse_initializer.extend(left)
        graph.initializer.extend(tensor for tensor in dense if tensor is not None)
    return model


def sparsified(model: ModelProto) -> dict[str, tuple[int, int]]:
    """Turn floating-point initializers of the main graph into sparse ones, in place, where that is smaller.

    Their names, with the bytes that each took before and takes now. Those that are the graph's inputs too stay.
    """
    graph, changed = model.graph, {}
    inputs = {value.name for value in graph.input}
    for tensor in list(graph.initializer):
        if tensor.data_type not in FLOATS or tensor.name in inputs or not tensor.dims or tensor.external_data:
            continue
        values = decoded(Slot(tensor.name, tensor, None))
        sparse = _sparse(tensor, values)
        if sparse is not None:
            before, after = tensor.ByteSize(), sparse.ByteSize()
            graph.sparse_initializer.append(sparse)
            graph.initializer.remove(tensor)
            changed[tensor.name] = before, after
    if changed:
        model.ir_version = max(model.ir_version, IR_VERSION)
    return changed


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for index, node in enumerate(graph.node):
        for _, body in bodies_of(node, index):
            yield from _graphs(body)


def _sparse(tensor: TensorProto, values: Array) -> SparseTensorProto | None:
    """The tensor without its zeros (a negative zero is none); None where that is no smaller."""
    flat = np.ascontiguousarray(values).reshape(-1)
    bits = flat.view(np.dtype(f"u{flat.itemsize}"))
    positions = np.flatnonzero(bits).astype(np.int64)
    if OVERHEAD + len(positions) * (flat.itemsize + positions.itemsize) >= flat.nbytes:
        return None
    sparse = SparseTensorProto(dims=tensor.dims)
    sparse.values.name, sparse.values.data_type = tensor.name, tensor.data_type
    sparse.indices.data_type = TensorProto.INT64
    for part, array in ((sparse.values, flat[positions]), (sparse.indices, positions)):
        part.dims.append(len(positions))
        put(part, array)
    return sparse


def _dense(sparse: SparseTensorProto) -> TensorProto | None:
    """The tensor with its zeros; None where its data are not in the message or of a packed type."""
    own, indices, dims = sparse.values, sparse.indices, tuple(sparse.dims)
    if own.data_type not in DTYPES or own.external_data or indices.external_data:
        return None
    if any(size < 0 for size in dims):
        raise _broken(own.name, f"sizes {list(dims)}")
    count, values = math.prod(dims), decoded(Slot(own.name, own, None)).reshape(-1)
    if count > FREE + EXPANSION * len(values):
        raise _broken(own.name, f"{len(values)} values for {count} elements")
    positions = _positions(sparse, decoded(Slot(f"{own.name} indices", indices, None)), len(values))
    whole = np.zeros(count, values.dtype)
    whole[positions] = values
    tensor = TensorProto(name=own.name, data_type=own.data_type, dims=dims)
    put(tensor, whole)
    return tensor


def _positions(sparse: SparseTensorProto, given: Array, count: int) -> Array:
    """Linear positions [count] from indices [count] or [count, axes]; each once, within the tensor, ascending."""
    dims = np.asarray(sparse.dims, np.int64)
    if given.dtype != np.int64 or given.shape not in ((count,), (count, len(dims))):
        raise _broken(sparse.values.name, f"indices {list(given.shape)} of {given.dtype} for {count} values")
    if given.ndim == 2:
        if ((given < 0) | (given >= dims)).any():
            raise _broken(sparse.values.name, "an index beyond its axis")
        steps = np.append(np.cumprod(dims[::-1])[::-1][1:], 1)
        given = given @ steps
    if count and (given[0] < 0 or given[-1] >= math.prod(sparse.dims) or (np.diff(given) <= 0).any()):
        raise _broken(sparse.values.name, "indices that are beyond the tensor or do not ascend")
    return given


def _broken(name: str, received: str) -> FormatError:
    return FormatError(
        f"tensor {name!r}: a sparse tensor must have ascending indices within its sizes, one for each value. Received "
        f"{received}. The file is damaged: export it again."
    )
