"""Whatever the user has as data, as a Dataset in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attar import registry
from attar.data.arrays import dataset, from_mapping, held_out, read_npz
from attar.data.arrow import is_saved, read_saved
from attar.data.idx import is_idx, read_idx, read_idx_folder
from attar.data.images import image_size, read_image_folder
from attar.data.rows import read_frame, read_rows
from attar.data.sounds import is_sound_folder, read_sound_folder, sound_length
from attar.data.streams import from_batches, from_indexed, is_indexed, named_arrays, to_array
from attar.data.tables import is_table
from attar.errors import DataError, UsageError
from attar.types import Dataset, TensorSpec
from attar.user_code import is_spec, user_function

SAVED_TENSORFLOW = "dataset_spec.pb"
"""What a folder written by tf.data.Dataset.save holds."""


def read(
    source: object, batch_limit: int | None = None, *, specs: Sequence[TensorSpec] = ()
) -> Dataset | dict[str, Dataset]:
    """The user's data: one Dataset, or {"train": ..., "test": ...} where they come in those parts.

    Takes an .npz file (x and y, or inputs by name), a table (CSV, Parquet, JSON Lines), a folder of idx files, of
    images or WAV files by class, a data set that Hugging Face's or TensorFlow's libraries saved, one idx file,
    "package.module:function" (called without arguments; what it returns is read), arrays (x, y), a mapping of arrays,
    {"train": ..., "test": ...}, ((x, y), (x, y)) or two data sets of train and test, a pandas data frame,
    a torch DataLoader or Dataset, a tf.data.Dataset, a Hugging Face data set, or any iterable of batches, of which at
    most `batch_limit` are taken. Images and recordings of a folder are made to fit `specs`, a model's inputs.
    Raises UsageError, DataError, FormatError.
    """
    if isinstance(source, Dataset):
        return source
    if isinstance(source, str) and is_spec(source) and not Path(source).exists():
        return _from_function(source, batch_limit, specs)
    if isinstance(source, str | os.PathLike):
        return _from_path(Path(source), specs)
    return _from_object(source, f"data ({type(source).__name__})", batch_limit, specs)


def _named(specs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """The names that the data must have, of a model of several inputs: y may be one of them."""
    needed = tuple(spec.name for spec in specs if not spec.optional)
    return needed if len(needed) > 1 else ()


def _from_path(path: Path, specs: Sequence[TensorSpec]) -> Dataset | dict[str, Dataset]:
    """A file or a folder."""
    if not path.exists():
        raise UsageError(f"data: the file or folder must exist. Received {str(path)!r}.")
    if path.is_dir():
        return _from_folder(path, specs)
    if path.suffix == ".npz":
        return read_npz(path, _named(specs))
    if is_table(path):
        return read_rows(path, specs)
    if is_idx(path):
        return Dataset({"x": read_idx(path)}, None, str(path))
    raise UsageError(
        "data: it must be an .npz file, a table (.csv, .parquet, .jsonl), an idx file, a folder of idx files, images "
        "or recordings, a saved data set of Hugging Face or TensorFlow, or package.module:function. "
        f"Received {str(path)!r}."
    )


def _from_folder(folder: Path, specs: Sequence[TensorSpec]) -> Dataset | dict[str, Dataset]:
    """What a folder's files are."""
    if any(is_idx(file) for file in folder.iterdir()):
        return read_idx_folder(folder)
    if is_saved(folder):
        return read_saved(folder, image_size(specs))
    if (folder / SAVED_TENSORFLOW).is_file():
        return from_batches(registry.get("source", "tensorflow")(folder), f"data {str(folder)!r}")
    if is_sound_folder(folder):
        return read_sound_folder(folder, sound_length([spec.shape for spec in specs]))
    return read_image_folder(folder, image_size(specs))


def _from_function(spec: str, limit: int | None, specs: Sequence[TensorSpec]) -> Dataset | dict[str, Dataset]:
    """What the user's function returns."""
    function = user_function(spec, "data")
    made = function() if callable(function) else function
    if isinstance(made, str) and is_spec(made):
        raise UsageError(f"data: the function must return data. Received {made!r} from {spec!r}.")
    found = read(made, limit, specs=specs)
    if isinstance(made, Dataset) or not isinstance(found, Dataset):
        return found
    return Dataset(found.inputs, found.labels, spec, found.class_names)


def _from_object(
    source: Any, origin: str, limit: int | None, specs: Sequence[TensorSpec] = ()
) -> Dataset | dict[str, Dataset]:
    """Arrays, or something that hands out batches or examples."""
    inputs = _named(specs)
    if isinstance(source, Mapping):
        if source and all(isinstance(value, Dataset) for value in source.values()):
            return _checked_parts(source)
        held = held_out(source, origin)
        if held:
            pair = (("train", "train"), ("test", held))
            return {to: _part(source[name], f"{origin} {name}", limit, specs) for to, name in pair}
        given = {str(name): to_array(values, origin) for name, values in source.items() if values is not None}
        return from_mapping(given, origin, inputs)
    if _is_two_parts(source):
        return {
            name: _part(part, f"{origin} {name}", limit, specs)
            for name, part in zip(("train", "test"), source, strict=True)
        }
    if hasattr(source, "iloc") and hasattr(source, "columns"):
        return read_frame(source, origin, specs)
    if isinstance(source, tuple) or hasattr(source, "__array__") or hasattr(source, "detach"):
        named = named_arrays(source, origin, inputs)
        labels = named.pop("labels", None)
        return dataset(named, labels, origin)
    if hasattr(source, "column_names") or (is_indexed(source) and not _has_batches(source)):
        return from_indexed(source, origin, limit, [spec.shape for spec in specs], inputs=inputs)
    if isinstance(source, Iterable):
        return from_batches(source, origin, limit, inputs)
    raise UsageError(f"data: arrays, a path or an iterable of batches are needed. Received {type(source).__name__}.")


def _is_two_parts(source: object) -> bool:
    """Whether it is train and test: ((x, y), (x, y)), as keras.datasets give, or two data sets of a framework."""
    if not isinstance(source, tuple | list) or len(source) != 2:
        return False
    if isinstance(source, tuple) and all(isinstance(part, tuple) and len(part) == 2 for part in source):
        return True
    return not any(hasattr(part, "__array__") or hasattr(part, "detach") for part in source) and all(
        _has_batches(part) or is_indexed(part) for part in source
    )


def _part(source: Any, origin: str, limit: int | None, specs: Sequence[TensorSpec]) -> Dataset:
    """One of two parts; raises DataError where it comes in parts itself."""
    found = _from_object(source, origin, limit, specs)
    if not isinstance(found, Dataset):
        raise DataError(f"{origin}: a part must be one set. Received {', '.join(found)}. Give one of them.")
    return found


def _has_batches(source: object) -> bool:
    """Whether iterating gives batches: a loader has a batch size, a tf.data.Dataset an element spec."""
    return hasattr(source, "batch_size") or hasattr(source, "element_spec")


def _checked_parts(parts: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """Named data sets: train and test."""
    if set(parts) != {"train", "test"}:
        raise DataError(f"data: parts must be called train and test. Received {', '.join(map(str, parts))}.")
    return dict(parts)
