"""Looking at a folder of images and cleaning it: one image at a time, so that it need not fit into memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from attar.cleaning.faults import Fault, short
from attar.cleaning.label_noise import wrong_labels
from attar.cleaning.patch_features import patch_features
from attar.cleaning.table_rows import imbalance
from attar.cleaning.table_steps import CleanSettings
from attar.files.pictures import ENDINGS, Picture, silent, thumbnail
from attar.files.seen import seen
from attar.files.sources import Folder
from attar.types import Array, Json

SIDE = 32
"""Pixels of the thumbnails whose labels are checked."""
MOST_CHECKED = 10_000
"""Most images whose labels are checked, drawn evenly: their features are held in memory, 16 KB each."""
SWAPPED = 4.0
"""How many times nearer to its class an image's colour must come by exchanging red and blue."""
Kept = NDArray[np.bool_]


def clean_folder(
    source: Folder, settings: CleanSettings, step: Callable[[int], None] = silent
) -> tuple[Folder, list[Fault], Kept, list[dict[str, Json]]]:
    """The folder without broken images (and without wrong labels where asked), what was found, which files stay, facts.

    `step` is called for every image that was looked at.
    """
    pictures: list[Picture] = []
    thumbnails: list[NDArray[np.uint8]] = []
    checked: list[int] = []
    stride = -(-len(source.files) // MOST_CHECKED)
    wanted = set(source.files[::stride]) if settings.find_noisy else set()

    def small(picture: Picture, pixels: Array | None) -> Array | None:
        taken = pixels is not None and picture.label and picture.path in wanted
        return thumbnail(pixels, SIDE, colour=True) if pixels is not None and taken else None

    kind = f"every {stride}th of {SIDE}" if settings.find_noisy else "facts"
    for at, (picture, small_one) in enumerate(seen(source.path, source.files, kind, small)):
        pictures.append(picture)
        if small_one is not None:
            thumbnails.append(small_one)
            checked.append(at)
        step(1)
    stays = np.array([not picture.error for picture in pictures])
    faults = _broken(pictures) + _others(source) + _odd(pictures) + _twins(pictures) + _classes(pictures)
    faults += _swapped(pictures)
    if stride > 1 and thumbnails:
        rest = len(pictures) - len(checked)
        told = f"one of {stride} is looked at, since features are held in memory"
        faults.append(Fault("labels not checked", "classes", rest, len(pictures), (), told))
    if settings.find_noisy:
        faults += _noisy(pictures, checked, thumbnails, settings, stays)
    kept = tuple(name for name, stay in zip(source.files, stays, strict=True) if stay)
    return Folder(source.path, kept, ()), faults, stays, _describe(pictures)


def _describe(pictures: Sequence[Picture]) -> list[dict[str, Json]]:
    """A row for each part and class: images, sizes and modes."""
    groups: dict[tuple[str, str], list[Picture]] = {}
    for picture in pictures:
        groups.setdefault((picture.part, picture.label), []).append(picture)
    rows = []
    for (part, label), members in sorted(groups.items()):
        good = [picture for picture in members if not picture.error]
        sizes = Counter(f"{picture.width}x{picture.height}" for picture in good)
        modes = Counter(picture.mode for picture in good)
        rows.append({
            "part": part, "class": label, "images": len(members), "broken": len(members) - len(good),
            "sizes": _counted(sizes), "modes": _counted(modes),
        })  # fmt: skip
    return rows


def _counted(counts: Counter[str]) -> str:
    """The commonest few, and how many more there are."""
    more = f" and {len(counts) - 3} more" if len(counts) > 3 else ""
    return ", ".join(name for name, _ in sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))[:3]) + more


def _broken(pictures: Sequence[Picture]) -> list[Fault]:
    """Files that cannot be read as images."""
    bad = [picture for picture in pictures if picture.error]
    told = tuple(f"{picture.path} ({short(picture.error, 60)})" for picture in bad[:3])
    return [Fault("broken image", "files", len(bad), len(pictures), told, "left out")] if bad else []


def _others(source: Folder) -> list[Fault]:
    """Files that do not say that they are images."""
    total = len(source.files) + len(source.others)
    told = tuple(source.others[:3])
    return [Fault("no image", "files", len(source.others), total, told, "left out")] if source.others else []


def _odd(pictures: Sequence[Picture]) -> list[Fault]:
    """Images that are flat, of another size or mode than most, or of another format than their ending says."""
    good = [(at, picture) for at, picture in enumerate(pictures) if not picture.error]
    if not good:
        return []
    size = Counter((picture.width, picture.height) for _, picture in good).most_common(1)[0][0]
    mode = Counter(picture.mode for _, picture in good).most_common(1)[0][0]
    checks: list[tuple[str, str, Callable[[Picture], bool], Callable[[Picture], str]]] = [
        ("flat image", "images", lambda p: p.flat, lambda p: p.path),
        (
            "other size",
            f"images not {size[0]}x{size[1]}",
            lambda p: (p.width, p.height) != size,
            lambda p: f"{p.path} {p.width}x{p.height}",
        ),
        ("other mode", f"images not {mode}", lambda p: p.mode != mode, lambda p: f"{p.path} {p.mode}"),
        (
            "wrong ending",
            "images",
            lambda p: not p.path.lower().endswith(ENDINGS[p.format]),
            lambda p: f"{p.path} {p.format}",
        ),
    ]
    faults = []
    for kind, place, wrong, told in checks:
        bad = [(at, picture) for at, picture in good if wrong(picture)]
        if bad:
            said, samples = tuple(told(picture) for _, picture in bad[:3]), tuple(at for at, _ in bad)
            faults.append(Fault(kind, place, len(bad), len(pictures), said, "", samples))
    return faults


def _twins(pictures: Sequence[Picture]) -> list[Fault]:
    """Images of equal pixels; `dedupe` takes them out."""
    first: dict[str, int] = {}
    again = [
        (at, first[picture.digest])
        for at, picture in enumerate(pictures)
        if not picture.error and first.setdefault(picture.digest, at) != at
    ]
    if not again:
        return []
    told = tuple(f"{pictures[at].path} = {pictures[other].path}" for at, other in again[:3])
    samples, notes = tuple(at for at, _ in again), tuple(f"= {pictures[other].path}" for _, other in again)
    return [Fault("duplicate", "images", len(again), len(pictures), told, "", samples, notes)]


def _classes(pictures: Sequence[Picture]) -> list[Fault]:
    """Rare classes, for each part."""
    faults = []
    for part in sorted({picture.part for picture in pictures}):
        counts = Counter(p.label for p in pictures if p.part == part and p.label and not p.error)
        faults += imbalance(dict(counts), f"classes of {part}" if part else "classes")
    return faults


def _swapped(pictures: Sequence[Picture]) -> list[Fault]:
    """Images whose mean colour fits their class only with red and blue exchanged: probably BGR written as RGB.

    Listed: a photograph may be blue where others are red.
    """
    colours: dict[str, list[tuple[int, NDArray[np.float64]]]] = {}
    for at, picture in enumerate(pictures):
        if not picture.error and picture.mode not in ("1", "L", "LA"):
            colours.setdefault(picture.label, []).append((at, np.array(picture.colour)))
    bad: list[int] = []
    for members in colours.values():
        if len(members) < 10:
            continue
        stack = np.stack([colour for _, colour in members])
        middle = np.median(stack, axis=0)
        spread = np.median(np.abs(stack - middle).sum(1)) + 1.0
        away, exchanged = np.abs(stack - middle).sum(1), np.abs(stack[:, ::-1] - middle).sum(1)
        odd = (away > SWAPPED * exchanged) & (away > SWAPPED * spread)
        bad += [members[i][0] for i in np.flatnonzero(odd)]
    told = tuple(pictures[at].path for at in bad[:3])
    total = len(pictures)
    return [Fault("channel order", "images", len(bad), total, told, "", tuple(bad))] if bad else []


def _noisy(
    pictures: Sequence[Picture],
    rows: Sequence[int],
    thumbnails: Sequence[NDArray[np.uint8]],
    settings: CleanSettings,
    stays: Kept,
) -> list[Fault]:
    """Images that probably lie in the folder of another class; `rows` are the positions of the thumbnails."""
    names = sorted({pictures[at].label for at in rows})
    if len(names) < 2:
        return []
    labels = np.array([names.index(pictures[at].label) for at in rows], np.int64)
    found = wrong_labels(patch_features(np.stack(thumbnails), settings.seed), labels, settings.seed)
    if isinstance(found, str):
        return [Fault("labels not checked", "classes", 0, len(pictures), (), found)]
    if not len(found.positions):
        return []
    at = [rows[i] for i in found.positions]
    notes = tuple(f"rather {names[other]}" for other in found.suggested)
    told = tuple(f"{pictures[i].path}, {note}" for i, note in list(zip(at, notes, strict=True))[:3])
    if settings.drop_noisy:
        stays[at] = False
    change = "left out" if settings.drop_noisy else ""
    return [Fault("label probably wrong", "classes", len(at), found.looked_at, told, change, tuple(at), notes)]
