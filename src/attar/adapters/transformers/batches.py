"""Batches of sequences in parts: without padding, sorted by length, and small enough for wide outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from attar.adapters.base import Batch
from attar.types import Array

PAIRS = (("input_ids", "attention_mask"), ("decoder_input_ids", "decoder_attention_mask"))
"""Token ids and the masks that say which of them are padding."""
Rows = NDArray[np.int64]


def lengths(batch: Batch) -> Rows:
    """Tokens of each example that are not padding, [n, kinds of ids]; all where a mask is not ones, then zeros."""
    found = []
    for name, mask in PAIRS:
        if name in batch:
            given = batch.get(mask)
            whole = np.full(len(batch[name]), batch[name].shape[1])
            used = whole if given is None else np.count_nonzero(given, 1)
            prefix = np.arange(batch[name].shape[1]) < used[:, None]
            even = given is None or (np.array_equal(prefix, given != 0) and used.min(initial=1) > 0)
            found.append(used if even else whole)
    return np.stack(found, 1) if found else np.zeros((len(next(iter(batch.values()))), 1), np.int64)


def taken(batch: Batch, rows: Rows, known: Rows) -> dict[str, Array]:
    """The examples of these rows, cut to the longest of them."""
    part = {name: values[rows] for name, values in batch.items()}
    kinds = [pair for pair in PAIRS if pair[0] in batch]
    for pair, longest in zip(kinds, known[rows].max(0), strict=False):
        part |= {name: np.ascontiguousarray(part[name][:, :longest]) for name in pair if name in part}
    return part


def unpadded(batch: Batch, most: int) -> Iterator[tuple[Rows, dict[str, Array]]]:
    """The batch in parts of one length each, at most `most` tokens or one example, with their rows."""
    known = lengths(batch)
    for length in np.unique(known, axis=0):
        rows = np.flatnonzero((known == length).all(1))
        yield from _pieces(batch, rows, known, most)


def by_length(batch: Batch, most: int) -> Iterator[tuple[Rows, dict[str, Array]]]:
    """The batch in parts of about one length, shortest first."""
    known = lengths(batch)
    yield from _pieces(batch, np.lexsort(known.T[::-1]), known, most)


def _pieces(batch: Batch, rows: Rows, known: Rows, most: int) -> Iterator[tuple[Rows, dict[str, Array]]]:
    step = max(1, most // max(int(known[rows].max(initial=1)), 1))
    for start in range(0, len(rows), step):
        few = rows[start : start + step]
        yield few, taken(batch, few, known)


def put(whole: Array | None, part: Array, rows: Rows, shape: tuple[int, Mapping[str, int]]) -> Array:
    """A part's outputs in their rows of [n, ...], made from the first part; shorter sequences are filled up evenly.

    shape: the number of examples, and {"positions": t} where outputs have an entry for every position.
    """
    examples, wide = shape
    length = wide.get("positions")
    if whole is None:
        rest = part.shape[1:] if length is None else (length, *part.shape[2:])
        filling = 0.0 if length is None else -np.log(part.shape[-1])
        whole = np.full((examples, *rest), filling, part.dtype)
    if length is None:
        whole[rows] = part
    else:
        whole[rows, : part.shape[1]] = part
    return whole
