"""`attar data select`: what is chosen from which source, what is written, and what is refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attar.data.read import read
from attar.data.tables import read_table
from attar.errors import DataError, OutputError, UsageError
from attar.selection.choose import choose
from attar.selection.write import check_place, write_choice
from attar.types import Dataset
from commands import attar

EXAMPLES = Path(__file__).parents[2] / "examples"
FASHION, LENET = EXAMPLES / "fashion-mnist", EXAMPLES / "models" / "lenet300.onnx"


def attar_data(*words: object) -> subprocess.CompletedProcess[str]:
    return attar("data", "select", *words)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    part = read(FASHION)["train"]
    np.savez(tmp_path / "train.npz", x=part.inputs["x"][:300], y=part.labels[:300])
    return tmp_path / "train.npz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    part = read(FASHION)["train"]
    for at, (image, label) in enumerate(zip(part.inputs["x"][:60], part.labels[:60], strict=True)):
        place = tmp_path / "images" / ("test" if at % 3 == 0 else "train") / f"c{label % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{at:03d}.png")
    return tmp_path / "images"


def test_the_command_chooses_for_a_model_and_compress_reads_it(npz: Path) -> None:
    out = npz.parent / "chosen.npz"
    done = attar_data(npz, "-k", 40, "--for", LENET, "-o", out)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "chosen      40 of 300 examples by undecided, seed 0" and lines[1].startswith("classes     9, ")
    assert "in size at equal KL" in lines[2] and "40 at random" in lines[2] and lines[-1].startswith("written to ")
    chosen, everything = np.load(out), np.load(npz)
    assert chosen["x"].shape == (40, 28, 28) and chosen["x"].dtype == np.uint8
    facts = json.loads(attar_data(npz, "-k", 40, "--for", LENET, "--json").stdout)
    assert facts["out"] is None and facts["method"] == "undecided" and facts["chosen"] == 40
    np.testing.assert_array_equal(everything["x"][facts["indices"]], chosen["x"])
    np.testing.assert_array_equal(everything["y"][facts["indices"]], chosen["y"])
    assert isinstance(facts["larger"], float) and isinstance(facts["random_larger"], float)
    assert isinstance(read(out), Dataset)


@pytest.mark.parametrize("method", ["random", "balanced", "k-center", "moments"])
def test_without_a_model_examples_are_seen_as_they_are(npz: Path, method: str) -> None:
    found = choose(npz, 30, method=method, seed=3)
    assert len(np.unique(found.positions)) == 30 and (np.diff(found.positions) > 0).all()
    assert sum(found.classes.values()) == 30
    assert (found.error is None) == (method in ("random", "balanced"))
    if method == "moments":
        assert found.error < found.random_error
    if method == "balanced":
        assert set(found.classes.values()) == {3}
    again = choose(npz, 30, method=method, seed=3)
    np.testing.assert_array_equal(found.positions, again.positions)


def test_of_a_set_in_parts_the_train_part_is_chosen_from(tmp_path: Path, folder: Path) -> None:
    found = choose(FASHION, 25, method="balanced")
    assert found.size == len(read(FASHION)["train"]) and list(found.kept().arrays) == ["x", "y"]
    some = choose(folder, 10)
    assert some.size == 40 and all(name.split("/")[0] in ("c0", "c1") for name in some.names())
    write_choice(some, tmp_path / "out")
    assert len(read(tmp_path / "out")) == 10
    np.savez(tmp_path / "odd.npz", x_test=np.ones((5, 3)), x_val=np.ones((4, 3)))
    with pytest.raises(UsageError, match="must have one called train"):
        choose(tmp_path / "odd.npz", 2)


def test_rows_of_a_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{'xy'[i % 2]}" for i, (a, b) in enumerate(rng.normal(size=(50, 2)))]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,kind", *rows]) + "\n")
    found = choose(tmp_path / "t.csv", 8, target="kind", method="balanced")
    assert found.classes == {"x": 4, "y": 4}
    found = choose(tmp_path / "t.csv", 8, target="kind")
    write_choice(found, tmp_path / "few.csv")
    frame = read_table(tmp_path / "few.csv")
    assert frame.shape == (8, 3) and [f"{a:.3f}" for a in frame["a"]] == [
        rows[at].split(",")[0] for at in found.positions
    ]
    with pytest.raises(UsageError, match="it must be a column"):
        choose(tmp_path / "t.csv", 8, target="colour")


def test_positions_can_be_written_alone(npz: Path) -> None:
    out = npz.parent / "list.json"
    assert attar_data(npz, "-k", 7, "-o", out, "--method", "random").returncode == 0
    written = json.loads(out.read_text())
    assert written["indices"] == choose(npz, 7, method="random").positions.tolist() and written["names"] is None
    again = attar_data(npz, "-k", 7, "-o", out)
    assert again.returncode == 1 and "not overwritten" in again.stderr
    assert attar_data(npz, "-k", 7, "-o", out, "--force").returncode == 0


def test_a_layer_of_a_set_without_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(30, 4)))
    assert choose(tmp_path / "x.npz", 5).classes == {}
    with pytest.raises(UsageError, match="need labels"):
        choose(tmp_path / "x.npz", 5, method="balanced")
    with pytest.raises(UsageError, match="Pass --for"):
        choose(tmp_path / "x.npz", 5, method="undecided")


@pytest.mark.parametrize(("words", "code", "said"), [
    (["-k", 301], 2, "from 1 to the number of examples, 300"),
    (["-k", 0], 2, "from 1 to the number"),
    (["-k", 3, "--method", "best"], 2, "Use one of random, balanced"),
    (["-k", 3, "--target", "y"], 2, "only tables have a column"),
    (["-k", 3, "-o", "x.csv"], 2, "must end in .npz"),
    (["-k", 3, "--for", "none.onnx"], 2, "none.onnx"),
])  # fmt: skip
def test_what_cannot_be_is_refused(npz: Path, words: list[object], code: int, said: str) -> None:
    before = npz.read_bytes()
    done = attar_data(npz, *words)
    assert done.returncode == code and said in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert npz.read_bytes() == before and sorted(p.name for p in npz.parent.iterdir()) == ["train.npz"]


def test_a_table_has_no_inputs_for_a_model(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 30)
    done = attar_data(tmp_path / "t.csv", "-k", 3, "--for", LENET)
    assert done.returncode == 2 and "a model takes arrays or images" in done.stderr


def test_outputs_are_looked_at_before_any_work(npz: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="must not be the source"):
        check_place(npz, npz, force=True)
    with pytest.raises(OutputError, match="new or empty"):
        check_place(folder, folder)
    with pytest.raises(UsageError, match="must exist"):
        check_place(npz.parent / "none", None)
    np.savez(npz.parent / "bad.npz", x=np.ones((5, 3)), y=np.ones(4))
    with pytest.raises(DataError, match="one length"):
        choose(npz.parent / "bad.npz", 2)
