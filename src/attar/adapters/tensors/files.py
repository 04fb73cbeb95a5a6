"""Reading and writing the files that weights come in: single and sharded safetensors, GGUF, .npz."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import IO

from attar.adapters.tensors.form import FileForm, matrix, why_kept
from attar.archive.packed import SpanInfo
from attar.errors import FormatError, ModelError
from attar.formats import gguf, numpy_files, safetensors, zipped
from attar.formats.source import Bytes, gaps

BLOCK = 1 << 22
"""Bytes that are copied at a time."""
DATE = (1980, 1, 1, 0, 0, 0)
"""Of members of a .npz, as numpy dates them."""
Read = Callable[[int, int], bytes]
"""(offset, bytes) of one file."""
Opened = tuple[FileForm, Read]


class Scratch:
    """A temporary file without a name, read and written at places; closed with the last reference to it."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile("w+b", prefix="attar-")  # noqa: SIM115
        self._lock = Lock()

    def read(self, offset: int, size: int) -> bytes:
        """Exactly these bytes; zeros where nothing was written."""
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size).ljust(size, b"\0")

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Put bytes there."""
        with self._lock:
            self._file.seek(offset)
            self._file.write(data)


def files_of(path: Path) -> list[Path]:
    """The files of a model: one, or an index and its shards; none where the path is not weights alone."""
    if path.is_dir():
        if (path / "config.json").is_file():
            return []
        index = sorted(path.glob("*" + safetensors.INDEX))
        return safetensors.indexed(index[0]) if len(index) == 1 else sorted(path.glob("*.safetensors"))
    if path.name.endswith(safetensors.INDEX):
        return safetensors.indexed(path)
    return [path] if path.is_file() and path.suffix in (".safetensors", ".gguf", ".npz") else []


def opened(path: Path) -> tuple[list[Opened], dict[str, str]]:
    """The files of a model with their tensors, and why some of these are kept; raises FormatError, ModelError."""
    found: list[Opened] = []
    kept: dict[str, str] = {}
    for file in files_of(path):
        if file.name.endswith(safetensors.INDEX):
            form = FileForm(file.name, "safetensors", (), file.read_bytes())
            found.append((form, Bytes(file).read))
            continue
        spans, read, form = _parts(file)
        tensors = tuple(matrix(span) for span in spans)
        for span in spans:
            why = why_kept(span)
            if why and form.kind == "gguf" and span.dtype == "uint8":
                why = "quantised already: rounding it twice would cost quality"
            if why and len(span.shape) > 1:
                kept[span.name] = why
        shell = b"".join(read(at, size) for at, size in gaps(_size(file, form), spans))
        found.append((replace(form, tensors=tensors, shell=shell), read))
    _check_names([form for form, _ in found], path)
    return found, kept


def _check_names(forms: Sequence[FileForm], path: Path) -> None:
    counts = Counter(tensor.name for form in forms for tensor in form.tensors)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ModelError(
            f"model {path.name!r}: every tensor must have a name of its own. Received {twice[0]!r} in two files. "
            "Give the files one by one."
        )


def _parts(file: Path) -> tuple[Sequence[SpanInfo], Read, FileForm]:
    """Where a file's tensors lie, how it is read, and its form without them; raises FormatError."""
    source = Bytes(file)
    if file.suffix == ".npz":
        return _unzipped(source)
    finder, kind = (gguf, "gguf") if file.suffix == ".gguf" else (safetensors, "safetensors")
    if not finder.accepts(source):
        raise source.broken(f"it must begin as a {kind} file does", "another file")
    return finder.find(source).spans, source.read, FileForm(file.name, kind, (), b"")


def _size(file: Path, form: FileForm) -> int:
    return sum(size for _, size, _ in form.members) if form.kind == "npz" else file.stat().st_size


def _unzipped(source: Bytes) -> tuple[Sequence[SpanInfo], Read, FileForm]:
    """The arrays of a .npz end to end in a temporary file; raises FormatError for what is no zip file of arrays."""
    if not numpy_files.accepts(source):
        raise source.broken("it must be a zip file of .npy arrays", "another file")
    spans, members, at = [], [], 0
    with tempfile.TemporaryDirectory(prefix="attar-") as folder:
        plain = Path(folder) / source.path.name
        try:
            with zipped.opened(source) as archive, plain.open("wb") as target:
                for info in archive.infolist():
                    with archive.open(info) as member:
                        size = _copied(member, target)
                    members.append((info.filename, size, info.compress_type != zipfile.ZIP_STORED))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise source.broken("its members must be whole", str(error)[:100]) from error
        arrays, scratch = Bytes(plain), Scratch()
        for name, size, _ in members:
            span = numpy_files.span(arrays, name.removesuffix(".npy"), at, size, flat=False)
            spans += [] if span is None else [span]
            at += size
        for start in range(0, at, BLOCK):
            scratch.write(start, arrays.read(start, min(BLOCK, at - start)))
    return spans, scratch.read, FileForm(source.path.name, "npz", (), b"", tuple(members))


def _copied(source: IO[bytes], target: IO[bytes]) -> int:
    """Bytes copied from one to the other."""
    size = 0
    while data := source.read(BLOCK):
        size += target.write(data)
    return size


def write_file(form: FileForm, read: Read, place: Path) -> None:
    """One file: the shell with tensors in it, as `read` gives them at their offsets."""
    stream = _Stream(_content(form, read))
    if form.kind != "npz":
        with place.open("xb") as file:
            file.writelines(stream.take(form.nbytes))
        return
    with zipfile.ZipFile(place, "x", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, size, deflated in form.members:
            info = zipfile.ZipInfo(name, DATE)
            info.compress_type = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
            with archive.open(info, "w", force_zip64=True) as member:
                for data in stream.take(size):
                    member.write(data)


def _content(form: FileForm, read: Read) -> Iterator[bytes]:
    """All bytes of a file in order."""
    at, shell = 0, 0
    for tensor in form.tensors:
        gap = tensor.offset - at
        yield form.shell[shell : shell + gap]
        shell += gap
        for start in range(0, tensor.nbytes, BLOCK):
            yield read(tensor.offset + start, min(BLOCK, tensor.nbytes - start))
        at = tensor.offset + tensor.nbytes
    yield form.shell[shell:]


class _Stream:
    """Pieces of bytes, taken in other lengths than they come in."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, b""

    def take(self, size: int) -> Iterator[bytes]:
        """The next bytes; raises FormatError where there are fewer."""
        while size:
            data = self._left or next(self._pieces, None)
            if data is None:
                raise FormatError("skeleton: a file must have its bytes. Received fewer. Fetch the file again.")
            self._left = data[size:]
            yield data[:size]
            size -= min(size, len(data))
