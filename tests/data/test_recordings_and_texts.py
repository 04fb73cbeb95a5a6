"""Folders of recordings and of text files: inspected, cleaned, searched for duplicates and packed."""

from __future__ import annotations

import json
import shutil
import struct

import numpy as np
import pytest
from typer.testing import CliRunner

from attar import cli
from attar.cleaning.clean import clean, inspect
from attar.copies.dedupe import dedupe
from attar.errors import DataError
from attar.files.recordings import spectrum
from attar.files.sources import open_source
from attar.sets.pack import pack
from attar.sets.unpack import unpack


def wav(values, rate=8000, stated=None):
    """16 bits, mono."""
    data = np.asarray(values, "<i2").tobytes()
    size = len(data) if stated is None else stated
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + form + (
        b"data" + struct.pack("<I", size) + data
    )  # fmt: skip


def speech(seed, n=16000):
    """Tones that change, so that no two seeds sound alike."""
    rng = np.random.default_rng(seed)
    pitch = np.repeat(rng.uniform(200, 3000, 16), n // 16)
    loud = np.repeat(rng.uniform(0.05, 1, 16), n // 16)
    return 9000 * loud * np.sin(2 * np.pi * np.cumsum(pitch) / 8000) + rng.normal(0, 20, len(pitch))


@pytest.fixture
def recordings(tmp_path):
    """Eight recordings in two classes with transcripts, and faults."""
    place = tmp_path / "speech"
    for label in ("one", "two"):
        (place / label).mkdir(parents=True)
    for k in range(8):
        file = place / ("one" if k % 2 else "two") / f"{k}.wav"
        file.write_bytes(wav(speech(k)))
        file.with_suffix(".txt").write_text(f"the words of {k}")
    one = place / "one"
    (one / "copy.wav").write_bytes((one / "1.wav").read_bytes())
    (one / "louder.wav").write_bytes(wav(speech(3) * 1.5))
    (one / "silent.wav").write_bytes(wav(np.ones(16000)))
    (one / "clipped.wav").write_bytes(wav(np.clip(speech(40) * 9, -32768, 32767)))
    (one / "fast.wav").write_bytes(wav(speech(50), 16000))
    (one / "short.wav").write_bytes(wav(speech(60, 1600)[:400]))
    (one / "cut.wav").write_bytes(wav(speech(70), stated=99999))
    (one / "none.wav").write_bytes(b"RIFFxxxxWAVE")
    (one / "clipped.lab").write_text(" \n")
    (place / "readme.md").write_text("about")
    return place


def test_faults_of_recordings_are_named(recordings):
    found = inspect(recordings)
    kinds = {fault.kind: fault for fault in found.faults}
    assert set(kinds) == {
        "broken recording", "no recording", "silent", "clipped", "other form", "odd length", "no transcript",
        "empty transcript", "duplicate",
    }  # fmt: skip
    assert (
        kinds["broken recording"].count == 2 and "bytes of samples are there" in kinds["broken recording"].examples[0]
    )
    assert kinds["silent"].examples == ("one/silent.wav",) and "one/fast.wav" in kinds["other form"].examples[0]
    assert "clipped.wav" in kinds["clipped"].examples[0] and "short.wav" in kinds["odd length"].examples[0]
    assert kinds["empty transcript"].examples == ("one/clipped.wav",) and kinds["no transcript"].count == 5
    assert kinds["no recording"].examples == ("readme.md",)
    row = next(row for row in found.rows if row["class"] == "two")
    assert row["recordings"] == 4 and row["seconds"] == 8.0 and row["transcripts"] == 4


def test_a_cleaned_folder_keeps_transcripts(recordings, tmp_path):
    found = clean(recordings, tmp_path / "out")
    names = {file.name for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert found.after == found.before - 2 and "1.txt" in names and "clipped.lab" in names
    assert not names & {"cut.wav", "none.wav", "readme.md"}
    assert (tmp_path / "out/one/1.wav").read_bytes() == (recordings / "one/1.wav").read_bytes()


def test_equal_and_near_recordings_are_found(recordings, tmp_path):
    exact = dedupe(recordings)
    assert exact.exact == exact.surplus == 1
    near = dedupe(recordings, near=True, out=tmp_path / "out")
    names = near.examples.names
    groups = [{names[at].split("/")[1] for at in group} for group in near.groups]
    assert {"1.wav", "copy.wav"} in groups and {"3.wav", "louder.wav"} in groups and len(groups) == 2
    assert (tmp_path / "out/one/1.txt").exists() and not (tmp_path / "out/one/louder.wav").exists()


def test_spectra_of_one_recording_do_not_depend_on_loudness():
    values = speech(1).astype(np.float32) / 32768
    one, other = spectrum(values, 8000), spectrum(values / 4, 8000)
    assert one.shape == (32, 32) and np.abs(one.astype(int) - other).max() <= 1
    assert np.abs(one.astype(int) - spectrum(speech(2).astype(np.float32), 8000)).mean() > 20
    assert not spectrum(np.zeros(50, np.float32), 8000).any()
    assert spectrum(np.ones(10, np.float32), 0).shape == (32, 32)


@pytest.fixture
def texts(tmp_path):
    """Notes in two classes, and faults."""
    place, rng = tmp_path / "mail", np.random.default_rng(0)
    words = {
        "ham": ["meeting", "paper", "lunch", "code", "review", "thanks"],
        "spam": ["money", "winner", "free", "offer", "click", "now"],
    }
    for label, known in words.items():
        (place / label).mkdir(parents=True)
        for k in range(60):
            (place / label / f"{k}.txt").write_text(" ".join(rng.choice(known, 40)) + f" {k} {rng.integers(10**9)}")
    ham = place / "ham"
    (ham / "copy.txt").write_bytes((ham / "1.txt").read_bytes())
    (ham / "near.txt").write_text((ham / "2.txt").read_text() + " ps")
    (ham / "empty.txt").write_text(" \n")
    (ham / "latin.txt").write_bytes("caf\xe9 meeting paper".encode("latin-1"))
    (ham / "twice.txt").write_text("cafÃ© meeting paper lunch")
    (ham / "control.txt").write_text("meeting \x01 paper")
    (ham / "wrong.txt").write_text((place / "spam" / "7.txt").read_text() + " other words")
    (place / "list.pdf").write_bytes(b"%PDF")
    return place


def test_faults_of_texts_are_named(texts, tmp_path):
    found = clean(texts, tmp_path / "out")
    kinds = {fault.kind: fault for fault in found.faults}
    assert {"empty text", "not utf-8", "control characters", "encoded twice", "no text", "duplicate"} <= set(kinds)
    assert kinds["not utf-8"].examples == ("ham/latin.txt",) and kinds["encoded twice"].examples == ("ham/twice.txt",)
    assert kinds["control characters"].examples == ("ham/control.txt",)
    assert any("ham/wrong.txt" in text for text in kinds["label probably wrong"].examples)
    assert found.after == found.before - 1 and not (tmp_path / "out/ham/empty.txt").exists()
    assert (tmp_path / "out/ham/latin.txt").read_bytes() == (texts / "ham/latin.txt").read_bytes()


def test_equal_and_near_texts_are_found(texts):
    found = dedupe(texts, near=True)
    names = found.examples.names
    groups = [{names[at] for at in group} for group in found.groups]
    assert {"ham/1.txt", "ham/copy.txt"} in groups and {"ham/2.txt", "ham/near.txt"} in groups
    assert found.exact == 1


def test_near_examples_of_lines_of_json(tmp_path):
    rows = [{"text": f"{k} " + " ".join(f"word{k * 7 + i}" for i in range(30)), "label": k % 2} for k in range(30)]
    rows.append({**rows[4], "text": rows[4]["text"] + " end"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert dedupe(tmp_path / "rows.jsonl", near=True).groups == ((4, 30),)


def test_the_same_verbs_take_both_and_pack_them(recordings, texts, tmp_path):
    run = CliRunner().invoke
    for source in (recordings, texts):
        for verb in (["inspect", str(source), "--json"], ["dedupe", str(source), "--json"]):
            done = run(cli.app, ["data", *verb])
            assert done.exit_code == 0 and json.loads(done.stdout)["examples"] > 10
        page = tmp_path / f"{source.name}.html"
        assert (
            run(cli.app, ["data", "inspect", str(source), "--html", str(page)]).exit_code == 0 and page.stat().st_size
        )
        back = unpack(pack(source).path, tmp_path / f"{source.name}-back")
        for file in source.rglob("*"):
            if file.is_file():
                assert (back / file.relative_to(source)).read_bytes() == file.read_bytes()
    kinds = pack(recordings, tmp_path / "again.attar").kinds
    assert kinds["audio"] >= 14


def test_folders_of_nothing_known_are_refused(texts):
    shutil.rmtree(texts / "ham")
    shutil.rmtree(texts / "spam")
    with pytest.raises(DataError, match="recordings or texts"):
        open_source(texts)
