"""What goes into an archive comes out of it, by path and by bytes, and any safetensors reader lists it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.archive import read_archive, to_bytes, write_archive
from attar.archive.base import GROUPED, decoded_limit
from attar.errors import FormatError, UsageError
from attar.types import Encoded, Layer

from .samples import contents, layer, same_array, same_encoded


def check(archive, given_contents):
    assert archive.layers == [one for one, _ in given_contents["layers"]]
    for one, encoded in given_contents["layers"]:
        assert same_encoded(archive.encoded(one.name), encoded)
    remainder = archive.remainder()
    assert list(remainder) == list(given_contents["remainder"])
    for name, array in given_contents["remainder"].items():
        assert same_array(remainder[name], array), name
        assert remainder[name].flags.writeable
    assert archive.skeleton() == given_contents["skeleton"]
    assert archive.meta == given_contents["meta"]


def test_everything_comes_back(tmp_path):
    given_contents = contents()
    data = to_bytes(**given_contents)
    check(read_archive(data), given_contents)
    info = write_archive(tmp_path / "m.attar", **given_contents)
    assert (tmp_path / "m.attar").read_bytes() == data
    assert info.nbytes == len(data) and info.path == tmp_path / "m.attar"
    for origin in (tmp_path / "m.attar", str(tmp_path / "m.attar"), bytearray(data), memoryview(data)):
        archive = read_archive(origin)
        check(archive, given_contents)
        archive.verify()
    assert tuple(archive.sections) == info.sections


def test_same_arguments_same_bytes():
    assert to_bytes(**contents()) == to_bytes(**contents())


@pytest.mark.parametrize("missing", ["layers", "remainder", "skeleton", "all"])
def test_parts_may_be_missing(missing):
    given_contents = contents()
    for name, nothing in {"layers": [], "remainder": {}, "skeleton": None}.items():
        if missing in (name, "all"):
            given_contents[name] = nothing
    archive = read_archive(to_bytes(**given_contents))
    check(archive, given_contents)
    archive.verify()


def test_empty_skeleton_is_not_none():
    given_contents = contents() | {"skeleton": b""}
    assert read_archive(to_bytes(**given_contents)).skeleton() == b""


def test_threads_do_not_matter():
    given_contents = contents(8)
    archive = read_archive(to_bytes(**given_contents))
    one, four = archive.all_encoded(1), archive.all_encoded(4)
    assert list(one) == list(four) == [x.name for x, _ in given_contents["layers"]]
    for name in one:
        assert same_encoded(one[name], four[name])


def test_sections_say_what_they_are():
    archive = read_archive(to_bytes(**contents()))
    assert [s.kind for s in archive.sections] == ["layer"] * 3 + ["remainder", "skeleton"]
    first = archive.sections[0]
    assert first.name == "block0.conv0" and first.nbytes == sum(a.nbytes for a in first.arrays)
    assert [(a.name, a.dtype, a.shape) for a in first.arrays][:2] == [
        ("codes", "int32", (6, 36)), ("rows", "int16", (6,)),
    ]  # fmt: skip
    with pytest.raises(KeyError):
        archive.encoded("nothing")


def test_any_safetensors_reader_lists_it(tmp_path):
    import safetensors

    rng = np.random.default_rng(0)
    big = Layer("big", "dense", 400, 300, (400, 300)), Encoded("keep", {"matrix": rng.normal(size=(400, 300))})
    given_contents = contents() | {"layers": [layer(1, "small", 8, 9), big, layer(2, "small2", 8, 9)]}
    write_archive(tmp_path / "m.attar", **given_contents)
    archive = read_archive(tmp_path / "m.attar")
    check(archive, given_contents)
    sizes = {s.name: s.nbytes for s in archive.sections}
    with safetensors.safe_open(tmp_path / "m.attar", "numpy") as file:
        assert set(file.keys()) == {"attar", "layer/big"}
        assert file.metadata()["attar"] == "1"
        blob = file.get_tensor("layer/big")
        assert blob.dtype == np.uint8 and blob.shape == (sizes["big"],) and sizes["big"] >= GROUPED
        assert file.get_tensor("attar").size == sum(sizes.values()) - sizes["big"]


def test_a_file_written_anew_by_another_tool_is_read(tmp_path):
    import safetensors.numpy as numpy_io

    given_contents = contents()
    data = to_bytes(**given_contents)
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    again = numpy_io.save(numpy_io.load(data), metadata)
    check(read_archive(again), given_contents)


def test_header_is_small():
    given_contents = contents(20)
    data = to_bytes(**given_contents)
    assert int.from_bytes(data[:8], "little") < 1700
    only = to_bytes(layers=[], remainder={}, skeleton=None, meta={})
    assert len(only) < 100


def test_sections_are_read_when_asked_for(tmp_path):
    given_contents = contents()
    path = tmp_path / "m.attar"
    write_archive(path, **given_contents)
    archive = read_archive(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert same_encoded(archive.encoded("block0.conv1"), given_contents["layers"][1][1])
    with pytest.raises(FormatError, match=r"section 'skeleton': its checksum"):
        archive.skeleton()
    path.unlink()
    with pytest.raises(FormatError, match="readable"):
        archive.encoded("block0.conv1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": [layer(0, "a", 3, 9), layer(1, "a", 3, 9)]}, "name of its own"),
        ({"meta": {"x": float("nan")}}, "finite"),
        ({"meta": {"x": b"bytes"}}, "JSON"),
        ({"remainder": {"x": np.array(["text"])}}, "dtype"),
        ({"remainder": {"x": np.array([None])}}, "dtype"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(UsageError, match=message):
        to_bytes(**(contents() | change))


def test_wholly_empty_large_layers_are_legal():
    rows, cols = 4000, 4000
    empty = (
        Layer("zero", "dense", rows, cols, (rows, cols)),
        Encoded("uniform", {"codes": np.zeros((rows, cols), np.int8)}),
    )
    data = to_bytes(**(contents() | {"layers": [empty]}))
    assert len(data) < 2000
    assert not read_archive(data).encoded("zero").arrays["codes"].any()
    assert decoded_limit(len(data)) > rows * cols


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(NAMES, unique=True, max_size=4), st.dictionaries(NAMES, st.integers() | NAMES | st.booleans(), max_size=3)
)
def test_any_names_and_meta(names, meta):
    given_contents = contents() | {"layers": [layer(i, name, 2, 9) for i, name in enumerate(names)], "meta": meta}
    given_contents["remainder"] = {name: np.arange(3) for name in names}
    check(read_archive(to_bytes(**given_contents)), given_contents)
