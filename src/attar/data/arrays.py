"""Arrays in memory and .npz files: which of them are labels, which parts there are, whether they fit together."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from attar.data.limits import MAX_BYTES
from attar.errors import DataError, FormatError
from attar.types import Array, Dataset

HELD_OUT = ("test", "val", "valid", "validation")
"""Names of a part beside "train"."""
LABELS = ("y", "label", "labels", "target", "targets")
"""Names that mean labels."""


def dataset(inputs: Mapping[str, Array], labels: Array | None, origin: str, names: tuple[str, ...] = ()) -> Dataset:
    """A checked data set: at least one input, one length, numbers only; raises DataError."""
    if not inputs:
        raise DataError(f"data {origin!r}: at least one input is needed. Received none.")
    everything = dict(inputs) if labels is None else {**inputs, "labels": labels}
    for name, values in everything.items():
        if values.dtype != bool and not np.issubdtype(values.dtype, np.number):
            remedy = "Tokenise text and pad sequences to one length first."
            if values is labels:
                remedy = "Number the classes from 0 in the order of the model's outputs."
            raise DataError(
                f"data {origin!r}: {name!r} must hold numbers of one shape. Received dtype {values.dtype}. {remedy}"
            )
    lengths = {name: len(values) if values.ndim else 0 for name, values in everything.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"data {origin!r}: all arrays must have one length. Received {lengths}.")
    return Dataset(dict(inputs), labels, origin, names)


def labels_among(names: Iterable[str], inputs: Collection[str]) -> list[str]:
    """Those that mean labels and are none of a model's inputs."""
    return [name for name in names if str(name).lower() in LABELS and name not in inputs]


def from_mapping(
    arrays: Mapping[str, Array], origin: str, inputs: Collection[str] = ()
) -> Dataset | dict[str, Dataset]:
    """Named arrays as a data set: a name that means labels gives the labels, all others are inputs.

    x_train, y_train, x_test, y_test (or x_val, y_val) give parts "train" and "test". inputs: names of a model's inputs,
    which are no labels whatever they are called. Raises DataError.
    """
    parts: dict[str, dict[str, Array]] = {}
    for name, values in arrays.items():
        base, part = base_and_part(str(name))
        parts.setdefault(part, {})[base] = values
    held = held_out(parts, origin)
    if held:
        return {
            to: _split(parts[part], f"{origin}:{part}", inputs) for to, part in (("train", "train"), ("test", held))
        }
    return _split({str(name): values for name, values in arrays.items()}, origin, inputs)


def held_out(parts: Collection[object], origin: str) -> str | None:
    """The part beside "train", where these are the names of two; raises DataError where there are three of them."""
    if len(parts) < 2 or "train" not in parts or not set(parts) <= {"train", *HELD_OUT}:
        return None
    others = [str(part) for part in parts if part != "train"]
    if len(others) > 1:
        raise DataError(
            f"data {origin!r}: a set has two parts at most, train and test. Received train, {', '.join(others)}. Leave "
            "one out, or give them as sets of their own: calibrate, select and certify."
        )
    return others[0]


def base_and_part(name: str) -> tuple[str, str]:
    """An array's name without the part that it belongs to, and the part: x_train is ("x", "train"), x is ("x", "")."""
    found = re.fullmatch(r"(.+)_(train|test|val)|(train|test|val)_(.+)", name)
    return (found[1] or found[4], found[2] or found[3]) if found else (name, "")


def _split(arrays: Mapping[str, Array], origin: str, inputs: Collection[str]) -> Dataset:
    """Inputs and labels by name."""
    found = labels_among(arrays, inputs)
    if len(found) > 1:
        raise DataError(
            f"data {origin!r}: one array of labels is allowed. Received {', '.join(found)}. Rename the others."
        )
    labels = np.asarray(arrays[found[0]]) if found else None
    others = {name: np.asarray(values) for name, values in arrays.items() if name not in found}
    return dataset(others, labels, origin)


def read_npz(path: Path, inputs: Collection[str] = ()) -> Dataset | dict[str, Dataset]:
    """The arrays of an .npz file: x and y, or any inputs by name; nothing is unpickled.

    Raises FormatError where the file is broken or claims more than it holds, DataError where the arrays do not fit.
    """
    return from_mapping(npz_arrays(path), str(path), inputs)


def npz_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file as they are; raises FormatError as `read_npz` does."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise FormatError(
            f"data {path.name!r}: it must be a whole .npz file of plain arrays. Received: {error}."
        ) from None


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Every member is an array whose header, directory entry and size agree, before anything is allocated."""
    total = 0
    for member in archive.infolist():
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream)
            size = math.prod(shape) * dtype.itemsize
            if dtype.hasobject:
                raise ValueError(f"{member.filename} holds Python objects, which would be unpickled; save numbers")
            if size + stream.tell() != member.file_size:
                raise ValueError(f"{member.filename} has {member.file_size} bytes for shape {shape}")
        if member.file_size > 1100 * (member.compress_size + 64):
            raise ValueError(f"{member.filename} claims {member.file_size} bytes in {member.compress_size}")
        total += size
    if total > MAX_BYTES:
        raise DataError(f"data {path.name!r}: arrays must fit {MAX_BYTES} bytes. Received {total}. Use fewer examples.")
