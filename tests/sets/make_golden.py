"""Writes NAME-set, -lossy and -exact, .attar and .npz, for the version of the day: make_golden.py v2"""

from __future__ import annotations

import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from attar.archive import read_archive
from attar.latent.settings import Settings
from attar.sets.contents import contents
from attar.sets.lossy import Loss
from attar.sets.pack import pack
from sets.image_cases import blobs


def main() -> None:
    """A folder with every kind of file."""
    goal = Path(__file__).parent / "golden" / f"{sys.argv[1]}-set.attar"
    with tempfile.TemporaryDirectory() as place:
        top = Path(place) / "set"
        (top / "cat").mkdir(parents=True)
        for k, pixels in enumerate(blobs(12, 8, 7, 3)):
            Image.fromarray(pixels).save(top / "cat" / f"{k}.png")
        np.savez(top / "x.npz", x=blobs(40, 6, 6, 1)[..., 0], y=np.arange(40) % 3)
        (top / "i.idx1").write_bytes(bytes((0, 0, 8, 1, 0, 0, 0, 4, 9, 8, 7, 6)))
        (top / "notes.txt").write_text("one\n" * 20)
        (top / "more.txt").write_text("one and two, and one again; " * 9)
        rows = "".join(f"{k * k},{k % 3},{k / 8:.3f},name {k % 40} {k}\n" for k in range(300))
        (top / "table.csv").write_text(f"a,b,c,d\n{rows}")
        (top / "rows.jsonl").write_text("".join(f'{{"a": {k}, "b": "{k % 5}"}}\n' for k in range(100)))
        wave = np.stack([np.sin(np.arange(500) / 7) * 9000, np.cos(np.arange(500) / 9) * 9000], 1).astype("<i2")
        form = struct.pack("<HHIIHH", 1, 2, 8000, 32000, 4, 16)
        body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", wave.nbytes) + wave.tobytes()
        (top / "tone.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
        pack(top, goal, force=True)
        small = Path(place) / "x.npz"
        np.savez(small, x=blobs(260, 9, 8, 1)[..., 0], y=np.arange(260) % 3)
        lossy = goal.with_name(f"{sys.argv[1]}-lossy.attar")
        few = Settings(steps=150, width=4, latents=4)
        pack(small, lossy, loss=Loss(0.5, settings=few), force=True)
        exact = goal.with_name(f"{sys.argv[1]}-exact.attar")
        pack(small, exact, loss=Loss(0.5, settings=few, exact=True), force=True)
    for made in (goal, lossy, exact):
        write(made)


def write(goal: Path) -> None:
    """What the archive decodes to."""
    found = contents(read_archive(goal))
    np.savez_compressed(
        goal.with_suffix(".npz"), **{f"{record.name}|{k}": a for record, arrays in found for k, a in arrays.items()}
    )


if __name__ == "__main__":
    main()
