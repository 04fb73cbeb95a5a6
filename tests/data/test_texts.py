"""Texts read from files: which sources are texts, what a line may be, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attar.data.texts import read_texts
from attar.errors import DataError, FormatError


def test_a_file_and_a_folder_of_texts_are_long(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("two", encoding="utf-8")
    (tmp_path / "a.md").write_text("öne", encoding="utf-8")
    one, folder = read_texts(tmp_path / "b.txt"), read_texts(str(tmp_path))
    assert one is not None and list(one.texts) == ["two"] and not one.whole
    assert folder is not None and list(folder.texts) == ["öne", "two"] and not folder.whole


def test_a_folder_of_anything_else_is_none_of_texts(tmp_path: Path) -> None:
    assert read_texts(tmp_path) is None
    (tmp_path / "b.txt").write_text("two", encoding="utf-8")
    (tmp_path / "x.png").write_bytes(b"")
    assert read_texts(tmp_path) is None
    assert read_texts(tmp_path / "none.txt") is None
    assert read_texts(["a", 1]) is None and read_texts([]) is None and read_texts(3) is None


def test_lines_are_examples(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('"one"\n\n"two"\n')
    found = read_texts(file)
    assert found is not None and found.whole and list(found.texts) == ["one", "two"] and found.labels is None
    file.write_text('{"sentence": "one", "label": "good"}\n{"sentence": "two", "label": "bad"}\n')
    found = read_texts(file)
    assert found is not None and list(found.texts) == ["one", "two"] and found.labels == ["good", "bad"]
    given = read_texts(["one", "two"])
    assert given is not None and given.whole


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ([], "at least one line"),
        ([{"a": 1}], "line 1"),
        ([{"text": "x"}, {"text": 3}], "line 2"),
        ([{"text": "x", "label": 1}, {"text": "y"}], "line 2.*'label'"),
        (["x", {"text": "y"}], "line 1"),
    ],
)
def test_other_lines_are_refused_by_number(lines: list[object], named: str, tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=named):
        read_texts(file)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('"one"\n{"text": \n')
    with pytest.raises(FormatError, match="line 2"):
        read_texts(file)
    file = tmp_path / "t.txt"
    file.write_bytes(b"abc\xff")
    with pytest.raises(FormatError, match=r"UTF-8.*byte 3"):
        read_texts(file)
