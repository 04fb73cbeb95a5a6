"""Images one at a time, from a folder or an array, so that a set larger than memory can be looked at."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.data.images import FORMATS, MAX_PIXELS, TEST, TRAIN, pillow_module
from attar.types import Array

ENDINGS = {
    "PNG": (".png",), "JPEG": (".jpg", ".jpeg"), "BMP": (".bmp",), "GIF": (".gif",), "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"), "PPM": (".ppm", ".pgm"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Picture:
    """One image file: where it lies, and what is in it; `error` says why it cannot be read, "" where it can.

    `path` is relative to the folder, `part` is train, test or "", `label` the folder of its class or "". `colour` is
    the mean of red, green and blue, `digest` is of its decoded pixels.
    """

    path: str
    part: str
    label: str
    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    digest: str = ""
    colour: tuple[float, float, float] = (0.0, 0.0, 0.0)
    flat: bool = False
    error: str = ""


def silent(count: int) -> None:
    """No progress."""
    del count


def part_and_label(path: str) -> tuple[str, str]:
    """Which part and class a relative path says."""
    folders = path.split("/")[:-1]
    part = ""
    if folders and folders[0].lower() in TRAIN + TEST:
        part = "train" if folders[0].lower() in TRAIN else "test"
        folders = folders[1:]
    return part, "/".join(folders)


def look(folder: Path, paths: Sequence[str]) -> Iterator[tuple[Picture, Array | None]]:
    """Each image file with its pixels uint8 [h, w] (grey) or [h, w, 3]; None where it cannot be read."""
    pillow = pillow_module()
    for path in paths:
        part, label = part_and_label(path)
        try:
            with pillow.open(folder / path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"more than {MAX_PIXELS} pixels")
                facts = {"width": image.width, "height": image.height, "mode": image.mode, "format": image.format}
                pixels = eight_bits(image)
        except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
            said = " ".join(str(error).replace(str(folder) + "/", "").split())
            yield Picture(path, part, label, error=said), None
            continue
        colour = pixels.reshape(-1, 3).mean(0) if pixels.ndim == 3 else np.full(3, pixels.mean())
        yield Picture(
            path, part, label, **facts, digest=digest(pixels), flat=bool(pixels.min() == pixels.max()),
            colour=(float(colour[0]), float(colour[1]), float(colour[2])),
        ), pixels  # fmt: skip


def eight_bits(image: Any) -> NDArray[np.uint8]:
    """A Pillow image as uint8 [h, w] or [h, w, 3]; deeper grey is scaled by its own maximum."""
    if image.mode[0] in "IF":
        values = np.asarray(image, np.float64)
        return np.rint(255 * (values - values.min()) / max(float(np.ptp(values)), 1e-300)).astype(np.uint8)
    return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"), np.uint8)


def digest(pixels: Array) -> str:
    """A hash of an array's shape, dtype and bytes."""
    found = hashlib.blake2b(f"{pixels.shape} {pixels.dtype}".encode(), digest_size=16)
    found.update(np.ascontiguousarray(pixels).tobytes())
    return found.hexdigest()


def thumbnail(pixels: NDArray[np.uint8], side: int, *, colour: bool = False) -> NDArray[np.uint8]:
    """The image as [side, side], or [side, side, 3], averaged down; smaller ones are made larger."""
    pillow = pillow_module()
    image = pillow.fromarray(pixels).convert("RGB" if colour else "L")
    if image.size != (side, side):
        image = image.resize(
            (side, side), pillow.Resampling.BOX if min(image.size) >= side else pillow.Resampling.BILINEAR
        )
    return np.asarray(image, np.uint8)


def as_images(x: Array) -> Array | None:
    """An array of examples as images uint8 [n, h, w] or [n, h, w, 3]; None where the shape is none of images."""
    if x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[-1] not in (1, 3):
        x = np.moveaxis(x, 1, -1)
    if x.ndim == 4 and x.shape[-1] == 1:
        x = x[..., 0]
    if not (x.ndim == 3 or (x.ndim == 4 and x.shape[-1] == 3)) or min(x.shape[1:3]) < 8 or x.dtype.kind not in "buif":
        return None
    if x.dtype == np.uint8:
        return x
    values = np.nan_to_num(x.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    return np.rint(255 * (values - low) / max(high - low, 1e-30)).astype(np.uint8)
