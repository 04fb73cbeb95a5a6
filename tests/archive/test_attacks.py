"""The hostile archives of attacks/: each is refused by name, soon, and within its memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from attar import opening, registry, stored
from attar.archive import read_archive
from attar.errors import FormatError

ATTACKS = sorted((Path(__file__).parents[2] / "attacks").glob("*.attar"))
sys.path.insert(0, str(Path(__file__).parents[2] / "attacks"))
import make  # noqa: E402

SECTIONS = (
    "section 'first'",
    "section 'second'",
    "layer",
    "header",
    "manifest",
    "remainder",
    "skeleton",
    "file",
    "tensor",
)


def test_there_are_attacks_and_they_are_those_of_the_script():
    made = make.attacks()
    assert len(ATTACKS) > 50 and {path.stem for path in ATTACKS} == set(made)
    # What deflate and LZMA write depends on their version: only what is not packed is compared byte by byte.
    for path in ATTACKS:
        if path.stem in ("empty", "no-attar", "offsets-reversed"):
            assert path.read_bytes() == made[path.stem]


def test_the_honest_archive_is_whole(tmp_path):
    path = tmp_path / "honest.attar"
    path.write_bytes(make.honest())
    rows = stored.verify(path)
    assert [row["section"] for row in rows] == ["first", "second", "remainder", "skeleton"]
    assert not any(row["error"] for row in rows)


@pytest.mark.parametrize("path", ATTACKS, ids=[path.stem for path in ATTACKS])
def test_refused_by_name_soon_and_within_memory(path):
    registry.get("method", "uniform"), registry.get("method", "keep")
    tracemalloc.start()
    started = time.perf_counter()
    try:
        rows = stored.verify(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    errors = [row["error"] for row in rows if row["error"]]
    # An altered code may be another matrix of the same shape, which no decoder can tell.
    assert errors or path.stem.startswith("code-byte")
    for error in errors:
        assert "Received" in error and any(name in error for name in SECTIONS)
    assert time.perf_counter() - started < 5
    assert peak < 100 << 20


@pytest.mark.parametrize("path", ATTACKS, ids=[path.stem for path in ATTACKS])
def test_opening_them_is_a_format_error_too(path):
    try:
        archive = read_archive(path)
        for layer in archive.layers:
            opening.decode(archive, layer.name)
        archive.remainder(), archive.skeleton()
    except FormatError:
        return
    assert path.stem.startswith("code-byte")


def run(*words, limit=None):
    def cap():
        if limit:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "attar", "verify", *words], capture_output=True, text=True, check=False, preexec_fn=cap
    )


def test_the_command_names_what_is_damaged(tmp_path):
    whole = tmp_path / "whole.attar"
    whole.write_bytes(make.honest())
    done = run(str(whole))
    assert done.returncode == 0 and done.stdout.startswith(f"{whole}: whole, 4 sections, ")
    damaged = next(path for path in ATTACKS if path.stem == "shape-transposed")
    done = run(str(whole), str(damaged), "-v", limit=2 << 30)
    assert done.returncode == 1 and not done.stderr
    assert "1 of 4 sections damaged" in done.stdout and "layer 'first', " in done.stdout
    assert "remainder 'remainder', " in done.stdout and done.stdout.count("whole") >= 7
    done = run(str(damaged), "--json")
    assert done.returncode == 1 and len(json.loads(done.stdout)[str(damaged)]) == 4
    done = run(str(tmp_path / "gone.attar"))
    assert done.returncode == 2 and "it must be a file" in done.stderr
