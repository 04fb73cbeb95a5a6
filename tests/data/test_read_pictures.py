"""Folders of pictures as arrays, and what is said where they cannot be."""

from pathlib import Path

import numpy as np
import pytest

from attar.data.images import image_size
from attar.data.read import read
from attar.errors import DataError, FormatError
from attar.types import Dataset, TensorSpec


def write_images(folder: Path, names: dict[str, int], mode: str = "RGB", size: tuple[int, int] = (6, 5)) -> None:
    from PIL import Image

    for label, count in names.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new(mode, size, i * 10 if mode == "L" else (i * 10, 1, 2)).save(folder / label / f"{i}.png")


def test_images_by_class(tmp_path: Path) -> None:
    write_images(tmp_path, {"dog": 2, "cat": 3})
    found = read(tmp_path)
    assert isinstance(found, Dataset) and found.class_names == ("cat", "dog")
    assert found.inputs["x"].shape == (5, 5, 6, 3) and found.inputs["x"].dtype == np.uint8
    assert found.labels is not None and found.labels.tolist() == [0, 0, 0, 1, 1]
    assert found.inputs["x"][2, 0, 0].tolist() == [20, 1, 2]
    resized = read(tmp_path, specs=[TensorSpec("x", "float32", (None, 8, 9, 3))])
    assert isinstance(resized, Dataset) and resized.inputs["x"].shape == (5, 8, 9, 3)


def test_images_grey_flat_and_in_parts(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"a": 2, "b": 2}, "L")
    write_images(tmp_path / "test", {"a": 1, "b": 2}, "L")
    parts = read(tmp_path)
    assert isinstance(parts, dict) and len(parts["train"]) == 4 and len(parts["test"]) == 3
    assert parts["train"].inputs["x"].shape == (4, 5, 6)
    flat = read(tmp_path / "train" / "a")
    assert isinstance(flat, Dataset) and flat.labels is None and len(flat) == 2
    write_images(tmp_path / "test", {"c": 1}, "L")
    with pytest.raises(DataError, match="same classes"):
        read(tmp_path)


def test_images_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 1})
    write_images(tmp_path, {"b": 1}, size=(7, 5))
    with pytest.raises(DataError, match="one size"):
        read(tmp_path)
    broken = tmp_path / "b" / "0.png"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(FormatError, match="whole image"):
        read(tmp_path)
    (tmp_path / "0.png").write_bytes(broken.read_bytes())
    with pytest.raises(DataError, match="Received both"):
        read(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither"):
        read(tmp_path / "empty")


def test_a_class_without_images_is_told_lest_the_others_change_their_numbers(tmp_path: Path) -> None:
    write_images(tmp_path, {"ant": 2, "cat": 2})
    (tmp_path / ".hidden").mkdir()
    same_names = read(tmp_path)
    assert isinstance(same_names, Dataset) and same_names.class_names == ("ant", "cat")
    (tmp_path / "bee").mkdir()
    (tmp_path / "bee" / "0.heic").write_bytes(b"of a kind that is not read")
    with pytest.raises(DataError, match="none in 'bee'"):
        read(tmp_path)


def test_deep_images_are_refused_not_clipped(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "0.png")
    with pytest.raises(DataError, match="8 bits"):
        read(tmp_path)


def test_the_size_of_a_models_image() -> None:
    def size(*shape: int | None) -> tuple[int | None, ...]:
        return image_size([TensorSpec("x", "float32", shape)])

    assert size(None, 3, 32, 48) == size(None, 32, 48, 3) == (32, 48, 3, None)
    assert size(None, 28, 28) == size(None, 1, 28, 28) == (28, 28, 1, None)
    assert size(None, 3, None, None) == (None, None, 3, None)
    assert size(None, 784) == size(None, 16, 32, 32) == (None, None, None, None)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGB", "RGBA", "CMYK"])
def test_pictures_of_every_kind_have_the_models_channels(tmp_path: Path, mode: str) -> None:
    from PIL import Image

    grey = np.repeat(np.array([[0, 255]], np.uint8), 4, 0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        ending = "jpg" if mode == "CMYK" else "png"
        Image.fromarray(grey).convert("RGB").convert(mode).save(tmp_path / name / f"0.{ending}")
    shapes = ((None, 1, None, None), (None, None, None, 3))
    one, three = (read(tmp_path, specs=[TensorSpec("x", "float32", shape)]).inputs["x"] for shape in shapes)
    assert one.shape == (2, 4, 2) and three.shape == (2, 4, 2, 3)
    if mode != "CMYK":
        assert np.array_equal(one[0], grey) and np.array_equal(three[0], np.repeat(grey[..., None], 3, -1))


def test_no_picture_is_left_out_unsaid(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a" / "._0.png").write_bytes(b"what macOS leaves on a stick")
    assert len(read(tmp_path)) == 4
    write_images(tmp_path / "a", {"more": 1})
    with pytest.raises(DataError, match="'more'"):
        read(tmp_path)
