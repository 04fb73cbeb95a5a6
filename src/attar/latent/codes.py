"""Latents of a stack of images as matrices, a row for each image, and the pixels that a network makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attar.archive.base import broken
from attar.coding.kernel import over_chunks
from attar.latent.network import I16, MOST_LATENT, U8, Network, places, run, seen
from attar.types import Array

PART = 1 << 22
"""Latents of a part at most, but for a single image; part of the file format."""
AT_ONCE = 1 << 26
"""Bytes of what layers see that are held at once, but for a single image."""
Shape = tuple[int, int, int, int]
"""Images, height, width, channels."""


def columns(network: Network, shape: Shape) -> int:
    """Latents of an image."""
    high, wide = places(shape[1], shape[2])
    return high * wide * network.latents


def part_rows(images: int, width: int) -> list[int]:
    """Images in each part, for so many latents of an image."""
    most = max(PART // max(width, 1), 1)
    number = -(-images // most)
    return [(images * (k + 1)) // number - (images * k) // number for k in range(number)]


def matrices(latents: I16) -> list[I16]:
    """The matrices [rows, h * w * c] of latents [n, h, w, c], which are coded one by one."""
    flat = latents.reshape(len(latents), -1)
    return np.split(flat, np.cumsum(part_rows(*flat.shape))[:-1])


def latents_of(parts: Sequence[Array], network: Network, shape: Shape) -> I16:
    """Inverse of matrices, for images of this shape; raises FormatError."""
    n, height, width, channels = shape
    high, wide = places(height, width)
    if channels != network.channels:
        raise broken("images", f"the network makes {network.channels} channels", str(channels))
    across = columns(network, shape)
    wish = [(rows, across) for rows in part_rows(n, across)]
    if [part.shape for part in parts] != wish or any(part.dtype != np.int16 for part in parts):
        raise broken("images", f"the latents must be int16 {wish}"[:150], str([part.shape for part in parts])[:150])
    found = np.concatenate(parts)
    if found.size and max(int(found.max()), -int(found.min())) > MOST_LATENT:
        raise broken("images", f"latents lie within {MOST_LATENT}", f"{found.min()} .. {found.max()}")
    return found.reshape(n, high, wide, network.latents)


def pixels(network: Network, latents: I16, height: int, width: int) -> U8:
    """What the network makes of latents [n, h, w, c], cut to [n, height, width, channels]; some images at a time."""
    out = np.empty((len(latents), height, width, network.channels), np.uint8)
    room = latents.shape[1] * latents.shape[2] * seen(network)
    step = max(1, AT_ONCE // room)

    def make(start: int) -> None:
        part = slice(start, start + step)
        out[part] = run(network, latents[part])[:, :height, :width]

    starts = range(0, len(latents), step)
    if room > AT_ONCE:
        for start in starts:
            make(start)  # images that take more than that are made one by one
    else:
        over_chunks(make, list(starts))
    return out
