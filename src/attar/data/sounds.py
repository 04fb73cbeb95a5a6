"""Folders of WAV files as examples: samples of one length, labels by folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attar.data.limits import MAX_BYTES
from attar.data.wav import recording
from attar.errors import DataError
from attar.types import Array, Dataset

SUFFIX = ".wav"


def is_sound_folder(folder: Path) -> bool:
    """Whether a folder, or one in it, holds WAV files."""
    return any(_sounds(place) for place in (folder, *_folders(folder)))


def read_sound_folder(folder: Path, length: int | None) -> Dataset:
    """x float32 [n, samples] in -1 .. 1, the mean of the channels; labels by sorted folder name, none if flat.

    length: samples of the model's input; longer recordings are cut into examples of it, one after the other, and what
    is left over is filled up with silence where it is the only one. None: all must be of one length. Raises
    FormatError for a broken file, DataError.
    """
    classes = [place for place in _folders(folder) if _sounds(place)]
    flat = _sounds(folder)
    if classes and flat:
        raise DataError(
            f"folder {str(folder)!r}: recordings must lie in folders by class, or all in one. Received both: "
            f"{flat[0].name!r}. Move it."
        )
    found = [(path, label) for label, place in enumerate(classes) for path in _sounds(place)] or [(p, -1) for p in flat]
    pieces: list[Array] = []
    labels: list[int] = []
    total = 0
    for path, label in found:
        cut = _cut(recording(path)[0], length)
        if pieces and cut.shape[1] != pieces[0].shape[1]:
            raise DataError(
                f"folder {str(folder)!r}: recordings must be of one length where the model's input is not fixed. "
                f"Received {pieces[0].shape[1]:,} and {cut.shape[1]:,} samples ({path.name!r}). Cut them."
            )
        total += cut.nbytes
        if total > MAX_BYTES:
            raise DataError(f"folder {str(folder)!r}: recordings must fit {MAX_BYTES} bytes. Use fewer.")
        pieces.append(cut)
        labels += [label] * len(cut)
    known = np.array(labels, np.int64) if classes else None
    return Dataset({"x": np.concatenate(pieces)}, known, str(folder), tuple(place.name for place in classes))


def sound_length(shapes: Sequence[tuple[int | None, ...]]) -> int | None:
    """Samples that a model of one input of sound takes, [n, samples] or with an axis of one; None where it is free."""
    if len(shapes) != 1:
        return None
    axes = [size for size in shapes[0][1:] if size != 1]
    return axes[0] if len(axes) == 1 else None


def _folders(folder: Path) -> list[Path]:
    """Folders inside, sorted, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _sounds(folder: Path) -> list[Path]:
    """The WAV files of a folder, sorted, without hidden ones."""
    return sorted(
        path for path in folder.iterdir()
        if path.suffix.lower() == SUFFIX and path.is_file() and not path.name.startswith(".")
    )  # fmt: skip


def _cut(samples: Array, length: int | None) -> Array:
    """Examples [n, length] of one recording."""
    if length is None:
        return samples[None]
    count = max(len(samples) // length, 1)
    padded = np.pad(samples[: count * length], (0, max(count * length - len(samples), 0)))
    return padded.reshape(count, length)
