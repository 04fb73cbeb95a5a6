"""The data stage of a run: what is left out of which set, what never changes, and what the user is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import attar
from attar import api
from attar import recipe as recipes
from attar.copies import near
from attar.copies.near import SIDE, array_crops, thumbnails
from attar.copies.prepare import LEAST, DataSettings, prepared
from attar.data.fit import fit_inputs
from attar.data.overlap import row_hashes
from attar.data.read import read
from attar.errors import DataError, UsageError
from attar.types import Dataset, Scaled, Splits, TensorSpec
from data.planted import fashion

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)


def moved(images):
    """Each image a pixel to the right and darker: a near copy."""
    return (np.roll(images, 1, axis=2) * 0.9).astype(np.uint8)


def splits(calibrate, select, certify) -> Splits:
    sets = (Dataset({"x": x}, np.arange(len(x)) % 10) for x in (calibrate, select, certify))
    return Splits(*sets, ())


@pytest.fixture(scope="module")
def images():
    return fashion("train", 1200)


@pytest.fixture(scope="module")
def planted(images):
    """60 near copies of certified images in each of calibrate, select and train, and 40 repeated ones in train."""
    x, y = images
    calibrate = np.concatenate([x[:340], moved(x[800:860])])
    select = np.concatenate([x[340:680], moved(x[900:960])])
    train = np.concatenate([x[680:800], moved(x[1000:1060]), x[680:720]])
    labels = np.concatenate([y[680:800], y[1000:1060], y[680:720]])
    return splits(calibrate, select, x[800:1200]), Dataset({"x": train}, labels)


def test_near_copies_of_certified_images_are_left_out_of_every_other_set(planted):
    given, train = planted
    found = prepared(given, train, DataSettings())
    assert [step.part for step in found.steps] == ["calibrate", "select", "train"]
    assert all(58 <= step.found == step.left_out <= 62 for step in found.steps)
    assert 338 <= len(found.splits.calibrate) <= 342
    assert len(found.train.labels) == len(found.train) == len(train) - found.steps[2].left_out
    assert found.splits.certify is given.certify
    assert found.splits.warnings[0].endswith("examples of calibrate were left out: near copies of certified images.")


def test_the_smaller_side_does_not_matter(planted):
    """Offsets of a pixel are looked for on one side only, the smaller; copies are found either way."""
    given, _ = planted
    few = Splits(given.calibrate, given.select.take(range(100)), given.certify, ())
    many = Splits(given.certify, given.select.take(range(100)), given.calibrate.take(range(300, 400)), ())
    assert 58 <= prepared(few, None, DataSettings()).steps[0].found <= 62
    assert 58 <= prepared(many, None, DataSettings()).steps[0].found <= 62


def test_scaled_floats_are_compared_as_well(planted):
    given, _ = planted
    scaled = [
        Dataset({"x": (part.inputs["x"][:, None].astype(np.float32) - 70) / 90}, part.labels)
        for part in (given.calibrate, given.select, given.certify)
    ]
    found = prepared(Splits(*scaled, ()), None, DataSettings())
    specs = [TensorSpec("x", "float32", (None, 1, *given.certify.inputs["x"].shape[1:]))]
    sets = [fit_inputs(part, specs, scale=1.0, mean=70, std=90, as_bytes=True)
            for part in (given.calibrate, given.select, given.certify)]  # fmt: skip
    held = prepared(Splits(*sets, ()), None, DataSettings())
    assert isinstance(held.splits.certify.inputs["x"], Scaled)
    assert [step.row() for step in held.steps] == [step.row() for step in found.steps]
    assert [row_hashes(part).tolist() for part in sets] == [row_hashes(part).tolist() for part in scaled]
    assert [step.found for step in found.steps] == [step.found for step in prepared(given, None, DataSettings()).steps]


def test_few_near_copies_are_natural_and_stay(images):
    x, _ = images
    given = splits(np.concatenate([x[:398], moved(x[800:802])]), x[400:800], x[800:1200])
    found = prepared(given, None, DataSettings())
    assert found.splits.calibrate is given.calibrate and not found.splits.warnings
    assert found.steps[0].found >= 2 and found.steps[0].left_out == 0
    assert found.steps[0].note == "few enough to stay"


def test_leaks_may_be_equal_ones_only(planted):
    given, train = planted
    assert prepared(given, train, DataSettings(leaks="equal")).steps == ()


@pytest.mark.parametrize(("kind", "gone"), [("equal", 40), ("near", 40)])
def test_duplicates_within_a_set(planted, kind, gone):
    given, train = planted
    found = prepared(given, train, DataSettings(leaks="equal", duplicates=kind))
    last = found.steps[-1]
    assert last.part == "train" and gone <= last.left_out <= gone + 3
    assert np.array_equal(found.train.inputs["x"][:120], train.inputs["x"][:120])


def test_tables_have_equal_duplicates_only():
    rows = RNG.normal(size=(90, 4)).astype(np.float32)
    given = splits(np.concatenate([rows[:30], rows[:10]]), rows[30:60], rows[60:])
    assert prepared(given, None, DataSettings()).steps == ()
    found = prepared(given, None, DataSettings(duplicates="near"))
    assert [step.left_out for step in found.steps] == [10, 0]
    assert found.steps[0].note.startswith("only equal ones")


def test_wrong_labels_leave_the_training_set(images):
    x, y = images
    wrong = y.copy()
    at = np.arange(0, 1000, 33)
    wrong[at] = (wrong[at] + 5) % 10
    given = splits(x[1000:1040], x[1040:1080], x[1080:])
    found = prepared(given, Dataset({"x": x[:1000]}, wrong[:1000]), DataSettings(leaks="equal", labels="leave-out"))
    step = found.steps[-1]
    assert step.left_out > 10 and step.part == "train"
    left = {row.tobytes() for row in found.train.inputs["x"]}
    gone = [k for k in range(1000) if x[k].tobytes() not in left]
    assert np.isin(gone, at).mean() > 0.6


def test_labels_that_are_no_classes_stay_and_it_is_said(images):
    x, _ = images
    given = splits(x[1000:1040], x[1040:1080], x[1080:])
    for labels in (None, np.linspace(0, 1, 200, dtype=np.float32)):
        found = prepared(given, Dataset({"x": x[:200]}, labels), DataSettings(labels="leave-out"))
        assert found.steps[-1].note.startswith("not looked for") and len(found.train) == 200


def test_too_little_left_is_an_error(images):
    x, _ = images
    with pytest.raises(DataError, match=f"at least {LEAST} examples must be left. Received 100, of which"):
        prepared(splits(moved(x[:100]), x[100:200], x[:100]), None, DataSettings())


def test_labels_need_a_training_set():
    with pytest.raises(UsageError, match=r"settings\.data\.labels"):
        run({"labels": "leave-out"}, dry=True)
    with pytest.raises(UsageError, match="one of 'near', 'equal'"):
        run({"leaks": "all"}, dry=True)


def run(settings: dict[str, str], dry: bool = False, **fields):
    model, parts = ROOT / "examples/models/lenet300.onnx", read(ROOT / "examples/fashion-mnist")
    x, y = (np.asarray(part) for part in (parts["test"].inputs["x"], parts["test"].labels))
    data = (np.concatenate([x[:500], moved(x[:100])]), np.concatenate([y[:500], y[:100]]))
    plan = recipes.make(max_drop=5, settings={"data": settings}, evaluations=2, **fields)
    return (api.preview if dry else attar.compress)(model, data, recipe=plan)


def test_the_ledger_and_the_report_say_what_was_left_out(tmp_path):
    """Copies that a random split scattered over the parts: they leave what the search sees, never certify."""
    result = run({})
    event = next(event for event in result.events if event["event"] == "data")
    assert [row["part"] for row in event["steps"]] == ["calibrate", "select"]
    assert all(row["left_out"] > 5 for row in event["steps"])
    started = next(event for event in result.events if event["event"] == "run")
    assert started["splits"]["certify"] == 300
    assert started["splits"]["calibrate"] == 150 - event["steps"][0]["left_out"]
    assert json.dumps(started["warnings"]).count("near copies of certified images") == 2
    result.save(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "near copies of certified images" in page


@pytest.mark.parametrize("shape", [(28, 28), (64, 48), (200, 33), (300, 300), (9, 40)])
def test_thumbnails_are_those_of_pillow(shape):
    images = RNG.integers(0, 256, (3, *shape)).astype(np.uint8)
    kind = Image.Resampling.BOX if min(shape) >= SIDE else Image.Resampling.BILINEAR
    wanted = np.stack([np.asarray(Image.fromarray(one).resize((SIDE, SIDE), kind)) for one in images])
    assert np.abs(thumbnails(images).astype(int) - wanted).max() <= 1


def test_crops_do_not_depend_on_how_many_images_there_are():
    images = RNG.integers(0, 256, (300, 20, 20, 3)).astype(np.uint8)
    whole = list(array_crops(images))
    assert len(whole) == 300 and whole[0].shape == (9, SIDE, SIDE)
    assert np.array_equal(whole[290], next(array_crops(images[290:])))


def test_large_images_are_looked_at_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 40, 30, 3), dtype=np.uint8)
    expected = list(array_crops(images))
    seen: list[int] = []
    monkeypatch.setattr(near, "VALUES", 2 * images[0].size)
    monkeypatch.setattr(near, "as_images", lambda some: seen.append(len(some)) or some)
    found = list(array_crops(images))
    assert seen == [2, 2, 2, 1]
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
