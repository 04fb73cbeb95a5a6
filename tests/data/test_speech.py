"""Recordings with what is said: texts beside them, tables, and what is wrong with them."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from attar.data.speech import read_recordings
from attar.errors import DataError, FormatError


def recorded(path: Path, samples: np.ndarray, rate: int = 8000) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, length in (("b.wav", 300), ("a.wav", 200)):
        recorded(tmp_path / name, np.sin(np.arange(length) / 9), 8000 + length)
    return tmp_path


def test_texts_beside_them(folder: Path) -> None:
    for name in "ab":
        (folder / f"{name}.txt").write_text(f"﻿what {name} says\n", encoding="utf-8")
    found = read_recordings(folder)
    assert found is not None and found.texts == ["what a says", "what b says"]
    assert [len(s) for s in found.samples] == [200, 300] and found.rates == [8200, 8300]
    np.testing.assert_allclose(found.samples[0], np.sin(np.arange(200) / 9), atol=1e-4)


@pytest.mark.parametrize("column", ["transcription", "text", "sentence"])
def test_tables(folder: Path, column: str) -> None:
    (folder / "metadata.csv").write_text(f'file_name,{column}\na.wav,"one, two"\nb.wav,three\n')
    assert read_recordings(str(folder)).texts == ["one, two", "three"]  # type: ignore[union-attr]
    (folder / "metadata.csv").unlink()
    lines = [json.dumps({"file_name": f"{name}.wav", column: name}) for name in "ba"]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n\n")
    assert read_recordings(folder).texts == ["a", "b"]  # type: ignore[union-attr]


def test_without_texts(folder: Path) -> None:
    assert read_recordings(folder).texts is None  # type: ignore[union-attr]
    assert read_recordings(folder / "a.wav") is None and read_recordings(["texts"]) is None
    (folder / "empty").mkdir()
    assert read_recordings(folder / "empty") is None


def test_what_is_wrong_is_told(folder: Path) -> None:
    (folder / "a.txt").write_text("one of two")
    with pytest.raises(DataError, match=r"'b\.wav'"):
        read_recordings(folder)
    (folder / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="UTF-8"):
        read_recordings(folder)
    (folder / "metadata.csv").write_text("name,words\na.wav,x\n")
    with pytest.raises(FormatError, match="file_name"):
        read_recordings(folder)
    (folder / "metadata.csv").unlink()
    (folder / "metadata.jsonl").write_text('{"file_name": "a.wav"')
    with pytest.raises(FormatError, match=r"metadata\.jsonl"):
        read_recordings(folder)
    (folder / "metadata.jsonl").unlink()
    (folder / "b.txt").write_text("two")
    (folder / "b.wav").write_bytes((folder / "b.wav").read_bytes()[:30])
    with pytest.raises(FormatError, match=r"b\.wav"):
        read_recordings(folder)
