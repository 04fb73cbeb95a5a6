"""Folders of images by class, read with Pillow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from attar.data.limits import MAX_BYTES
from attar.errors import DataError, FormatError, UsageError
from attar.types import Array, Dataset, Pixels, TensorSpec

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
CHANNELS = (1, 3, 4)
TRAIN, TEST = ("train", "training"), ("test", "val", "valid", "validation")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 64 << 20
"""Most pixels of one image."""


MOST_RATIO = 32
"""Of the sides of an image whose shorter one a model brings to a size."""


class Size(NamedTuple):
    """Height, width and channels of a model's images, None where they are free or not known; its own way to get there.

    With `pixels` that way is taken, otherwise images are stretched to height and width.
    """

    height: int | None = None
    width: int | None = None
    channels: int | None = None
    pixels: Pixels | None = None


ANY = Size()


def read_image_folder(folder: Path, size: Size = ANY) -> Dataset | dict[str, Dataset]:
    """Images [n, height, width] (all grey) or [n, height, width, 3], uint8, with labels by sorted folder name.

    A flat folder has no labels; folders train and test (or val) inside give those parts. Images are resized to `size`,
    and made grey or coloured as it says; where it says nothing all must be of one size, and one in colour gives all of
    them colour. Raises DataError, FormatError, and UsageError where Pillow is missing.
    """
    inside = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    train = [inside[name] for name in TRAIN if name in inside]
    test = [inside[name] for name in TEST if name in inside]
    if not (train and test):
        return _read_part(folder, size)
    parts = {"train": _read_part(train[0], size), "test": _read_part(test[0], size)}
    if parts["train"].class_names != parts["test"].class_names:
        raise DataError(
            f"folder {str(folder)!r}: train and test must have the same classes. Received "
            f"{parts['train'].class_names} and {parts['test'].class_names}."
        )
    return parts


def image_size(specs: Sequence[TensorSpec]) -> Size:
    """Height, width and channels that a model of one image input takes."""
    if len(specs) != 1 or len(specs[0].shape) not in (3, 4):
        return ANY
    shape, pixels = specs[0].shape, specs[0].pixels
    if len(shape) == 3:
        return Size(shape[1], shape[2], 1, pixels)
    if shape[1] not in CHANNELS and shape[3] not in CHANNELS:
        return ANY
    last = shape[3] in CHANNELS
    height, width, channels = shape[1:] if last else (shape[2], shape[3], shape[1])
    return Size(height, width, channels, pixels) if height and width else Size(None, None, channels, pixels)


def _read_part(folder: Path, size: Size) -> Dataset:
    """One folder: its classes and images, in sorted order."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and _images(path))
    flat = _images(folder)
    if classes and flat:
        raise DataError(
            f"folder {str(folder)!r}: images must lie in folders by class, or all in one. "
            f"Received both: {flat[0].name!r}. Move it."
        )
    for place in classes:
        _check_flat(place)
    if classes:
        _check_classes(folder, classes)
    found = [(path, label) for label, place in enumerate(classes) for path in _images(place)] or [(p, -1) for p in flat]
    if not found:
        raise DataError(
            f"folder {str(folder)!r}: it must hold images ({' '.join(SUFFIXES)}) or idx files. Received neither."
        )
    pixels = stacked(
        ((repr(path.name), read_image(path, f"image {str(path)!r}", size)) for path, _ in found),
        f"folder {str(folder)!r}",
    )
    labels = np.array([label for _, label in found], np.int64) if classes else None
    return Dataset({"x": pixels}, labels, str(folder), tuple(path.name for path in classes))


def _check_classes(folder: Path, classes: Sequence[Path]) -> None:
    """That no folder beside those of classes is without images: the classes behind it would have other numbers."""
    for place in sorted(folder.iterdir()):
        if place.is_dir() and place not in classes and not place.name.startswith((".", "__")):
            raise DataError(
                f"folder {str(folder)!r}: every folder in it is a class, and must hold images ({' '.join(SUFFIXES)}). "
                f"Received none in {place.name!r}. Fill it, or move it elsewhere."
            )


def _check_flat(folder: Path) -> None:
    """That the images of a class lie side by side: those in a folder below would be left out unsaid."""
    for inner in folder.iterdir():
        if inner.is_dir() and _images(inner):
            raise DataError(
                f"folder {str(folder)!r}: the images of a class must all lie in its folder. Received more of them in "
                f"{inner.name!r}. Move them up."
            )


def _images(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name, without hidden ones (macOS puts ._name beside name)."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def stacked(images: Iterable[tuple[str, Array]], place: str) -> Array:
    """Images, each with its name, in one array; where the model does not say, colour as soon as one has colour.

    Raises DataError.
    """
    found: list[Array] = []
    total = 0
    for name, image in images:
        if found and image.shape[:2] != found[0].shape[:2]:
            raise DataError(
                f"{place}: images must be of one size where the model's is not fixed. Received "
                f"{found[0].shape[:2]} and {image.shape[:2]} ({name}). Resize them."
            )
        total += image.nbytes
        if total > MAX_BYTES:
            raise DataError(f"{place}: images must fit {MAX_BYTES} bytes. Use fewer.")
        found.append(image)
    if len({image.ndim for image in found}) > 1:
        found = [image if image.ndim == 3 else np.repeat(image[..., None], 3, -1) for image in found]
    return np.stack(found)


def read_image(source: Path | BinaryIO, place: str, size: Size) -> Array:
    """One image, uint8, [height, width] or [height, width, 3]; transparent pixels lose their transparency.

    Raises FormatError where it is broken, DataError where it has more than 8 bits.
    """
    pillow = pillow_module()
    try:
        with pillow.open(source, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise FormatError(f"{place}: at most {MAX_PIXELS} pixels. Received {image.size}.")
            if image.mode[0] in "IF":
                raise DataError(
                    f"{place}: 8 bits for each channel are read. Received mode {image.mode}. Give arrays (.npz)."
                )
            height, width, channels, pixels = size
            grey = channels == 1 or (channels != 3 and image.mode in ("1", "L", "LA"))
            plain = image.convert("L" if grey else "RGB")
            if pixels is not None:
                return framed(np.asarray(plain, np.uint8), pixels, place)
            if height is not None and width is not None and plain.size != (width, height):
                plain = plain.resize((width, height), pillow.Resampling.BILINEAR)
            return np.asarray(plain, np.uint8)
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise FormatError(f"{place}: it must be a whole image. Received: {error}.") from None


def framed(image: Array, pixels: Pixels, place: str) -> Array:
    """An image uint8 [h, w] or [h, w, channels] as a model's own preprocessing resizes and crops it, likewise.

    Raises DataError for one that is a thin line: made as high as a model wants it, it would be as long as memory.
    """
    height, width = image.shape[:2]
    if min(height, width) * MOST_RATIO < max(height, width):
        raise DataError(
            f"{place}: its longer side must be at most {MOST_RATIO} times the shorter one. Received "
            f"{width} x {height}. Leave it out."
        )
    if image.ndim == 2:
        return pixels.framed(image[..., None])[..., 0]
    return pixels.framed(image)


def pictured(images: Array, pixels: Pixels, shape: Sequence[int | None]) -> Array:
    """Images uint8 [n, h, w] or [n, h, w, c] (or [n, c, h, w]) framed where they have not the size that comes of it.

    shape is the model's input; what is no image for it stays as it is.
    """
    channels = shape[1] if len(shape) == 4 else 1
    if images.ndim == 4 and images.shape[-1] != channels and images.shape[1] == channels:
        images = np.moveaxis(images, 1, -1)
    grey, coloured = images.ndim == 3 and channels == 1, images.ndim == 4 and images.shape[-1] == channels
    if not (grey or coloured) or images.shape[1:3] == pixels.size:
        return images
    return np.stack([framed(image, pixels, f"image {number}") for number, image in enumerate(images)])


def pillow_module() -> Any:
    """Pillow's Image module; raises UsageError."""
    try:
        from PIL import Image
    except ImportError:
        raise UsageError("data: images need Pillow. It is not installed. Run: pip install 'attar[images]'.") from None
    return Image
