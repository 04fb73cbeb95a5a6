"""The plain folder of an archive that does not fit into memory, written tensor by tensor."""

from __future__ import annotations

from pathlib import Path

from attar import outputs, registry
from attar.archive import Archive, read_archive
from attar.errors import FormatError, ModelError
from attar.run.progress import Progress
from attar.streaming.candidates import decoded
from attar.streaming.settings import COPIES, memory_bytes


def wants(archive: Archive, *, asked: bool) -> bool:
    """Whether an archive is expanded part by part: where asked for, or where memory would not do.

    Raises ModelError where it is asked for and cannot be.
    """
    streams = archive.meta.get("framework") == "transformers"
    if asked and not streams:
        raise ModelError(
            "--stream: the archive must hold a model of transformers. Received another. Leave --stream out."
        )
    size = 4 * sum(layer.size for layer in archive.layers)
    return streams and (asked or COPIES * size > memory_bytes())


def expand(path: Path, out: Path, progress: Progress, *, force: bool = False) -> Path:
    """Write the folder of an archive to `out`, or into it under the archive's name; raises FormatError, OutputError."""
    archive = read_archive(path)
    skeleton = archive.skeleton()
    if skeleton is None:
        raise FormatError("archive: it must hold the model's configuration. Received none. Compress the model again.")
    model = registry.get("streamed", "transformers").rebuilt(skeleton)
    place = out / path.stem if out.is_dir() else out
    outputs.check_free(place.parent, [f"{place.name}/"], force)
    progress.note("streaming: tensor by tensor")
    write = registry.get("streamed", "folder")
    with outputs.staged(place.parent) as stage:
        outputs.guarded(lambda: write(model, decoded(model, archive), stage / place.name), place)
        outputs.publish(stage, place.parent, force)
    return place
