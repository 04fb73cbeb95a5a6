"""A file is complete or not there: refusals, full disks, kills in the middle; the old file survives them all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attar.archive import read_archive, to_bytes, write, write_archive
from attar.errors import OutputError

from .samples import contents

TESTS = Path(__file__).parents[1]


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_existing_files_are_kept(tmp_path):
    path = tmp_path / "m.attar"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="not overwritten"):
        write_archive(path, **contents())
    assert path.read_bytes() == b"old"
    write_archive(path, **contents(), force=True)
    assert path.read_bytes() == to_bytes(**contents())
    assert listing(tmp_path) == ["m.attar"]


def test_folders_and_missing_folders(tmp_path):
    with pytest.raises(OutputError, match="a folder"):
        write_archive(tmp_path, **contents(), force=True)
    with pytest.raises(OutputError, match="No such file"):
        write_archive(tmp_path / "no" / "m.attar", **contents())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError):
        write_archive(tmp_path / "file" / "m.attar", **contents())
    assert listing(tmp_path) == ["file"]


def test_symbolic_links_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "m.attar").write_bytes(b"old")
    link = tmp_path / "link.attar"
    link.symlink_to(tmp_path / "real" / "m.attar")
    write_archive(link, **contents(), force=True)
    assert link.is_symlink()
    assert (tmp_path / "real" / "m.attar").read_bytes() == to_bytes(**contents())


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_refusals_of_the_system(tmp_path, monkeypatch, step, code):
    path = tmp_path / "m.attar"
    path.write_bytes(b"old")
    parts = []

    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    def half(part, data):
        with part.open("xb") as file:
            file.write(data[0][:100])
        parts.append(part)
        fail()

    if step == "open":
        monkeypatch.setattr(Path, "open", fail)
    elif step == "write":
        monkeypatch.setattr(write, "_write_synced", half)
    elif step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match=os.strerror(code)):
        write_archive(path, **contents(), force=True)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["m.attar"]
    assert step != "write" or parts


@pytest.mark.skipif(os.name == "nt", reason="needs a mounted file system")
def test_a_truly_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", disk], capture_output=True, check=False)
    if done.returncode:
        full = Path("/dev/full")
        assert full.exists()
        with pytest.raises(OSError, match="No space"), full.open("wb", buffering=0) as file:
            file.write(b"x")
        return
    try:
        path = disk / "m.attar"
        path.write_bytes(b"old")
        with pytest.raises(OutputError, match="No space left"):
            write_archive(path, **contents(9), force=True)
        assert path.read_bytes() == b"old"
        assert listing(disk) == ["m.attar"]
    finally:
        subprocess.run(["umount", disk], check=True)


WRITER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from attar.archive import write
from archive.samples import contents
synced = write._write_synced
def slow(part, parts):
    if sys.argv[3] == "before":
        with part.open("xb") as file:
            file.write(parts[0])
            file.flush()
            print("writing", flush=True)
            time.sleep(60)
    synced(part, parts)
    print("writing", flush=True)
    time.sleep(60)
write._write_synced = slow
write.write_archive(Path(sys.argv[1]), **contents(), force=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_in_the_middle(tmp_path, moment):
    path = tmp_path / "m.attar"
    path.write_bytes(to_bytes(**contents(1)))
    old = path.read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(TESTS), moment], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    assert len(listing(tmp_path)) == 2
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert path.read_bytes() == old
    read_archive(path).verify()
    write_archive(path, **contents(), force=True)
    assert path.read_bytes() == to_bytes(**contents())
    assert listing(tmp_path) == ["m.attar"], "what the killed process left is swept by the next write"


def test_a_living_writers_part_is_left_alone(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        part = tmp_path / f".m.attar.{process.pid}{write._SUFFIX}"
        part.write_bytes(b"half")
        write_archive(tmp_path / "m.attar", **contents())
        assert part.exists()
    finally:
        process.kill()
        process.wait()
    time.sleep(0)


def test_permissions_are_the_users_own(tmp_path):
    before = os.umask(0o027)
    try:
        write_archive(tmp_path / "m.attar", **contents())
    finally:
        os.umask(before)
    assert (tmp_path / "m.attar").stat().st_mode & 0o777 == 0o640
