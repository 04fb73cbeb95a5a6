"""Near duplicates: a perceptual hash of images and MinHash of text propose pairs, a comparison decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from attar.data.extras import extra
from attar.files.pictures import as_images
from attar.types import Array, Scaled

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
PAIRS = 512
"""Images that are compared, or thumbnails' owners that are hashed, in one go."""
CHUNK, VALUES = 256, 1 << 22
"""Most images of an array, and most values of them, that are turned into grey bytes in one go."""
Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
Pairs = list[tuple[int, int]]


def crops(images: Bytes, *, middle: bool = False) -> Bytes:
    """Thumbnails uint8 [n, k, SIDE, SIDE] of grey images [n, h, w]: the middle first; of small ones at nine offsets.

    Each is cut a pixel short on every side, so that the middle of an image is the crop at an offset of the same image
    moved by a pixel, whatever came in at its border. `middle`: only that one.
    """
    height, width = images.shape[1:]
    if min(height, width) < 8:
        return thumbnails(images)[:, None]
    if middle or max(height, width) > SMALL:
        return thumbnails(images[:, 1:-1, 1:-1])[:, None]
    offsets = [(1, 1)] + [(down, right) for down in range(3) for right in range(3) if (down, right) != (1, 1)]
    cut = [images[:, down : height - 2 + down, right : width - 2 + right] for down, right in offsets]
    return np.stack([thumbnails(one) for one in cut], 1)


def thumbnails(images: Bytes) -> Bytes:
    """Grey images [n, h, w] as uint8 [n, SIDE, SIDE], averaged down as Pillow does it; smaller ones are made larger."""
    height, width = images.shape[1:]
    box = min(height, width) >= SIDE
    down, across = _weights(height, box), _weights(width, box)
    out = np.empty((len(images), SIDE, SIDE), np.uint8)
    step = max((BLOCK << 1) // (height * width), 1)
    for at in range(0, len(images), step):
        some = images[at : at + step].astype(np.float32)
        out[at : at + step] = np.rint(np.matmul(np.matmul(down, some), across.T))
    return out


@cache
def _weights(size: int, box: bool) -> NDArray[np.float32]:
    """What a line of pixels is resized by, [SIDE, size]: their mean over a window, or a triangle (Pillow's filters)."""
    scale = size / SIDE
    centres = (np.arange(SIDE)[:, None] + 0.5) * scale
    away = (np.arange(size) + 0.5 - centres) / max(scale, 1)
    weights = np.where(box, (away > -0.5) & (away <= 0.5), np.maximum(1 - np.abs(away), 0))
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def grey(images: Bytes) -> Bytes:
    """One channel [n, h, w] of images [n, h, w] or [n, h, w, 3], by the weights of ITU-R BT.601."""
    if images.ndim == 3:
        return images
    return np.rint(images @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)


def array_crops(values: Array | Scaled, rows: slice = slice(None), *, middle: bool = False) -> Iterator[Bytes]:
    """The `crops` of each image of an array of any scale, on which what is compared does not depend; of others none.

    rows: only of these, which follow each other.
    """
    first, end, _ = rows.indices(len(values))
    step = max(min(CHUNK, VALUES // max(values[:1].size, 1)), 1)
    for start in range(first, end, step):
        images = as_images(values[start : min(start + step, end)])
        yield from () if images is None else crops(grey(images), middle=middle)


def dct_hashes(thumbnails: Bytes) -> Hashes:
    """64 bits [n] of each thumbnail [n, SIDE, SIDE]: its low frequencies against their median, without the mean.

    The cosine transform of pHash (Zauner, Implementation and benchmarking of perceptual image hash functions, 2010):
    8 x 8 coefficients. Adding to the brightness or scaling it changes none of the bits.
    """
    from scipy.fft import dct

    waves = dct(np.eye(SIDE, dtype=np.float32), axis=0)[:8]
    low = np.matmul(np.matmul(waves, thumbnails.astype(np.float32)), waves.T).reshape(len(thumbnails), 64)
    median = np.median(low[:, 1:], axis=1, keepdims=True)
    return np.packbits(low > median, axis=1).view(np.uint64).ravel()


def near_images(first: Sequence[Bytes], second: Sequence[Bytes] | None = None) -> Pairs:
    """Pairs (i, j) of near duplicates of `first` and `second`, or i < j within `first`; each image as its `crops`.

    Found are copies that were re-encoded, made brighter or darker, or (images of at most 256 pixels) moved by a pixel.
    """
    others = first if second is None else second
    sizes = [len(one) for one in others]
    owner, starts = np.repeat(np.arange(len(others)), sizes), np.cumsum([0, *sizes])
    hashes = [_hashed(part) for part in (_joined([one[:1] for one in first]), _joined(others))]
    found: set[tuple[int, int]] = set()
    for i, k in _gathered(_close(*hashes), len(owner)):
        wanted = owner[k] > i if second is None else np.ones(len(k), bool)
        i, k = i[wanted], k[wanted]
        for at in range(0, len(i), PAIRS):
            one, other = i[at : at + PAIRS], k[at : at + PAIRS]
            left = np.stack([first[index][0] for index in one])
            right = np.stack([others[owner[index]][index - starts[owner[index]]] for index in other])
            alike = np.flatnonzero(_correlation(left, right) >= ALIKE)
            alike = alike[_correlation(_detail(left[alike]), _detail(right[alike])) >= DETAIL]
            found.update(zip(one[alike].tolist(), owner[other[alike]].tolist(), strict=True))
    return sorted(found)


def _joined(several: Sequence[Bytes]) -> Iterator[Bytes]:
    """Thumbnails of many images, some hundred at a time: all of them as floats would be eight times as large."""
    for start in range(0, len(several), PAIRS):
        yield np.concatenate(several[start : start + PAIRS])


def _hashed(parts: Iterator[Bytes]) -> Hashes:
    return np.concatenate([np.zeros(0, np.uint64), *(dct_hashes(part) for part in parts)])


def _gathered(
    pairs: Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]], width: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The same pairs, some million at a time and each once among them."""
    held: list[NDArray[np.int64]] = []
    for i, k in pairs:
        held.append(i * width + k)
        if sum(map(len, held)) > BLOCK:
            yield np.divmod(np.unique(np.concatenate(held)), width)
            held = []
    if held:
        yield np.divmod(np.unique(np.concatenate(held)), width)


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
