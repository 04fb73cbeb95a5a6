"""The choice of probability tables for counts, in whole numbers: native/fit_tables.hpp in numpy."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from attar.coding.fixed import FRACTION, log2_fixed
from attar.coding.layout import TOTAL
from attar.coding.streams import SideEncoder
from attar.coding.tables import DECAYS, GEOMETRIC, KINDS, MODE_LADDER, Form, Spec, describe, ladder
from attar.errors import FormatError

_SCALES = (128, 124, 119, 113, 102, 90, 64)
"""Where the nearest rungs leave the mode no share, they are sought for smaller frequencies, in 1/128."""


def fit(counts: NDArray[np.int64], form: Form) -> list[Spec] | None:
    """Specs of the tables for counts [tables, alphabet]; None where this kind leaves some table's mode no share."""
    specs: list[Spec] = []
    for row in counts:
        spec = _fit_geometric(row, form) if form.kind == GEOMETRIC else _fit_ladder(row, form)
        try:
            form.frequencies(spec)
        except FormatError:
            return None
        specs.append(spec)
    return specs


@cache
def _bounds(fineness: int) -> NDArray[np.int64]:
    """Where the next rung is nearer in ratio: 2**16 times the geometric mean of two neighbours, from the second on."""
    rungs = ladder(fineness)
    return np.array([isqrt(low * high << 32) for low, high in pairwise(rungs[1:])])


def _nearest(frequencies: NDArray[np.int64], fineness: int) -> NDArray[np.int64]:
    """Index of the rung nearest in ratio to frequencies in 2**-16, at least the first."""
    return np.asarray(1 + np.searchsorted(_bounds(fineness), frequencies, side="right"), np.int64)


def _shares(counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Of 4096 slots, in 2**-16."""
    return np.asarray(counts * (TOTAL << 16) // max(total, 1), np.int64)


def _fit_ladder(counts: NDArray[np.int64], form: Form) -> Spec:
    """The nearest rungs, scaled down until the mode has a share of its own."""
    rungs = np.asarray(ladder(form.kind))
    used = counts > 0
    used[form.mode] = False
    spec = np.zeros(counts.size, np.int64)
    for scale in _SCALES:
        spec[used] = _nearest(_shares(counts[used], int(counts.sum())) * scale >> 7, form.kind)
        if rungs[spec].sum() < TOTAL:
            break
    return [int(k) for k in spec]


def _fit_geometric(counts: NDArray[np.int64], form: Form) -> Spec:
    """The rung of the mode's frequency, and the maximum-likelihood decay."""
    inner = counts[: form.inner]
    weighted = int((inner * np.abs(np.arange(inner.size) - form.mode)).sum())
    others = int(inner.sum() - inner[form.mode])
    decay = min(DECAYS - 1, DECAYS * (weighted - others) // weighted) if others else 0
    share = _shares(counts[form.mode : form.mode + 1], int(counts.sum()))
    return [int(_nearest(share, MODE_LADDER)[0]), decay]


def fit_tables(
    counts: NDArray[np.int64], mode: int, escape: bool, specs: NDArray[np.int32], frequencies: NDArray[np.uint16]
) -> tuple[int, int, int]:
    """Fill specs [tables, max(alphabet, 2)] and frequencies [tables, alphabet]: those whose description and code are
    shortest together. The kind, the code's bits in 2**-16, the description's bytes.
    """
    choices = []
    for kind in KINDS:
        form = Form(counts.shape[1], mode, escape, kind)
        found = fit(counts, form)
        if found is not None:
            coder = SideEncoder()
            _, table = describe(coder, len(counts), form, found)
            lengths = (log2_fixed(np.array([TOTAL])) - log2_fixed(np.maximum(table, 1).astype(np.int64))) * counts
            code, nbytes = int(lengths.sum()), len(coder.finish())
            choices.append((code + (8 * nbytes << FRACTION), kind, code, nbytes, found, table))
    _, kind, code, nbytes, found, table = min(choices, key=lambda one: one[:2])
    specs[:, : len(found[0])] = found
    frequencies[:] = table
    return kind, code, nbytes


def merge_classes(counts: NDArray[np.int64], table_of: NDArray[np.uint8]) -> int:
    """Fill table_of [classes] with the contiguous ranges that take the fewest bits of code and tables; their number.

    By dynamic programming over counts [classes, alphabet].
    """
    total = np.concatenate([np.zeros((1, counts.shape[1]), np.int64), np.cumsum(counts, axis=0)])
    best = np.zeros(len(total), np.int64)
    origin = np.zeros(len(total), np.int64)
    for stop in range(1, len(total)):
        bits = best[:stop] + _range_bits(total[stop] - total[:stop])
        origin[stop] = int(np.argmin(bits))
        best[stop] = bits[origin[stop]]
    stops = [len(counts)]
    while stops[-1] > 0:
        stops.append(int(origin[stops[-1]]))
    table_of[:] = np.repeat(np.arange(len(stops) - 1), np.diff(stops[::-1]))
    return len(stops) - 1


def _range_bits(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bits of the code and of the description of one table for each row of counts, in 2**-16."""
    total = counts.sum(1)
    code = total * log2_fixed(np.maximum(total, 1)) - (counts * log2_fixed(np.maximum(counts, 1))).sum(1)
    return np.asarray(code + (8 + 3 * (counts > 0).sum(1) << FRACTION), np.int64)
