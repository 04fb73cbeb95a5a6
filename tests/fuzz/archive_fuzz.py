"""Mutated archives through the reader: everything but a FormatError, a hang or a bound passed is a finding.

A mutation edits the manifest in its own terms (numbers, names, shapes, records) or the sections' bytes, and then puts
the checksums and lengths right, so that the reader gets to see the lie. Started by run.py.
"""

from __future__ import annotations

import argparse
import copy
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import zlib
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "attacks"))
import make
from parts_fuzz import changed

from attar import pack, stored
from attar.archive import Archive, read_archive
from attar.errors import FormatError
from attar.sets.contents import contents
from attar.sets.files import to_bytes
from attar.sets.pack import pack as data_pack

VALUES = [
    0, 1, -1, 2, 7, 255, 1 << 16, (1 << 31) - 1, 1 << 32, (1 << 62) - 1, None, True, 1.5, [], {}, [1, 2], "", "x",
    "raw", "rans", "planes", "int8", "uint64", "float16", "bool", "keep", "uniform", "lzma", "words", "xor", "minus",
    "solid", "table", "audio", "image", "npz", "mixed", "codes", "names", "numbers", "text", "a/b.png", "\ud800", "\0",
    1 << 23, 1 << 24,
]  # fmt: skip
GOLDEN = Path(__file__).parents[1] / "sets" / "golden"
LIMIT = 5.0
"""Seconds that one archive may take."""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to everything in a JSON value."""
    found = [path] if path else []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        found += places(inner, (*path, key))
    return found


def edit(rng: random.Random, manifest: Any) -> None:
    """One change somewhere in the manifest, or in any JSON value."""
    found = places(manifest)
    if not found:
        return
    path = rng.choice(found)
    inner = manifest
    for key in path[:-1]:
        inner = inner[key]
    old, choice = inner[path[-1]], rng.random()
    if choice < 0.4 and isinstance(old, int):
        inner[path[-1]] = old + rng.choice([-1, 1, 8, -8, old, 1 << rng.randrange(62)])
    elif choice < 0.6 and isinstance(inner, list):
        inner.insert(path[-1], copy.deepcopy(rng.choice(inner)))
    elif choice < 0.7 and isinstance(inner, list):
        del inner[path[-1]]
    else:
        inner[path[-1]] = copy.deepcopy(rng.choice(VALUES))


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Another archive."""
    header, manifest, blob = make.split(data)
    if "parts" in manifest and rng.random() < 0.6:
        return changed(rng, data, edit)
    if rng.random() < 0.6:
        for _ in range(rng.randrange(1, 4)):
            edit(rng, manifest)
        return make.joined(header, manifest, blob)
    altered = bytearray(blob)
    for _ in range(rng.randrange(1, 6)):
        altered[rng.randrange(len(altered))] = rng.randrange(256)
    if "parts" in manifest and rng.random() < 0.8:
        return resealed(header, manifest, bytes(altered))
    return (
        make.mend(header, manifest, bytes(altered)) if "layers" in manifest else make.joined(header, manifest, altered)
    )


def resealed(header: Any, manifest: Any, blob: bytes) -> bytes:
    """A data set's archive with the checksums that its parts' bytes have; its file is one group of them."""
    at = 0
    for record in manifest["parts"]:
        size = sum(array[4] for array in record[1])
        record[2] = zlib.crc32(blob[at : at + size])
        at += size
    return make.joined(header, manifest, blob)


def seeds(folder: Path) -> list[bytes]:
    """A model's archive, a packed checkpoint, data sets: images and arrays, every kind of text, images with loss."""
    import numpy as np
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(40, 30)).astype(np.float32), "n": np.arange(9), "h": np.ones(5, np.float16)}
    save_file(weights, folder / "m.safetensors")
    images = np.cumsum(rng.integers(-3, 4, (9, 8, 7)), axis=1).astype(np.uint8)
    for name in ("set", "texts"):
        (folder / name).mkdir()
    np.savez(folder / "set" / "a.npz", x=images, y=np.arange(9), z=rng.random(5))
    (folder / "set" / "notes.txt").write_bytes(b"nine of them " * 9)
    texts(folder / "texts")
    made = [data_pack(folder / name).path.read_bytes() for name in ("set", "texts")]
    lossy = (GOLDEN / "v1-lossy.attar").read_bytes()
    return [make.honest(), pack(folder / "m.safetensors").path.read_bytes(), *made, made[1], lossy]


def texts(folder: Path) -> None:
    """A table of numbers, codes, names and texts, a sound, and small files of two streams."""
    rows = ["a,b,c,d,e,f,g"]
    for k in range(600):
        text, gap = f"{'abcdefgh'[k % 7 :]} {k * 7919 % 1009}", "?" if k % 9 == 0 else k
        rows.append(f"{k * k},{k % 3},{k / 8:.{k % 3 + 1}f},n{k % 290},{k:04d},{text},{gap}")
    (folder / "table.csv").write_text("\n".join(rows))
    (folder / "rows.jsonl").write_text("".join(f'{{"a": {k}, "b": "{k % 5}"}}\n' for k in range(90)))
    samples = b"".join(struct.pack("<hh", k * k % 997, -k) for k in range(400))
    form = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, 8000, 32000, 4, 16)
    body = form + b"data" + struct.pack("<I", len(samples)) + samples + b"LISTtail"
    (folder / "tone.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    for k in range(5):
        (folder / f"{k}.txt").write_text(f"the {k} of some small files that have much in common\n" * (k + 1))
    (folder / "empty.txt").write_bytes(b"")
    (folder / "other.md").write_text("# one\n" + "another text, and another. " * 9)


def decoded(archive: Archive) -> bool:
    """Whether a data set's files can be written, every one of them."""
    try:
        for record, arrays in contents(archive):
            to_bytes(record, arrays)
    except FormatError:
        return False
    return True


def main() -> None:
    """Run for so many seconds; the exit code is 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--found", type=Path, default=Path())
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    rng, end, runs, refused = random.Random(time.time_ns()), time.monotonic() + options.seconds, 0, 0
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "a.attar"
        corpus = seeds(Path(name))
        while time.monotonic() < end:
            data = mutated(rng, rng.choice(corpus))
            place.write_bytes(data)
            started = time.monotonic()
            try:
                rows = stored.verify(place)
                refused += any(row["error"] for row in rows)
                if not any(row["error"] for row in rows):
                    archive = read_archive(data)
                    archive.verify()
                    if archive.parts:
                        refused += not decoded(archive)
                if time.monotonic() - started > LIMIT:
                    raise TimeoutError(f"{time.monotonic() - started:.1f} s")
            except Exception:  # noqa: BLE001 - whatever it is, it is a finding
                traceback.print_exc()
                (options.found / f"crash-{runs}.attar").write_bytes(data)
                sys.exit(1)
            runs += 1
    print(f"{runs} archives, {refused} refused, no finding")


if __name__ == "__main__":
    main()
