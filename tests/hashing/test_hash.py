"""Feature hashing: the same as scikit-learn's, whatever the block; the collision report; bad tables."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction import FeatureHasher
from typer.testing import CliRunner

from attar import cli
from attar.data.read import read
from attar.errors import DataError, FormatError, OutputError, UsageError
from attar.hashing import blocks as reading
from attar.hashing.blocks import survey
from attar.hashing.features import Hasher, Seen, expected
from attar.hashing.write import hash_table

WORDS = ["red", "green", "blue", "the", "a", "of", "shirt", "shoe", "cheap", "new", "large"]


def table(rows=500, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "site": rng.choice(["shop", "news", "video=1"], rows),
            "user": [f"u{k}" for k in rng.integers(0, 300, rows)],
            "price": np.round(rng.normal(10, 3, rows), 2),
            "title": [" ".join(rng.choice(WORDS, 6)) + f" {k}" for k in range(rows)],
            "label": rng.choice(["click", "none"], rows),
        }
    )


def as_mappings(frame, texts=("title",), leave=("label",)):
    """The rows as FeatureHasher takes them."""
    rows = []
    for row in frame.to_dict("records"):
        pairs = []
        for name, value in row.items():
            if name in leave or value is None or value != value:
                continue
            if name in texts:
                pairs += [(f"{name}={word}", 1) for word in value.casefold().split()]
            else:
                pairs.append((f"{name}={value}", 1) if isinstance(value, str) else (name, value))
        rows.append(pairs)
    return rows


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_vectors_are_those_of_scikit_learn(tmp_path, suffix):
    frame, path = table(), tmp_path / f"t.{suffix}"
    write = {"csv": frame.to_csv, "parquet": frame.to_parquet}
    if suffix == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        write[suffix](path, index=False)
    found = hash_table(path, tmp_path / "h.npz", dims=128)
    wanted = FeatureHasher(128, input_type="pair", dtype=np.float32).transform(as_mappings(frame)).toarray()
    got = read(tmp_path / "h.npz")
    np.testing.assert_allclose(got.inputs["x"], wanted, atol=1e-4)
    assert found.target == "label" and found.classes == ("click", "none")
    assert np.array_equal(got.labels, (frame["label"] == "none").astype(int))
    assert found.survey.numbers == {"price"} and found.survey.texts == {"title"}


def test_blocks_do_not_matter(tmp_path, monkeypatch):
    table(997).to_csv(tmp_path / "t.csv", index=False)
    one = hash_table(tmp_path / "t.csv", tmp_path / "one.npz", dims=64)
    whole = reading.blocks
    monkeypatch.setattr("attar.hashing.write.blocks", lambda path: whole(path, 100))
    other = hash_table(tmp_path / "t.csv", tmp_path / "other.npz", dims=64)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()
    assert one.report == other.report


@given(st.lists(st.lists(st.text(max_size=6), min_size=2, max_size=2), min_size=1, max_size=20))
def test_any_text_is_hashed_alike(cells):
    frame = pd.DataFrame(cells, columns=["one", "two"], dtype=object)
    found = reading.Survey(len(frame), ("one", "two"), frozenset(), frozenset())
    got = Hasher(found, 32, None)(frame).toarray()
    rows = [[f"{name}={value}" for name, value in zip(("one", "two"), row, strict=True)] for row in cells]
    assert np.array_equal(got, FeatureHasher(32, input_type="string", dtype=np.float32).transform(rows).toarray())


def test_the_report_counts_every_feature(tmp_path):
    frame = pd.DataFrame({"user": [f"u{k}" for k in range(1000)] * 2, "kind": ["a"] * 2000})
    frame.to_csv(tmp_path / "t.csv", index=False)
    report = hash_table(tmp_path / "t.csv", tmp_path / "h.npz", dims=1024).report
    tokens = [f"user=u{k}" for k in range(1000)] + ["kind=a"]
    buckets = FeatureHasher(1024, input_type="string").transform([[token] for token in tokens]).indices
    shared = np.bincount(buckets, minlength=1024)[buckets] > 1
    assert report["features"] == 1001 and report["buckets"] == len(set(buckets))
    assert report["collided"] == pytest.approx(shared.mean())
    counts = np.array([2] * 1000 + [2000])
    assert report["occurrences"] == pytest.approx(counts[shared].sum() / counts.sum())
    assert abs(report["collided"] - report["expected"]) < 0.05
    assert expected(1001, report["larger"]) < 0.01 <= expected(1001, report["larger"] // 2)


def test_features_seen_again_are_one():
    seen = Seen()
    for _ in range(3):
        seen.add(np.array([5, 9], np.uint64), np.array([1, 2]), np.array([10, 1]))
    assert seen.ids.tolist() == [5, 9] and seen.counts.tolist() == [30, 3] and seen.buckets.tolist() == [1, 2]


def test_missing_cells_add_nothing(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,x\n,\n3,\n")
    found = hash_table(tmp_path / "t.csv", tmp_path / "h.npz", dims=16)
    x = np.load(tmp_path / "h.npz")["x"]
    assert not x[1].any() and np.count_nonzero(x[2]) == 1 and np.abs(x[2]).max() == 3
    assert found.target is None and "y" not in np.load(tmp_path / "h.npz").files


def test_memory_is_bounded(tmp_path):
    """Dense vectors of 330 MB are made a block at a time."""
    table(20000).to_csv(tmp_path / "t.csv", index=False)
    tracemalloc.start()
    hash_table(tmp_path / "t.csv", tmp_path / "h.npz", dims=4096)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 4 * 4096 * 20000 > 300e6
    assert peak < 200e6


def test_bad_input_is_refused_and_nothing_is_left(tmp_path):
    good, out = tmp_path / "t.csv", tmp_path / "h.npz"
    table(50).to_csv(good, index=False)
    (tmp_path / "open.csv").write_text('a,b\n"1,2\n')
    (tmp_path / "twice.csv").write_text("a,a\n1,2\n")
    (tmp_path / "wide.csv").write_text("a,b\n1,2,3\n")
    (tmp_path / "empty.csv").write_text("a,b\n")
    (tmp_path / "gap.csv").write_text("a,label\n1,x\n2,\n")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1nothing")
    for name, error in (
        ("open.csv", FormatError), ("twice.csv", DataError), ("wide.csv", FormatError), ("empty.csv", DataError),
        ("gap.csv", DataError), ("bad.parquet", FormatError), ("none.csv", UsageError),
    ):  # fmt: skip
        with pytest.raises(error, match=r"Received"):
            hash_table(tmp_path / name, out)
    for kwargs, error in (
        ({"dims": 3}, UsageError), ({"dims": 1 << 30}, UsageError), ({"target": "no"}, UsageError),
        ({"dims": 1 << 24, "target": None}, None),
    ):  # fmt: skip
        if error is not None:
            with pytest.raises(error, match=r"Received"):
                hash_table(good, out, **kwargs)
    with pytest.raises(UsageError, match="must end in"):
        hash_table(good, tmp_path / "h.csv")
    assert not out.exists() and not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    out.write_bytes(b"mine")
    with pytest.raises(OutputError):
        hash_table(good, out)
    assert out.read_bytes() == b"mine"


def test_vectors_larger_than_readers_take_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("attar.hashing.write.MAX_BYTES", 100_000)
    table(100).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UsageError, match="the most is 250"):
        hash_table(tmp_path / "t.csv", tmp_path / "h.npz", dims=1024)


def test_the_command_says_what_collides(tmp_path):
    table(400).to_csv(tmp_path / "t.csv", index=False)
    run = CliRunner().invoke(
        cli.app, ["data", "hash", str(tmp_path / "t.csv"), "-o", str(tmp_path / "h.npz"), "--dims", "256"]
    )
    assert run.exit_code == 0, run.output
    assert "1 of numbers, 1 of free text, 2 of categories, target label (2 classes" in run.stdout
    assert "would bring it below 1 %" in run.stdout
    run = CliRunner().invoke(
        cli.app, ["data", "hash", str(tmp_path / "t.csv"), "-o", str(tmp_path / "h.npz"), "--force", "--json"]
    )
    facts = json.loads(run.stdout)
    assert facts["rows"] == 400 and facts["dims"] == 4096 and facts["texts"] == ["title"]


def test_a_survey_looks_at_every_block(tmp_path):
    """A column of numbers with one word in its last row is none of numbers."""
    lines = ["code", *map(str, range(70000)), "none"]
    Path(tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    found = survey(tmp_path / "t.csv")
    assert found.rows == 70001 and not found.numbers
