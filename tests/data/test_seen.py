"""Looking at a folder of images goes on after a kill where it was, and nothing of other files is taken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attar.cleaning.clean import inspect
from attar.cleaning.table_steps import CleanSettings
from attar.copies.dedupe import dedupe
from attar.files import seen as module
from attar.files.seen import BLOCK, seen
from attar.selection.choose import choose

COUNT = 2 * BLOCK + 9
SCRIPT = """
import os, signal, sys
from attar.files import seen
kept, after = seen.Kept.put, int(sys.argv[2])
blocks = []
def put(self, *unit):
    kept(self, *unit)
    blocks.append(unit)
    if len(blocks) == after:
        os.kill(os.getpid(), signal.SIGKILL)
seen.Kept.put = put
from attar import cli
cli.app(sys.argv[3:] + [sys.argv[1]])
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "attar" / "looked"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """More than two blocks, in two classes; one is broken and one a copy."""
    place, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for k in range(COUNT):
        path = place / "ab"[k % 2] / f"{k:04}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 9), np.uint8)).save(path)
    (place / "a" / "0000.png").write_bytes(b"\x89PNG and no more")
    (place / "a" / "0004.png").write_bytes((place / "a" / "0002.png").read_bytes())
    return place


def of(pixels) -> np.ndarray | None:
    return None if pixels is None else pixels[:2, :3].copy()


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def killed(images: Path, after: int, *command: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(images), str(after), *command], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def opened(monkeypatch) -> list[str]:
    """The files that are looked at from now on."""
    looked, look = [], module.look
    monkeypatch.setattr(module, "look", lambda folder, paths: (looked.extend(paths), look(folder, paths))[1])
    return looked


VERBS = {
    "inspect": lambda images: inspect(images, CleanSettings(None, find_noisy=False)).facts(),
    "dedupe": lambda images: dedupe(images, near=True).facts(),
    "select": lambda images: choose(images, 20, method="k-center").facts(),
}
COMMANDS = {
    "inspect": ("data", "inspect", "--no-labels"),
    "dedupe": ("data", "dedupe", "--near"),
    "select": ("data", "select", "-k", "20", "--method", "k-center"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_killed_verb_goes_on_and_says_the_same(verb, images, cache, monkeypatch, tmp_path):
    plain = VERBS[verb](images)
    assert not list(cache.iterdir()), "what was seen goes when all is"
    out = ("-o", str(tmp_path / "chosen")) if verb == "select" else ()
    killed(images, 2, *COMMANDS[verb], *out)
    looked = opened(monkeypatch)
    assert VERBS[verb](images) == plain
    assert len(looked) == COUNT - 2 * BLOCK
    assert not list(cache.iterdir())


def test_a_file_that_has_changed_is_looked_at_again(images, cache, monkeypatch):
    killed(images, 2, *COMMANDS["inspect"])
    os.utime(images / "b" / "0001.png", ns=(1, 1))
    looked = opened(monkeypatch)
    VERBS["inspect"](images)
    assert len(looked) == COUNT - BLOCK


def test_blocks_that_are_cut_are_made_again(images, cache):
    killed(images, 1, *COMMANDS["inspect"])
    (unit,) = (path for path in cache.rglob("*") if path.is_file())
    unit.write_bytes(unit.read_bytes()[:-5])
    assert VERBS["inspect"](images)


def test_what_is_made_of_pictures_is_the_same_from_a_block(images, monkeypatch):
    first = list(seen(images, names(images), "corners", lambda _, pixels: of(pixels)))
    half = seen(images, names(images), "corners", lambda _, pixels: of(pixels))
    for _ in range(BLOCK + 1):
        next(half)  # the first block is kept
    half.close()
    again = list(seen(images, names(images), "corners", lambda _, pixels: of(pixels)))
    assert [one for one, _ in first] == [one for one, _ in again]
    for (_, one), (_, other) in zip(first, again, strict=True):
        assert (one is None) == (other is None) and (one is None or np.array_equal(one, other))


def test_few_files_are_not_kept_and_old_ones_go(images, cache, tmp_path):
    old = cache / "of-somebody"
    old.mkdir(parents=True)
    os.utime(old, (time.time() - module.WEEK - 60,) * 2)
    half = seen(images, names(images)[:BLOCK], "few", lambda _, pixels: of(pixels))
    next(half)
    half.close()
    assert not list(cache.iterdir())


def test_a_cache_that_cannot_be_written_is_done_without(images, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert VERBS["inspect"](images)
