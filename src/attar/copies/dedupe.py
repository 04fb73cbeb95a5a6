"""Duplicates within a data set and leaks between sets: equal ones by content hash, near ones by comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.cleaning.table_rows import row_keys
from attar.cleaning.table_steps import MOST_CATEGORIES, text_columns
from attar.copies.near import array_crops, crops, grey, near_images, near_texts
from attar.data.overlap import row_hashes
from attar.errors import DataError
from attar.files.notes import read_notes
from attar.files.pictures import Picture, as_images, silent
from attar.files.recordings import SIDE, listen, spectrum
from attar.files.seen import seen
from attar.files.sources import Arrays, Folder, Source, Table, check_output, open_source, save, taken
from attar.types import Array, Dataset, Json

Pairs = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Examples:
    """What is compared: names, content hashes, labels ("" where there are none) and parts of examples, all [n].

    `crops` are thumbnails of images, `texts` the text of rows; where both are None nothing can be nearly equal.
    """

    names: tuple[str, ...]
    digests: tuple[str, ...]
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    crops: list[NDArray[np.uint8]] | None = None
    texts: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Groups of equal (or nearly equal) examples of a set, and pairs that two sets or two parts have in common.

    `groups` are positions; the first of each stays. `exact` of the surplus examples are equal to one before them.
    `leaks` are pairs of names with "equal" or "near", `leaked` counts the examples of the source in them, `against`
    is the other side in words. `conflicts` counts groups whose members carry different labels.
    """

    examples: Examples
    groups: tuple[tuple[int, ...], ...]
    exact: int
    leaks: tuple[tuple[str, str, str], ...]
    leaked: int
    against: str
    conflicts: int
    near: bool

    @property
    def surplus(self) -> int:
        """How many examples go."""
        return sum(len(group) - 1 for group in self.groups)

    def kept(self) -> NDArray[np.int64]:
        """Positions that stay."""
        goes = [at for group in self.groups for at in group[1:]]
        return np.setdiff1d(np.arange(len(self.examples.names)), goes)

    def facts(self) -> dict[str, Json]:
        """The findings for a machine."""
        names = self.examples.names
        return {
            "examples": len(names), "duplicates": self.surplus, "exact": self.exact, "conflicts": self.conflicts,
            "groups": [[names[at] for at in group] for group in self.groups], "against": self.against,
            "leaked": self.leaked, "leaks": [{"example": a, "other": b, "kind": c} for a, b, c in self.leaks],
        }  # fmt: skip


def dedupe(
    source: str | Path,
    against: str | Path | None = None,
    *,
    near: bool = False,
    out: Path | None = None,
    force: bool = False,
    step: Callable[[int], None] = silent,
) -> Duplicates:
    """Duplicates within a set, and what it shares with another; `near` finds those that are nearly equal as well.

    Where the set comes as train and test, what these share is a leak too. With `out` the set is written without
    duplicates (the first of a group stays; leaks are not taken out). Raises UsageError, DataError, FormatError,
    OutputError.
    """
    opened = open_source(source)
    if out is not None:
        check_output(opened, out, force)
    examples = gather(opened, near=near, step=step)
    equal, similar = _pairs(examples, near=near)
    pairs = [(i, j, "equal") for i, j in equal] + [(i, j, "near") for i, j in similar]
    inside = [(i, j) for i, j, _ in pairs if examples.parts[i] == examples.parts[j]]
    leaks = [(j, i, kind) for i, j, kind in pairs if examples.parts[i] != examples.parts[j]]
    named = [(examples.names[a], examples.names[b], kind) for a, b, kind in leaks]
    leaked = {a for a, _, _ in leaks}
    said = "the other part" if len(set(examples.parts)) > 1 else ""
    if against is not None:
        other = gather(open_source(against), near=near, step=step)
        crossed = _across(examples, other, near=near)
        named += [(examples.names[i], other.names[j], kind) for i, j, kind in crossed]
        leaked |= {i for i, _, _ in crossed}
        said = str(against)
    groups = groups_of(len(examples.names), inside)
    exact = sum(examples.parts[i] == examples.parts[j] for i, j in equal)
    conflicts = sum(len({examples.labels[at] for at in group}) > 1 for group in groups)
    found = Duplicates(examples, groups, exact, tuple(named), len(leaked), said, conflicts, near)
    if out is not None:
        save(taken(opened, found.kept()), out)
    return found


def gather(source: Source, *, near: bool, step: Callable[[int], None] = silent) -> Examples:
    """What of a set is compared; raises DataError where `near` is asked of what has neither images nor text."""
    if isinstance(source, Table):
        return _of_table(source, near=near)
    if isinstance(source, Folder):
        return FOLDERS[source.kind](source, near=near, step=step)
    return _of_arrays(source, near=near)


def _of_table(source: Table, *, near: bool) -> Examples:
    """Rows."""
    frame = source.frame
    free = [name for name in text_columns(frame) if frame[name].nunique() > min(MOST_CATEGORIES, len(frame) / 2)]
    if near and not free:
        raise DataError(
            f"table {source.path.name!r}: near duplicates are found in columns of free text. Received none. "
            "Leave --near out."
        )
    texts = tuple(" ".join(cells) for cells in frame[free].fillna("").to_numpy().tolist()) if near else None
    names = tuple(f"row {row}" for row in frame.index)
    blank = ("",) * len(names)
    return Examples(names, tuple(f"{key:016x}" for key in row_keys(frame)), blank, blank, None, texts)


def _of_folder(source: Folder, *, near: bool, step: Callable[[int], None]) -> Examples:
    """Image files; broken ones are equal to nothing."""
    rows, thumbnails = [], []

    def small(_: Picture, pixels: Array | None) -> Array | None:
        plain = np.zeros((8, 8), np.uint8) if pixels is None else grey(pixels[None])[0]
        return crops(plain[None])[0] if near else None

    for picture, crop in seen(source.path, source.files, "crops" if near else "facts", small):
        rows.append((picture.path, picture.digest or picture.path, picture.label, picture.part))
        thumbnails += [] if crop is None else [crop]
        step(1)
    names, digests, labels, parts = zip(*rows, strict=True)
    return Examples(names, digests, labels, parts, thumbnails if near else None)


def _of_recordings(source: Folder, *, near: bool, step: Callable[[int], None]) -> Examples:
    """WAV files; broken ones are equal to nothing. Pictures of their spectra tell whether they are nearly equal."""
    rows, pictures = [], []
    for one, samples in listen(source.path, source.files):
        rows.append((one.path, one.digest or one.path, one.label, one.part))
        empty = np.zeros((SIDE, SIDE), np.uint8)
        pictures += [(empty if samples is None else spectrum(samples, one.rate))[None]] if near else []
        step(1)
    names, digests, labels, parts = zip(*rows, strict=True)
    return Examples(names, digests, labels, parts, pictures if near else None)


def _of_texts(source: Folder, *, near: bool, step: Callable[[int], None]) -> Examples:
    """Text files."""
    rows, texts = [], []
    for note, text in read_notes(source.path, source.files):
        rows.append((note.path, note.digest or note.path, note.label, note.part))
        texts += [text] if near else []
        step(1)
    names, digests, labels, parts = zip(*rows, strict=True)
    return Examples(names, digests, labels, parts, None, tuple(texts) if near else None)


FOLDERS: dict[str, Callable[..., Examples]] = {
    "images": _of_folder, "recordings": _of_recordings, "texts": _of_texts
}  # fmt: skip
"""What of a folder is compared, by kind."""


def _of_arrays(source: Arrays, *, near: bool) -> Examples:
    """Examples of every part."""
    rows: list[tuple[str, str, str, str]] = []
    thumbnails: list[NDArray[np.uint8]] = []
    for part, (inputs, labels) in source.parts().items():
        keys = row_hashes(Dataset(inputs))
        marks: Sequence[Any] = [""] * len(keys) if labels is None else labels.tolist()
        rows += [
            (f"{part or 'example'} {at}", f"{key:016x}", str(mark), part)
            for at, (key, mark) in enumerate(zip(keys, marks, strict=True))
        ]
        if near:
            first = next(iter(inputs.values()))
            if as_images(first[:1]) is None:
                shapes = {name: values.shape for name, values in inputs.items()}
                raise DataError(f"data {str(source.path)!r}: near duplicates are found in images. Received {shapes}.")
            thumbnails += array_crops(first)
    names, digests, labels_, parts = zip(*rows, strict=True)
    return Examples(names, digests, labels_, parts, thumbnails if near else None)


def _pairs(examples: Examples, *, near: bool) -> tuple[Pairs, Pairs]:
    """Equal pairs (first of its kind, a later one; within a part, or else across) and near ones that are not equal."""
    first: dict[tuple[str, str], int] = {}
    anywhere: dict[str, int] = {}
    equal: Pairs = []
    for at, (part, digest) in enumerate(zip(examples.parts, examples.digests, strict=True)):
        same, known = first.setdefault((part, digest), at), anywhere.setdefault(digest, at)
        if same != at:
            equal.append((same, at))
        if examples.parts[known] != part:
            equal.append((known, at))
    if not near:
        return equal, []
    found = near_texts(examples.texts) if examples.texts is not None else near_images(examples.crops or [])
    return equal, [(i, j) for i, j in found if examples.digests[i] != examples.digests[j]]


def _across(examples: Examples, other: Examples, *, near: bool) -> list[tuple[int, int, str]]:
    """Pairs of an example of one set and an example of another."""
    known = {digest: at for at, digest in reversed(list(enumerate(other.digests)))}
    pairs = [(at, known[digest], "equal") for at, digest in enumerate(examples.digests) if digest in known]
    if near and (examples.texts is None) != (other.texts is None):
        raise DataError("data: sets must be of one kind to be compared. Received images and a table.")
    if near:
        texts, images = (examples.texts, other.texts), (examples.crops, other.crops)
        found = (
            near_texts(texts[0], texts[1]) if texts[0] and texts[1] else near_images(images[0] or [], images[1] or [])
        )
        pairs += [(i, j, "near") for i, j in found if examples.digests[i] != other.digests[j]]
    return pairs


def groups_of(count: int, pairs: Pairs) -> tuple[tuple[int, ...], ...]:
    """Connected examples, those of more than one, in order."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not pairs:
        return ()
    i, j = np.array(pairs).T
    _, owner = connected_components(coo_array((np.ones(len(i)), (i, j)), (count, count)), directed=False)
    order = np.argsort(owner, kind="stable")
    split = np.split(order, np.flatnonzero(np.diff(owner[order])) + 1)
    return tuple(sorted(tuple(sorted(group.tolist())) for group in split if len(group) > 1))
