"""Batches from anywhere: generators, torch DataLoader and Dataset, tf.data.Dataset, Hugging Face data sets.

No framework is imported: what they hand out is told by its methods.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from attar.data.arrays import dataset, labels_among
from attar.data.limits import MAX_BYTES
from attar.errors import DataError
from attar.types import Array, Dataset

ENDLESS = -1
"""tf.data.INFINITE_CARDINALITY."""
NEVER = 1 << 48
"""More examples than any set has: what is repeated without end says a number of this size (Grain: sys.maxsize)."""


def to_array(value: Any, origin: str = "data") -> Array:
    """A tensor of any framework, or nested numbers, as a numpy array; raises DataError.

    bfloat16 becomes float32.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    try:
        array = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{origin}: every element must be an array of numbers. Received {type(value).__name__}: {error}."
        ) from None
    if array.dtype.kind == "V" or str(array.dtype) == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype == object and array.size and all(isinstance(item, str | bytes) for item in array.flat):
        array = array.astype(str)  # words, which are told of where it is known what they are
    if array.dtype == object:
        raise DataError(
            f"{origin}: arrays must have one shape. Received a ragged {type(value).__name__}. "
            "Pad sequences to one length."
        )
    return array


def from_batches(
    batches: Iterable[Any], origin: str, limit: int | None = None, inputs: Collection[str] = ()
) -> Dataset:
    """All batches of an iterable, at most `limit`, joined; each is x, (x, y), a mapping, or (mapping, y).

    A mapping's entry named labels, label, y, target or targets gives the labels, but for a model's `inputs`.
    Raises DataError where batches do not fit together or do not fit memory.
    """
    size = getattr(batches, "cardinality", None)
    if limit is None and callable(size) and int(size()) == ENDLESS:
        raise _endless(origin)
    columns: dict[str, list[Array]] = {}
    total = 0
    for batch in islice(batches, limit):
        named = named_arrays(batch, origin, inputs)
        if columns and set(named) != set(columns):
            raise DataError(
                f"{origin}: all batches must have the same parts. Received {sorted(named)} after {sorted(columns)}."
            )
        for name, values in named.items():
            _check_batch(name, values, columns.get(name), origin)
            total += values.nbytes
            columns.setdefault(name, []).append(values)
        if total > MAX_BYTES:
            raise DataError(f"{origin}: the data must fit {MAX_BYTES} bytes. Received more. Set a limit of batches.")
    if not columns:
        raise DataError(f"{origin}: batches are needed. Received none.")
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    labels = joined.pop("labels", None)
    return dataset(joined, labels, origin)


def _endless(origin: str) -> DataError:
    return DataError(f"{origin}: the data set must end. Received an infinite one. Add .take(n), or drop .repeat().")


def _check_batch(name: str, values: Array, before: list[Array] | None, origin: str) -> None:
    """A batch axis, and the same shape otherwise as the batches before."""
    if values.ndim == 0:
        raise DataError(
            f"{origin}: {name!r} must have a batch axis. Received one number. Hand out batches: .batch(64) of a "
            "tf.data.Dataset, batch_size=64 of a DataLoader."
        )
    if before and values.shape[1:] != before[0].shape[1:]:
        raise DataError(
            f"{origin}: {name!r} must have one shape in all batches. Received {values.shape[1:]} after "
            f"{before[0].shape[1:]}. Pad sequences to one length; inputs with labels are a tuple, (x, y)."
        )


def named_arrays(batch: Any, origin: str, inputs: Collection[str] = ()) -> dict[str, Array]:
    """One batch (or one example) as arrays by name; labels are called "labels". Raises DataError."""
    labels: Any = None
    if isinstance(batch, tuple | list):
        if len(batch) not in (1, 2):
            raise DataError(
                f"{origin}: a batch must be x, (x, y) or a mapping. Received {len(batch)} parts. Name several inputs, "
                "({'a': ..., 'b': ...}, y); leave weights of examples out, which metrics do not look at."
            )
        batch, labels = batch[0], batch[1] if len(batch) == 2 else None
    if not isinstance(batch, Mapping):
        named = {"x": to_array(batch, origin)}
    else:
        found = labels_among(batch, inputs)
        if len(found) > 1 or (found and labels is not None):
            raise DataError(f"{origin}: labels must be given once. Received {', '.join(map(str, found))} and others.")
        named = {str(name): to_array(values, origin) for name, values in batch.items() if name not in found}
        labels = batch[found[0]] if found else labels
    return named if labels is None else {**named, "labels": to_array(labels, origin)}


def is_indexed(source: object) -> bool:
    """Whether it hands out single examples by number: a torch Dataset or a Hugging Face one."""
    return (
        hasattr(source, "__getitem__")
        and hasattr(source, "__len__")
        and not isinstance(source, Mapping | list | tuple | str)
    )


def _gives_batches(source: Any, shapes: Sequence[Sequence[int | None]]) -> bool:
    """Whether what an indexed data set has under a number is a batch of examples.

    Keras' PyDatasets say so; of others, such as Grain's, it is seen where a model's inputs have the given shapes, with
    the axis of the examples first, and the first entry has as many axes.
    """
    if hasattr(source, "num_batches"):
        return True
    if not shapes or not all(shapes) or not len(source):
        return False
    named = named_arrays(source[0], "data")
    ranks = [values.ndim for name, values in named.items() if name != "labels"]
    return ranks == [len(shape) for shape in shapes] and len({len(values) for values in named.values()}) == 1


def from_indexed(
    source: Any, origin: str, limit: int | None = None, shapes: Sequence[Sequence[int | None]] = (),
    size: int = 256, inputs: Collection[str] = (),
) -> Dataset:  # fmt: skip
    """All examples of an indexed data set, at most limit * size; raises DataError where it never ends.

    shapes: those of a model's inputs.
    """
    if limit is None and len(source) >= NEVER:
        raise _endless(origin)
    if not hasattr(source, "column_names") and _gives_batches(source, shapes):
        return from_batches((source[row] for row in range(len(source))), origin, limit, inputs)
    count = len(source) if limit is None else min(len(source), limit * size)
    return from_batches(_gathered(source, count, size, origin, inputs), origin, inputs=inputs)


def _gathered(source: Any, count: int, size: int, origin: str, inputs: Collection[str]) -> Iterator[dict[str, Array]]:
    """Batches of stacked examples."""
    for start in range(0, count, size):
        examples = [named_arrays(source[row], origin, inputs) for row in range(start, min(start + size, count))]
        if len({(name, values.shape) for example in examples for name, values in example.items()}) != len(examples[0]):
            raise DataError(f"{origin}: all examples must have the same parts and shapes. Pad sequences to one length.")
        yield {name: np.stack([example[name] for example in examples]) for name in examples[0]}
