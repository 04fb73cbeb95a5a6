"""Writes tests/sets/golden/NAME-set.attar and .npz, for the version of the day: python tests/sets/make_golden.py v2"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from attar.archive import read_archive
from attar.sets.contents import contents
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
        pack(top, goal, force=True)
    found = contents(read_archive(goal))
    np.savez_compressed(
        goal.with_suffix(".npz"), **{f"{record.name}|{k}": a for record, arrays in found for k, a in arrays.items()}
    )


if __name__ == "__main__":
    main()
