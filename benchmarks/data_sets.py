"""A table, e-mails and speech without loss: attar beside Parquet, zstd, xz and FLAC, measured in this run.

python benchmarks/data_sets.py [--only NAME] [--tiny] [--threads 1] [--json FILE]

attar packs and unpacks folders as `attar data pack` does, reading back included; the others code what is in memory.
Every way is decoded and its bytes compared (Parquet: the cells, FLAC: the samples). Parquet holds the table's integers
as uint8 and letters as a dictionary.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import os
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import real_sets
from acceptance import Line, markdown, number, table
from attar.coding import simd_path
from attar.sets.pack import pack
from attar.sets.unpack import unpack
from timing import machine, timed

Files = Mapping[str, bytes]
Ways = Mapping[str, Callable[[Files, Path], tuple[int, Callable[[], Any]]]]
"""What codes files: the bytes that it takes, and what decodes them and compares."""


def attar(files: Files, place: Path) -> tuple[int, Callable[[], Any]]:
    """The archive of a folder with these files."""
    for name, data in files.items():
        (place / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "in" / name).write_bytes(data)
    size = pack(place / "in", place / "set.attar").bytes_after

    def back() -> None:
        top = unpack(place / "set.attar", place / "out")
        _same({file.relative_to(top).as_posix(): file.read_bytes() for file in top.rglob("*") if file.is_file()}, files)

    return size, back


def _same(found: Any, wanted: Any) -> None:
    if found != wanted:
        raise SystemExit("what was decoded is not what was coded")


def _tar(files: Files) -> bytes:
    """One file as it is, several as a tar archive."""
    if len(files) == 1:
        return next(iter(files.values()))
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return target.getvalue()


def xz(files: Files, _: Path) -> tuple[int, Callable[[], Any]]:
    """xz -9e."""
    text = _tar(files)
    data = lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)
    return len(data), lambda: _same(lzma.decompress(data), text)


def zstd(files: Files, _: Path) -> tuple[int, Callable[[], Any]]:
    """zstd -19."""
    import zstandard

    text = _tar(files)
    data = zstandard.ZstdCompressor(level=19).compress(text)
    return len(data), lambda: _same(zstandard.ZstdDecompressor().decompress(data), text)


def zstd_each(files: Files, _: Path) -> tuple[int, Callable[[], Any]]:
    """zstd -19 of each file."""
    import zstandard

    coder = zstandard.ZstdCompressor(level=19)
    coded = {name: coder.compress(data) for name, data in files.items()}
    back = zstandard.ZstdDecompressor()
    return sum(map(len, coded.values())), lambda: _same(
        {k: back.decompress(data) for k, data in coded.items()}, dict(files)
    )


def parquet(files: Files, _: Path) -> tuple[int, Callable[[], Any]]:
    """Parquet with zstd -19 of the columns."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    (text,) = files.values()
    frame = pd.read_csv(io.BytesIO(text), keep_default_na=False)
    for name in frame.columns:
        frame[name] = frame[name].astype("uint8" if pd.api.types.is_integer_dtype(frame[name]) else "category")
    target = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), target, compression="zstd", compression_level=19)

    def back() -> None:
        found = pq.read_table(io.BytesIO(target.getvalue())).to_pandas()
        _same(found.astype(str).to_numpy().tolist(), frame.astype(str).to_numpy().tolist())

    return len(target.getvalue()), back


def flac(files: Files, _: Path) -> tuple[int, Callable[[], Any]]:
    """FLAC -8 of each clip (libsndfile's compression level 1)."""
    import soundfile

    samples = {name: soundfile.read(io.BytesIO(data), dtype="int16") for name, data in files.items()}
    coded = {}
    for name, (values, rate) in samples.items():
        target = io.BytesIO()
        soundfile.write(target, values, rate, format="FLAC", subtype="PCM_16", compression_level=1.0)
        coded[name] = target.getvalue()

    def back() -> None:
        for name, data in coded.items():
            _same(np.array_equal(soundfile.read(io.BytesIO(data), dtype="int16")[0], samples[name][0]), True)

    return sum(map(len, coded.values())), back


SETS: dict[str, tuple[Callable[[], Files], Ways, tuple[str, ...]]] = {
    "LetterRecognition": (
        lambda: {"letters.csv": real_sets.letters()},
        {"attar": attar, "Parquet + zstd -19": parquet, "CSV + zstd -19": zstd, "CSV + xz -9e": xz},
        ("Parquet + zstd -19", "CSV + xz -9e"),
    ),
    "SpamAssassin": (
        real_sets.mails,
        {"attar": attar, "zstd -19, each file": zstd_each, "tar + zstd -19": zstd, "tar + xz -9e": xz},
        ("tar + zstd -19", "tar + xz -9e"),
    ),
    "LibriVox": (
        real_sets.speech,
        {"attar": attar, "FLAC -8": flac, "tar + zstd -19": zstd, "tar + xz -9e": xz},
        ("FLAC -8",),
    ),
}
"""Files, ways to code them, and the rivals that attar has to be smaller than."""


def measure(name: str, tiny: bool) -> dict[str, Any]:
    """Bytes, and seconds of coding and decoding, by way."""
    load, ways, _ = SETS[name]
    files = load()
    if tiny:
        files = {key: _short(key, data) for key, data in list(files.items())[:40]}
    found: dict[str, Any] = {"raw": sum(map(len, files.values())), "files": len(files)}
    for way, code in ways.items():
        with tempfile.TemporaryDirectory() as place:
            start = perf_counter()
            size, back = code(files, Path(place))
            encode = perf_counter() - start
            found[way] = {"bytes": size, "encode": encode, "decode": timed(back)}
    return found


def _short(name: str, data: bytes) -> bytes:
    """The first 500 lines of a table, other files as they are."""
    return b"".join(data.splitlines(keepends=True)[:500]) if name.endswith(".csv") else data


def text(found: dict[str, Any]) -> str:
    """A table of all sets, then the targets."""
    rows, lines, about = (
        [],
        [],
        f"{machine()}; attar's path: {simd_path()}; {os.environ.get('ATTAR_THREADS', 'all')} threads",
    )
    for name, results in found.items():
        rows.append([name, f"raw, {results['files']:,} files", f"{results['raw']:,}", "1", "", ""])
        for way in SETS[name][1]:
            one = results[way]
            rows.append(["", way, f"{one['bytes']:,}", f"{one['bytes'] / results['raw']:.4f}",
                         number(one["encode"], ""), number(one["decode"], "")])  # fmt: skip
        for rival in SETS[name][2]:
            ratio = results["attar"]["bytes"] / results[rival]["bytes"]
            lines.append(Line(f"{name}: attar's bytes / those of {rival}", 1.0, [ratio], True, "x"))
    head = ["set", "coded as", "bytes", "of raw", "encode s", "decode s"]
    return "\n\n".join([about, markdown(head, rows), table("targets", ["this run"], lines)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="measure the sets with this in their names")
    parser.add_argument("--tiny", action="store_true", help="40 files, 500 rows, to try the script")
    parser.add_argument("--threads", default="1", help="threads of attar (the others have one)")
    parser.add_argument("--json", type=Path, help="write all that was measured to this file")
    options = parser.parse_args()
    os.environ["ATTAR_THREADS"] = options.threads
    found = {name: measure(name, options.tiny) for name in SETS if options.only in name}
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    print(text(found))


if __name__ == "__main__":
    main()
