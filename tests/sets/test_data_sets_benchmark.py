"""The benchmark of tables, texts and sounds: every way gives back what it was given, and a table comes of it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import data_sets
import real_sets
from data.test_recordings_and_texts import speech, wav


def test_all_ways_are_measured(monkeypatch):
    rng = np.random.default_rng(0)
    rows = "".join(f"{'ABC'[k % 3]},{rng.integers(16)},{k % 16}\n" for k in range(900))
    made = {
        "LetterRecognition": {"letters.csv": ("a,b,c\n" + rows).encode()},
        "SpamAssassin": {f"ham/{k}.txt": b"Subject: all of you, %d\n" % k * 9 for k in range(50)},
        "LibriVox": {f"{k}.wav": wav(speech(k, 4000)) for k in range(2)},
    }
    for name, files in made.items():
        _, ways, rivals = data_sets.SETS[name]
        monkeypatch.setitem(data_sets.SETS, name, (lambda files=files: files, ways, rivals))
    found = {name: data_sets.measure(name, tiny=True) for name in made}
    said = data_sets.text(found)
    assert "Parquet + zstd -19" in said and "FLAC -8" in said and "targets" in said
    for name, results in found.items():
        assert all(results[way]["bytes"] < results["raw"] for way in ("attar", *data_sets.SETS[name][2]))


def test_what_comes_back_otherwise_ends_the_run():
    with pytest.raises(SystemExit, match="not what was coded"):
        data_sets._same(b"a", b"b")
    with pytest.raises(SystemExit, match="must hash to"):
        real_sets._checked("set", [b"other"], "0" * 16)
