"""Fashion-MNIST's test images with loss: bytes, and what models lose of their accuracy, beside JPEG, WebP and AVIF.

python benchmarks/lossy_images.py [--steps 6000] [--aims 1 q0.8] [--tiny] [--json FILE]

attar trains on the first 52,000 training images and measures on 2,000 of the 8,000 others; the test images are coded
with what came of it, the network counted. An aim is a number, the points that the accuracy of lenet5.onnx may
drop, or qQ, a quality Q without a model. Rivals code every image as a file, or all as one picture side by side
(mosaic), so that headers do not count. Their bytes at the drop that attar was allowed are interpolated (logarithm of
bytes) between two qualities. One thread.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ["ATTAR_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from PIL import Image

import fashion
from acceptance import Line, markdown, table
from attar.archive import blobs
from attar.data.idx import read_idx
from attar.latent import codes
from attar.latent.settings import Settings
from attar.opening import open_model
from attar.run.progress import Silent
from attar.sets import images as stacks
from attar.sets.aims import Near, Viewer, Within
from attar.sets.fitting import Fitted, fit
from attar.sets.lossy import LEAST_QUALITY
from attar.types import Array
from image_sets import mosaic
from timing import machine, timed

MODELS = ("lenet5", "dwcnn")
FIRST = MODELS[0]
"""The model that the images are for."""
HELD = 2000
RIVALS: dict[str, tuple[dict[str, Any], Sequence[int]]] = {
    "JPEG": ({"optimize": True}, (10, 15, 20, 25, 30, 40, 60)),
    "WebP": ({"method": 6}, (0, 5, 10, 15, 20, 30, 50)),
    "AVIF": ({"speed": 4}, (20, 30, 40, 50)),
}
"""Options, and qualities of mosaics."""
EACH = {"JPEG": (15, 30, 40), "WebP": (5, 10, 20)}
"""Qualities of files; AVIF's are as long as headers."""


def there_and_back(picture: Array, form: str, quality: int, options: dict[str, Any]) -> tuple[int, Array]:
    """Bytes of a grey picture in a format, and its pixels as they come back."""
    target = io.BytesIO()
    Image.fromarray(picture).save(target, form, quality=quality, **options)
    return len(target.getvalue()), np.asarray(Image.open(target).convert("L"))


def unmosaic(picture: Array, n: int) -> Array:
    """Inverse of image_sets.mosaic for images of 28 x 28."""
    across = math.ceil(math.sqrt(n))
    return picture.reshape(-1, 28, across, 28).swapaxes(1, 2).reshape(-1, 28, 28)[:n]


def rival(form: str, images: Array) -> list[dict[str, Any]]:
    """A row for each quality, of mosaics and of files."""
    options, qualities = RIVALS[form]
    rows = []
    for quality in qualities:
        size, back = there_and_back(mosaic(images), form.upper(), quality, options)
        rows.append({"way": f"{form}, mosaic", "quality": quality, "bytes": size, "back": unmosaic(back, len(images))})
    for quality in EACH.get(form, ()):
        done = [there_and_back(image, form.upper(), quality, options) for image in images]
        size, back = sum(size for size, _ in done), np.stack([one for _, one in done])
        rows.append({"way": form, "quality": quality, "bytes": size, "back": back})
    return rows


class Set:
    """Training images, those held out, test images, and what models say of the test images."""

    def __init__(self, *, tiny: bool) -> None:
        """The whole set, or some hundred images of the examples."""
        top = Path(__file__).parents[1] / "examples"
        folder = top / "fashion-mnist" if tiny else fashion._folder()
        train, test = (
            read_idx(folder / f"{name}-images-idx3-ubyte.gz")[..., None] for name in ("train", "t10k")
        )  # fmt: skip
        labels, truth = (
            read_idx(folder / f"{name}-labels-idx1-ubyte.gz").astype(np.int64) for name in ("train", "t10k")
        )  # fmt: skip
        most, self.trained_on, held = (400, 300, 50) if tiny else (None, fashion.TRAINED_ON, HELD)
        self.train, self.labels = train[: self.trained_on + held], labels[: self.trained_on + held]
        self.test, self.truth = test[:most], truth[:most]
        self.models = {name: open_model(top / "models" / f"{name}.onnx") for name in MODELS}
        self.viewers = {name: Viewer(model, self.test, self.truth) for name, model in self.models.items()}
        self.before = {name: viewer.answers(self.test) for name, viewer in self.viewers.items()}

    def measured(self, row: dict[str, Any]) -> dict[str, Any]:
        """With the error, and drop and agreement of each model; without the pixels."""
        back = row.pop("back").reshape(self.test.shape)
        row["error"] = float(np.sqrt(np.mean((back.astype(np.float64) - self.test) ** 2)))
        for name, viewer in self.viewers.items():
            after, before = viewer.answers(back), self.before[name]
            row[name] = 100 * float(np.mean(before == self.truth) - np.mean(after == self.truth))
            row[f"{name} agrees"] = 100 * float(np.mean(before == after))
        return row


def coded(fitted: Fitted, images: Array) -> list[Any]:
    """The parts of an archive that images become."""
    return [
        blobs.code_arrays("latents", "part", {"latents": one}, "dense") for one in codes.matrices(fitted.encode(images))
    ]


def decoded(fitted: Fitted, parts: Sequence[Any], shape: codes.Shape) -> Array:
    """Images of such parts."""
    latents = [blobs.decode_arrays(section, blob)["latents"] for section, blob in parts]
    return codes.pixels(fitted.network, codes.latents_of(latents, fitted.network, shape), *shape[1:3])


def attar(images: Set, aim: str, settings: Settings) -> dict[str, Any]:
    """A row for an aim: train, then code the test images."""
    rows = np.arange(images.trained_on), np.arange(images.trained_on, len(images.train))
    found: list[Fitted] = []
    spread, within = float(np.std(images.train[rows[0]])), None
    if aim.startswith("q"):
        near = Near(images.train, (1 - float(aim[1:])) * spread)
    else:
        near = Near(images.train, (1 - LEAST_QUALITY) * spread)
        viewer = Viewer(images.models[FIRST], images.train, images.labels)
        within = Within(near, viewer, float(aim), 0.95, 10_000)
    seconds = timed(lambda: found.append(fit(images.train, rows, near, within, settings, Silent())))
    fitted = found[0]
    network = len(blobs.code_arrays("network", "part", fitted.network.arrays(), "dense")[1])
    parts: list[Any] = []
    coding = timed(lambda: parts.extend(coded(fitted, images.test)))
    back: list[Array] = []
    decoding = timed(lambda: back.append(decoded(fitted, parts, images.test.shape)))
    size = network + sum(len(blob) for _, blob in parts)
    whole = network + sum(len(blob) for _, blob in coded(fitted, images.train)) if within is None else None
    rest = sum(len(blob) for _, blob in stacks.coded(0, stacks.rest(images.test, back[0])))
    alone = sum(len(blob) for _, blob in stacks.coded(0, images.test))
    name = f"attar, quality {aim[1:]}" if within is None else f"attar, for {FIRST}, drop {aim}"
    return {
        "way": name, "quality": aim, "bytes": size, "network": network, "training images": whole,
        "trained on": len(images.train), "back": back[0], "ratio": fitted.ratio, "train": seconds, "encode": coding,
        "decode": decoding, "exact": size + rest, "alone": alone,
    }  # fmt: skip


def at_drop(rows: Sequence[dict[str, Any]], drop: float) -> float | None:
    """Bytes at which the first model loses so many points, between two rows; None where no two lie on both sides."""
    points = sorted((row["bytes"], row[FIRST]) for row in rows)
    for (small, more), (large, less) in pairwise(points):
        if more >= drop >= less:
            share = (more - drop) / max(more - less, 1e-9)
            return float(math.exp(math.log(small) + share * (math.log(large) - math.log(small))))
    return None


def text(rows: Sequence[dict[str, Any]], n: int) -> str:
    """All rows, and attar's bytes beside the rivals' at the same drop."""
    body = [
        [row["way"], str(row["quality"]), f"{row['bytes']:,}", f"{row['bytes'] / n:.1f}", f"{row['error']:.1f}",
         *(f"{row[name]:+.2f}" for name in MODELS)]
        for row in rows
    ]  # fmt: skip
    head = ["images with loss", "quality", "bytes", "bytes an image", "error", *(f"{name}, drop" for name in MODELS)]
    ways = list(dict.fromkeys(row["way"] for row in rows if not row["way"].startswith("attar")))
    lines = []
    for one in (row for row in rows if row["way"].startswith("attar")):
        for way in ways:
            # What was allowed to attar is allowed to the others, whether attar has lost as much or not.
            drop = one[FIRST] if one["quality"].startswith("q") else max(one[FIRST], float(one["quality"]))
            other = at_drop([row for row in rows if row["way"] == way], drop)
            note = "" if other is None else f"{other:,.0f} bytes"
            what = f"{way}, {drop:.2f} points lost / {one['way']}"
            lines.append(Line(what, 2.5, [None if other is None else other / one["bytes"]], unit="x", note=note))
    times = [
        f"{row['way']}: network {row['network']:,} bytes, trained in {row['train']:.0f} s, {n:,} images coded in "
        f"{row['encode']:.0f} s, decoded in {row['decode']:.1f} s; lost of what may be lost: {row['ratio']:.2f}"
        + (
            f"; the {row['trained on']:,} training images likewise: {row['training images']:,} bytes"
            if row["training images"]
            else ""
        )
        + f"; without loss (--exact) {row['exact']:,} bytes, by the images' coder alone {row['alone']:,}"
        for row in rows
        if "train" in row
    ]
    about = f"{machine()}; one thread; {n:,} images"
    return "\n\n".join([about, markdown(head, body), *times, table("targets", ["Fashion-MNIST"], lines)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--aims", nargs="*", default=["1", "q0.8"])
    parser.add_argument("--rivals", nargs="*", default=list(RIVALS))
    parser.add_argument("--tiny", action="store_true", help="400 images and 40 steps, to try the script")
    parser.add_argument("--json", type=Path, help="write all that was measured to this file")
    options = parser.parse_args()
    images = Set(tiny=options.tiny)
    settings = Settings(steps=40 if options.tiny else options.steps, width=options.width)
    makers: list[Callable[[], list[dict[str, Any]]]] = [
        *(lambda form=form: rival(form, images.test[..., 0]) for form in options.rivals),  # type: ignore[misc]
        *(lambda aim=aim: [attar(images, aim, settings)] for aim in options.aims),  # type: ignore[misc]
    ]
    rows: list[dict[str, Any]] = []
    for make in makers:
        rows += [images.measured(row) for row in make()]
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))
    print(text(rows, len(images.test)))


if __name__ == "__main__":
    main()
