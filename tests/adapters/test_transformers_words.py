"""Files of a tokenizer come back to the byte, and what stands in them twice is held once."""

import json
import tracemalloc
from typing import Any

import pytest
import torch

from attar.adapters.transformers import files as transformers_files
from attar.adapters.transformers import skeleton
from attar.adapters.transformers.tasks import Task
from attar.adapters.transformers.words import LEAST, put_back, taken_out

MOST = 1 << 20
WORDS = [f"w{n}" for n in range(100)] + ['"', "\\", "ü", "语", "\t", "\u2028", "", " ", "a b"]
LETTERS = [f"t{n}" for n in range(80)]
MERGES = [f"{one} {two}" for one, two in zip(LETTERS, LETTERS[::-1], strict=True)]
MERGED = [*LETTERS, *(merge.replace(" ", "") for merge in MERGES), "<end>"]


def vocabulary(words: list[str]) -> dict[str, int]:
    """Words by their numbers."""
    return {word: number for number, word in enumerate(words)}


FILES: dict[str, dict[str, str]] = {
    "words and lines": {
        "tokenizer.json": json.dumps(
            {"model": {"vocab": vocabulary(WORDS)}}, separators=(",", ":"), ensure_ascii=False
        ),
        "vocab.txt": "\n".join(WORDS) + "\n",
    },
    "escaped": {"vocab.json": json.dumps(vocabulary(WORDS))},
    "indented": {"tokenizer.json": json.dumps({"vocab": vocabulary(WORDS), "special": ["a"]}, indent=2)},
    "merges": {
        "merges.txt": "#version: 0.2\n" + "\n".join(MERGES) + "\n",
        "tokenizer.json": json.dumps({"vocab": vocabulary(MERGED), "merges": MERGES}, indent=1),
        "vocab.json": json.dumps(vocabulary(MERGED)),
    },
    "pairs": {"tokenizer.json": json.dumps({"vocab": vocabulary(MERGED), "merges": [m.split(" ") for m in MERGES]})},
    "pairs over lines": {"tokenizer.json": json.dumps({"merges": [m.split(" ") for m in MERGES]}, indent=2)},
    "counted from 7": {"vocab.json": json.dumps({word: 7 + number for number, word in enumerate(WORDS)})},
}
LEFT: dict[str, dict[str, str]] = {
    "few": {"vocab.json": json.dumps(vocabulary(WORDS[: LEAST - 1]))},
    "no order": {"vocab.json": json.dumps({word: -(-number // 2) for number, word in enumerate(WORDS)})},
    "line ends": {"vocab.json": json.dumps(vocabulary([f"{word}\n" for word in WORDS[:90]]))},
    "half a pair": {"vocab.json": json.dumps([*WORDS, "\ud800"])},
    "odd escapes": {"vocab.json": json.dumps(WORDS[:90]).replace("w", "\\u0077")},
    "no JSON": {"README.md": '"' + '", "'.join("\\q" for _ in range(200)) + '"', "x.txt": "a\nb"},
}


@pytest.mark.parametrize("name", FILES)
def test_lists_are_taken_out_and_put_back(name: str) -> None:
    lists, parts = taken_out(FILES[name])
    assert lists and put_back(lists, parts, MOST) == FILES[name]
    assert put_back(*json.loads(json.dumps([lists, parts])), MOST) == FILES[name]
    assert len(json.dumps([lists, parts])) < 0.8 * len(json.dumps(FILES[name]))


@pytest.mark.parametrize("name", LEFT)
def test_what_is_no_list_is_left_as_it_is(name: str) -> None:
    assert taken_out(LEFT[name]) == ([], LEFT[name])


def test_a_vocabulary_in_two_files_is_one_list() -> None:
    lists, parts = taken_out(FILES["words and lines"])
    assert len(lists) == 1 and all(isinstance(each, dict) for each in parts.values())


@pytest.mark.parametrize("name", ["merges", "pairs"])
def test_a_vocabulary_of_byte_pairs_is_its_merges(name: str) -> None:
    lists, _ = taken_out(FILES[name])
    assert sorted(len(entry) for entry in lists if isinstance(entry, list)) == [3]
    head, _, tail = next(entry for entry in lists if isinstance(entry, list))
    assert (head, tail) == (LETTERS, ["<end>"])


def test_a_skeleton_holds_the_lists_and_one_without_is_as_before() -> None:
    task = Task("vector", "input_ids", "attention_mask", "mean", False)
    files = {name: text.encode() for name, text in FILES["merges"].items()} | {"tokenizer.model": b"\xff\0"}
    data = skeleton.dumped(torch.float16, task, files)
    assert skeleton.parsed(data) == (torch.float16, task, files)
    assert json.loads(data)["version"] == skeleton.LISTED
    plain = {"config.json": b"{}", "tokenizer.model": b"\xff\0"}
    old = json.loads(skeleton.dumped(torch.float16, task, plain))
    assert (old["version"], old["files"]) == (skeleton.VERSION, transformers_files.coded(plain)) and "words" not in old


TOLD: list[Any] = ["plain", ["", "", "", ","], False, 0]


@pytest.mark.parametrize(
    ("lists", "part"),
    [
        (["a\nb"], [1, *TOLD]),
        (["a\nb"], [-1, *TOLD]),
        (["a\nb"], [0, "other", *TOLD[1:]]),
        (["a\nb"], [0, "plain", ["", "", "", "x" * MOST], False, 0]),
        (["a" * (MOST + 1)], [0, *TOLD]),
        ([["a"] * 9, 0, []], [0, *TOLD]),
        ([[[], 1, []], [[], 0, []]], [0, *TOLD]),
        (["a\nb"], None),
        (["a\nb"], [0, "numbered", ["", ":", "", ","], False, 10**4000]),
        (["a\nb"], [0, "numbered", ["", ":", "", ","], False, -1]),
        (["a\nb", [[["c"]], 0, []]], [1, "pairs", ["[", ",", "]", ","], False, 0]),
    ],
)
def test_damage_is_an_error(lists: list[Any], part: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)):
        put_back(lists, {"a.json": {"parts": [part]}}, MOST)


def test_a_list_in_many_places_has_a_limit() -> None:
    with pytest.raises(ValueError, match="characters"):
        put_back(["\n".join(WORDS)], {"a.json": {"parts": [[0, *TOLD]] * 10_000}}, MOST)


def test_many_lists_of_one_have_a_limit_before_they_are_made() -> None:
    source = "\n".join(["ab cd"] * (MOST // 8))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="characters"):
            put_back([source, *([[[], 0, []]] * 20_000)], {}, MOST)
        assert tracemalloc.get_traced_memory()[1] < 200 * MOST
    finally:
        tracemalloc.stop()
