"""Hugging Face data sets on disk: what `save_to_disk` writes, and folders of Parquet files, read by pyarrow alone.

Layout: state.json lists a part's Arrow files, dataset_dict.json the parts; the features (names of classes, which
columns are images) stand in the schema's metadata. Nothing of the `datasets` library is needed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from attar.data.arrays import LABELS, dataset
from attar.data.extras import extra
from attar.data.images import ANY, TEST, TRAIN, Size, read_image, stacked
from attar.data.limits import MAX_BYTES
from attar.errors import DataError, FormatError
from attar.types import Array, Dataset

LISTS = ("list", "large_list", "fixed_size_list")


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote it, or it holds Parquet files, itself or in `data`."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file() or bool(_parquet(folder))


def read_saved(folder: Path, size: Size = ANY) -> Dataset | dict[str, Dataset]:
    """Columns as inputs by name (one as x), the column of labels as labels; parts train and test where there are any.

    Images are made to fit `size`. Raises FormatError for what is not whole, DataError for columns that are no numbers
    and lists that are not of one length, UsageError without pyarrow.
    """
    extra("pyarrow", "data sets of Hugging Face")
    if (folder / "dataset_dict.json").is_file():
        named = _strings(_json(folder / "dataset_dict.json").get("splits"), folder)
        tables = {name: _arrow(folder / _plain(name, folder)) for name in named}
    elif (folder / "state.json").is_file():
        tables = {"": _arrow(folder)}
    else:
        tables = _parts_of_parquet(folder)
    if len(tables) == 1:
        return _dataset(next(iter(tables.values())), folder, size)
    train = [name for name in tables if name in TRAIN]
    test = [name for name in TEST if name in tables]
    if not (train and test):
        raise DataError(
            f"data {str(folder)!r}: its parts must be called train and test (or validation). Received "
            f"{', '.join(tables)}. Give the folder of one of them."
        )
    return {part: _dataset(tables[name], folder, size) for part, name in (("train", train[0]), ("test", test[0]))}


def _json(path: Path) -> dict[str, Any]:
    """A small JSON object; raises FormatError."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"data {path.name!r}: it must be a JSON object. Received: {error}.") from None
    if not isinstance(found, dict):
        raise FormatError(f"data {path.name!r}: it must be a JSON object. Received {type(found).__name__}.")
    return found


def _strings(found: object, folder: Path) -> list[str]:
    """A list of names that is not empty; raises FormatError."""
    if not isinstance(found, list) or not found or not all(isinstance(name, str) for name in found):
        raise FormatError(f"data {str(folder)!r}: it must list its parts or files. Received {str(found)[:80]}.")
    return found


def _plain(name: str, folder: Path) -> str:
    """A name inside the folder: a file must not lead elsewhere; raises FormatError."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or len(pure.parts) != 1 or name in (".", "..") or "\\" in name:
        raise FormatError(f"data {str(folder)!r}: files must lie in the folder. Received {name!r}.")
    return name


def _arrow(folder: Path) -> Any:
    """The table that `save_to_disk` wrote into a folder; raises FormatError."""
    import pyarrow as arrow
    from pyarrow import ipc

    listed = _json(folder / "state.json").get("_data_files")
    names = [entry.get("filename") for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    places = [folder / _plain(name, folder) for name in _strings(names, folder)]
    _check_size(places, folder)
    try:
        tables = []
        for place in places:
            with arrow.memory_map(str(place)) as file, ipc.open_stream(file) as reader:
                table = reader.read_all()
            table.validate(full=True)
            tables.append(table)
        return arrow.concat_tables(tables)
    except (OSError, ValueError, NotImplementedError) as error:  # pyarrow's own are of these
        raise FormatError(f"data {str(folder)!r}: its Arrow files must be whole. Received: {_line(error)}.") from None


def _parquet(folder: Path) -> list[Path]:
    """Parquet files of a folder, or of its folder `data`, as a hub keeps them."""
    return sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet"))


def _parts_of_parquet(folder: Path) -> dict[str, Any]:
    """Tables by part: train-00000-of-00002.parquet is of train; files without such a name are one table."""
    import pyarrow as arrow
    from pyarrow import parquet

    places = _parquet(folder)
    _check_size(places, folder)
    groups: dict[str, list[Path]] = {}
    for place in places:
        groups.setdefault(place.stem.split("-")[0], []).append(place)
    if not set(groups) <= {*TRAIN, *TEST}:
        groups = {"": places}
    try:
        return {
            part: arrow.concat_tables([parquet.read_table(place, use_threads=False) for place in some])
            for part, some in groups.items()
        }
    except (OSError, ValueError, NotImplementedError) as error:
        raise FormatError(f"data {str(folder)!r}: its Parquet files must be whole. Received: {_line(error)}.") from None


def _check_size(places: list[Path], folder: Path) -> None:
    """That the files are there and fit memory; raises FormatError, DataError."""
    missing = [place.name for place in places if not place.is_file()]
    if missing:
        raise FormatError(f"data {str(folder)!r}: every file that it lists must be there. Received no {missing[0]!r}.")
    total = sum(place.stat().st_size for place in places)
    if total > MAX_BYTES:
        raise DataError(f"data {str(folder)!r}: it must fit {MAX_BYTES} bytes. Received {total}. Use fewer files.")


def _dataset(table: Any, folder: Path, size: Size) -> Dataset:
    """One part."""
    features = _features(table.schema.metadata or {})
    origin = str(folder)
    if not table.num_rows:
        raise DataError(f"data {origin!r}: it must have rows. Received none.")
    found = [name for name in table.column_names if name.lower() in LABELS]
    if len(found) > 1:
        raise DataError(f"data {origin!r}: one column of labels is allowed. Received {', '.join(found)}. Remove one.")
    arrays = {
        name: _column(table.column(name), features.get(name), f"data {origin!r}: column {name!r}", size)
        for name in table.column_names
    }
    labels = arrays.pop(found[0]) if found else None
    names = features.get(found[0], {}).get("names") if found else None
    classes = tuple(map(str, names)) if isinstance(names, list) else ()
    return dataset(arrays if len(arrays) != 1 else {"x": next(iter(arrays.values()))}, labels, origin, classes)


def _features(metadata: Mapping[bytes, bytes]) -> dict[str, dict[str, Any]]:
    """What the `datasets` library said of the columns; nothing where it said nothing that can be read."""
    try:
        found = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name: said for name, said in found.items() if isinstance(said, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _column(column: Any, feature: Mapping[str, Any] | None, place: str, size: Size) -> Array:
    """A column [rows, ...] as numbers."""
    import pyarrow as arrow

    if column.null_count:
        raise DataError(f"{place}: every row needs a value. Received {column.null_count:,} without one. Remove them.")
    kind = column.type.storage_type if isinstance(column.type, arrow.BaseExtensionType) else column.type
    if (feature or {}).get("_type") == "Image" or (
        arrow.types.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}
    ):
        named = ((f"row {row}", _image(cell, f"{place}, row {row}", size)) for row, cell in enumerate(column))
        return stacked(named, place)
    array = column.combine_chunks()
    if isinstance(column.type, arrow.BaseExtensionType):
        array = array.storage if isinstance(array, arrow.Array) else array.chunk(0).storage
    return _numbers(array, place)


def _image(cell: Any, place: str, size: Size) -> Array:
    """One image; raises FormatError, DataError."""
    value = cell.as_py()
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise DataError(f"{place}: images must be in the file. Received {str(value)[:60]!r}. Embed them.")
    return read_image(io.BytesIO(data), place, size)


def _numbers(array: Any, place: str) -> Array:
    """An Arrow array of numbers, or of lists of them of one length, however deep; raises DataError."""
    import pyarrow as arrow

    shape = [len(array)]
    while any(getattr(arrow.types, f"is_{kind}")(array.type) for kind in LISTS):
        inner = array.flatten()
        lengths = np.unique(np.asarray(array.value_lengths())) if shape[0] else np.zeros(1, int)
        if array.null_count or len(lengths) != 1:
            raise DataError(f"{place}: all lists must be of one length. Received {len(lengths)} lengths. Pad them.")
        shape.append(int(lengths[0]))
        array = inner
    if array.null_count or not (
        arrow.types.is_integer(array.type) or arrow.types.is_floating(array.type) or arrow.types.is_boolean(array.type)
    ):
        raise DataError(
            f"{place}: it must hold numbers or images. Received {array.type}"
            f"{' with gaps' if array.null_count else ''}. Remove the column, or tokenise text first."
        )
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(shape)


def _line(error: Exception) -> str:
    """An error in one line."""
    return " ".join(str(error).split())[:200]
