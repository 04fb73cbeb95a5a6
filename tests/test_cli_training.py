"""Training, removal and the choice of methods from the command line, and that a run's own command repeats it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from attar.data.read import read
from attar.types import Dataset
from commands import attar
from test_cli import FASHION, LENET


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three sets and the results of a run that trains, in o1."""
    folder = tmp_path_factory.mktemp("training")
    parts = read(FASHION)
    assert not isinstance(parts, Dataset)
    fresh, test = parts["train"], parts["test"].take(range(2000))
    sets = {"train": fresh.take(range(2000)), "fresh": fresh.take(range(2000, 4000)), "test": test}
    for name, part in sets.items():
        np.savez(folder / f"{name}.npz", x=next(iter(part.inputs.values())), y=part.labels)
    # No near copies are looked for: training is what is told here.
    (folder / "quick.toml").write_text('[settings.data]\nleaks = "equal"\n')
    options = "--calibrate train.npz --select fresh.npz --certify test.npz --max-drop 2 --guarantee estimate"
    quick = ["--recipe", "quick.toml", "--train", "train.npz", "--epochs", 2]
    done = attar("compress", LENET, *options.split(), *quick, "-o", "o1", cwd=folder)
    assert done.returncode in (0, 3), done.stderr
    return folder


def events(folder: Path, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == kind]


def test_candidates_are_trained_for_so_many_epochs(trained: Path) -> None:
    found = events(trained / "o1", "training")
    assert found and {e["epochs"] for e in found} == {2} and {e["examples"] for e in found} == {2000}
    assert "epochs = 2" in (trained / "o1" / "recipe.toml").read_text()


def test_the_command_of_the_report_makes_the_same_file(trained: Path) -> None:
    command = shlex.split(events(trained / "o1", "result")[0]["reproduce"]["command"])
    assert command[command.index("--epochs") + 1] == "2"
    done = attar(*command[1:], "-o", "o2", cwd=trained)
    assert done.returncode in (0, 3), done.stderr
    assert (trained / "o2" / "lenet300.attar").read_bytes() == (trained / "o1" / "lenet300.attar").read_bytes()


def test_no_train_wins_over_the_recipe_and_patterns_exclude(trained: Path) -> None:
    options = ["--no-train", "--methods", "uniform,codebook,keep", "--exclude", "fc3*"]
    done = attar("compress", "--recipe", "o1/recipe.toml", *options, "-o", "o3", cwd=trained)
    assert done.returncode in (0, 3), done.stderr
    assert not events(trained / "o3", "training")
    result = events(trained / "o3", "result")[0]
    assert set(result["methods"]) == {"uniform", "codebook", "keep"}
    assert {row["name"]: row["method"] for row in result["layers"]}["fc3.weight"] == "keep"
    assert "--exclude 'fc3*'" in result["reproduce"]["command"]


def test_channels_go_and_the_rest_is_trained(trained: Path) -> None:
    done = attar("compress", "--recipe", "o1/recipe.toml", "--remove", 0.4, "-o", "o4", cwd=trained)
    assert done.returncode in (0, 3), done.stderr
    removal = events(trained / "o4", "removal")[0]
    assert removal["share"] >= 0.4 and removal["trained"]
    assert (trained / "o4" / "lenet300.onnx").stat().st_size < 0.7 * LENET.stat().st_size
    assert "channels stay" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--exclude", "nope*"], "a pattern must fit a layer"),
        (["--methods", "luck"], "the name must be a registered one"),
        (["--exclude", "fc3*", "--remove", "0.4"], "Leave one of them out"),
    ],
)
def test_what_cannot_be_is_one_line(trained: Path, options: list[str], message: str) -> None:
    done = attar("compress", "--recipe", "o1/recipe.toml", *options, "-o", "o5", cwd=trained)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1
