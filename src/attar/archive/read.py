"""Reading an archive: the header at once, sections when they are asked for, nothing believed before it is checked."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attar.archive import blobs
from attar.archive.base import LayerInfo, SectionInfo, TensorInfo, broken, decoded_limit
from attar.archive.header import groups, header_length, parse_header
from attar.archive.manifest import Manifest
from attar.archive.packed import FileInfo, decode_piece, decode_pieces, decode_shell
from attar.archive.parts import PART
from attar.errors import FormatError
from attar.types import Array, Encoded, Json, Layer


class _Source:
    """Bytes in memory or in a file that is opened for each read, so that no handle stays open."""

    def __init__(self, origin: Path | bytes | bytearray | memoryview) -> None:
        self._path: Path | None = None
        self._data = memoryview(b"")
        if isinstance(origin, bytes | bytearray | memoryview):
            self._data = memoryview(origin).cast("B")
            self.size = len(self._data)
        else:
            self._path = Path(origin)
            self.size = self._measure(self._path)

    @staticmethod
    def _measure(path: Path) -> int:
        try:
            return path.stat().st_size
        except OSError as error:
            raise broken(
                f"file {str(path)!r}", "it must be readable", str(error.strerror), "Check the path."
            ) from error

    def read(self, start: int, size: int) -> bytes:
        """The bytes; raises FormatError where there are fewer."""
        if self._path is None:
            data = bytes(self._data[start : start + size])
        else:
            try:
                with self._path.open("rb") as file:
                    file.seek(start)
                    data = file.read(size)
            except OSError as error:
                place = f"file {str(self._path)!r}"
                raise broken(place, "it must be readable", str(error.strerror), "Check the path.") from error
        if len(data) != size:
            raise broken("file", f"it must have {start + size} bytes", str(start + len(data)))
        return data


class Archive:
    """An open .attar file: `meta`, `layers`, `sections` are known; the rest is read, checked and decoded on demand."""

    def __init__(self, source: _Source, manifest: Manifest, starts: Mapping[SectionInfo, int]) -> None:
        self._source = source
        self._manifest = manifest
        self._starts = starts

    @property
    def meta(self) -> Mapping[str, Json]:
        """What the writer said about the model."""
        return self._manifest.meta

    @property
    def layers(self) -> list[Layer]:
        """The compressed layers, in the order in which they were written."""
        return [info.layer for info in self._manifest.layers]

    @property
    def sections(self) -> list[SectionInfo]:
        """All sections: layers, then remainder, then skeleton, where there are any."""
        return list(self._manifest.sections)

    def encoded(self, name: str, without: str | None = None) -> Encoded:
        """One layer, decoded but for one array; raises KeyError for an unknown name, FormatError for damage."""
        info, section = self._layer(name)
        return Encoded(info.method, blobs.decode_arrays(section, self._blob(section), without), info.meta)

    def method(self, name: str) -> str:
        """The method that stored a layer; raises KeyError for an unknown name."""
        return self._layer(name)[0].method

    def choices(self) -> dict[str, list[Json]]:
        """By layer: the method that stored it, and its bytes."""
        coded = {section.name: section.nbytes for section in self.sections if section.kind == "layer"}
        return {layer.name: [self.method(layer.name), coded[layer.name]] for layer in self.layers}

    def scaled(self, name: str, array: str, row: Array, column: Array, form: str = "float32") -> Array:
        """One integer matrix of a layer times its scales, as a float format: see coding.decode_scaled."""
        _, section = self._layer(name)
        return blobs.decode_scaled_array(section, self._blob(section), array, row, column, form)

    def _layer(self, name: str) -> tuple[LayerInfo, SectionInfo]:
        for info, section in zip(self._manifest.layers, self._manifest.sections, strict=False):
            if info.layer.name == name:
                return info, section
        raise KeyError(name)

    def _encoded(self, info: LayerInfo, section: SectionInfo) -> Encoded:
        return Encoded(info.method, blobs.decode_arrays(section, self._blob(section)), info.meta)

    def all_encoded(self, jobs: int | None = None) -> dict[str, Encoded]:
        """All layers by name, decoded on `jobs` threads (None: one a core); raises FormatError."""
        pairs = list(zip(self._manifest.layers, self._manifest.sections, strict=False))
        workers = min(jobs or os.cpu_count() or 1, max(len(pairs), 1))
        if workers == 1:
            return {info.layer.name: self._encoded(info, section) for info, section in pairs}
        with ThreadPoolExecutor(workers) as pool:
            done = pool.map(lambda pair: self._encoded(*pair), pairs)
            return {info.layer.name: encoded for (info, _), encoded in zip(pairs, done, strict=True)}

    @property
    def tensors(self) -> list[TensorInfo]:
        """The remainder's tensors, not decoded."""
        return list(self._manifest.tensors)

    def remainder(self) -> dict[str, Array]:
        """Everything else the model needs, by name; raises FormatError."""
        section = self._only("remainder")
        if section is None:
            return {}
        return blobs.decode_remainder(self._manifest.tensors, section, self._blob(section))

    def skeleton(self) -> bytes | None:
        """The model's graph as its adapter wrote it, or None; raises FormatError."""
        section = self._only("skeleton")
        if section is None or self._manifest.skeleton is None:
            return None
        return blobs.decode_skeleton(self._manifest.skeleton, self._blob(section))

    @property
    def files(self) -> list[FileInfo]:
        """The files of a packed archive; none in the archive of a model."""
        return list(self._manifest.files)

    def piece(self, section: SectionInfo) -> Array:
        """One piece of a packed tensor, checked and decoded; a difference where it is coded as one."""
        return decode_piece(section, self._blob(section))

    def pieces(self, sections: Sequence[SectionInfo]) -> list[Array]:
        """Many pieces, which takes less time than one after the other where they are small; raises FormatError."""
        return decode_pieces(sections, [self._blob(section) for section in sections])

    def shell_piece(self, section: SectionInfo) -> bytes:
        """One piece of a packed file's shell, checked and decoded."""
        return decode_shell(section, self._blob(section))

    def check_piece(self, section: SectionInfo) -> None:
        """Read, check and decode one piece of a packed file; raises FormatError."""
        if section.kind == "shell":
            self.shell_piece(section)
        else:
            self.piece(section)

    @property
    def parts(self) -> dict[str, SectionInfo]:
        """The parts of a data set by name; none in other archives."""
        return {section.name: section for section in self._manifest.sections if section.kind == PART}

    def part(self, section: SectionInfo) -> dict[str, Array]:
        """The arrays of one part, checked and decoded."""
        return blobs.decode_arrays(section, self._blob(section))

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return self._source.size

    def verify(self) -> None:
        """Read, check and decode everything; raises FormatError that names the section."""
        for section in self.parts.values():
            self.part(section)
        for file in self.files:
            for section in file.sections:
                self.check_piece(section)
        self.all_encoded(1)
        self.remainder()
        self.skeleton()

    def _only(self, kind: str) -> SectionInfo | None:
        return next((section for section in self._manifest.sections if section.kind == kind), None)

    def _blob(self, section: SectionInfo) -> bytes:
        """A section's bytes, checksum verified."""
        data = self._source.read(self._starts[section], section.nbytes) if section.nbytes else b""
        if zlib.crc32(data) != section.crc32:
            raise broken(f"section {section.name!r}", "its checksum must hold", "altered bytes")
        return data


def read_archive(origin: Path | str | bytes | bytearray | memoryview) -> Archive:
    """Open a .attar file by path, or its bytes; raises FormatError that says what is wrong with it."""
    if not isinstance(origin, Path | str):
        return _opened(_Source(origin))
    try:
        return _opened(_Source(Path(origin)))
    except FormatError as error:
        raise FormatError(f"{Path(origin).name}: {error}") from error


def _opened(source: _Source) -> Archive:
    """The archive, its header and manifest checked."""
    length = header_length(source.read(0, min(8, source.size)), source.size)
    manifest, tensors = parse_header(source.read(8, length), source.size - 8 - length)
    most = decoded_limit(source.size)
    if manifest.decoded_bytes > most:
        raise broken("manifest", f"{source.size} bytes may hold {most} bytes of arrays", str(manifest.decoded_bytes))
    _check_remainder(manifest)
    starts: dict[SectionInfo, int] = {}
    for name, sections in groups(manifest).items():
        at = 8 + length + tensors[name]
        for section in sections:
            starts[section] = at
            at += section.nbytes
    return Archive(source, manifest, starts)


def _check_remainder(manifest: Manifest) -> None:
    for section in manifest.sections:
        if section.kind == "remainder":
            blobs.check_remainder(manifest.tensors, section)
