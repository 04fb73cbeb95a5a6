"""Where the bytes of an array change their kind: sections whose planes get tables of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attar.coding import kernel
from attar.coding.fixed import FRACTION, log2_fixed

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
BLOCK = 1 << 16
"""Values that a section's length is counted in; part of the file format."""
_FIXED, _EACH = 1600, 4
"""Bits of lanes and side information of a coded plane, and of each symbol in its table."""


def sections(planes: Sequence[U8], worth: int) -> list[int]:
    """Lengths of the sections in blocks, in order, for byte planes [n] of one array: one where no cut pays.

    From left to right: a block joins the section before it unless both are shorter alone. A plane is plain bytes where
    coding saves no more than 1 in `worth` of it.
    """
    blocks = -(-planes[0].size // BLOCK)
    if blocks < 2:
        return [blocks]
    counts = np.zeros((blocks, len(planes), 256), np.int64)
    for k, plane in enumerate(planes):
        for b in range(blocks):
            kernel.kernel().histogram(plane[b * BLOCK : (b + 1) * BLOCK], counts[b, k])
    alone = _bits(counts, worth).tolist()
    lengths, held, bits = [1], counts[0], alone[0]
    for b in range(1, blocks):
        both = held + counts[b]
        together = int(_bits(both, worth))
        if together <= bits + alone[b]:
            lengths[-1], held, bits = lengths[-1] + 1, both, together
        else:
            lengths.append(1)
            held, bits = counts[b], alone[b]
    return lengths


def _bits(counts: I64, worth: int) -> I64:
    """Of planes together, in 2**-16, by how often each byte occurs in them: counts [.., planes, 256]."""
    total = counts.sum(-1)
    code = total * log2_fixed(np.maximum(total, 1)) - (counts * log2_fixed(np.maximum(counts, 1))).sum(-1)
    code += _FIXED + _EACH * (counts > 0).sum(-1) << FRACTION
    plain = 8 * total << FRACTION
    return np.asarray(np.where(code < plain - plain // worth, code, plain).sum(-1))
