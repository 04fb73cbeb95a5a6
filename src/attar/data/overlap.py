"""Examples that occur in two splits: found by a hash of their inputs' bytes, refused or removed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError
from attar.types import Dataset

MOST = 0.01
"""Share of a split that may occur in one from another set."""


def separate(parts: Mapping[str, Dataset], source_of: Mapping[str, int]) -> tuple[dict[str, Dataset], list[str]]:
    """The parts without common examples, and a warning for each pair that had some.

    What occurs in certify is left out of select and calibrate, what occurs in select out of calibrate. source_of
    numbers the set each part came from: parts of different sets that share more than 1 % raise DataError.
    """
    kept = dict(parts)
    keys = {name: row_hashes(part) for name, part in parts.items()}
    warnings: list[str] = []
    for name, other in (("select", "certify"), ("calibrate", "certify"), ("calibrate", "select")):
        common = np.isin(keys[name], keys[other])
        count = int(common.sum())
        if not count:
            continue
        share = max(count / len(common), float(np.isin(keys[other], keys[name]).mean()))
        if share > MOST and source_of[name] != source_of[other]:
            raise DataError(
                f"data: {name} ({parts[name].origin!r}) and {other} ({parts[other].origin!r}) must not share examples. "
                f"Received {count} in both ({100 * share:.3g} %). Give different sets, or one set to split."
            )
        warnings.append(f"{count} of {len(common)} examples of {name} were left out: they occur in {other} as well.")
        kept[name], keys[name] = kept[name].take(np.flatnonzero(~common)), keys[name][~common]
    return kept, warnings


def without(train: Dataset, held_out: Mapping[str, Dataset]) -> tuple[Dataset, list[str]]:
    """The training set without what occurs in the sets that are measured on, and a warning for each that had some.

    Raises DataError where nothing is left.
    """
    keys, warnings = row_hashes(train), []
    kept = np.ones(len(keys), bool)
    for name, part in held_out.items():
        common = np.isin(keys, row_hashes(part)) & kept
        if common.any():
            warnings.append(f"{int(common.sum())} examples of train were left out: they occur in {name} as well.")
        kept &= ~common
    if not kept.any():
        raise DataError(
            f"train ({train.origin!r}): it must hold examples that are not measured on. Received none but those. "
            "Give a set of its own."
        )
    return (train if kept.all() else train.take(np.flatnonzero(kept))), warnings


def row_hashes(dataset: Dataset) -> NDArray[np.uint64]:
    """A 64-bit hash of each example's inputs, [n]; equal for equal bytes, whatever the labels."""
    digests = bytearray()
    for batch in dataset.batches():
        rows = [np.ascontiguousarray(values) for _, values in sorted(batch.items())]
        for index in range(len(rows[0])):
            digest = hashlib.blake2b(digest_size=8)
            for values in rows:
                digest.update(values[index].tobytes())
            digests += digest.digest()
    return np.frombuffer(bytes(digests), np.dtype(np.uint64))
