"""Data sets with faults planted in them, and what a fault is told by."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attar.cleaning.clean import Inspection
from attar.cleaning.faults import Fault
from attar.data.read import read

FASHION = Path(__file__).parents[2] / "examples" / "fashion-mnist"


def fashion(part: str, count: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images [n, 28, 28] and labels [n] of a part of examples/fashion-mnist."""
    found = read(FASHION)[part]
    return found.inputs["x"][:count].copy(), found.labels[:count].copy()


def flipped(labels: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Labels of which a share is another class, drawn evenly, and which they are."""
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(labels), bool)
    wrong[rng.choice(len(labels), round(share * len(labels)), replace=False)] = True
    classes = int(labels.max()) + 1
    changed = labels.copy()
    changed[wrong] = (labels[wrong] + rng.integers(1, classes, wrong.sum())) % classes
    return changed, wrong


def encoded(image: NDArray[np.uint8], _: np.random.Generator) -> NDArray[np.uint8]:
    """Through JPEG at quality 75."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file))


def moved(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """By a pixel in one of eight directions; zeros come in."""
    down, right = [(d, r) for d in (-1, 0, 1) for r in (-1, 0, 1) if (d, r) != (0, 0)][rng.integers(8)]
    wide = np.pad(image, 1)
    return wide[1 + down : 1 + down + len(image), 1 + right : 1 + right + image.shape[1]]


def brightened(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Times 0.8 to 1.2 and up to 20 of 255 more or less; what leaves the range is clipped."""
    return np.clip(image * rng.uniform(0.8, 1.2) + rng.integers(-20, 21), 0, 255).astype(np.uint8)


ALTERED = {"re-encoded": encoded, "moved by a pixel": moved, "brightness changed": brightened}


def leaking(train: NDArray[np.uint8], test: NDArray[np.uint8], share: float, seed: int) -> dict[str, dict[int, int]]:
    """Overwrites a share of `test` by altered examples of `train`; by alteration: test position -> train position."""
    rng = np.random.default_rng(seed)
    count = round(share * len(test))
    sources, places = (rng.choice(len(x), count, replace=False) for x in (train, test))
    planted: dict[str, dict[int, int]] = {name: {} for name in ALTERED}
    for number, (source, place) in enumerate(zip(sources.tolist(), places.tolist(), strict=True)):
        name = list(ALTERED)[number % 3]
        test[place] = ALTERED[name](train[source], rng)
        planted[name][place] = source
    return planted


def image_folder(folder: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """PNG files in folders by class, named by their number."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:05d}.png")


def fault(found: Inspection, kind: str, place: str = "") -> Fault:
    """The one fault of a kind whose place holds a text."""
    (one,) = [each for each in found.faults if each.kind == kind and place in each.place]
    return one


def hashes(path: Path) -> dict[str, str]:
    """The content hash of a file, or of every file of a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
