"""idx files: round trips, files that lie, folders."""

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from attar.data.idx import read_idx, read_idx_folder
from attar.data.read import read
from attar.errors import DataError, FormatError
from attar.types import Dataset
from data.idx_writer import CODES, to_idx, write_set

ARRAYS = st.sampled_from(sorted(CODES)).flatmap(
    lambda code: hnp.arrays(np.dtype(code), hnp.array_shapes(max_dims=4, min_side=0, max_side=5))
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("idx")


@given(array=ARRAYS, zipped=st.booleans())
@settings(max_examples=80, deadline=None)
def test_round_trip(place: Path, array: np.ndarray, zipped: bool) -> None:
    path = place / ("a.idx.gz" if zipped else "a.idx")
    path.write_bytes(gzip.compress(to_idx(array), 1) if zipped else to_idx(array))
    found = read_idx(path)
    assert found.dtype == array.dtype and found.dtype.isnative and found.shape == array.shape
    assert found.tobytes() == array.tobytes()


@given(array=ARRAYS, data=st.data(), zipped=st.booleans())
@settings(max_examples=80, deadline=None)
def test_truncated_and_lengthened_files_are_refused(place: Path, array: np.ndarray, data, zipped: bool) -> None:
    whole = to_idx(array)
    cut = data.draw(st.integers(0, len(whole) - 1))
    for broken in (whole[:cut], whole + b"\0"):
        path = place / ("b.idx.gz" if zipped else "b.idx")
        path.write_bytes(gzip.compress(broken, 1) if zipped else broken)
        with pytest.raises(FormatError, match="Received"):
            read_idx(path)
    packed = gzip.compress(whole, 1)
    path = place / "c.idx.gz"
    path.write_bytes(packed[: data.draw(st.integers(0, len(packed) - 1))])
    with pytest.raises(FormatError):
        read_idx(path)


@given(junk=st.binary(max_size=40))
@settings(max_examples=80, deadline=None)
def test_junk_is_refused(place: Path, junk: bytes) -> None:
    for name in ("j.idx", "j.idx.gz"):
        (place / name).write_bytes(junk)
        try:
            found = read_idx(place / name)
        except FormatError:
            continue
        assert to_idx(found) == junk


@pytest.mark.parametrize("zipped", [False, True])
def test_a_header_that_claims_too_much_allocates_nothing(tmp_path: Path, zipped: bool) -> None:
    lie = bytes([0, 0, 0x0E, 3]) + np.full(3, 2**31, ">u4").tobytes() + bytes(100)
    path = tmp_path / ("lie.idx.gz" if zipped else "lie.idx")
    path.write_bytes(gzip.compress(lie) if zipped else lie)
    tracemalloc.start()
    with pytest.raises(FormatError, match="Received a file of"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_gzip_bomb_is_read_no_further_than_the_header_says(tmp_path: Path) -> None:
    bomb = gzip.compress(to_idx(np.zeros((10, 10), np.uint8)) + bytes(200 << 20), 9)
    path = tmp_path / "bomb.idx.gz"
    path.write_bytes(bomb)
    del bomb
    tracemalloc.start()
    with pytest.raises(FormatError, match="Received more"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


def test_data_that_would_not_fit_memory_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("attar.data.idx.MAX_BYTES", 50)
    (tmp_path / "x.idx").write_bytes(to_idx(np.zeros((10, 6), np.uint8)))
    with pytest.raises(DataError, match="must fit"):
        read_idx(tmp_path / "x.idx")


def test_a_folder_gives_parts(tmp_path: Path) -> None:
    x, y = write_set(tmp_path, "train-", 30)
    u, v = write_set(tmp_path, "t10k-", 20, zipped=False)
    found = read(str(tmp_path))
    assert isinstance(found, dict) and set(found) == {"train", "test"}
    assert np.array_equal(found["train"].inputs["x"], x) and np.array_equal(found["train"].labels, y)
    assert np.array_equal(found["test"].inputs["x"], u) and np.array_equal(found["test"].labels, v)
    assert found["test"].labels.dtype == np.int64


def test_a_folder_of_one_set_with_or_without_labels(tmp_path: Path) -> None:
    x, _ = write_set(tmp_path, "", 12, labels=False)
    found = read_idx_folder(tmp_path)
    assert isinstance(found, Dataset) and found.labels is None and np.array_equal(found.inputs["x"], x)
    alone = read(tmp_path / "images-idx3-ubyte.gz")
    assert isinstance(alone, Dataset) and len(alone) == 12


def test_folders_that_do_not_pair_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path, "train-", 30)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(to_idx(np.zeros(29, np.uint8))))
    with pytest.raises(DataError, match="one label for each of 30"):
        read_idx_folder(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match="only labels"):
        read_idx_folder(tmp_path)
    write_set(tmp_path, "one-", 5)
    write_set(tmp_path, "two-", 5)
    with pytest.raises(DataError, match="train and test, or one"):
        read_idx_folder(tmp_path)
