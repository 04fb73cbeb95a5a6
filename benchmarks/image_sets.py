"""Fashion-MNIST's training images without loss: attar beside PNG, WebP, JPEG XL and zstd, measured in this run.

python benchmarks/image_sets.py [--repeats 3] [--tiny] [--json FILE]

One thread. Each rival codes every image as a file of its own, as a folder of images holds them, or the set as one
picture with the images side by side in a square (a mosaic). Rivals that take long are measured on every so many images,
or on the first ones; the table says on how many. Speeds in MB/s of pixels.
"""

from __future__ import annotations

import argparse
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["ATTAR_THREADS"] = "1"

import numpy as np
from PIL import Image

import fashion
from acceptance import Line, markdown, number, table
from attar.archive import blobs
from attar.coding import simd_path
from attar.data.idx import read_idx
from attar.sets import images
from attar.types import Array
from timing import machine, medians, timed


def attar(pixels: Array) -> tuple[int, Callable[[], Any]]:
    """The model and all parts; decoding is of both."""
    stack = pixels[..., None]
    arrays, parts = images.encode(stack)
    section, blob = blobs.code_arrays("model", "part", arrays)
    coded = [np.frombuffer(part, np.uint8) for part in parts]
    return len(blob) + sum(map(len, parts)), lambda: images.decode(
        blobs.decode_arrays(section, blob), coded, stack.shape
    )


def pillow(form: str, **options: Any) -> Callable[[Array], bytes]:
    """What codes one picture."""

    def code(picture: Array) -> bytes:
        target = io.BytesIO()
        Image.fromarray(picture).save(target, form, **options)
        return target.getvalue()

    return code


def opened(data: bytes) -> Array:
    """Pixels of a file; WebP has no grey, its three channels are alike."""
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    return pixels if pixels.ndim == 2 else pixels[..., 0]


def oxipng(picture: Array) -> bytes:
    """PNG optimised at level 6, without chunks that pixels do without."""
    import oxipng as found

    data: bytes = found.optimize_from_memory(pillow("PNG")(picture), level=6, strip=found.StripChunks.all())
    return data


def jxl(picture: Array) -> bytes:
    """JPEG XL, effort 9."""
    import pillow_jxl  # noqa: F401

    return pillow("JXL", lossless=True, effort=9)(picture)


def zstd(pixels: Array) -> bytes:
    """All pixels at once, image after image."""
    import zstandard

    data: bytes = zstandard.ZstdCompressor(level=19).compress(pixels.tobytes())
    return data


def unzstd(data: bytes) -> Array:
    """Inverse of zstd."""
    import zstandard

    return np.frombuffer(zstandard.ZstdDecompressor().decompress(data), np.uint8)


def mosaic(pixels: Array) -> Array:
    """Images side by side, [rows * height, columns * width]; the last row is filled up with zeros."""
    n, height, width = pixels.shape
    across = int(np.ceil(np.sqrt(n)))
    filled = np.zeros((-(-n // across) * across, height, width), np.uint8)
    filled[:n] = pixels
    return filled.reshape(-1, across, height, width).swapaxes(1, 2).reshape(-1, across * width)


PNG, WEBP = pillow("PNG", optimize=True), pillow("WEBP", lossless=True, quality=100, method=6)
FILES = {
    "PNG (Pillow, optimize)": (PNG, 6),
    "PNG (oxipng 6)": (oxipng, 150),
    "WebP lossless": (WEBP, 15),
    "JPEG XL lossless": (jxl, 6),
}
"""Files of their own, of every so many images."""
MOSAICS = {
    "PNG (Pillow, optimize), mosaic": (PNG, 10_000),
    "WebP lossless, mosaic": (WEBP, 1_000),
    "JPEG XL lossless, mosaic": (jxl, 10_000),
}
"""One picture, of the first so many images."""


def measure(pixels: Array, repeats: int, only: str) -> dict[str, Any]:
    """Bits per pixel, seconds a byte of encoding and decoding, and the images measured, by way."""
    found: dict[str, Any] = {"missing": [], "images": len(pixels)}
    decoders: dict[str, Callable[[], Any]] = {}

    def take(name: str, part: Array, encode: Callable[[], Any]) -> None:
        if only not in name:
            return
        results: list[Any] = []
        try:
            seconds = timed(lambda: results.append(encode()))
        except ImportError as error:
            found["missing"].append(f"{name} is not measured: {error}")
            return
        size, decoders[name] = results[0]
        if b"".join(np.asarray(one).tobytes() for one in decoders[name]()) != part.tobytes():
            raise SystemExit(f"{name} does not give the pixels back")
        found[name] = {
            "bpp": 8 * size / part.size,
            "encode": seconds / part.size,
            "pixels": part.size,
            "images": len(part),
        }

    def files(code: Callable[[Array], bytes], part: Array, unpack: Callable[[bytes], Array]) -> Any:
        coded = [code(picture) for picture in part]
        return sum(map(len, coded)), lambda: [unpack(data) for data in coded]

    take("attar", pixels, lambda: attar(pixels))
    take("zstd -19", pixels, lambda: files(zstd, pixels[None], unzstd))
    for name, (code, step) in FILES.items():
        part = pixels[::step]
        take(name, part, lambda c=code, p=part: files(c, p, opened))
    for name, (code, most) in MOSAICS.items():
        part = mosaic(pixels[:most])[None]
        take(name, part, lambda c=code, p=part: files(c, p, opened))
        if name in found:
            found[name]["images"] = min(most, len(pixels))
    for name, seconds in medians(decoders, repeats).items():
        found[name]["decode"] = seconds / found[name]["pixels"]
    return found


def text(found: dict[str, Any]) -> str:
    """Bits per pixel and speeds by way, then the targets."""
    ways = [name for name in found if name not in ("missing", "images")]
    rows = [
        [name, f"{found[name]['images']:,}", f"{found[name]['bpp']:.3f}",
         *(number(1 / found[name][figure] / 1e6, "") for figure in ("encode", "decode"))]
        for name in ways
    ]  # fmt: skip
    rivals = [found[name]["bpp"] for name in ways if name != "attar"]
    known = "attar" in found
    smaller = found["attar"]["bpp"] / min(rivals) if known and rivals else None
    speed = 1 / found["attar"]["decode"] / 1e6 if known else None
    lines = [
        Line("attar's bits / those of the smallest rival", 1.0, [smaller], True, "x"),
        Line("attar's decoding, MB/s", 100, [speed]),
    ]
    head = ["images without loss", "images", "bits per pixel", "encode MB/s", "decode MB/s"]
    about = f"{machine()}; attar's path: {simd_path()}; one thread"
    return "\n\n".join([about, *found["missing"], markdown(head, rows), table("targets", ["Fashion-MNIST"], lines)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="the first 400 images, to try the script")
    parser.add_argument("--only", default="", help="measure the ways with this in their names")
    parser.add_argument("--json", type=Path, help="write all that was measured to this file")
    options = parser.parse_args()
    if options.tiny:
        pixels = read_idx(Path(__file__).parents[1] / "examples/fashion-mnist/train-images-idx3-ubyte.gz")[:400]
    else:
        pixels = read_idx(fashion._folder() / "train-images-idx3-ubyte.gz")
    found = measure(np.ascontiguousarray(pixels, np.uint8), options.repeats, options.only)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    print(text(found))


if __name__ == "__main__":
    main()
