"""The script that types every verb: what it types, on a model of seconds, and that a verb that fails ends it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import verbs
from attar.data.read import read

ROOT = Path(__file__).parents[2]


def lenet(form: str, drop: str = "20"):
    """A LeNet and 600 pictures."""

    def case(folder: Path) -> verbs.Case:
        part = read(ROOT / "examples/fashion-mnist")["train"]
        np.savez(folder / "few.npz", x=part.inputs["x"][:600], y=part.labels[:600])
        return (
            ROOT / "examples/models/lenet300.onnx",
            folder / "few.npz",
            ["--metric", "accuracy", "--max-drop", drop],
            form,
        )

    return case


def test_every_verb_is_typed_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(verbs.MODELS, "lenet", lenet("onnx-fp16"))
    rows = verbs.passed("lenet", tmp_path)
    assert [row["verb"] for row in rows] == ["compress", "inspect", "eval", "expand", "export"]
    assert {row["code"] for row in rows} == {0} and all(10 < row["peak"] < 4000 for row in rows)
    told = verbs.shown(rows)
    assert told.count("| lenet |") == 5 and "certified" in told and "fp16" in told


def test_a_verb_that_fails_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(verbs.MODELS, "lenet", lenet("onnx-fp16", drop="much"))
    rows = verbs.passed("lenet", tmp_path)
    assert [(row["verb"], row["code"]) for row in rows] == [("compress", 2)]
    assert "Error" in rows[0]["said"]
