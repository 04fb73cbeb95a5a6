"""The verbs of files: what a model or an archive holds, whether it is whole, and the model that comes back from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from attar import outputs, summary
from attar.adapters.base import Adapter, Sparse
from attar.archive import read_archive
from attar.errors import FormatError, ModelError, UsageError
from attar.job import size_of
from attar.opening import from_archive, open_model, packed_model
from attar.result import PathLike, Result, entry
from attar.run.progress import Progress, Silent
from attar.streaming import expanding
from attar.types import Json


def inspect(model: object, *, factory: str | None = None) -> list[dict[str, Json]]:
    """One row for each layer of a model or .attar file: name, kind, shape, bits per weight, zeros, bytes, share."""
    if isinstance(model, str | os.PathLike) and Path(model).suffix == ".attar":
        path = Path(model)
        archive = read_archive(path)
        archive.verify()
        if archive.files:
            return summary.packed_rows(archive)
        if archive.parts:
            return summary.part_rows(archive)
        return summary.layer_rows(archive, path.stat().st_size)
    adapter = open_model(model, factory)
    return summary.model_rows(adapter, size_of(model, adapter))


def verify(path: PathLike) -> list[dict[str, Json]]:
    """One row for each section of a .attar file: its name, kind, bytes, and what is wrong with it, or None.

    Everything is read, held against its checksum and decoded; nothing in the file is run. A file whose header or
    manifest is broken is one row. Raises UsageError where there is no such file.
    """
    place = Path(path)
    if not place.is_file():
        raise UsageError(f"archive {str(path)!r}: it must be a file. Received none. Check the path.")
    try:
        archive = read_archive(place)
    except FormatError as error:
        return [{"section": place.name, "kind": "file", "bytes": place.stat().st_size, "error": str(error)}]
    return summary.section_rows(archive)


def load(path: PathLike, into: object | None = None, *, packed: bool | int = False) -> Any:
    """The working model of a .attar file, in its own framework; `into` gives the class where the file has no graph.

    `into` itself is not changed: a copy with the file's weights is returned. packed: the file's bytes stay in memory
    and each weight is decoded whenever it is used, with the same outputs; a number lets so many bytes of decoded
    weights stay. Such a model has no state dict of its layers and is not trained. Raises FormatError, ModelError,
    UsageError.
    """
    if packed is False:
        return from_archive(read_archive(Path(path)), into).model()
    if packed < 0:
        raise UsageError(f"packed: bytes that stay decoded must be 0 or more. Received {packed}. Use True for none.")
    if not Path(path).is_file():
        raise FormatError(f"file {str(path)!r}: it must be readable. Received none. Check the path.")
    return packed_model(read_archive(Path(path).read_bytes()), into, 0 if packed is True else int(packed))


def save(result: Result, path: PathLike, *, force: bool = False) -> None:
    """`result.save(path)`."""
    result.save(path, force=force)


def expand(
    path: PathLike, out: PathLike, *, into: object | None = None, force: bool = False, sparse: bool = False,
    stream: bool = False, progress: Progress | None = None,
) -> Path:  # fmt: skip
    """Write the plain model of a .attar file to `out`: a file, or a folder in which it gets the archive's name.

    sparse: weights without their zeros where they are smaller so; raises ModelError where the format has no layout for
    that. stream: tensor by tensor, for Hugging Face models; done without asking where memory would not do.
    """
    source, place = Path(path), Path(out)
    archive = read_archive(source)
    if into is None and not sparse and expanding.wants(archive, asked=stream):
        return expanding.expand(source, place, progress or Silent(), force=force)
    adapter = from_archive(archive, into)
    suffixes = _sparse_suffixes(adapter) if sparse else adapter.suffixes
    if place.is_dir() or place.suffix not in adapter.suffixes:
        place = place / (source.stem + suffixes[0])
    outputs.check_free(place.parent, [entry(place.name, adapter)], force)
    with outputs.staged(place.parent) as stage:
        if isinstance(adapter, Sparse) and sparse:
            changed = outputs.guarded(lambda: adapter.save_sparse(stage / place.name), place)
            (progress or Silent()).note(summary.sparse_line(changed))
        else:
            outputs.guarded(lambda: adapter.save(stage / place.name), place)
        outputs.publish(stage, place.parent, force)
    return place


def _sparse_suffixes(adapter: Adapter) -> tuple[str, ...]:
    """Endings of files with sparse weights; raises ModelError where there are none."""
    suffixes = adapter.sparse_suffixes if isinstance(adapter, Sparse) else ()
    if not suffixes:
        raise ModelError(
            "--sparse: ONNX files and PyTorch state dicts have a layout for weights with many zeros. Received a "
            f"{adapter.framework} model, whose files have none. Leave --sparse out: the .attar file is the small one."
        )
    return suffixes
