"""Copies of a folder whose making was killed: the next run goes on with the files that are missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from augment_cases import image_folder

from attar.augment import folders
from attar.augment.plan import Plan
from attar.augment.write import augment


def test_a_killed_run_leaves_no_half_output_and_the_next_one_goes_on(tmp_path: Path, monkeypatch) -> None:
    source = image_folder(tmp_path / "in", 60)
    command = [sys.executable, "-m", "attar", "data", "augment", str(source), "-o", str(tmp_path / "out"),
               "--copies", "20", "--jobs", "1"]  # fmt: skip
    whole = files_of(augment(source, tmp_path / "whole", Plan(copies=20)).out)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob(".out.work/files/*/*~5.png"))) < 5:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists()
    read, again = folders.read_picture, []
    monkeypatch.setitem(
        folders.FORMS, "images", (folders.FORMS["images"][0], lambda path: again.append(path) or read(path),
                                  folders.FORMS["images"][2]),
    )  # fmt: skip
    augment(source, tmp_path / "out", Plan(copies=20))
    assert files_of(tmp_path / "out") == whole and 0 < len(again) < len(whole) / 21
    assert {p.name for p in tmp_path.iterdir()} == {"in", "out", "whole"}


def test_what_was_begun_with_other_changes_is_not_taken(tmp_path: Path, monkeypatch) -> None:
    source = image_folder(tmp_path / "in", 3)
    whole = files_of(augment(source, tmp_path / "whole", Plan(seed=1)).out)
    work = tmp_path / ".out.work"
    (work / "files" / "cat").mkdir(parents=True)
    (work / "mark").write_text("of another plan")
    for name in whole:
        (work / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (work / "files" / name).write_bytes(b"other")
    assert files_of(augment(source, tmp_path / "out", Plan(seed=1)).out) == whole and not work.exists()


def files_of(place: Path) -> dict[str, bytes]:
    return {p.relative_to(place).as_posix(): p.read_bytes() for p in place.rglob("*") if p.is_file()}
