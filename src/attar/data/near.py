"""Near duplicates: a perceptual hash of images and MinHash of text propose pairs, a comparison decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from attar.data.extras import extra
from attar.data.pictures import thumbnail
from attar.types import Array

SIDE = 32
"""Pixels of the thumbnails that are hashed and compared."""
SMALL = 256
"""Images with a side of at most so many pixels are hashed at nine offsets: a pixel is much of them."""
DISTANCE = 8
"""Most bits in which the hashes of two near duplicates differ, of 64."""
ALIKE = 0.97
"""Least correlation of their pixels, at the best of the offsets."""
DETAIL = 0.94
"""Least correlation of what is left of them without the mean of 5 x 5 pixels: two shirts have one outline."""
JACCARD = 0.8
"""Least share of common word triples of two near duplicate texts."""
PERMUTATIONS = 128
BANDS = DISTANCE + 1
"""Hashes that differ in so few bits agree in at least one of so many parts (the pigeonhole principle)."""
BLOCK = 1 << 22
"""Most pairs that are looked at in one go."""
Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
Pairs = list[tuple[int, int]]


def crops(image: Bytes) -> Bytes:
    """Thumbnails uint8 [k, SIDE, SIDE] of a grey image [h, w]: the middle first; of a small one at nine offsets.

    Each is cut a pixel short on every side, so that the middle of an image is, to the byte, the crop at an offset of
    the same image moved by a pixel, whatever came in at its border.
    """
    height, width = image.shape
    if min(height, width) < 8:
        return thumbnail(image, SIDE)[None]
    if max(height, width) > SMALL:
        return thumbnail(np.ascontiguousarray(image[1:-1, 1:-1]), SIDE)[None]
    offsets = [(1, 1)] + [(down, right) for down in range(3) for right in range(3) if (down, right) != (1, 1)]
    cut = [image[down : height - 2 + down, right : width - 2 + right] for down, right in offsets]
    return np.stack([thumbnail(np.ascontiguousarray(one), SIDE) for one in cut])


def dct_hashes(thumbnails: Bytes) -> Hashes:
    """64 bits [n] of each thumbnail [n, SIDE, SIDE]: its low frequencies against their median, without the mean.

    The cosine transform of pHash (Zauner, Implementation and benchmarking of perceptual image hash functions, 2010):
    8 x 8 coefficients. Adding to the brightness or scaling it changes none of the bits.
    """
    from scipy.fft import dctn

    low = dctn(thumbnails.astype(np.float32), axes=(1, 2))[:, :8, :8].reshape(len(thumbnails), 64)
    median = np.median(low[:, 1:], axis=1, keepdims=True)
    return np.packbits(low > median, axis=1).view(np.uint64).ravel()


def near_images(first: Sequence[Bytes], second: Sequence[Bytes] | None = None) -> Pairs:
    """Pairs (i, j) of near duplicates of `first` and `second`, or i < j within `first`; each image as its `crops`.

    Found are copies that were re-encoded, made brighter or darker, or (images of at most 256 pixels) moved by a pixel.
    """
    middles = np.stack([one[0] for one in first])
    others = list(first if second is None else second)
    owner = np.repeat(np.arange(len(others)), [len(one) for one in others])
    stack = np.concatenate(others)
    found: set[tuple[int, int]] = set()
    for i, k in _close(dct_hashes(middles), dct_hashes(stack)):
        wanted = np.flatnonzero(owner[k] > i if second is None else np.ones(len(k), bool))
        for at in range(0, len(wanted), BLOCK >> 10):
            some = wanted[at : at + (BLOCK >> 10)]
            some = some[_correlation(middles[i[some]], stack[k[some]]) >= ALIKE]
            some = some[_correlation(_detail(middles[i[some]]), _detail(stack[k[some]])) >= DETAIL]
            found.update(zip(i[some].tolist(), owner[k[some]].tolist(), strict=True))
    return sorted(found)


def _correlation(one: Array, other: Array) -> NDArray[np.float32]:
    """Of each of some thumbnails [n, SIDE, SIDE] with its counterpart, [n]; a flat one is like nothing."""
    return np.asarray(np.einsum("np,np->n", _standard(one), _standard(other)), np.float32)


def _standard(thumbnails: Array) -> NDArray[np.float32]:
    """Pixels [n, SIDE * SIDE] of mean 0 and length 1; of a flat image zeros."""
    flat = thumbnails.reshape(len(thumbnails), SIDE * SIDE).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    flat /= np.where(length > 1, length, np.inf)
    return flat


def _detail(thumbnails: Bytes) -> NDArray[np.float32]:
    """Thumbnails without the mean of the pixels around."""
    from scipy.ndimage import uniform_filter

    plain = thumbnails.astype(np.float32)
    return np.asarray(plain - uniform_filter(plain, (0, 5, 5)), np.float32)


def _close(one: Hashes, other: Hashes) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Positions in both of hashes that differ in few bits; a pair may come several times (multi-index hashing)."""
    edges = np.linspace(0, 64, BANDS + 1).astype(int)
    for low, high in pairwise(edges.tolist()):
        mask = np.uint64((1 << (high - low)) - 1)
        left, right = ((hashes >> np.uint64(low)) & mask for hashes in (one, other))
        order, there = np.argsort(left, kind="stable"), np.argsort(right, kind="stable")
        values, starts = np.unique(left[order], return_index=True)
        ends = np.append(starts[1:], len(left))
        first, last = (np.searchsorted(right[there], values, side) for side in ("left", "right"))
        for start, end, begin, stop in zip(starts, ends, first, last, strict=True):
            rows, columns = order[start:end], there[begin:stop]
            step = max(BLOCK // max(len(columns), 1), 1)
            for at in range(0, len(rows) if len(columns) else 0, step):
                some = rows[at : at + step]
                i, k = np.nonzero(np.bitwise_count(one[some][:, None] ^ other[columns]) <= DISTANCE)
                if len(i):
                    yield some[i], columns[k]


def near_texts(first: Sequence[str], second: Sequence[str] | None = None) -> Pairs:
    """Pairs (i, j) of texts of which most word triples are common, as for `near_images`.

    MinHash with locality-sensitive hashing proposes them (Broder, On the resemblance and containment of documents,
    1997), their true Jaccard index decides.
    """
    minhash = extra("datasketch", "near duplicates of text")
    sets = [_triples(text) for text in first]
    others = sets if second is None else [_triples(text) for text in second]
    index = minhash.MinHashLSH(threshold=JACCARD - 0.1, num_perm=PERMUTATIONS)
    for at, sketch in enumerate(_sketches(minhash, sets)):
        if sets[at]:
            index.insert(at, sketch)
    found = set()
    for j, sketch in enumerate(_sketches(minhash, others)):
        for i in index.query(sketch) if others[j] else ():
            ordered = second is not None or i < j
            if ordered and len(sets[i] & others[j]) >= JACCARD * len(sets[i] | others[j]):
                found.add((int(i), j))
    return sorted(found)


def _triples(text: str) -> frozenset[bytes]:
    """The word triples of a text in small letters; a short text is one."""
    words = text.casefold().split()
    return frozenset(" ".join(words[at : at + 3]).encode() for at in range(max(len(words) - 2, min(len(words), 1))))


def _sketches(minhash: object, sets: Sequence[frozenset[bytes]]) -> Iterator[object]:
    """A MinHash of each set."""
    for one in sets:
        sketch = minhash.MinHash(num_perm=PERMUTATIONS, seed=1)  # type: ignore[attr-defined]
        sketch.update_batch(sorted(one))
        yield sketch
