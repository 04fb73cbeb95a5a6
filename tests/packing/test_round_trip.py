"""What is packed comes back to the byte."""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attar.archive import read_archive
from attar.errors import OutputError, UsageError
from attar.packing.pack import pack
from attar.packing.unpack import unpack

from . import samples


def test_a_file_comes_back(tmp_path: Path) -> None:
    source = samples.safetensors(tmp_path / "model.safetensors")
    result = pack(source)
    assert result.path == tmp_path / "model.safetensors.attar"
    assert (result.bytes_before, result.bytes_after) == (source.stat().st_size, result.path.stat().st_size)
    archive = read_archive(result.path)
    archive.verify()
    (file,) = archive.files
    assert {span.name for span in file.spans} == set(samples.tensors())
    assert unpack(result.path, tmp_path / "back").read_bytes() == source.read_bytes()
    (tmp_path / "folder").mkdir()
    assert unpack(result.path, tmp_path / "folder") == tmp_path / "folder" / "model.safetensors"


def test_existing_files_stay_without_force(tmp_path: Path) -> None:
    source = samples.safetensors(tmp_path / "model.safetensors")
    pack(source)
    with pytest.raises(OutputError, match="not overwritten"):
        pack(source)
    pack(source, force=True)
    with pytest.raises(OutputError, match="not overwritten"):
        unpack(tmp_path / "model.safetensors.attar")
    unpack(tmp_path / "model.safetensors.attar", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "model.safetensors.attar"]


def test_a_folder_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    samples.safetensors(folder / "a.safetensors")
    samples.safetensors(folder / "deep" / "b.safetensors")
    (folder / "config.json").write_text('{"layers": 2}')
    (folder / "empty.txt").touch()
    before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    back = unpack(pack(folder).path, tmp_path / "back")
    assert {path.relative_to(back): path.read_bytes() for path in back.rglob("*") if path.is_file()} == before
    with pytest.raises(OutputError, match="existing"):
        unpack(tmp_path / "net.attar", back)
    (back / "config.json").write_text("changed")
    unpack(tmp_path / "net.attar", back, force=True)
    assert (back / "config.json").read_text() == '{"layers": 2}'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "net", "net.attar"]


def test_other_files_are_refused_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(UsageError, match=r"must be safetensors, ONNX, GGUF.*Received another file"):
        pack(tmp_path / "notes.txt")
    with pytest.raises(UsageError, match="must be readable"):
        pack(tmp_path / "missing")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_working_folder_has_no_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = samples.safetensors(tmp_path / "net" / "a.safetensors")
    monkeypatch.chdir(source.parent)
    assert pack(".").path == tmp_path / "net.attar"
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    unpack("../net.attar", ".", force=True)
    assert Path("a.safetensors").read_bytes() == source.read_bytes()


def test_archives_in_a_folder_are_kept_as_they_are(tmp_path: Path) -> None:
    old = pack(samples.safetensors(tmp_path / "net" / "a.safetensors")).path
    result = pack(tmp_path / "net")
    assert "packed already" in result.notes[0]
    assert (unpack(result.path, tmp_path / "back") / old.name).read_bytes() == old.read_bytes()


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    dead = 2**22 + 7  # beyond the largest process number
    (tmp_path / f".back.folder.{dead}.attar-part" / "deep").mkdir(parents=True)
    archive = pack(samples.safetensors(tmp_path / "a.safetensors")).path
    unpack(archive, tmp_path / "back")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "a.safetensors.attar", "back"]


SMALL = """
import resource, sys
from pathlib import Path
from attar.packing.pack import pack
from attar.packing.unpack import unpack
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
folder = Path(sys.argv[1])
pack(folder / "many", folder / "many.attar")
unpack(folder / "many.attar", folder / "again")
"""


def test_more_files_than_may_be_open(tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for i in range(200):
        (tmp_path / "many" / f"{i}.json").write_text(str(i) * 40)
    done = subprocess.run([sys.executable, "-c", SMALL, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "many").iterdir():
        assert (tmp_path / "again" / path.name).read_text() == path.read_text()


PEAK = """
import resource, sys
from pathlib import Path
import attar.packing.unpack
from attar.packing.pack import pack
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
folder, before = Path(sys.argv[1]), peak()
pack(folder / "large.npy", folder / "large.attar")
attar.packing.unpack.unpack(folder / "large.attar", folder / "again.npy")
print(peak() - before)
"""


@pytest.mark.slow
def test_a_file_is_never_in_memory_whole(tmp_path: Path) -> None:
    """A gigabyte of floats goes through pieces of 16 MB, of which each thread has a few."""
    rng = np.random.default_rng(0)
    array = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.float32, (1 << 16, 1 << 12))
    for row in range(0, len(array), 1 << 12):
        array[row : row + (1 << 12)] = rng.normal(0, 0.02, (1 << 12, 1 << 12))
    array.flush()
    environment = {**os.environ, "ATTAR_THREADS": "2"}
    command = [sys.executable, "-c", PEAK, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 400, "megabytes"
    assert filecmp.cmp(tmp_path / "large.npy", tmp_path / "again.npy", shallow=False)
