"""Tables as text: whatever stands in their cells, every byte comes back, and what a file claims is checked."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.archive import blobs
from attar.errors import FormatError
from attar.sets import columns, grids, numbers, parents, tables

CELLS = st.sampled_from([
    b"", b"0", b"-0", b"-0.0", b"007", b"+1", b"1.50", b"1e5", b"12", b"-3", b"3.25", b"99999999999999999999", b"NaN",
    b"x",
    b"\xc3\xa9", b"\xff\xfe", b'"a,b"', b'"two\nlines"', b'"say ""hi"""', b'5" pipe', b" 7", b"0.1", b".5", b"1.",
    b"\0",
])  # fmt: skip
SEPARATORS = st.tuples(st.sampled_from([b",", b";", b"\t"]), st.sampled_from([b"\n", b"\r\n"]))


def coded(data, suffix=".csv"):
    """The parts of a table as they are in a file, or None."""
    parts = tables.encode(data, suffix)
    return parts and [blobs.code_arrays("part", "part", arrays, "dense") for arrays in parts]


def back(parts, length):
    """What the parts hold."""
    return tables.decode([lambda part=part: blobs.decode_arrays(*part) for part in parts], length, "file 't'")


def comes_back(data, suffix=".csv"):
    parts = coded(data, suffix)
    assert parts is not None and back(parts, len(data)) == data
    return sum(len(blob) for _, blob in parts)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(2, 12), SEPARATORS, st.booleans(), st.booleans(), st.data())
def test_any_cells_come_back(width, rows, separators, ended, mark, data):
    delimiter, end = separators
    lines = [delimiter.join(data.draw(CELLS) for _ in range(width)) for _ in range(rows)]
    text = (b"\xef\xbb\xbf" if mark else b"") + end.join(lines) + (end if ended else b"")
    parts = coded(text)
    assert parts is None or back(parts, len(text)) == text


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(tables.SUFFIXES))
def test_any_bytes_come_back_or_are_no_table(data, suffix):
    parts = coded(data, suffix)
    assert parts is None or back(parts, len(data)) == data


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("ended", [True, False])
def test_a_table_of_all_kinds_is_much_smaller(end, ended):
    rng = np.random.default_rng(0)
    rows = [
        b"%d,%s,%.2f,%s,%04d,%s,%s,%d" % (
            k * 3 + 10**9, [b"red", b"green", b"blue"][k % 3], rng.normal(10, 1),
            b"%.3f" % rng.random() if k % 5 else b"NA",
            k % 300, b'"note, %d\nof %d"' % (k, rng.integers(1000)), b"%g" % (rng.integers(1, 999) / 8),
            rng.integers(-9, 9),
        )
        for k in range(600)
    ]  # fmt: skip
    text = b"id,colour,size,share,code,note,odd,level" + end + end.join(rows) + (end if ended else b"")
    assert comes_back(text) < 0.75 * len(blobs.code_skeleton(text)[2])


def test_codes_of_a_row_tell_of_each_other():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 8, (2, 3000))
    rows = [f"{a},{b},{a + b},{a * b // 7}" for a, b in zip(first, second, strict=True)]
    size = comes_back(("a,b,c,d\n" + "\n".join(rows) + "\n").encode())
    # Two columns of three bits are free, the others follow from them once their pairs have been met.
    assert size < 3000 * 2 * 3 / 8 + 900


def test_what_is_no_table_is_none():
    for text in (b"", b"a", b"a,b\n", b"a,b\n1,2\n3\n4,5\n", b"a,b\n1,2\n\n3,4\n", b"one\ntwo,three\nfour\n"):
        assert tables.encode(text, ".csv") is None
    assert tables.encode(b'{"a": 1}\n{"b": 1}\n', ".jsonl") is None
    assert tables.encode(b'{"a": [1, 2]}\n{"a": [1]}\n', ".jsonl") is None


def test_lines_of_json_come_back():
    rows = [json.dumps({"id": k, "text": f'say "{k}", \\ é', "ok": k % 2 == 0, "in": {"x": k / 4}}) for k in range(300)]
    text = "\n".join(rows).encode()
    assert comes_back(text + b"\n", ".jsonl") < len(text) / 8
    comes_back(text, ".jsonl")


def test_long_tables_are_cut_into_blocks(monkeypatch):
    monkeypatch.setattr(tables, "BLOCK", 2000)
    rows = "\n".join(f'{k},"two\n{k % 7}"' for k in range(700))
    text = f"a,b\n{rows}\n".encode()
    parts = coded(text)
    assert parts is not None and len(parts) > 3 and back(parts, len(text)) == text
    assert tables.encode(b"a,b\n" + b"1," + b"2" * 3000 + b"\n", ".csv") is None


def _decimal(value, digits):
    sign = b"-" if value < 0 else b""
    return b"%s%d.%0*d" % (sign, abs(value) // 10**digits, digits, abs(value) % 10**digits)


@given(st.lists(st.integers(-(10**15), 10**15), min_size=2, max_size=50), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_numbers_are_read_as_they_are_written(values, digits):
    cells = [b"%d" % v if not digits else _decimal(v, digits) for v in values]
    found = numbers.parsed(cells)
    assert found is not None and not found.words and numbers.texts(found) == cells
    for delta in (False, True):
        arrays = numbers.arrays_of(found, delta)
        again = numbers.numbers_from((found.digits, found.width, int(delta)), (), arrays, len(cells), "x")
        assert numbers.texts(again) == cells


def test_numbers_of_various_digits_and_words_between():
    cells = [b"1.5", b"-2", b"NA", b"0.25", b"-0", b"3.000", b"", b"17"] * 5
    found = numbers.parsed(cells)
    assert found is not None and found.words == (b"", b"-0", b"NA") and numbers.texts(found) == cells
    assert numbers.parsed([b"007", b"010"]).width == 3
    assert numbers.parsed([b"1234567890123456789", b"1"]) is None
    assert numbers.parsed([b"a", b"b", b"1"]) is None


def block():
    text = b"a,b,c\n" + b"".join(
        b"%d,%d.%d,%s\n" % (k * 7919 % 1000, k, k % 10, [b"x", b"y"][k % 2]) for k in range(600)
    )
    (arrays,) = tables.encode(text, ".csv")
    return text, dict(arrays)


def refused(arrays, length, match="Received"):
    with pytest.raises(FormatError, match=match):
        tables.decode([lambda: arrays], length, "file 't'")


@pytest.mark.parametrize(
    ("place", "value", "rule"),
    [
        (0, 1 << 40, "bytes at most"), (0, 5, "Received"), (1, 1 << 30, "cells must be"), (1, 599, "Received"),
        (1, 0, "cells"), (0, (1 << 23) - 1, "bytes at most"), (4, ["", "x" * 9000, "\n"], "cells must be"),
        (6, [["codes", 1]] * 4097, "4097 columns"),
        (2, 0, "rows must have"), (3, "aé☃", "stands for bytes"), (4, ["", "\n"], "Received"),
        (4, [1, 2, 3, 4], "text"),
        (5, [[300, 1]], "stand-ins"), (6, [], "Received"), (6, [["codes", 1 << 41]], "Received"),
        (6, [["pickle", 1]], "Received"),
        (6, [["text", "lzma", 1 << 30]] * 3, "Received"), (7, "none", "codec"), (8, 10**9, "Received"),
    ],
)  # fmt: skip
def test_a_schema_that_lies_is_refused(place, value, rule):
    text, arrays = block()
    fields = json.loads(zlib.decompress(arrays["schema"].tobytes()))
    fields[place] = value
    arrays["schema"] = np.frombuffer(zlib.compress(json.dumps(fields).encode()), np.uint8)
    refused(arrays, len(text), rule)


def test_arrays_that_are_missing_or_too_many_are_refused():
    text, arrays = block()
    assert tables.decode([lambda: arrays], len(text), "t") == text
    for name in arrays:
        refused({k: a for k, a in arrays.items() if k != name}, len(text))
        refused({**arrays, name: arrays[name].astype(np.float32)}, len(text))
    refused({**arrays, "values 99": arrays["schema"]}, len(text))
    refused(arrays, len(text) + 1)
    for bad in (b"", b"\x78\x9c", zlib.compress(b"[" * 9000), zlib.compress(b" " * (1 << 24))):
        refused({**arrays, "schema": np.frombuffer(bad, np.uint8)}, len(text))


def test_every_flip_is_refused_or_another_table():
    text, arrays = block()
    rng = np.random.default_rng(0)
    for name, array in arrays.items():
        for _ in range(12):
            wrong = array.copy()
            flat = wrong.view(np.uint8).reshape(-1)
            flat[rng.integers(flat.size)] ^= 1 << rng.integers(8)
            try:
                found = tables.decode([lambda a={**arrays, name: wrong}: a], len(text), "t")
            except FormatError:
                continue
            assert len(found) == len(text)


def test_a_column_of_words_may_not_grow_beyond_what_is_stated():
    specs = [["names", 1]]
    arrays = {"names 0": np.zeros(1 << 20, np.uint32)}
    with pytest.raises(FormatError, match="together"):
        columns.decode(specs, arrays, [b"w" * 1000], 1 << 20, 1 << 21, "t")


def test_separators_in_quotes_need_bytes_to_stand_for_them():
    every = bytes(sorted(set(range(256)) - set(b'\n,"')))
    text = b'a,b\n"' + every + b'\n",1\n"x,y",2\n'
    assert grids.split(text, ".csv") is None
    assert grids.join(grids.split(b'a,b\n"x,\n",1\n"",2\n', ".csv")) == b'a,b\n"x,\n",1\n"",2\n'


def test_blocks_may_not_grow_beyond_the_file_one_by_one():
    text, arrays = block()
    asked = []

    def part():
        asked.append(1)
        return arrays

    with pytest.raises(FormatError, match="block 2"):
        tables.decode([part] * 1000, 2 * len(text), "file 't'")
    assert len(asked) == 3


def test_words_of_very_many_digits_come_back():
    text = b"a,b\n" + b"".join(b"%s,%d\n" % (b"7" * 5000 if k % 9 == 0 else b"%d" % (k % 3), k) for k in range(400))
    assert comes_back(text) < 1500


def test_codes_need_bytes_to_stand_for_them():
    """So that a short file cannot ask for hours."""
    same = b"a,b\n" + b"x,y\n" * 300_000
    assert tables.encode(same, ".csv") is None
    arrays = {"matrix": np.zeros(1, np.uint8), "distances": np.zeros((6, 6), np.int16)}
    with pytest.raises(FormatError, match="69632 in a run of 1 bytes"):
        columns.decode([["codes", 2]], arrays, [b"a", b"b"], 69633, 1 << 20, "t")


def test_columns_far_away_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(parents, "FARTHEST", 2)
    codes = np.repeat(np.random.default_rng(0).integers(0, 9, (500, 1)), 9, axis=1).astype(np.uint8)
    distances, bits = parents.contexts_for(codes)
    # Of the column itself and its neighbour in the row before: 9 and 10.
    assert set(np.unique(distances).tolist()) <= {0, 1, 2, 9, 10} and len(bits) == 9


def test_a_quote_that_nothing_ends_takes_no_time():
    """A cut line with many quotes in its text: each of them was once tried as the beginning of a value."""
    rows = b'{"a": "x"}\n' * 3
    for cut in (b'{"a": "' + b'\\"' * 200_000, b'{"a": "' + b"b" * 200_000, b'"' * 200_001):
        assert grids.split(rows + cut, ".jsonl") is None
    odd = b'{"a": 1, "b": "no end}\n{"a": 2, "b": "no end}\n'
    assert grids.join(grids.split(odd, ".jsonl")) == odd
