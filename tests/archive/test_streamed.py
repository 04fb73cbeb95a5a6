"""An archive that is written layer by layer has the same bytes as one that is written at once."""

from __future__ import annotations

import numpy as np
import pytest

from attar.archive import read_archive, to_bytes
from attar.archive.streamed import coded, write_streamed
from attar.errors import OutputError

from .samples import contents, layer


@pytest.fixture
def parts():
    return contents() | {"layers": [layer(k, f"layer {k}", 40 + 300 * (k % 2), 300) for k in range(4)]}


def test_the_same_bytes(parts, tmp_path):
    place = tmp_path / "m.attar"
    stream = (coded(one, encoded, "fast") for one, encoded in parts["layers"])
    info = write_streamed(place, **{**parts, "layers": stream})
    assert place.read_bytes() == to_bytes(**parts, coder="fast")
    assert info.nbytes == place.stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.attar"]
    back = read_archive(place)
    for one, encoded in parts["layers"]:
        assert all(np.array_equal(array, back.encoded(one.name).arrays[n]) for n, array in encoded.arrays.items())


def test_nothing_is_left_of_a_failure(parts, tmp_path):
    def failing():
        yield coded(*parts["layers"][0], "fast")
        raise RuntimeError("the disk is full of bees")

    with pytest.raises(RuntimeError):
        write_streamed(tmp_path / "m.attar", **{**parts, "layers": failing()})
    assert not list(tmp_path.iterdir())


def test_an_existing_file_stays(parts, tmp_path):
    (tmp_path / "m.attar").write_bytes(b"old")
    with pytest.raises(OutputError):
        write_streamed(tmp_path / "m.attar", **{**parts, "layers": iter(())})
    assert (tmp_path / "m.attar").read_bytes() == b"old"
