"""Tables with planted faults: each is a line, what cleaning says it did is what it did, the original stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted import fault, flipped, hashes
from sklearn.datasets import load_digits

from attar.cleaning.clean import clean, inspect
from attar.cleaning.table_steps import CleanSettings
from attar.data.tables import read_table, write_table
from attar.errors import DataError, FormatError, OutputError, UsageError

ROWS = 300


def good_table() -> pd.DataFrame:
    """Numbers, categories, text and labels that a line tells apart, without a fault."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 2))
    return pd.DataFrame({
        "age": rng.integers(20, 60, ROWS),
        "weight": np.round(70 + 10 * x[:, 0], 2),
        "city": rng.choice(["Berlin", "Paris", "Rome"], ROWS),
        "code": [f"{number:05d}" for number in range(ROWS)],
        "score": np.round(x[:, 1], 3),
        "label": np.where(x.sum(1) > 0, "yes", "no"),
    })  # fmt: skip


@pytest.fixture
def faulty() -> pd.DataFrame:
    table = good_table().astype({"age": object})
    table.loc[[3, 17], "age"] = ["unknown", "n/a"]
    table.loc[[5, 9, 11], "city"] = ["berlin ", "PARIS", "  Rome"]
    table.loc[[20, 21, 22], "weight"] = np.nan
    table.loc[23, "city"] = np.nan
    table.loc[30, "weight"] = 1e6
    table["unit"] = "kg"
    table["mass"] = table["weight"]
    table["nothing"] = np.nan
    table.loc[40, ["age", "weight", "mass", "city", "code", "unit", "score"]] = np.nan
    table.loc[41, "label"] = np.nan
    return table


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_every_planted_fault_of_a_table_is_a_line(faulty: pd.DataFrame, suffix: str, tmp_path: Path) -> None:
    path, out = tmp_path / f"table.{suffix}", tmp_path / f"clean.{suffix}"
    if suffix != "csv":
        faulty["age"] = faulty["age"].map(str, na_action="ignore")
    write_table(faulty, path)
    before = hashes(path)
    found = clean(path, out, CleanSettings(find_noisy=False))
    counts = {(each.kind, each.place): each.count for each in found.faults}
    column = "column {!r}".format
    assert counts == {
        ("placeholder", column("age")): 1,
        ("number as text", column("age")): ROWS - 3,
        ("not a number", column("age")): 1,
        ("spelling", column("city")): 3,
        ("duplicate column", column("mass")): ROWS,
        ("empty column", column("nothing")): ROWS,
        ("empty row", "rows"): 1,
        ("no label", column("label")): 1,
        ("constant column", column("unit")): ROWS - 2,
        ("missing", column("age")): 2,
        ("missing", column("weight")): 3,
        ("missing", column("city")): 1,
        ("outlier", column("weight")): 1,
    }
    assert hashes(path) == before
    cleaned = read_table(out)
    assert list(cleaned.columns) == ["age", "weight", "city", "code", "score", "label"]
    assert len(cleaned) == found.after == ROWS - 2 and not cleaned.isna().any().any()
    assert set(cleaned["city"]) == {"Berlin", "Paris", "Rome"} and cleaned["age"].dtype == np.int64
    assert cleaned["code"][0] == "00000" and cleaned["weight"][30] == 1e6


def test_nothing_is_wrong_with_a_good_table(tmp_path: Path) -> None:
    good_table().to_csv(tmp_path / "good.csv", index=False)
    found = clean(tmp_path / "good.csv", tmp_path / "out.csv")
    assert found.faults == ()
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "good.csv").read_bytes()


def test_the_fill_is_the_one_that_is_said(faulty: pd.DataFrame, tmp_path: Path) -> None:
    faulty.to_csv(tmp_path / "t.csv", index=False)
    found = inspect(tmp_path / "t.csv", CleanSettings(find_noisy=False))
    rest = [*good_table().drop(index=[20, 21, 22, 30, 40, 41])["weight"], 1e6]
    median = sorted(rest)[(len(rest) - 1) // 2]
    assert fault(found, "missing", "weight").change == f"filled with the median {median:g}"
    assert found.cleaned.frame.loc[20, "weight"] == median
    assert fault(found, "missing", "weight").examples == ("row 20", "row 21", "row 22")


def test_outliers_are_changed_only_when_asked(faulty: pd.DataFrame, tmp_path: Path) -> None:
    faulty.to_csv(tmp_path / "t.csv", index=False)
    frames = {
        how: inspect(tmp_path / "t.csv", CleanSettings(outliers=how, find_noisy=False)).cleaned.frame
        for how in ("list", "clip", "drop")
    }
    assert frames["list"].loc[30, "weight"] == 1e6
    assert 70 < frames["clip"].loc[30, "weight"] < 200 and 30 not in frames["drop"].index
    with pytest.raises(UsageError, match=r"outliers: it must be one of list, clip, drop\. Received 'burn'"):
        CleanSettings(outliers="burn")


def test_single_letters_keep_their_case_and_codes_their_zeros(tmp_path: Path) -> None:
    lines = ["zip,label,amount"] + [f'{row:05d},{"aA"[row % 2]},"{row + 1},000"' for row in range(100)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    found = inspect(tmp_path / "t.csv", CleanSettings(find_noisy=False))
    assert [each.kind for each in found.faults] == ["number as text"]
    assert found.cleaned.frame["amount"].tolist() == [1000.0 * (row + 1) for row in range(100)]
    assert set(found.cleaned.frame["label"]) == {"a", "A"} and found.cleaned.frame["zip"][7] == "00007"


def test_infinity_mixed_types_nested_values_and_rare_classes(tmp_path: Path) -> None:
    rows = [{"a": float(row), "b": row if row % 10 == 0 else f"w{row}", "c": [row], "label": "x"} for row in range(60)]
    rows[5]["label"] = "y"
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    found = inspect(tmp_path / "t.jsonl")
    assert fault(found, "mixed types").count == 6 and fault(found, "nested values").count == 60
    assert "y: 1, the commonest 59" in fault(found, "rare class").line()
    frame = good_table()
    frame.loc[[1, 2], "score"] = [np.inf, -np.inf]
    frame.to_parquet(tmp_path / "t.parquet")
    found = inspect(tmp_path / "t.parquet", CleanSettings(find_noisy=False))
    assert fault(found, "infinite").count == 2 and np.isfinite(found.cleaned.frame["score"]).all()


def test_wrong_labels_of_a_table(tmp_path: Path) -> None:
    """Of 1,797 digits (8 x 8 pixels as columns), 3 % with another label."""
    digits = load_digits()
    labels, wrong = flipped(digits.target.astype(np.int64), 0.03, seed=0)
    frame = pd.DataFrame(digits.data, columns=[f"pixel{number}" for number in range(64)]).assign(label=labels)
    frame.to_csv(tmp_path / "digits.csv", index=False)
    found = inspect(tmp_path / "digits.csv", CleanSettings(drop_noisy=True))
    listed = list(fault(found, "label probably wrong").samples)
    assert wrong[listed].sum() >= 0.8 * wrong.sum() and wrong[listed].mean() >= 0.7
    assert found.after == len(frame) - len(listed) and not set(listed) & set(found.cleaned.frame.index)


def test_a_target_of_numbers_has_no_classes(tmp_path: Path) -> None:
    frame = good_table().drop(columns="label").assign(target=np.arange(ROWS) / 7)
    frame.to_parquet(tmp_path / "t.parquet")
    assert inspect(tmp_path / "t.parquet").faults == ()


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("", FormatError, "must be whole csv"),
        ("a,b\n", DataError, "must have rows and columns"),
        ("a,a\n1,2\n", DataError, "Received 'a' twice"),
        ("a;b\n1;2\n", FormatError, "a header without commas, 'a;b'"),
        ("a,b\n1,2,3\n", FormatError, "more cells than the header"),
        ('a,b\n1,"2\n', FormatError, "EOF inside string"),
        ("a,b\n1,2\n\udcff,3\n", FormatError, "must be whole csv"),
    ],
)
def test_tables_that_cannot_be_read(text: str, error: type[Exception], said: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(error, match=said):
        inspect(tmp_path / "t.csv")


def test_outputs_are_checked_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    good_table().to_csv(path, index=False)
    before = hashes(path)
    with pytest.raises(UsageError, match="must not be the source"):
        clean(path, path, force=True)
    with pytest.raises(UsageError, match="must end in"):
        clean(path, tmp_path / "out.npz")
    (tmp_path / "taken.csv").write_text("mine")
    with pytest.raises(OutputError, match="must not exist"):
        clean(path, tmp_path / "taken.csv")
    with pytest.raises(UsageError, match=r"target: it must be a column. Received 'price'"):
        clean(path, tmp_path / "out.csv", CleanSettings(target="price"))
    assert hashes(path) == before and (tmp_path / "taken.csv").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.csv", "taken.csv"]
