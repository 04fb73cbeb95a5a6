"""A run that was killed goes on where it was and ends with the bytes of an unbroken one; another point of a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import attar
from attar.adapters.base import Adapter
from attar.errors import FormatError, OutputError, UsageError
from attar.outputs import MOVING
from attar.picking import pick
from attar.run.clock import Clock, seconds_of
from attar.run.kept import FOLDER, Kept, key_of
from attar.show import picked_lines
from attar.types import Dataset
from fakes import NumpyNet, trained
from test_faults import small, small_model

pytestmark = pytest.mark.usefixtures("numpy_adapter")
HERE = Path(__file__).parent
LENET = HERE.parent / "examples" / "models" / "lenet300.onnx"
FASHION = HERE.parent / "examples" / "fashion-mnist"


class Killed(BaseException):
    """What ends a run as SIGKILL does: nothing catches it."""


def compress(out: Path | None = None, net: NumpyNet | None = None, data: Dataset | None = None, **fields: object):
    model, found = trained()
    fields = {"max_drop": 3, **fields}
    return attar.compress(net or model, data or found, out=out, force=out is not None, **fields)  # type: ignore[arg-type]


def training() -> dict[str, object]:
    """Fields of a run that trains two candidates."""
    _, data = trained()
    held = data.take(range(1500, 3000))
    settings = {"recovery": {"epochs": 1, "candidates": 2, "rate": 0.01}}
    return {"data": data.take(range(1500)), "train": held, "settings": settings}


@pytest.mark.parametrize("trains", [False, True])
def test_killed_after_any_piece_of_work_it_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trains: bool
) -> None:
    fields = training() if trains else {}
    whole = compress(**fields).data
    write, left = Kept.put, 0

    def put(self: Kept, *unit: object) -> None:
        nonlocal left
        write(self, *unit)  # type: ignore[arg-type]
        left -= 1
        if left == 0:
            raise Killed

    monkeypatch.setattr(Kept, "put", put)
    killed = 0
    for pieces in (1, 2, 3, 5, 8, 11, 14, 18, 22, 26, 30, 40):
        left, out = pieces, tmp_path / str(pieces)
        try:
            compress(out, **fields)
        except Killed:
            killed, left = pieces, 0
            again = compress(out, **fields)
            assert again.data == whole and (out / "NumpyNet.attar").read_bytes() == whole
        else:
            break
    assert killed > (15 if trains else 10)


def test_what_was_kept_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compress(work=tmp_path / "work")
    made = {path.name for path in (tmp_path / "work").iterdir()}
    puts: list[str] = []
    monkeypatch.setattr(Kept, "put", lambda _, key, *unit: puts.append(key.split("-")[0]))
    again = compress(work=tmp_path / "work")
    assert again.data == first.data and not puts
    assert {name.split("-")[0] for name in made} == {"moments", "sensitivities", "corrected", "points", "outputs"}
    looser = compress(work=tmp_path / "work", max_drop=6)
    assert len(looser.data) < len(first.data) and set(puts) <= {"points", "outputs"}, "statistics serve all budgets"


def test_units_of_another_model_set_or_setting_are_not_taken(tmp_path: Path) -> None:
    net, data = trained()
    work = tmp_path / "work"
    compress(work=work)
    moved = NumpyNet({**net.weights, "w1": net.weights["w1"] * 1.01})
    for fields in (
        {"net": moved}, {"data": Dataset({"x": data.inputs["x"] + 0.01}, data.labels)}, {"seed": 1},
        {"methods": ["codebook", "keep"]}, {"settings": {"uniform": {"sweeps": 1}}}, {"exclude": ["w2"]},
    ):  # fmt: skip
        assert compress(work=work, **fields).data == compress(**fields).data, fields


@pytest.mark.parametrize("fault", ["flip", "cut", "empty", "swap"])
def test_broken_units_are_computed_again(tmp_path: Path, fault: str) -> None:
    work, rng = tmp_path / "work", np.random.default_rng(0)
    whole = compress(work=work).data
    files = sorted(work.iterdir())
    for path, other in zip(files, [*files[1:], files[0]], strict=True):
        data = bytearray(path.read_bytes())
        if fault == "flip":
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        elif fault == "swap":
            data = bytearray(other.read_bytes())
        path.write_bytes(data[: {"cut": len(data) // 2, "empty": 0}.get(fault, len(data))])
    if fault == "swap":  # whole units under wrong names: nobody but an attacker makes these, and they may not crash
        for path in files:
            path.unlink()
    assert compress(work=work).data == whole


def test_what_cannot_be_written_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = compress().data
    (tmp_path / "work").write_text("a file")
    assert compress(work=tmp_path / "work").data == whole

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert compress(work=tmp_path / "other").data == whole
    assert not list((tmp_path / "other").iterdir())


def test_names_of_units_tell_values_apart() -> None:
    values = [1, 1.0, "1", b"1", None, [1], [[1]], {"1": 1}, np.ones(1), np.ones(1, "f4"), np.ones((1, 1)), ["1", ""]]
    assert len({key_of("k", value) for value in values}) == len(values)
    assert key_of("k", "a", "b") != key_of("k", "ab") and key_of("k", 1) != key_of("l", 1)
    with pytest.raises(TypeError):
        key_of("k", object())


def test_a_unit_comes_back_as_it_was(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "w")
    arrays = {"a": np.arange(6).reshape(2, 3)[:, ::2], "empty": np.empty((0, 3), np.float16), "one": np.array(3.0)}
    kept.put("k", {"x": [1, 2.5, None]}, arrays)
    told, found = kept.get("k") or ({}, {})
    assert told == {"x": [1, 2.5, None]}
    assert all(
        found[n].shape == a.shape and found[n].dtype == a.dtype and (found[n] == a).all() for n, a in arrays.items()
    )
    assert kept.get("other") is None and Kept().get("k") is None


def killed(command: list[str], cwd: Path, delay: float) -> bool:
    """Kills a run after so many seconds; whether it was still at work."""
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def complete(out: Path) -> bool:
    """Whether all files are where they belong: what was killed then had only to leave."""
    return (out / "ledger.jsonl").exists() and not (out / MOVING).exists()


def test_killed_for_real_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    x, y = small_model(tmp_path / "small.onnx")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    subprocess.run(small("whole"), cwd=tmp_path, check=True, capture_output=True)
    assert sum(killed(small("out"), tmp_path, delay) for delay in (0.8, 1.1, 1.4))
    subprocess.run(small("out"), cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "out" / "small.attar").read_bytes() == (tmp_path / "whole" / "small.attar").read_bytes()


@pytest.mark.slow
def test_killed_at_fifty_random_moments_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    def command(out: str) -> list[str]:
        words = ["compress", LENET, "--data", FASHION, "--max-drop", 0.5, "-o", out]
        return [sys.executable, "-m", "attar", *map(str, words)]

    def seconds(out: str) -> float:
        started = time.perf_counter()
        subprocess.run(command(out), cwd=tmp_path, check=True, capture_output=True)
        return time.perf_counter() - started

    length, rng = seconds("whole"), np.random.default_rng(0)
    whole = (tmp_path / "whole" / "lenet300.attar").read_bytes()
    for number in range(50):
        out = tmp_path / str(number)
        while not killed(command(out.name), tmp_path, float(rng.uniform(0, length))) or complete(out):
            shutil.rmtree(out)
            length *= 0.9  # it had ended before: what runs beside it has
        seconds(out.name)
        assert (out / "lenet300.attar").read_bytes() == whole
        assert [path.name for path in (out / FOLDER).iterdir()] == ["candidates"] and pick(out).choices


@pytest.mark.parametrize("moved", range(6))
def test_killed_while_its_files_are_moved_it_can_be_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    replace, left = Path.replace, moved

    def killed_at(self: Path, target: Path) -> Path:
        nonlocal left
        if self.parent.name.startswith(".attar-run-"):
            left -= 1
            if left < 0:
                raise Killed
        return replace(self, target)

    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(Path, "replace", killed_at)
    net, data = trained()
    if moved < 5:
        with pytest.raises(Killed):
            attar.compress(net, data, out=tmp_path, max_drop=3)
        assert len([path for path in tmp_path.iterdir() if path.name[0] != "."]) == moved
        if moved == 4:
            (tmp_path / "recipe.toml").write_text("mine")  # another's since
            with pytest.raises(OutputError, match=r"recipe\.toml"):
                attar.compress(net, data, out=tmp_path, max_drop=3)
            (tmp_path / "recipe.toml").unlink()
    left = 99
    assert attar.compress(net, data, out=tmp_path, max_drop=3).data == (tmp_path / "NumpyNet.attar").read_bytes()
    assert pick(tmp_path).choices and not (tmp_path / MOVING).exists()
    with pytest.raises(OutputError, match="not overwritten"):
        attar.compress(net, data, out=tmp_path, max_drop=3)


def test_another_point_of_a_run(tmp_path: Path) -> None:
    result = compress(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / FOLDER).iterdir()] == ["candidates"]
    listed = pick(tmp_path / "run")
    assert listed.chosen is None and len(listed.choices) == len(result.seen) and not listed.files
    sizes = [len(one.data) for one in listed.choices]
    assert sizes == sorted(sizes)
    level = 1 - 0.05 / len(sizes)
    assert all(one.certificate.confidence == pytest.approx(level) for one in listed.choices)
    bounds = [one.certificate.upper for one in listed.choices]
    found = pick(tmp_path / "run", max(bounds), tmp_path / "new")
    assert found.within and found.chosen is not None and found.chosen.data == listed.choices[0].data
    assert found.chosen.certificate.verdict == "certified"
    names = [path.name for path in found.files]
    assert names == ["NumpyNet.attar", "NumpyNet.npz", "certificate.json"]
    assert (tmp_path / "new" / "NumpyNet.attar").read_bytes() == found.chosen.data
    assert json.loads((tmp_path / "new" / "certificate.json").read_text())["upper"] <= max(bounds)
    with pytest.raises(OutputError, match="not overwritten"):
        pick(tmp_path / "run", max(bounds), tmp_path / "new")


@pytest.mark.parametrize("guarantee", ["bound", "estimate"])
def test_at_the_runs_own_drop_it_is_no_larger_file(tmp_path: Path, guarantee: str) -> None:
    result = compress(tmp_path / "run", guarantee=guarantee)
    told = next(event for event in result.events if event["event"] == "result")
    own = next(one for one in pick(tmp_path / "run").choices if one.own is not None)
    assert own.data == result.data and own.own == result.certificate
    for drop in (3, 3.5, 5):
        found = pick(tmp_path / "run", drop, tmp_path / str(drop))
        assert found.within and found.chosen is not None and len(found.chosen.data) <= len(result.data)
        certificate = json.loads((tmp_path / str(drop) / "certificate.json").read_text())
        assert certificate["max_drop"] == drop
        assert (certificate["verdict"] == "certified") == (certificate["upper"] <= drop)
    assert [one["upper"] <= 3 for one in told["picks"] if one["bytes"] == len(result.data)] == [True]
    below = pick(tmp_path / "run", 2.999)
    assert below.chosen is not None and below.within == (below.chosen.certificate.upper <= 2.999)
    said = "\n".join(picked_lines(pick(tmp_path / "run", 3)))
    assert "the run's own: " in said and "chosen" in said


def test_a_bound_that_all_share_beyond_the_drop_does_not_rule_out_the_runs_own_file(tmp_path: Path) -> None:
    """A file may be certified for 0.5 points at 95 % by 0.44, and have 0.48 as the bound that two candidates share."""
    result = compress(tmp_path / "run")
    kept = Kept(tmp_path / "run" / FOLDER)
    own = next(one for one in pick(tmp_path / "run").choices if one.own is not None)
    told, arrays = kept.get("candidates") or ({}, {})
    between = (own.certificate.upper + result.certificate.upper) / 2
    assert result.certificate.upper < between < own.certificate.upper
    kept.put("candidates", {**told, "own": {**told["own"], "max_drop": between}}, arrays)
    found = pick(tmp_path / "run", between)
    assert found.chosen is not None and found.chosen.data == result.data and found.within
    assert found.chosen.certificate.upper == result.certificate.upper and found.chosen.certificate.confidence == 0.95
    kept.put("candidates", {name: value for name, value in told.items() if name not in ("own", "chosen")}, arrays)
    earlier = pick(tmp_path / "run", between)
    assert earlier.chosen is not None and earlier.chosen.own is None, "what earlier versions kept has no own file"
    assert earlier.chosen.data != result.data or not earlier.within


def test_a_run_beyond_its_drop_has_no_own_point(tmp_path: Path) -> None:
    result = compress(tmp_path / "run", max_drop=0.0)
    assert not result.within and all(one.own is None for one in pick(tmp_path / "run").choices)
    assert not pick(tmp_path / "run", 0.0).within


def test_no_point_within_the_drop(tmp_path: Path) -> None:
    compress(tmp_path / "run")
    found = pick(tmp_path / "run", 0.0, tmp_path / "new")
    assert not found.within and found.chosen is not None
    assert found.chosen.certificate.verdict == "not certified" and len(found.files) == 3
    command = [sys.executable, "-m", "attar", "pick", str(tmp_path / "run"), "--max-drop", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3 and "not certified" in done.stdout and "chosen" in done.stdout
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["within"] is False


def test_a_point_of_a_metric_without_values_by_example(tmp_path: Path) -> None:
    compress(tmp_path / "run", metric="f1", max_drop=0.05)
    listed = pick(tmp_path / "run")
    assert all(one.certificate.bound == "bootstrap" for one in listed.choices)
    assert all(one.certificate.drop <= one.certificate.upper for one in listed.choices)


def test_a_folder_without_candidates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="finished run"):
        pick(tmp_path)
    compress(tmp_path / "run")
    with pytest.raises(UsageError, match="zero or more"):
        pick(tmp_path / "run", -1)
    kept = Kept(tmp_path / "run" / FOLDER)
    told, arrays = kept.get("candidates") or ({}, {})
    kept.put("candidates", {**told, "before": {}}, arrays)
    with pytest.raises(FormatError, match="whole"):
        pick(tmp_path / "run")


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), (" 2 m", 120)])
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-3", "3 parsecs", "1e3", "m", "nan", "0s"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="time budget"):
        seconds_of(text)


def test_a_budget_of_time_ends_the_search_early(tmp_path: Path) -> None:
    unbounded = compress()
    short = compress(time_budget=1e-3)
    tried = [event for event in short.events if event["event"] == "candidate"]
    assert [event["split"] for event in tried] == ["select", "certify"] and short.within
    assert len([event for event in unbounded.events if event["event"] == "candidate"]) > 2
    assert compress(time_budget=1e6).data == unbounded.data
    clock = Clock(10.0)
    assert not clock.over() and not clock.over(5) and clock.over(11) and not Clock().over(1e9)


def test_the_network_of_these_tests_is_an_adapter() -> None:
    assert isinstance(trained()[0], Adapter)
