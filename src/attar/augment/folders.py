"""Folders of images, WAV files or text files: one file is read, changed and written at a time."""

from __future__ import annotations

import shutil
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from attar.archive.folder import Begun
from attar.augment.audio import sound_span
from attar.augment.changes import Keyed, Params, change_planes, change_text
from attar.data.images import FORMATS, MAX_PIXELS, SUFFIXES, pillow_module
from attar.errors import DataError, FormatError
from attar.files.pictures import eight_bits, part_and_label
from attar.files.sources import Folder
from attar.run.executor import map_in_order
from attar.types import Array

Facts = dict[str, Any]
QUALITY: dict[str, Facts] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
"""How copies of formats that can lose something are written."""
WRITTEN = {"GIF": "PNG", "MPO": "JPEG"}
"""Formats whose copies have another: a palette does not bear changes, and of several pictures one is changed."""
MOST_RATE, MOST_CHANNELS = 1_000_000, 256
MOST_BYTES = 1 << 30
"""Most bytes of one sound or text."""


def read_picture(path: Path) -> tuple[Array, Facts]:
    """An image as uint8 [1, channels, h, w], and how it is written again; raises FormatError, DataError."""
    pillow = pillow_module()
    try:
        with pillow.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise FormatError(f"image {path.name!r}: at most {MAX_PIXELS} pixels. Received {image.size}.")
            if image.mode[0] in "IF":
                raise DataError(
                    f"image {path.name!r}: 8 bits for each channel are changed. Received mode {image.mode}. "
                    "Give arrays (.npz)."
                )
            kept = {name: image.info[name] for name in ("exif", "icc_profile") if image.info.get(name)}
            pixels = eight_bits(image)
            form = WRITTEN.get(str(image.format), str(image.format))
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise FormatError(
            f"image {str(path)!r}: it must be a whole image file. Received: {error}. Leave it out: attar data clean."
        ) from None
    channels = np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels[None]
    return channels[None], {
        "format": form,
        **QUALITY.get(form, {}),
        **(kept if form in ("JPEG", "PNG", "WEBP") else {}),
    }


def write_picture(path: Path, content: Array, facts: Facts) -> None:
    """The image in the format that it came in; of GIF as PNG."""
    pixels = content[0, 0] if content.shape[1] == 1 else np.moveaxis(content[0], 0, -1)
    pillow_module().fromarray(np.ascontiguousarray(pixels)).save(path, **facts)


def read_sound(path: Path) -> tuple[Array, Facts]:
    """A WAV file of 16-bit PCM as int16 [1, channels, samples], and its rate; raises FormatError."""
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, count = file.getnchannels(), file.getsampwidth(), file.getnframes()
            size = channels * width * count
            if width != 2 or not count:
                raise ValueError(f"{count} samples of {8 * width} bits")
            if size > min(path.stat().st_size, MOST_BYTES):
                raise ValueError(f"a header that claims {size} bytes in a file of {path.stat().st_size}")
            data, rate = file.readframes(count), file.getframerate()
            if not (1 <= rate <= MOST_RATE and channels <= MOST_CHANNELS):
                raise ValueError(f"{channels} channels at {rate} Hz")
            if len(data) != size:
                raise ValueError(f"{len(data)} bytes of {size}")
    except (OSError, EOFError, ValueError, RuntimeError, wave.Error) as error:  # wave seeks where a header says
        said = str(error) or "lengths that do not fit"
        raise FormatError(
            f"sound {str(path)!r}: it must be a whole WAV file of 16-bit PCM. Received: {said}. Convert it, or leave "
            "it out."
        ) from None
    samples = np.frombuffer(data, "<i2").astype(np.int16)
    return samples.reshape(-1, channels).T[None], {"rate": rate}


def write_sound(path: Path, content: Array, facts: Facts) -> None:
    """The sound as WAV, 16-bit PCM."""
    with path.open("wb") as raw, wave.open(raw, "wb") as file:
        file.setnchannels(content.shape[1])
        file.setsampwidth(2)
        file.setframerate(facts["rate"])
        file.writeframes(np.ascontiguousarray(content[0].T).astype("<i2").tobytes())


def read_text(path: Path) -> tuple[str, Facts]:
    """A file of UTF-8 as text, its line ends as they are; raises FormatError."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        return path.read_bytes().decode("utf-8"), {}
    except (OSError, ValueError) as error:
        raise FormatError(
            f"text {str(path)!r}: it must be a file of UTF-8. Received: {error}. Convert it, or leave it out."
        ) from None


def write_text(path: Path, content: str, facts: Facts) -> None:
    """The text as UTF-8."""
    del facts
    path.write_bytes(content.encode("utf-8"))


FORMS: dict[str, tuple[tuple[str, ...], Callable[[Path], Any], Callable[..., None]]] = {
    "images": (SUFFIXES, read_picture, write_picture),
    "audio": ((".wav",), read_sound, write_sound),
    "text": ((".txt",), read_text, write_text),
}
"""By kind: endings, reader and writer. The first kind that a folder has files of is the folder's."""


def open_folder(path: Path) -> Folder:
    """The folder with the files of its kind; hidden ones are left out. Raises DataError where there are none."""
    names = [
        file.relative_to(path).as_posix()
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    for endings, _, _ in FORMS.values():
        files = tuple(name for name in names if PurePosixPath(name).suffix.lower() in endings)
        if files:
            return Folder(path, files, tuple(name for name in names if name not in set(files)))
    raise DataError(
        f"folder {str(path)!r}: it must hold images ({' '.join(SUFFIXES)}), .wav or .txt files, or idx files. "
        f"Received {len(names):,} others."
    )


@dataclass(frozen=True)
class FolderSet:
    """A folder's files; those of its test part are copied as they are."""

    source: Folder

    @property
    def kind(self) -> str:
        """What its files hold."""
        ending = PurePosixPath(self.source.files[0]).suffix.lower()
        return next(kind for kind, (endings, _, _) in FORMS.items() if ending in endings)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Whose changes can be done."""
        return (self.kind,)

    @property
    def total(self) -> int:
        """Files, those of the test part among them."""
        return len(self.source.files)

    @property
    def places(self) -> list[int]:
        """Positions of the files that get copies."""
        return [at for at, name in enumerate(self.source.files) if part_and_label(name)[0] != "test"]

    def check(self, params: Params, copies: int) -> None:
        """That no copy takes the name of another file; raises DataError."""
        del params
        names = set(self.source.files)
        for at in self.places:
            for copy in range(1, copies + 1):
                name = copy_name(self.source.files[at], copy)
                if name in names:
                    raise DataError(
                        f"folder {str(self.source.path)!r}: every copy needs a name of its own. Received {name!r} "
                        f"already, which the copy of {self.source.files[at]!r} would have. Rename it."
                    )
                names.add(name)

    def read(self, at: int) -> tuple[Any, Facts]:
        """One example, and how it is written again."""
        found: tuple[Any, Facts] = FORMS[self.kind][1](self.source.path / self.source.files[at])
        return found

    def changed(self, example: Any, at: int, copy: int, params: Params, seed: int) -> Any:
        """One example changed; its draws are those of its position."""

        def draws(name: str) -> Keyed:
            return Keyed(seed, name, np.array([at]), copy)

        if self.kind == "text":
            return change_text(example, params, draws)
        span = (0.0, 255.0) if self.kind == "images" else sound_span(example[0])
        return change_planes(example, self.kind, params, draws, span)

    def shown(self, at: int, params: Params | None, seed: int) -> Any:
        """An example as it is, or as it is in the first copy."""
        example = self.read(at)[0]
        return example if params is None else self.changed(example, at, 1, params, seed)

    def caption(self, at: int) -> str:
        """The file's name."""
        return self.source.files[at]

    def mark(self) -> list[Any]:
        """What tells its files from others: names, sizes, times of change."""
        found = [(self.source.path / name).stat() for name in self.source.files]
        return [[name, s.st_size, s.st_mtime_ns] for name, s in zip(self.source.files, found, strict=True)]

    def write(
        self, begun: Begun, params: Params, copies: int, seed: int, only_copies: bool, jobs: int | None,
        step: Callable[[int], None],
    ) -> Iterator[str]:  # fmt: skip
        """Write the folder with its copies, but for what is there; gives the names of the files."""
        augmented = set(self.places)

        def one(at: int) -> list[str]:
            name = self.source.files[at]
            names = [name] if at not in augmented or not only_copies else []
            for kept in names:
                begun.write(kept, partial(shutil.copyfile, self.source.path / name))
            copied = [copy_name(name, copy) for copy in range(1, copies + 1)] if at in augmented else []
            if not all(map(begun.has, copied)):
                example, facts = self.read(at)
                for copy, new in enumerate(copied, 1):
                    changed = self.changed(example, at, copy, params, seed)
                    begun.write(new, partial(FORMS[self.kind][2], content=changed, facts=facts))
            return names + copied

        for names in map_in_order(one, range(len(self.source.files)), jobs):
            yield from names
            step(1)


def copy_name(name: str, copy: int) -> str:
    """The file's name with the copy's number; a GIF's copy is a PNG."""
    path = PurePosixPath(name)
    suffix = ".png" if path.suffix.lower() == ".gif" else path.suffix
    return path.with_name(f"{path.stem}~{copy}{suffix}").as_posix()
