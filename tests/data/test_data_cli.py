"""`attar data` as a user meets it: lines, exit codes, JSON, the page, and files that stay as they were."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from planted import fashion, hashes, image_folder

from commands import attar


def attar_data(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return attar("data", *words, cwd=cwd)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = [f"{number},{rng.normal():.3f},{'red' if number % 2 else 'Red '},{number % 3}" for number in range(90)]
    rows[4] = "4,,red,1"
    (tmp_path / "t.csv").write_text("\n".join(["id,size,colour,label", *rows]) + "\n")
    return tmp_path / "t.csv"


def test_inspect_says_what_is_there_and_what_is_wrong(table: Path) -> None:
    before = hashes(table.parent)
    done = attar_data("inspect", table)
    assert done.returncode == 0 and "t.csv: 90 examples" in done.stdout
    assert re.search(r"^size +float64 +1 +\d+", done.stdout, re.M)
    assert re.search(r"^missing +column 'size': 1 of 90, e.g. row 4: filled with the median", done.stdout, re.M)
    facts = json.loads(attar_data("inspect", table, "--json").stdout)
    assert [fault["kind"] for fault in facts["faults"]][:2] == ["spelling", "constant column"]
    assert facts["contents"][3]["target"] is True and hashes(table.parent) == before


def test_clean_writes_and_a_dry_run_does_not(table: Path) -> None:
    before = hashes(table.parent)
    dry = attar_data("clean", table, "-o", table.parent / "out.parquet", "--dry-run")
    assert dry.returncode == 0 and "dry run: nothing was written" in dry.stdout and hashes(table.parent) == before
    done = attar_data("clean", table, "-o", table.parent / "out.parquet")
    assert done.returncode == 0 and "the original is unchanged" in done.stdout
    assert done.stdout.splitlines()[:-1] == dry.stdout.splitlines()[:-1]
    assert hashes(table.parent).items() > before.items() and (table.parent / "out.parquet").is_file()
    again = attar_data("clean", table, "-o", table.parent / "out.parquet")
    assert again.returncode == 1 and "must not exist" in again.stderr
    assert attar_data("clean", table).returncode == 2


def test_leaks_end_with_code_2_where_strict(tmp_path: Path) -> None:
    images, labels = fashion("train", 60)
    image_folder(tmp_path / "train", images[:40], labels[:40])
    image_folder(tmp_path / "test", images[35:], labels[35:])
    loose = attar_data("dedupe", tmp_path / "train", "--against", tmp_path / "test")
    assert loose.returncode == 0 and "leaks       5 of 40 examples are in" in loose.stdout
    strict = attar_data("dedupe", tmp_path / "train", "--against", tmp_path / "test", "--strict")
    assert strict.returncode == 2 and "Received 5 of 40" in strict.stderr and strict.stdout == loose.stdout
    assert attar_data("dedupe", tmp_path / "train", "--strict").returncode == 0
    facts = json.loads(attar_data("dedupe", tmp_path / "train", "--against", tmp_path / "test", "--json").stdout)
    assert facts["leaked"] == 5 and {leak["kind"] for leak in facts["leaks"]} == {"equal"}


def test_the_page_shows_pictures_and_asks_the_network_for_nothing(tmp_path: Path) -> None:
    images, labels = fashion("train", 60)
    image_folder(tmp_path / "a<b>", images, labels)
    next((tmp_path / "a<b>").rglob("*.png")).with_name("<script>.png").write_bytes(
        next((tmp_path / "a<b>").rglob("*.png")).read_bytes()
    )
    done = attar_data("inspect", tmp_path / "a<b>", "--html", tmp_path / "page.html", "--no-labels")
    page = html.unescape(raw := (tmp_path / "page.html").read_text())
    assert done.returncode == 0 and page.count('<img src="data:image/png;base64,') == 1
    assert "default-src 'none'" in page and "<script" not in raw and "&lt;script&gt;" in raw
    assert not re.search(r"(?:src|href)=\"(?!data:)", raw) and "http" not in raw.replace("http-equiv", "")
    assert "Duplicate" in page and "1 finding in 61 examples" in page
    again = attar_data("inspect", tmp_path / "a<b>", "--html", tmp_path / "page.html")
    assert again.returncode == 1 and "--force" in again.stderr


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("no data")
    (tmp_path / "empty").mkdir()
    for source, code, said in (
        ("nothing", 2, "must exist"), ("model.onnx", 2, "it must be a table"), ("empty", 2, "it must hold images"),
    ):  # fmt: skip
        done = attar_data("inspect", tmp_path / source)
        assert done.returncode == code and said in done.stderr and len(done.stderr.splitlines()) == 1


def test_nothing_heavy_is_imported_for_help() -> None:
    heavy = {"pandas", "pyarrow", "sklearn", "datasketch", "PIL", "scipy", "jinja2"}
    code = f"import sys, attar.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
