"""Data sets whose images may differ: what comes back is what was measured, and all else is exact."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from attar import api, cli
from attar.adapters.torch import latent as torch_latent
from attar.archive import read_archive
from attar.data.read import read
from attar.errors import DataError, FormatError, UsageError
from attar.latent import codes
from attar.latent.network import network_from, run_slowly
from attar.sets import fitting, images, lossy
from attar.sets.contents import Source
from attar.sets.files import look
from attar.sets.labels import labels_of
from attar.sets.pack import pack
from attar.sets.unpack import unpack
from sets.image_cases import blobs

LENET = Path(__file__).parents[2] / "examples" / "models" / "lenet5.onnx"
STEPS = 120


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A set of two sizes in grey, one in colour, labels and floats; its archive, and what packing said."""
    place = tmp_path_factory.mktemp("lossy")
    arrays = {
        "x": blobs(300, 12, 10, 1)[..., 0], "small": blobs(40, 9, 7, 1), "colour": blobs(30, 8, 8, 3),
        "y": np.arange(300) % 3, "z": np.linspace(0, 1, 50),
    }  # fmt: skip
    np.savez(place / "set.npz", **arrays)
    result = pack(place / "set.npz", loss=api.data_loss(0.5, steps=STEPS))
    return arrays, result


def back(path, place):
    with np.load(unpack(path, place) / "set.npz") as found:
        return dict(found)


def test_images_come_back_nearly_and_all_else_exactly(packed, tmp_path):
    arrays, result = packed
    found = back(result.path, tmp_path / "back")
    assert list(found) == list(arrays)
    for name, before in arrays.items():
        assert found[name].dtype == before.dtype and found[name].shape == before.shape
        if name not in ("x", "small"):
            assert np.array_equal(found[name], before), name
    away = np.concatenate([(found[name].astype(float) - arrays[name]).ravel() for name in ("x", "small")])
    assert result.lost.error == pytest.approx(np.sqrt(np.mean(away**2)))
    assert result.lost.error < 0.7 * arrays["x"].std() and result.lost.held == 30
    assert result.lost.agreement is None and result.lost.certificate is None


def test_what_comes_back_is_what_plain_integers_make(packed, tmp_path):
    result = packed[1]
    archive = read_archive(result.path)
    network = network_from(archive.part(archive.parts["network 1"]))
    parts = [archive.part(archive.parts["stack 0 latents 0"])["latents"]]
    latents = codes.latents_of(parts, network, (300, 12, 10, 1))
    made = run_slowly(network, latents)[:, :12, :10, 0]
    assert np.array_equal(back(result.path, tmp_path / "back")["x"], made)


def test_altered_and_cut_archives_are_refused(packed, tmp_path):
    data = packed[1].path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(data), 40):
        broken = bytearray(data)
        broken[at] ^= int(rng.integers(1, 256))
        (tmp_path / "broken.attar").write_bytes(broken)
        with pytest.raises(FormatError):
            unpack(tmp_path / "broken.attar", tmp_path / "back")
    for at in rng.integers(0, len(data), 20):
        (tmp_path / "broken.attar").write_bytes(data[:at])
        with pytest.raises(FormatError):
            unpack(tmp_path / "broken.attar", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_quality_of_one_loses_nothing(tmp_path):
    np.savez(tmp_path / "set.npz", x=blobs(300, 8, 8, 1))
    result = pack(tmp_path / "set.npz", loss=api.data_loss(1.0))
    assert result.lost is None
    assert np.array_equal(back(result.path, tmp_path / "back")["x"], blobs(300, 8, 8, 1))


def test_what_the_network_leaves_brings_every_image_back(tmp_path):
    arrays = {"x": blobs(300, 12, 10, 1), "colour": blobs(280, 9, 8, 3), "few": blobs(3, 7, 5, 3), "y": np.arange(300)}
    arrays["x"][:40] = np.random.default_rng(0).integers(0, 256, (40, 12, 10, 1))  # the network leaves everything
    np.savez(tmp_path / "set.npz", **arrays)
    result = pack(tmp_path / "set.npz", loss=api.data_loss(0.5, steps=STEPS, exact=True))
    found = back(result.path, tmp_path / "back")
    for name, before in arrays.items():
        assert np.array_equal(found[name], before), name
    parts = read_archive(result.path).parts
    assert {"network 1", "network 3", "stack 0 latents 0", "stack 0", "stack 0 part 0"} <= parts.keys()
    assert result.lost.exact and result.lost.reached and result.lost.error > 1


def test_a_rest_that_is_altered_or_missing_is_refused(tmp_path):
    np.savez(tmp_path / "set.npz", x=blobs(300, 8, 8, 1))
    path = pack(tmp_path / "set.npz", loss=api.data_loss(0.5, steps=20, exact=True)).path
    data = path.read_bytes()
    for at in np.random.default_rng(1).integers(0, len(data), 40):
        broken = bytearray(data)
        broken[at] ^= 1
        (tmp_path / "broken.attar").write_bytes(broken)
        with pytest.raises(FormatError):
            unpack(tmp_path / "broken.attar", tmp_path / "back")
    assert not (tmp_path / "back").exists()


@given(st.integers(0, 2**32 - 1))
def test_the_rest_of_any_pixels_gives_them_back(seed):
    pixels, made = np.random.default_rng(seed).integers(0, 256, (2, 3, 5, 4, 1), np.uint8)
    left = images.rest(pixels, made)
    assert np.array_equal(images.whole(left, made), pixels)
    assert np.array_equal(images.rest(pixels, pixels), np.full_like(pixels, images.MIDDLE))


def test_few_images_lose_nothing(tmp_path):
    np.savez(tmp_path / "set.npz", x=blobs(lossy.FEWEST - 1, 8, 8, 1))
    result = pack(tmp_path / "set.npz", loss=api.data_loss(0.5))
    assert result.lost is None
    assert np.array_equal(back(result.path, tmp_path / "back")["x"], blobs(lossy.FEWEST - 1, 8, 8, 1))


@pytest.fixture
def clothes(tmp_path, monkeypatch):
    """Images that a model knows, with labels, as one npz; little is repaired."""

    monkeypatch.setattr(torch_latent, "REPAIRS", 2)
    monkeypatch.setattr(fitting, "CHECKS", 5)

    test = read(LENET.parents[1] / "fashion-mnist")["test"].take(np.arange(420))
    np.savez(tmp_path / "set.npz", x=test.inputs["x"], y=test.labels)
    return tmp_path / "set.npz"


def test_a_model_s_answers_and_score_are_measured(clothes):
    result = pack(clothes, loss=api.data_loss(0.2, LENET, 60.0, steps=STEPS))
    found, certificate = result.lost, result.lost.certificate
    assert certificate.n == 140 and certificate.metric == "accuracy" and certificate.max_drop == 60
    assert certificate.before > 80 and certificate.lower <= certificate.drop <= certificate.upper
    assert found.reached == (certificate.verdict == "certified") and 0 <= found.agreement <= 1
    assert found.held == 42


def test_the_command_line_says_what_was_lost(clothes, tmp_path):
    line = ["data", "pack", str(clothes), "-o", str(tmp_path / "a.attar"), "--steps", "12"]
    made = CliRunner().invoke(cli.app, [*line, "--quality", "0.999"])
    assert made.exit_code == 3, made.output
    assert "of 255 in all: not reached" in made.stdout
    made = CliRunner().invoke(cli.app, [*line, "--quality", "0.01", "--json", "--force"])
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["lost"]["reached"] is True
    made = CliRunner().invoke(cli.app, [*line, "--quality", "0.99", "--exact", "--force"])
    assert made.exit_code == 0 and "the rest is coded too, and nothing is lost" in made.stdout, made.output
    made = CliRunner().invoke(
        cli.app, [*line, "--for", str(LENET), "--max-drop", "0.1", "--quality", "0.01", "--force"]
    )
    assert made.exit_code == 3 and "allowed 0.1: not certif" in made.stdout, made.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quality": 0.0}, "above 0 and at most 1"),
        ({"quality": 1.5}, "above 0 and at most 1"),
        ({"quality": None, "max_drop": 1.0}, "Pass --for MODEL"),
        ({"quality": None, "max_drop": -1.0, "model": LENET}, "at most 100 points"),
        ({"quality": 1.0, "max_drop": 1.0, "model": LENET}, "Leave out one"),
        ({"quality": 0.8, "model": LENET}, "--max-drop POINTS"),
        ({"quality": None, "exact": True}, "Pass --quality 0.8"),
        ({"quality": 1.0, "exact": True}, "Pass --quality 0.8"),
        ({"quality": 0.8, "model": LENET, "max_drop": 1.0, "exact": True}, "nothing drops"),
    ],
)
def test_contradictions_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        api.data_loss(**options)


def test_a_model_needs_images_of_one_size_with_labels(tmp_path):
    np.savez(tmp_path / "two.npz", x=blobs(300, 28, 28, 1), other=blobs(5, 9, 9, 1))
    with pytest.raises(UsageError, match="one size"):
        pack(tmp_path / "two.npz", loss=api.data_loss(None, LENET, 1.0))
    np.savez(tmp_path / "large.npz", x=np.zeros((11, 320, 320), np.uint8))
    with pytest.raises(UsageError, match="65536 bytes at most"):
        pack(tmp_path / "large.npz", loss=api.data_loss(None, LENET, 1.0))
    np.savez(tmp_path / "one.npz", x=blobs(300, 28, 28, 1)[..., 0])
    with pytest.raises(DataError, match="every image must have a label"):
        pack(tmp_path / "one.npz", loss=api.data_loss(None, LENET, 1.0))
    assert not list(tmp_path.glob("*.attar"))


def source_of(place):
    files = {file.relative_to(place).as_posix(): file for file in sorted(place.rglob("*")) if file.is_file()}
    return Source(files, [look(file, name)[0] for name, file in files.items()])


def test_labels_are_the_folders_of_images(tmp_path):
    for part in ("test", "train"):
        for k, name in enumerate(("cat", "dog", "cat")):
            (tmp_path / part / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(blobs(1, 8, 8, 1)[0, ..., 0]).save(tmp_path / part / name / f"{k}.png")
    (tmp_path / "notes.txt").write_text("none of them")
    assert labels_of(tmp_path, source_of(tmp_path)).tolist() == [0, 0, 1, 0, 0, 1]
    np.savez(tmp_path / "more.npz", x=blobs(2, 8, 8, 1))
    with pytest.raises(DataError, match=r"none for those in 'more.npz'"):
        labels_of(tmp_path, source_of(tmp_path))


def test_one_folder_is_no_label(tmp_path):
    Image.fromarray(blobs(1, 8, 8, 1)[0, ..., 0]).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="every image must have a label"):
        labels_of(tmp_path, source_of(tmp_path))


def test_labels_of_idx_files_are_those_of_their_part():
    place = LENET.parents[1] / "fashion-mnist"
    found = labels_of(place, source_of(place))
    parts = read(place)
    assert np.array_equal(found, np.concatenate([parts["test"].labels, parts["train"].labels]))


def test_unpacking_needs_no_torch_and_packing_says_so(tmp_path):
    golden = Path(__file__).parent / "golden" / "v1-lossy.attar"
    np.savez(tmp_path / "set.npz", x=blobs(300, 8, 8, 1))
    script = f"""
import sys
sys.modules["torch"] = None
from attar import api
from attar.errors import UsageError
from attar.sets.pack import pack
from attar.sets.unpack import unpack
unpack({str(golden)!r}, {str(tmp_path / "back")!r})
try:
    pack({str(tmp_path / "set.npz")!r}, loss=api.data_loss(0.5))
except UsageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "PyTorch must be installed" in done.stdout and "attar[torch]" in done.stdout
    assert (tmp_path / "back" / "x.npz").exists() and not (tmp_path / "set.npz.attar").exists()
