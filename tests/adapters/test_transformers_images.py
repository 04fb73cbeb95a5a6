"""Pictures through a small vision transformer: as its own processor makes them, before and after compression."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from typer.testing import CliRunner

import attar
from adapters.transformers_models import folder, loaded
from attar import cli
from attar.adapters.transformers.adapter import TransformersAdapter
from attar.adapters.transformers.pixels import ImageProcessor
from attar.data.fit import fit_inputs
from attar.data.images import image_size, read_image_folder
from attar.errors import DataError, ModelError
from attar.types import Array, Dataset

PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "stretched": ("ViTImageProcessor", {"size": {"height": 24, "width": 40}}),
    "cropped": ("CLIPImageProcessor", {"size": {"shortest_edge": 30}, "crop_size": {"height": 24, "width": 24}}),
    "crop-pct": ("ConvNextImageProcessor", {"size": {"shortest_edge": 28}, "crop_pct": 0.875}),
    "offset": ("EfficientNetImageProcessor", {"rescale_factor": 1 / 127.5, "rescale_offset": True}),
    "plain": ("ViTImageProcessor", {"do_rescale": False, "do_normalize": False, "size": {"height": 9, "width": 9}}),
    "bgr": ("MobileViTImageProcessor", {"size": {"shortest_edge": 20}, "crop_size": {"height": 32, "width": 32}}),
    "bicubic": ("DeiTImageProcessor", {"resample": 3}),
}
MADE = {"size": {"shortest_edge": 15}, "crop_size": {"height": 12, "width": 12}, "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.2, 0.3, 0.25]}  # fmt: skip


def files_of(processor: Any, place: Path) -> dict[str, bytes]:
    processor.save_pretrained(place)
    return {path.name: path.read_bytes() for path in place.iterdir()}


def picture(height: int, width: int, seed: int = 0) -> Array:
    y, x = np.mgrid[:height, :width]
    phases = np.random.default_rng(seed).uniform(1, 9, (3, 2))
    waves = [(np.sin(x / a + seed) + np.cos(y / b) + 2) * 63 for a, b in phases]
    return np.stack(waves, -1).astype(np.uint8)


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("sides", [(50, 70), (24, 24), (90, 21)])
def test_pictures_become_what_the_library_makes_of_them(name: str, sides: tuple[int, int], tmp_path: Path) -> None:
    kind, settings = PROCESSORS[name]
    processor = getattr(transformers, kind)(**settings)
    ours, image = ImageProcessor(files_of(processor, tmp_path), 3), picture(*sides)
    expected = processor(image, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
    mean, std = ours.scales()
    found = ours.framed(image)
    assert found.dtype == np.uint8 and found.shape[:2] == ours.size == expected.shape[1:]
    np.testing.assert_allclose((found - mean) / std, expected.transpose(1, 2, 0), atol=1e-5 * std.max() / std.min())


def test_a_size_that_follows_the_picture_is_free(tmp_path: Path) -> None:
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, do_center_crop=False)
    ours = ImageProcessor(files_of(processor, tmp_path), 3)
    assert ours.size is None and ours.framed(picture(20, 40)).shape == (16, 32, 3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision transformer of random weights whose pictures are resized, cropped and scaled by channel."""
    place = tmp_path_factory.mktemp("vit") / "model"
    shutil.copytree(folder("vit"), place)
    transformers.CLIPImageProcessor(**MADE).save_pretrained(place)
    return place


def by_library(model: Path, images: list[Array]) -> Array:
    """The scores that transformers itself gives."""
    processor, network = transformers.AutoImageProcessor.from_pretrained(model, use_fast=False), loaded(model)
    with torch.no_grad():
        return np.asarray(network(processor(images, return_tensors="pt")["pixel_values"]).logits.numpy())


@pytest.fixture(scope="module")
def pictures(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 pictures of many sizes, in a folder for each class that the model itself sees in them."""
    place = tmp_path_factory.mktemp("pictures")
    images = [picture(14 + seed % 17, 30 - seed % 13, seed) for seed in range(150)]
    for number, (image, scores) in enumerate(zip(images, by_library(model, images), strict=True)):
        (place / f"LABEL_{scores.argmax()}").mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"LABEL_{scores.argmax()}" / f"{number}.png")
    return place


def test_a_folder_is_framed_and_scaled_as_the_model_wants(model: Path, pictures: Path) -> None:
    adapter = TransformersAdapter.open(model)
    data = read_image_folder(pictures, image_size(adapter.inputs()))
    assert isinstance(data, Dataset) and data.inputs["x"].shape == (150, 12, 12, 3)
    first = sorted(next(p for p in sorted(pictures.iterdir())).iterdir())[0]
    scores = adapter.run(fit_inputs(data.take([0]), adapter.inputs()).inputs)
    np.testing.assert_allclose(scores, by_library(model, [np.asarray(Image.open(first))]), atol=1e-4)


def test_arrays_are_framed_where_they_have_another_size(model: Path) -> None:
    adapter = TransformersAdapter.open(model)
    images = np.stack([picture(20, 26, seed) for seed in range(4)])
    for given in (images, images.transpose(0, 3, 1, 2)):
        scores = adapter.run(fit_inputs(Dataset({"x": given}), adapter.inputs()).inputs)
        np.testing.assert_allclose(scores, by_library(model, list(images)), atol=1e-4)
    ready = np.stack([picture(12, 12, seed) for seed in range(3)])
    fitted = fit_inputs(Dataset({"x": ready}), adapter.inputs()).inputs["pixel_values"]
    expected = (ready / 255 - MADE["image_mean"]) / MADE["image_std"]
    np.testing.assert_allclose(fitted, expected.transpose(0, 3, 1, 2), atol=1e-5)


def test_floats_are_what_the_model_is_fed_and_the_users_numbers_come_first(model: Path) -> None:
    specs = TransformersAdapter.open(model).inputs()
    floats = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    assert np.array_equal(fit_inputs(Dataset({"x": floats}), specs).inputs["pixel_values"], floats)
    images = np.stack([picture(20, 26, seed) for seed in range(2)])
    told = fit_inputs(Dataset({"x": images}), specs, mean=0.5).inputs["pixel_values"]
    own = fit_inputs(Dataset({"x": images}), specs).inputs["pixel_values"]
    mean, std = np.array(MADE["image_mean"])[:, None, None], np.array(MADE["image_std"])[:, None, None]
    np.testing.assert_allclose(told + 0.5, own * std + mean, atol=1e-5)


def test_the_decoded_model_is_evaluated_with_the_same_pixels(model: Path, pictures: Path, tmp_path: Path) -> None:
    words = ["compress", str(model), "--data", str(pictures), "--max-drop", "30", "--guarantee", "estimate"]
    done = CliRunner().invoke(cli.app, [*words, "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    ledger = [json.loads(line) for line in (tmp_path / "out" / "ledger.jsonl").read_text().splitlines()]
    result = next(event for event in ledger if event["event"] == "result")
    assert result["before"] == 100  # classes are what the library makes of the same pictures
    values = {}
    for name in ("model.attar", "model"):
        ran = CliRunner().invoke(cli.app, ["eval", str(tmp_path / "out" / name), "--data", str(pictures), "--json"])
        assert ran.exit_code == 0, ran.output
        values[name] = json.loads(ran.stdout)["value"]
    assert values["model.attar"] == values["model"] > 50
    kept = attar.load(tmp_path / "out" / "model.attar")
    assert type(kept).__name__ == "ViTForImageClassification"
    assert (tmp_path / "out" / "model" / "preprocessor_config.json").read_bytes() == (
        model / "preprocessor_config.json"
    ).read_bytes()


def test_folders_have_the_numbers_of_the_models_classes() -> None:
    adapter = TransformersAdapter.open(folder("vit"))
    given = Dataset({"x": np.zeros((3, 12, 12, 3), np.uint8)}, np.array([1, 0, 1]), "pictures", ("LABEL_4", "LABEL_1"))
    found = adapter.labelled(given)
    assert found.labels is not None and found.labels.tolist() == [1, 4, 1] and found.class_names[4] == "LABEL_4"
    other = Dataset(given.inputs, given.labels, "pictures", ("cat", "dog"))
    assert adapter.labelled(other) == other
    with pytest.raises(DataError, match=r"'cat', which config\.json has not among its 5"):
        adapter.labelled(Dataset(given.inputs, given.labels, "pictures", ("LABEL_4", "cat")))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (b"{}", "resized, cropped and scaled"),
        (b"no json", "resized, cropped and scaled"),
        (b'{"image_processor_type": "ViTImageProcessor", "size": {"height": 1000000, "width": 9}}', "1 to 2048"),
        (b'{"image_processor_type": "ViTImageProcessor", "image_std": [0, 1, 1]}', "one factor"),
        (b'{"image_processor_type": "ViTImageProcessor", "size": {"height": -4, "width": 9}}', "1 to 2048"),
        (b'{"image_processor_type": "Nobody"}', "resized, cropped and scaled"),
    ],
)
def test_a_processor_that_cannot_be_followed_is_an_error(told: bytes, message: str) -> None:
    processor = ImageProcessor({"preprocessor_config.json": told, "config.json": b'{"model_type": "none"}'}, 3)
    with pytest.raises(ModelError, match=message):
        processor.framed(picture(20, 20))


def test_lines_and_other_channels_are_refused(model: Path, tmp_path: Path) -> None:
    files = files_of(transformers.CLIPImageProcessor(**MADE), tmp_path)
    (tmp_path / "thin").mkdir()
    Image.fromarray(np.zeros((1, 40, 3), np.uint8)).save(tmp_path / "thin" / "line.png")
    with pytest.raises(DataError, match=r"line\.png'?: its longer side must be at most 32 times.*40 x 1"):
        read_image_folder(tmp_path / "thin", image_size(TransformersAdapter.open(model).inputs()))
    with pytest.raises(ModelError, match="resized, cropped and scaled"):
        ImageProcessor(files, 2).scales()
