"""Packing that was killed goes on where it was, with the bytes of an unbroken run; what is kept is never trusted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attar.archive import folder
from attar.errors import OutputError
from attar.run.progress import Silent
from attar.sets import images, tiles
from attar.sets.pack import pack
from attar.sets.resume import Kept
from attar.sets.unpack import unpack

KILLED = """
import os, signal, sys
from attar.sets import images, resume, tiles
from attar.sets.pack import pack
tiles.STACK = 1 << 14
kept, after = resume.Kept.keep, int(sys.argv[3])
def keep(self, number, unit):
    kept(self, number, unit)
    if number + 1 == after:
        os.kill(os.getpid(), signal.SIGKILL)
resume.Kept.keep = keep
pack(sys.argv[1], sys.argv[2])
"""


class Told(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(tiles, "STACK", 1 << 14)


def made(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir()
    for k in range(3):
        x = np.cumsum(rng.integers(-3, 4, (60, 20, 20)), axis=1).astype(np.uint8)
        np.savez(folder / f"{k}.npz", x=x, y=np.arange(60))
    return folder


def killed(source: Path, goal: Path, after: int) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED, str(source), str(goal), str(after)], capture_output=True)
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert not goal.exists()


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path, small, monkeypatch, after):
    source = made(tmp_path / "set")
    whole = pack(source, tmp_path / "whole.attar").path.read_bytes()
    goal = tmp_path / "a.attar"
    killed(source, goal, after)
    coded, encode = [], images.encode
    monkeypatch.setattr(images, "encode", lambda stack: coded.append(1) or encode(stack))
    told = Told()
    pack(source, goal, progress=told)
    assert goal.read_bytes() == whole and len(coded) == 5 - after
    assert told.notes == [f"{after} of 5 stacks were there from a run that was interrupted"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.attar", "set", "whole.attar"]
    unpack(goal, tmp_path / "out")
    assert (tmp_path / "out" / "set" / "1.npz").exists() or (tmp_path / "out" / "1.npz").exists()


def test_a_changed_file_starts_afresh(tmp_path, small):
    source, goal = made(tmp_path / "set"), tmp_path / "a.attar"
    killed(source, goal, 2)
    np.savez(source / "1.npz", x=np.zeros((60, 20, 20), np.uint8), y=np.arange(60))
    told = Told()
    pack(source, goal, progress=told)
    assert not told.notes


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A set, its whole archive, and what a run has kept that was killed after three stacks."""
    place = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "STACK", 1 << 14)
        source = made(place / "set")
        pack(source, place / "whole.attar")
    killed(source, place / "a.attar", 3)
    return place


@pytest.mark.parametrize("harm", ["flip", "cut", "grow", "empty", "other"])
def test_broken_units_are_coded_again(begun, tmp_path, small, harm):
    shutil.copytree(begun / ".a.attar.work", tmp_path / ".a.attar.work")
    source, goal = begun / "set", tmp_path / "a.attar"
    whole = (begun / "whole.attar").read_bytes()
    unit = tmp_path / ".a.attar.work" / "1.unit"
    data = bytearray(unit.read_bytes())
    if harm == "flip":
        data[-5] ^= 1
    broken = {
        "flip": bytes(data),
        "cut": bytes(data[:-1]),
        "grow": bytes(data) + b"x",
        "empty": b"",
        "other": b"\xff" * 99,
    }
    unit.write_bytes(broken[harm])
    told = Told()
    pack(source, goal, progress=told)
    assert goal.read_bytes() == whole and told.notes[0].startswith("2 of 5")


def test_an_interruption_keeps_and_an_error_does_not(tmp_path, small, monkeypatch):
    source, goal = made(tmp_path / "set"), tmp_path / "a.attar"
    encode, calls = images.encode, []

    def stopping(error):
        def run(stack):
            calls.append(1)
            if len(calls) == 3:
                raise error
            return encode(stack)

        return run

    monkeypatch.setattr(images, "encode", stopping(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        pack(source, goal)
    assert (tmp_path / ".a.attar.work" / "1.unit").exists()
    calls.clear()
    monkeypatch.setattr(images, "encode", stopping(OSError(28, "No space left on device")))
    with pytest.raises(OutputError):
        pack(source, goal)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_where_nothing_can_be_kept_packing_goes_on(tmp_path, small, monkeypatch):
    source, goal = made(tmp_path / "set"), tmp_path / "a.attar"
    monkeypatch.setattr("attar.sets.resume._write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    assert pack(source, goal).path.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.attar", "set"]


def test_a_single_stack_is_not_kept(tmp_path):
    source = made(tmp_path / "set")
    kept = Kept.keep
    seen = []
    Kept.keep = lambda self, number, unit: seen.append(number)
    try:
        pack(source, tmp_path / "a.attar")
    finally:
        Kept.keep = kept
    assert not seen


def test_a_folder_of_another_s_is_left_alone(tmp_path, small):
    source = made(tmp_path / "set")
    other = tmp_path / ".a.attar.work"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    pack(source, tmp_path / "a.attar")
    assert [file.name for file in other.iterdir()] == ["thesis.txt"] and (other / "thesis.txt").read_text() == "mine"
    (other / "thesis.txt").unlink()
    pack(source, tmp_path / "a.attar", force=True)
    assert not other.exists()


HALF = """
import os, signal, sys
from attar.archive import folder
from attar.sets.unpack import unpack
written, count, after = folder._written, [], int(sys.argv[3])
def write(*given):
    if len(count) == after:
        given[3].write_bytes(b"half of a file")
        os.kill(os.getpid(), signal.SIGKILL)
    count.append(written(*given))
    return count[-1]
folder._written = write
unpack(sys.argv[1], sys.argv[2])
"""


@pytest.fixture
def several(tmp_path):
    """An archive of images in two stacks, of large ones in tiles, of texts and a table; and the unbroken folder."""
    source, rng = made(tmp_path / "set"), np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (300, 310), np.uint8)).save(source / "large.png")
    for k in range(4):
        (source / f"{k}.txt").write_text(f"one and two and {k}\n" * 30)
    (source / "table.csv").write_text("a,b\n" + "".join(f"{k},{k % 3}\n" for k in range(200)))
    pack(source, tmp_path / "set.attar")
    unpack(tmp_path / "set.attar", tmp_path / "whole")
    return tmp_path / "set.attar", {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()}


def broken_off(archive: Path, goal: Path, after: int) -> None:
    run = subprocess.run([sys.executable, "-c", HALF, str(archive), str(goal), str(after)], capture_output=True)
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert not goal.exists()


@pytest.mark.parametrize("after", [0, 1, 4, 8])
def test_unpacking_that_was_killed_goes_on(several, tmp_path, after, monkeypatch):
    archive, whole = several
    broken_off(archive, tmp_path / "back", after)
    written, again = folder._written, []
    monkeypatch.setattr(folder, "_written", lambda *given: again.append(given[1]) or written(*given))
    told = Told()
    unpack(archive, tmp_path / "back", progress=told)
    assert {p.name: p.read_bytes() for p in (tmp_path / "back").iterdir()} == whole
    assert len(again) == len(whole) - after
    assert told.notes == (
        [f"{after} of {len(whole)} files were there from a run that was interrupted"] if after else []
    )
    assert not list(tmp_path.glob(".back*"))


def test_what_was_unpacked_of_another_archive_is_not_taken(several, tmp_path):
    archive, whole = several
    broken_off(archive, tmp_path / "back", 5)
    os.utime(archive, ns=(1, 1))
    told = Told()
    unpack(archive, tmp_path / "back", progress=told)
    assert not told.notes and {p.name: p.read_bytes() for p in (tmp_path / "back").iterdir()} == whole


def test_unpacking_that_fails_leaves_nothing_and_strangers_folders_alone(several, tmp_path, monkeypatch):
    archive, whole = several
    (tmp_path / ".back.work").mkdir()
    (tmp_path / ".back.work" / "mine").write_text("not attar's")
    unpack(archive, tmp_path / "back")
    assert (tmp_path / ".back.work" / "mine").read_text() == "not attar's"
    assert {p.name for p in tmp_path.glob(".back*")} == {".back.work"}
    assert {p.name for p in (tmp_path / "back").iterdir()} == set(whole)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "_written", full)
    with pytest.raises(OutputError, match="No space left"):
        unpack(archive, tmp_path / "other")
    assert not list(tmp_path.glob(".other*")) and not (tmp_path / "other").exists()
