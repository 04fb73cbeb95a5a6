"""Duplicates and leaks that were planted are found: equal ones all, near ones of three kinds, in images and text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from planted import ALTERED, FASHION, fashion, hashes, image_folder, leaking

from attar.copies.dedupe import dedupe
from attar.copies.near import SMALL, crops, dct_hashes, near_images, near_texts
from attar.data.read import read
from attar.errors import DataError


def test_equal_rows_of_a_table(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(50), "b": [f"t{number}" for number in range(50)]})
    frame.loc[[7, 30]] = frame.loc[3].to_numpy()
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.iloc[[10, 11]].to_parquet(tmp_path / "other.parquet")
    found = dedupe(tmp_path / "t.csv", tmp_path / "other.parquet", out=tmp_path / "out.csv")
    assert found.groups == ((3, 7, 30),) and found.exact == found.surplus == 2
    assert found.leaks == (("row 10", "row 0", "equal"), ("row 11", "row 1", "equal")) and found.leaked == 2
    assert pd.read_csv(tmp_path / "out.csv")["a"].tolist() == [n for n in range(50) if n not in (7, 30)]


def test_what_parts_of_a_set_share_is_a_leak_and_labels_that_differ_are_said(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 4))
    y = np.arange(60) % 3
    x[5], x[6], x[40] = x[4], x[8], x[10]
    np.savez(tmp_path / "a.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    found = dedupe(tmp_path / "a.npz", out=tmp_path / "b.npz")
    assert found.surplus == 2 and found.conflicts == 2
    assert found.leaked == 1 and found.leaks == (("test 10", "train 10", "equal"),)
    parts = read(tmp_path / "b.npz")
    assert len(parts["train"]) == 28 and len(parts["test"]) == 30
    np.testing.assert_array_equal(parts["train"].inputs["x"], np.delete(x[:30], [5, 8], 0))


def test_images_are_equal_by_pixels_whatever_their_files_say(tmp_path: Path) -> None:
    images, labels = fashion("train", 60)
    image_folder(tmp_path / "a", images, labels)
    Image.fromarray(images[7]).save(tmp_path / "a" / "class0" / "again.bmp")
    before = hashes(tmp_path / "a")
    found = dedupe(tmp_path / "a", out=tmp_path / "b")
    assert found.exact == found.surplus == 1 and hashes(tmp_path / "a") == before
    assert len(hashes(tmp_path / "b")) == 60


def test_the_example_set_has_no_equal_images() -> None:
    found = dedupe(FASHION)
    assert (len(found.examples.names), found.surplus, found.leaked) == (18_000, 0, 0)


def check_leaks(count: int, least: float) -> None:
    """5 % of the test images are altered train images: nearly all are found, and few others are named."""
    train, test = (fashion(part, count)[0] for part in ("train", "test"))
    planted = leaking(train, test, 0.05, seed=0)
    found = set(near_images([crops(image[None])[0] for image in train], [crops(image[None])[0] for image in test]))
    pairs = {name: {(source, place) for place, source in each.items()} for name, each in planted.items()}
    every = set().union(*pairs.values())
    others = {place for _, place in found - every} - {place for _, place in every}
    recall = {name: round(len(each & found) / len(each), 3) for name, each in pairs.items()}
    print(f"{count} x {count}: recall {recall}, all {len(every & found) / len(every):.3f}, others {len(others)}")
    assert len(every & found) >= least * len(every)
    assert len(others) <= 0.01 * count


def test_near_duplicates_across_splits() -> None:
    check_leaks(1200, 0.98)  # one of 60 may be missed


@pytest.mark.slow
def test_near_duplicates_across_whole_splits() -> None:
    check_leaks(8000, 0.99)


def photograph(rng: np.random.Generator) -> np.ndarray:
    """A random picture of 288 x 320 pixels whose amplitudes fall with the frequency, as those of photographs do."""
    size = np.hypot(np.fft.fftfreq(288)[:, None] * 288, np.fft.rfftfreq(320) * 320)
    waves = np.exp(2j * np.pi * rng.random(size.shape)) / np.maximum(size, 1)
    picture = np.fft.irfft2(waves, (288, 320))
    return np.rint(255 * (picture - picture.min()) / np.ptp(picture)).astype(np.uint8)


@pytest.mark.parametrize("name", ALTERED)
def test_near_duplicates_of_photographs(name: str) -> None:
    """Larger than what is hashed at nine offsets."""
    rng = np.random.default_rng(0)
    pictures = [photograph(rng) for _ in range(80)]
    altered = [ALTERED[name](picture, rng) for picture in pictures]
    assert crops(pictures[0][None]).shape[1] == 1 and min(pictures[0].shape) > SMALL
    found = near_images(
        [crops(picture[None])[0] for picture in pictures], [crops(picture[None])[0] for picture in altered]
    )
    assert found == [(number, number) for number in range(80)]


def test_hashes_ignore_brightness_and_flat_images_are_like_nothing() -> None:
    images, _ = fashion("train", 50)
    dim = (images // 4).astype(np.uint8) * 2
    bright = dim + np.uint8(60)
    one, other = (dct_hashes(np.stack([crops(image[None])[0, 0] for image in stack])) for stack in (dim, bright))
    assert np.bitwise_count(one ^ other).max() <= 2
    flat = [crops(np.full((1, 28, 28), grey, np.uint8))[0] for grey in (0, 0, 200)]
    assert near_images(flat) == []


TEXTS = [
    "the quick brown fox jumps over the lazy dog while the cat sleeps in the warm morning sun of a day in may",
    "nothing in this line has anything to do with what is said above or below it in this list of texts here",
]


def test_near_duplicates_of_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = np.array(" ".join(TEXTS).split())
    texts = [" ".join(rng.choice(words, 60)) for _ in range(200)]
    edited = []
    for text in texts[:40]:
        changed = text.split()
        changed[int(rng.integers(60))] = "changed"
        edited.append("  ".join(changed).upper())
    pairs = near_texts(texts, edited)
    assert pairs == [(number, number) for number in range(40)]
    assert near_texts(["", "a", "a"]) == [(1, 2)] and near_texts([TEXTS[0], TEXTS[1]]) == []
    frame = pd.DataFrame({"text": texts + edited, "stars": 3})
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    found = dedupe(tmp_path / "t.jsonl", near=True)
    assert found.surplus == 40 and found.exact == 0 and found.groups[0] == (0, 200)


def test_near_is_refused_where_nothing_can_be_nearly_equal(tmp_path: Path) -> None:
    pd.DataFrame({"a": np.arange(9)}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"columns of free text\. Received none"):
        dedupe(tmp_path / "t.csv", near=True)
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 3)))
    with pytest.raises(DataError, match="found in images"):
        dedupe(tmp_path / "a.npz", near=True)
