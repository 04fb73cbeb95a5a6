"""The benchmarks of memory, of trials and of what data have been through: tried on little, their tables read."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import calibrated_on
import memory
import methods_curves
import tuning
import tuning_curves
from attar.data.read import read
from attar.types import Dataset

MB = 1e6


def test_a_model_that_is_only_opened_has_a_peak_and_its_bytes() -> None:
    found = memory.child("lenet5", "alone", stages=False)
    assert found["model"] == 4 * 430_500, "every weight of LeNet-5"
    assert 40 * MB < found["peak"] < 500 * MB and found["seconds"] > 0


def test_a_process_that_fails_is_no_figure() -> None:
    with pytest.raises(SystemExit, match="it ended with 1"):
        memory.child("lenet5", "no such way", stages=False)


@pytest.mark.parametrize(("peak", "verdict"), [(505.0, "met"), (507.0, "missed")])
def test_the_limit_is_three_models_and_500_mb(peak: float, verdict: str) -> None:
    alone, run = {"model": 2 * MB, "peak": 100 * MB}, {"peak": peak * MB, "ratio": 38.6, "seconds": 20.0}
    row = memory.row("lenet5", alone, run)
    assert row == ["LeNet-5 (ONNX)", "2.0 MB", "100 MB", f"{peak:.0f} MB", "506 MB", verdict, "38.6x", "20"]


def test_each_stage_has_a_peak_of_its_own() -> None:
    try:
        stages = memory.Stages()
        stages.stage("large", 1)
    except OSError as error:
        pytest.xfail(f"the system does not set peaks back: {error}")
    large = np.ones(int(64 * MB), np.uint8)
    stages.stage("small", 1)
    del large
    stages.stage("end", 1)
    (_, first, *_), (name, start, own, peak, seconds), _ = stages.rows
    assert name == "large" and peak - start > 60 and start - first < 60 and seconds >= 0
    assert 0 < own < start and stages.rows[2][2] - own > 60, "an array is no file"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the examples' images."""
    parts = read(tuning.DATA)
    assert not isinstance(parts, Dataset)
    path = tmp_path_factory.mktemp("few") / "few.npz"
    np.savez(path, x=next(iter(parts["test"].inputs.values()))[:3000], y=parts["test"].labels[:3000])
    return path


@pytest.mark.usefixtures("fine_sensitivities")
def test_trials_are_told_beside_a_run_without(few: Path, monkeypatch: pytest.MonkeyPatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(tuning, "DATA", few)
    monkeypatch.setitem(tuning.CASES, "lenet5", ("lenet300.onnx", ["uniform", "keep"]))
    results = tmp_path / "tuning.json"
    monkeypatch.setattr(sys, "argv", ["tuning.py", "--only", "lenet5", "--trials", "2", "--json", str(results)])
    tuning.main()
    head, _, row = capsys.readouterr().out.strip().splitlines()[-3:]
    cells = dict(zip(*([cell.strip() for cell in line.split("|")[1:-1]] for line in (head, row)), strict=True))
    assert cells["model"] == "lenet5" and cells["trials"] == "2" and cells["recipe again"] == "same"
    assert all(int(cells[name].replace(",", "")) < 100_000 for name in ("file without", "file with"))
    assert results.exists() and cells["taken"]
    monkeypatch.setattr(tuning_curves, "DATA", few)
    monkeypatch.setattr(tuning_curves, "STEPS", range(0, 33, 8))
    monkeypatch.setattr(tuning_curves, "DRAWS", 5)
    monkeypatch.setattr(sys, "argv", ["tuning_curves.py", str(results)])
    tuning_curves.main()
    plain, tuned, *places = capsys.readouterr().out.strip().splitlines()
    assert plain.count(";") == tuned.count(";") == 4 and len(places) == 6
    assert all(line.startswith("lenet5 at ") and "saves" in line for line in places)
    monkeypatch.setattr(methods_curves, "DATA", few)
    monkeypatch.setattr(sys, "argv", ["methods_curves.py", "--models", "lenet300", "--methods", "uniform", "keep"])
    methods_curves.main()
    plain, same, *places = capsys.readouterr().out.strip().splitlines()
    assert plain.split(": ")[1] == same.split(": ")[1] and all("saves 0.0% (0.0% to 0.0%)" in one for one in places)


def test_data_are_compared_with_what_they_were(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Sizes are made up, from the examples that are left; pools, networks and cleaning are real, on a few images."""

    class Small(calibrated_on.Bench):
        def __init__(self, *given) -> None:
            super().__init__(*given)
            self.train = self.train.take(range(1000))

        def share(self) -> None:
            pass

        def pool(self, seed: int, spoilt: bool) -> Dataset:
            rows = np.random.default_rng(seed).permutation(200)
            return self.train.take(np.concatenate([rows, np.repeat(rows[:5], 20)]) if spoilt else rows)

        def size(self, pool: Dataset, seed: int) -> dict:
            (images,) = pool.inputs.values()
            assert 0 <= images.min() < images.max() <= 1 and pool.labels is not None
            return {"bytes": 40_000.0 + len(pool) + seed}

    monkeypatch.setattr(calibrated_on, "Bench", Small)
    monkeypatch.setattr(sys, "argv", ["calibrated_on.py", "--seeds", "2", "--steps", "2"])
    calibrated_on.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[4:]]
    assert [row[0].strip("| ") for row in rows] == [
        "as they are", "spoilt by near copies", "without near copies",
        *(f"lossy, quality {quality:g}" for quality in calibrated_on.QUALITIES),
    ]  # fmt: skip
    counts = [int(row[1].replace(",", "")) for row in rows]
    assert counts[0] == 200 and counts[1] == 300 and counts[2] <= 200 and set(counts[3:]) == {200}
    assert rows[0][3].startswith("-") and rows[1][3].startswith("+0.2 %")


def test_engines_are_told_beside_the_first_and_by_their_bytes() -> None:
    import engines

    times = {"threads": (40.0, "a"), "ray": (48.0, "a"), "other": (20.0, "b")}
    found = {name: {"all": seconds, "hash": mark} for name, (seconds, mark) in times.items()}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in engines.told(found, ("all",)).splitlines()]
    assert rows[0] == ["engine", "all", "beside threads", "bytes"]
    assert rows[2:] == [
        ["threads", "40.0 s", "+0%", "same"], ["ray", "48.0 s", "+20%", "same"], ["other", "20.0 s", "-50%", "OTHERS"],
    ]  # fmt: skip
