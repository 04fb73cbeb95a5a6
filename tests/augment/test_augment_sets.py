"""Sets with copies: labels and names, what stays to the byte, recipes, what is refused, and runs that are cut short."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from augment_cases import (
    contents,
    frame,
    image_folder,
    images,
    read_wav,
    sound_folder,
    sounds,
    text_folder,
    write_wav,
)  # fmt: skip
from PIL import Image

from attar.augment import arrays, frames
from attar.augment.plan import Plan, plan_of, read_plan, with_fields
from attar.augment.write import augment, shown
from attar.data.read import read
from attar.data.tables import read_table
from attar.errors import DataError, FormatError, OutputError, UsageError
from attar.files.sources import open_source

FOLDERS = {"images": image_folder, "audio": sound_folder, "text": text_folder}
STRONG = {
    "images": {"shift": {"reach": 0.2}, "noise": {"share": 0.1}}, "audio": {}, "text": {"typos": {"share": 1.0}},
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDERS)
def test_folders(kind: str, tmp_path: Path) -> None:
    source = FOLDERS[kind](tmp_path / "in")
    before = contents(source)
    plan = Plan(2, 5, changes=STRONG[kind])
    found = augment(source, tmp_path / "out", plan, jobs=1)
    assert contents(source) == before
    written = contents(tmp_path / "out")
    assert len(written) == found.after == 3 * len(before)
    for name, data in before.items():
        stem, ending = name.rsplit(".", 1)
        assert written[name] == data, "originals to the byte"
        copies = [written[f"{stem}~{copy}.{ending}"] for copy in (1, 2)]
        assert len({data, *copies}) == 3
    again = augment(source, tmp_path / "again", plan, only_copies=True, jobs=4)
    only = {name: data for name, data in written.items() if "~" in name}
    assert contents(tmp_path / "again") == only and again.after == len(only), "whatever the number of threads"
    augment(source, tmp_path / "other", with_fields(plan, seed=6))
    assert contents(tmp_path / "other").keys() == written.keys()
    assert contents(tmp_path / "other") != written
    assert found.facts()["kind"] == kind


def test_what_readers_say_of_the_copies(tmp_path: Path) -> None:
    augment(image_folder(tmp_path / "in", colour=True), tmp_path / "out")
    both = read(tmp_path / "out")
    assert both.inputs["x"].shape == (12, 16, 16, 3) and both.labels.tolist() == [0] * 6 + [1] * 6
    augment(sound_folder(tmp_path / "sounds"), tmp_path / "noisy", plan_of({"gain": {"decibels": 6}}))
    one, other = (read_wav(tmp_path / "noisy" / "class0" / name) for name in ("000.wav", "000~1.wav"))
    assert other[1] == one[1] == 8000 and other[0].shape == one[0].shape == (800, 2)
    loud = np.abs(one[0]) > 1000
    ratio = other[0][loud] / one[0][loud]
    assert np.ptp(ratio) < 0.01 and 0.5 < ratio.mean() < 2 and abs(ratio.mean() - 1) > 0.01
    text_folder(tmp_path / "texts")
    augment(tmp_path / "texts", tmp_path / "more", plan_of({"drop": {"share": 0.3}}))
    text = (tmp_path / "more" / "class0" / "000~1.txt").read_bytes()
    assert text.endswith("é.\n".encode()) and b"\r\n" in text


def test_test_parts_and_other_files(tmp_path: Path) -> None:
    source = tmp_path / "in"
    image_folder(source / "train")
    image_folder(source / "test", 4)
    (source / "train" / "notes.md").write_text("milk")
    (source / "train" / "class0" / ".hidden.png").write_text("of the system")
    found = augment(source, tmp_path / "out", only_copies=True)
    names = contents(tmp_path / "out")
    assert sum(name.startswith("test/") for name in names) == 4 and len(names) == found.after == 10
    assert all("~1" in name for name in names if name.startswith("train/"))
    assert found.facts()["left_out"] == ["train/notes.md"] and len(found.examples.places) == 6
    with pytest.raises(DataError, match="a training part is needed"):
        image_folder(tmp_path / "only" / "test")
        augment(tmp_path / "only", tmp_path / "no")


@pytest.mark.parametrize(("suffix", "form"), [(".jpg", "JPEG"), (".webp", "WEBP"), (".gif", "PNG"), (".bmp", "BMP")])
def test_formats_stay(suffix: str, form: str, tmp_path: Path) -> None:
    image_folder(tmp_path / "in", 2, suffix, colour=suffix == ".jpg")
    augment(tmp_path / "in", tmp_path / "out", plan_of({"brightness": {"share": 0}}))
    ending = ".png" if suffix == ".gif" else suffix
    with Image.open(tmp_path / "out" / "class0" / f"000~1{ending}") as copy:
        assert copy.format == form
        with Image.open(tmp_path / "in" / "class0" / f"000{suffix}") as one:
            pixels = [np.asarray(image.convert("RGB"), int) for image in (one, copy)]
        assert np.abs(pixels[0] - pixels[1]).mean() <= (2 if suffix == ".jpg" else 0)


def test_a_name_that_a_copy_would_take_is_refused(tmp_path: Path) -> None:
    source = image_folder(tmp_path / "in", 2)
    (source / "class0" / "000~1.png").write_bytes((source / "class0" / "000.png").read_bytes())
    with pytest.raises(DataError, match=r"Received 'class0/000~1.png' already"):
        augment(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_arrays_and_their_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(30, 3, side=16)
    np.savez(tmp_path / "a.npz", x_train=x, age_train=np.arange(30.0), y_train=np.arange(30), x_test=x[:4],
             age_test=np.ones(4), y_test=np.arange(4))  # fmt: skip
    found = augment(tmp_path / "a.npz", tmp_path / "b.npz", Plan(2))
    with np.load(tmp_path / "b.npz") as b:
        np.testing.assert_array_equal(b["x_train"][:30], x)
        np.testing.assert_array_equal(b["y_train"], np.tile(np.arange(30), 3))
        np.testing.assert_array_equal(b["age_train"], np.tile(np.arange(30.0), 3))
        np.testing.assert_array_equal(b["x_test"], x[:4])
        assert b["x_train"].dtype == np.uint8 and found.after == 94
        assert all((b["x_train"][at] != x[at % 30]).any() for at in range(30, 90))
    monkeypatch.setattr(arrays, "BLOCK", 2000)
    augment(tmp_path / "a.npz", tmp_path / "c.npz", Plan(2), only_copies=True)
    with np.load(tmp_path / "b.npz") as b, np.load(tmp_path / "c.npz") as c:
        np.testing.assert_array_equal(c["x_train"], b["x_train"][30:])
        np.testing.assert_array_equal(c["y_train"], b["y_train"][30:])


def test_inputs_of_other_kinds_go_along(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first, second = images(9, 1, side=16), images(9, 3, "float32", side=16)
    np.savez(tmp_path / "a.npz", first=first, second=second, features=rng.normal(size=(9, 4)), y=np.arange(9))
    augment(tmp_path / "a.npz", tmp_path / "b.npz", plan_of({"flip": {"share": 0.5}}), only_copies=True)
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        np.testing.assert_array_equal(b["features"], a["features"])
        flipped = [(b[name] != a[name]).reshape(9, -1).any(1) for name in ("first", "second")]
        np.testing.assert_array_equal(*flipped)
        assert 0 < flipped[0].sum() < 9, "both images of an example change alike"
    augment(tmp_path / "a.npz", tmp_path / "c.npz", kind="tables", only_copies=True)
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "c.npz") as c:
        np.testing.assert_array_equal(c["first"], first)
        assert (c["features"] != a["features"]).mean() > 0.9
    with pytest.raises(UsageError, match="with kind audio an input must be"):
        np.savez(tmp_path / "d.npz", x=first)
        augment(tmp_path / "d.npz", tmp_path / "e.npz", kind="audio")


@pytest.mark.parametrize("last", [False, True])
def test_arrays_in_every_layout_change_alike(last: bool, tmp_path: Path) -> None:
    x = images(5, 3, "float32", side=16)
    np.savez(tmp_path / "a.npz", x=np.moveaxis(x, 1, -1) if last else x)
    augment(tmp_path / "a.npz", tmp_path / "b.npz", only_copies=True)
    np.savez(tmp_path / "first.npz", x=x)
    augment(tmp_path / "first.npz", tmp_path / "second.npz", only_copies=True)
    with np.load(tmp_path / "b.npz") as b, np.load(tmp_path / "second.npz") as other:
        made = np.moveaxis(b["x"], -1, 1) if last else b["x"]
        np.testing.assert_array_equal(made, other["x"])
        assert made.dtype == np.float32 and made.min() >= x.min() and made.max() <= x.max()


def test_what_arrays_hold(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    features[:, 4] = np.arange(40) % 2
    cases = {
        "sounds": (sounds(6)[:, 0], None, "audio"),
        "floats": (sounds(6, dtype="float32")[:, 0], "audio", "audio"),
        "features": (features, None, "tables"),
        "counts": (np.arange(400).reshape(40, 10), "tables", "tables"),
        "grey": (images(4, side=16)[:, 0], None, "images"),
    }
    for name, (x, kind, told) in cases.items():
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.arange(len(x)) % 3)
        found = augment(tmp_path / f"{name}.npz", tmp_path / "out.npz", kind=kind, force=True)
        with np.load(tmp_path / "out.npz") as out:
            assert found.examples.kind == told and out["x"].dtype == x.dtype and len(out["x"]) == 2 * len(x)
            assert (out["x"][len(x) :] != x).any()
            if name == "features":
                np.testing.assert_array_equal(out["x"][40:, 4], features[:, 4])
    augment(tmp_path / "features.npz", tmp_path / "out.npz", plan_of({"interpolate": {}}), force=True)
    np.savez(tmp_path / "tokens.npz", x=np.arange(40).reshape(4, 10))
    with pytest.raises(UsageError, match=r"Received x int64 \[4, 10\]. Whole numbers of two axes may be tokens"):
        augment(tmp_path / "tokens.npz", tmp_path / "no.npz")
    with pytest.raises(UsageError, match=r"interpolate: it needs classes.*Received labels of none"):
        np.savez(tmp_path / "bare.npz", x=features)
        augment(tmp_path / "bare.npz", tmp_path / "no.npz", plan_of({"interpolate": {}}))
    with pytest.raises(UsageError, match=r"kind: it must be one of images, audio, tables.*'video'"):
        augment(tmp_path / "features.npz", tmp_path / "no.npz", kind="video")
    with pytest.raises(DataError, match=r"a training part is needed.*x_test"):
        np.savez(tmp_path / "test.npz", x_test=features)
        augment(tmp_path / "test.npz", tmp_path / "no.npz")
    assert not (tmp_path / "no.npz").exists()


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_tables(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = frame()
    table.to_csv(tmp_path / "t.csv", index=False)
    plan = plan_of({"jitter": {}, "interpolate": {}, "typos": {"share": 0.5}, "leave": ["age"], "copies": 2})
    out = tmp_path / f"out.{suffix}"
    found = augment(tmp_path / "t.csv", out, plan)
    before, after = read_table(tmp_path / "t.csv"), read_table(out)
    assert len(after) == found.after == 120 and list(after.columns) == list(before.columns)
    pd.testing.assert_frame_equal(after[:40], before, check_dtype=False)
    for at in (40, 80):
        copy = after[at : at + 40].reset_index(drop=True)
        same = ["age", "rooms", "city", "big", "label"]
        pd.testing.assert_frame_equal(copy[same], before[same], check_dtype=False)
        assert (copy["height"] != before["height"]).mean() > 0.8 and (copy["review"] != before["review"]).mean() > 0.8
        np.testing.assert_array_equal(copy["score"].isna(), before["score"].isna())
    monkeypatch.setattr(frames, "BLOCK", 7)
    other = tmp_path / f"other.{suffix}"
    augment(open_source(tmp_path / "t.csv"), other, plan)
    assert other.read_bytes() == out.read_bytes()


def test_what_tables_refuse(tmp_path: Path) -> None:
    table = frame()
    table.to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "o.csv"
    for plan, given, message in [
        (
            {"interpolate": {}},
            {"target": "score"},
            r"it needs a target with classes. Received 'score', which has numbers",
        ),
        ({}, {"target": "nobody"}, r"target: it must be a column. Received 'nobody'; there are height, score"),
        ({"leave": ["x"]}, {}, r"leave: it must be a column. Received 'x'"),
        ({"flip": {}}, {}, r"a change of tables and text must be one of interpolate, .* Received 'flip'"),
        ({}, {"kind": "tables"}, r"kind: .* of arrays"),
    ]:
        with pytest.raises(UsageError, match=message):
            augment(tmp_path / "t.csv", out, plan_of(plan), **given)
    table[["city", "label"]].to_csv(tmp_path / "names.csv", index=False)
    with pytest.raises(UsageError, match="a column of numbers or of free text must be there"):
        augment(tmp_path / "names.csv", out)
    table.drop(columns="label").to_csv(tmp_path / "bare.csv", index=False)
    with pytest.raises(UsageError, match=r"it needs a target with classes. Received none"):
        augment(tmp_path / "bare.csv", out, plan_of({"interpolate": {}}))
    with pytest.raises(UsageError, match="target: only tables have a column"):
        augment(image_folder(tmp_path / "i"), tmp_path / "o", target="label")
    assert not out.exists()


def test_recipes(tmp_path: Path) -> None:
    place = tmp_path / "augment.toml"
    place.write_text('copies = 3\nseed = 7\n[shift]\nreach = 0.2\nfill = "black"\n[noise]\n')
    plan = read_plan(place)
    assert (plan.copies, plan.seed, plan.changes) == (3, 7, {"shift": {"reach": 0.2, "fill": "black"}, "noise": {}})
    assert with_fields(plan, copies=None, seed=9) == Plan(3, 9, (), plan.changes)
    for text, message in [
        ("copies = 0", r"recipe.copies: it must be from 1 to 1000. Received 0"),
        ("seed = -1", r"recipe.seed: it must be from 0 to"),
        ("leave = [1]", r"recipe.leave: it must be a list of columns. Received \[1\]"),
        ("leave = 'age'", r"recipe.leave"),
        ("copy = 1", r"a field must be one of copies, seed, leave, or the table of a change. Received 'copy'"),
        ("shift = 2", r"or the table of a change. Received 'shift'"),
        ("[shift", r"it must be a readable TOML file"),
    ]:
        place.write_text(text)
        with pytest.raises(UsageError, match=message):
            read_plan(place)
    with pytest.raises(UsageError, match=r"augment.copies: it must be from 1"):
        with_fields(Plan(), copies=0)
    with pytest.raises(UsageError, match="readable TOML"):
        read_plan(tmp_path / "none.toml")


def test_the_page_shows_what_is_written(tmp_path: Path) -> None:
    source = image_folder(tmp_path / "in", 3)
    found = augment(source, tmp_path / "out")
    caption, first, others = shown(found)[1]
    assert caption == "class0/002.png" and list(others) == ["shift", "brightness", "contrast", "noise", "all together"]
    with Image.open(tmp_path / "out" / "class0" / "002~1.png") as image:
        np.testing.assert_array_equal(others["all together"][0, 0], np.asarray(image))
    with Image.open(source / "class0" / "002.png") as image:
        np.testing.assert_array_equal(first[0, 0], np.asarray(image))
    assert list(shown(augment(source, None, plan_of({"flip": {}})))[0][2]) == ["flip"]


@pytest.mark.parametrize("cut", [0, 1, 20, 43, 60, -40])
@pytest.mark.parametrize("kind", FOLDERS)
def test_broken_files_are_named_and_nothing_is_written(kind: str, cut: int, tmp_path: Path) -> None:
    source = FOLDERS[kind](tmp_path / "in")
    last = sorted(p for p in source.rglob("*") if p.is_file())[-1]
    last.write_bytes(last.read_bytes()[:cut] if kind != "text" else b"\xff" + last.read_bytes())
    with pytest.raises(FormatError, match=last.name):
        augment(source, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_other_wave_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_wav(tmp_path / "in" / "a.wav", sounds(1, 2)[0].T, width=1)
    with pytest.raises(FormatError, match=r"whole WAV file of 16-bit PCM. Received: .* samples of 8 bits"):
        augment(tmp_path / "in", tmp_path / "out")
    write_wav(tmp_path / "in" / "a.wav", sounds(1, 2)[0].T)
    data = bytearray((tmp_path / "in" / "a.wav").read_bytes())
    data[40:44] = (1 << 31).to_bytes(4, "little")
    (tmp_path / "in" / "a.wav").write_bytes(data)
    with pytest.raises(FormatError, match="a header that claims"):
        augment(tmp_path / "in", tmp_path / "out")
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "in" / "deep.png")
    with pytest.raises(DataError, match="8 bits for each channel are changed"):
        augment(tmp_path / "in", tmp_path / "out")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"it must hold images .*, .wav or .txt files"):
        augment(tmp_path / "none", tmp_path / "out")


def test_outputs_in_the_way(tmp_path: Path) -> None:
    source = image_folder(tmp_path / "in", 2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    for out, kind, message in [
        (tmp_path / "full", OutputError, "new or empty"),
        (source / "more", UsageError, "must not be the source, or in it"),
        (tmp_path / "full" / "mine", OutputError, "must be a folder"),
    ]:
        with pytest.raises(kind, match=message):
            augment(source, out)
    (tmp_path / "empty").mkdir()
    augment(source, tmp_path / "empty")
    assert len(contents(tmp_path / "empty")) == 4


def attar(*words: object, **more: object) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "attar", "data", "augment", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("kind", ["folder", "array", "table"])
def test_a_full_disk_leaves_nothing(kind: str, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    if kind == "folder":
        sound_folder(source)
    elif kind == "array":
        source, out = tmp_path / "in.npz", tmp_path / "out.npz"
        np.savez(source, x=images(50, side=16))
    else:
        source, out = tmp_path / "in.csv", tmp_path / "out.csv"
        frame(200).to_csv(source, index=False)
    before = {p.name for p in tmp_path.iterdir()}
    found = attar(source, "-o", out, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)))
    assert found.returncode == 1 and "must be writable and have room" in found.stderr, found.stderr
    assert "Traceback" not in found.stderr and ".attar-run" not in found.stderr
    assert {p.name for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("kind", FOLDERS)
def test_altered_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    """Whatever byte is another, there is a set with copies or an error of ours, and never half of a set."""
    source, rng = FOLDERS[kind](tmp_path / "in", 1), np.random.default_rng(0)
    file = next(p for p in source.rglob("*") if p.is_file())
    whole = np.frombuffer(file.read_bytes(), np.uint8)
    refused = 0
    for at in [*range(64), *rng.integers(64, len(whole), 40).tolist()]:
        altered = whole.copy()
        altered[min(at, len(whole) - 1)] ^= rng.integers(1, 256)
        file.write_bytes(altered.tobytes())
        try:
            augment(source, tmp_path / "out", jobs=1)
        except (FormatError, DataError):
            refused += 1
            assert not (tmp_path / "out").exists()
        else:
            assert len(contents(tmp_path / "out")) == 2
            shutil.rmtree(tmp_path / "out")
    assert refused > 10
