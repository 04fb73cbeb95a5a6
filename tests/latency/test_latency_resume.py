"""A latency goal that was killed goes on from what it had measured: integers, candidates with their times, answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from latency_net import written
from test_latency_goal import DROP, costs

import attar
from attar.exports.timing import Latency
from attar.latency import race as race_module
from attar.latency import stage
from attar.latency.candidate import Candidate
from attar.latency.kept import candidate
from attar.latency.made import Fast
from attar.latency.race import Race
from attar.latency.table import CostTable
from attar.run.kept import FOLDER, Kept


class Killed(BaseException):
    """What ends a run as SIGKILL does: nothing catches it."""


@pytest.fixture(autouse=True)
def table(monkeypatch, tmp_path) -> None:
    """No measuring of works, and no file of the user's."""
    monkeypatch.setattr(stage, "table_of", lambda threads: CostTable(costs, {}, None))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return written(tmp_path_factory.mktemp("net"))


def compress(place, out: Path, **fields: object):
    model, sets = place
    return attar.compress(model, **sets, goal="latency", max_drop=DROP, out=out, **fields)  # type: ignore[arg-type]


def killed_after(monkeypatch, pieces: int) -> list[str]:
    """Kill a run behind so many kept pieces; their kinds are put into what is given back."""
    put, seen = Kept.put, list[str]()

    def counted(self: Kept, key: str, *unit: object) -> None:
        put(self, key, *unit)  # type: ignore[arg-type]
        seen.append(key.split("-")[0])
        if len(seen) == pieces:
            raise Killed

    monkeypatch.setattr(Kept, "put", counted)
    return seen


@pytest.fixture(scope="module")
def unbroken(place, tmp_path_factory):
    """A run that was not killed, the folder of its work, and the kinds of pieces in their order."""
    folder = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "table_of", lambda threads: CostTable(costs, {}, None))
        seen = killed_after(patch, 10**6)
        return compress(place, folder / "out", work=folder / "work"), folder / "work", seen


def test_what_was_measured_is_not_measured_again(place, unbroken, tmp_path, monkeypatch) -> None:
    """Begun anew behind its last piece, a run makes and times no candidate again, and asks none anything again."""
    whole, work, kinds = unbroken
    assert {"integers", "faster", "fast", "outputs", "moments"} <= set(kinds)
    made: list[object] = []
    monkeypatch.setattr(Race, "_made", lambda self, key: made.append(key))
    monkeypatch.setattr(Race, "_float", lambda self, key: made.append(key))
    monkeypatch.setattr(stage, "first_integers", lambda *_: made.append("integers"))
    monkeypatch.setattr(race_module.Runtime, "run", lambda *_: made.append("asked"))
    again = compress(place, tmp_path / "again", work=work)
    assert not made
    rows = [{row["candidate"]: (row["bytes"], row["milliseconds"], row["drop"]) for row in one.events[-1]["frontier"]}
            for one in (whole, again)]  # fmt: skip
    assert rows[0] == rows[1] and len(rows[0]) > 1


def test_killed_on_the_way_it_goes_on(place, unbroken, tmp_path, monkeypatch) -> None:
    _, work, every = unbroken
    out = tmp_path / "out"
    (out / FOLDER).mkdir(parents=True)
    for path in sorted(work.iterdir(), key=lambda path: path.stat().st_mtime_ns)[: len(every) // 2]:
        shutil.copy(path, out / FOLDER)
    with monkeypatch.context() as patch:
        killed_after(patch, 3)
        with pytest.raises(Killed):
            compress(place, out)
    assert len(list((out / FOLDER).iterdir())) == len(every) // 2 + 3 and not (out / "net.fast.onnx").exists()
    new = killed_after(monkeypatch, 10**6)
    found = compress(place, out)
    assert len(new) <= len(every) - len(every) // 2 + 1, "a busy machine may choose other candidates, but few"
    assert found.within and (out / "net.fast.onnx").read_bytes() == found.fast.data
    assert not (out / FOLDER).exists()


@pytest.mark.slow
def test_a_broken_piece_is_made_again(place, unbroken, tmp_path, monkeypatch) -> None:
    work = shutil.copytree(unbroken[1], tmp_path / "work")
    pieces = sorted(work.glob("fast-*"))
    assert pieces
    for number, path in enumerate(pieces):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data if number % 2 else data[: len(data) // 2])
    seen = killed_after(monkeypatch, 10**6)
    assert compress(place, tmp_path / "second", work=work).within
    assert seen.count("fast") >= len(pieces)


@pytest.mark.slow
def test_training_is_kept_too(place, tmp_path, monkeypatch) -> None:
    _, sets = place
    fields = {"train": sets["calibrate"], "settings": {"recovery": {"epochs": 1, "candidates": 1}}}
    compress(place, tmp_path / "first", work=tmp_path / "work", **fields)
    assert list((tmp_path / "work").glob("retrained-*"))
    for path in (tmp_path / "work").glob("fast-*"):
        path.unlink()
    monkeypatch.setattr(race_module, "retrain", lambda *_, **__: pytest.fail("trained again"))
    assert compress(place, tmp_path / "second", work=tmp_path / "work", **fields).within


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"batch": 4}, {"threads": 2}])
def test_other_settings_are_another_race(place, unbroken, tmp_path, monkeypatch, fields) -> None:
    seen = killed_after(monkeypatch, 10**6)
    compress(place, tmp_path / "other", work=shutil.copytree(unbroken[1], tmp_path / "work"), **fields)
    assert {"faster", "fast"} <= set(seen) and "moments" not in seen


def test_a_candidate_comes_back_as_it_was(tmp_path) -> None:
    fast = Fast(b"bytes", True, ("a", "b"), "integers")
    one = Candidate(3.5, b"archive", fast, Latency(1.5, 0.5, 0.4, 0.6, 15), 1.25, None, {"g": (8, 4)}, 0.25)
    kept = Kept(tmp_path)
    assert candidate(kept, "fast-x", lambda: one) == one
    assert candidate(kept, "fast-x", lambda: pytest.fail("made again")) == one
    assert Kept().get("fast-x") is None
