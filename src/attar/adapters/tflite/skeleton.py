"""The graph of a TFLite model without its values, as an archive keeps it."""

from __future__ import annotations

import numpy as np

from attar.adapters.tflite.reader import parsed
from attar.adapters.tflite.store import Store, litert
from attar.errors import FormatError


def skeleton_of(store: Store) -> bytes:
    """The file without the values of layers and remainder."""
    lean = store.edited()
    for place in store.names.values():
        if not store.stays_inside(place):
            lean.model.buffers[store.buffer(place)].data = None
    lean.names = {}
    # Which values are missing cannot be told from the bytes: activations have none either.
    missing = [store.buffer(place) for place in store.names.values() if not store.stays_inside(place)]
    numbers = np.array(sorted(missing), np.uint32)
    lean.model.buffers.append(lean.schema.BufferT(data=numbers.view(np.uint8)))
    return lean.packed()


def store_of(skeleton: bytes) -> Store:
    """A store over a skeleton with zeros for every missing value; raises FormatError."""
    schema = litert()
    model = parsed(skeleton, "archive")
    listed = model.buffers.pop().data
    if listed is None or len(listed) % 4:
        raise FormatError("archive: the skeleton must list its missing values. Received none. Compress again.")
    missing = {int(number) for number in np.asarray(listed).view(np.uint32)}
    bare = Store(model)
    for place, tensor in bare.tensors():
        if tensor.buffer not in missing:
            continue
        size = bare.nbytes(place)
        given = model.buffers[tensor.buffer].data
        if given is not None and len(given) != size:
            raise FormatError(
                f"tensor {tensor.name!r}: tensors with the same values must be of one size. Received {size} and "
                f"{len(given)} bytes. Compress again."
            )
        if given is None:
            model.buffers[tensor.buffer] = schema.BufferT(data=np.zeros(size, np.uint8))
    return Store(model)
