"""Weights alone: every format comes back to the byte, whatever is damaged is refused, and nothing can be run."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from adapters.tensors_cases import MAKERS, arrays, files, llama, safetensors, shards
from attar import registry
from attar.adapters.base import Adapter
from attar.adapters.tensors import form as tensors_form
from attar.adapters.tensors.adapter import TensorsAdapter
from attar.archive.packed import SpanInfo
from attar.errors import AttarError, FormatError, ModelError
from attar.opening import open_model
from attar.types import Weight


@pytest.fixture(params=MAKERS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return MAKERS[request.param](tmp_path)


@pytest.mark.parametrize("piece", [1 << 23, 1 << 12])
def test_what_was_read_comes_back_to_the_byte(path: Path, tmp_path: Path, piece: int, monkeypatch) -> None:
    monkeypatch.setattr(tensors_form, "PIECE", piece)
    adapter = TensorsAdapter.open(path)
    again = TensorsAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    assert [str(x) for x in again.layers()] == [str(x) for x in adapter.layers()]
    assert again.skipped() == adapter.skipped()
    for layer in adapter.layers():
        assert layer.size == np.prod(layer.shape) <= max(piece, layer.cols)
        again.write(layer.name, adapter.read(layer.name))
    adapter.save(tmp_path / "plain")
    again.save(tmp_path / "again")
    assert list(files(tmp_path / "again").values()) == list(
        files(tmp_path / "plain").values()
    )  # fmt: skip
    if path.suffix != ".npz":  # numpy writes other zip fields
        before = {p.name: p.read_bytes() for p in path.parent.glob("model*") if p.is_file()}
        assert sorted(files(tmp_path / "again").values()) == sorted(before.values())
    else:
        with np.load(tmp_path / "again") as found, np.load(path) as given:
            assert found.files == given.files
            assert all(np.array_equal(found[name], given[name]) for name in given.files)


def test_what_is_a_matrix(tmp_path: Path) -> None:
    adapter = TensorsAdapter.open(safetensors(tmp_path))
    told = {layer.name: (layer.rows, layer.cols, layer.dtype) for layer in adapter.layers()}
    assert told == {
        "fc.weight": (160, 96, "float32"), "experts": (192, 64, "float16"), "conv": (32, 144, "float32"),
        "half": (64, 128, "bfloat16"),
    }  # fmt: skip
    assert set(adapter.skipped()) == {"ids", "tiny", "empty"}
    assert set(adapter.remainder()) == {"fc.bias", "ids", "tiny", "empty"}
    assert isinstance(adapter, Adapter)
    assert np.array_equal(adapter.read("conv").matrix, arrays()["conv"].reshape(32, -1))
    # Turned arrays lie in Fortran's order: they are matrices too.
    turned = TensorsAdapter.open(MAKERS["npz"](tmp_path))
    assert np.array_equal(turned.read("turned").matrix, arrays()["fc.weight"].T)


def test_written_values_are_those_of_the_dtype(tmp_path: Path) -> None:
    adapter = TensorsAdapter.open(safetensors(tmp_path))
    values = np.full((64, 128), 1 + 2**-12, np.float32)
    adapter.write("half", Weight(values))
    assert np.array_equal(adapter.read("half").matrix, np.ones((64, 128)))
    assert str(adapter.model()["half"].dtype) == "bfloat16"
    adapter.save(tmp_path / "out.safetensors")
    found = load_file(tmp_path / "out.safetensors")
    assert np.array_equal(found["fc.weight"], arrays()["fc.weight"])
    assert (found["half"].astype(np.float32) == 1).all()


def test_tensors_are_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    adapter = TensorsAdapter.open(safetensors(tmp_path))
    adapter.keep(["fc.*", "experts"])
    assert {layer.name for layer in adapter.layers()} == {"conv", "half"}
    assert adapter.skipped()["experts"] == "excluded"
    assert np.array_equal(adapter.remainder()["fc.weight"], arrays()["fc.weight"])


def test_quantised_tensors_of_gguf_are_left(tmp_path: Path) -> None:
    adapter = TensorsAdapter.open(llama(tmp_path))
    assert "rounding it twice" in adapter.skipped()["quantised"]
    for layer in adapter.layers():
        adapter.write(layer.name, Weight(np.zeros((layer.rows, layer.cols), np.float32)))
    adapter.save(tmp_path / "out.gguf")
    before, after = (gguf.GGUFReader(tmp_path / name) for name in ("model.gguf", "out.gguf"))
    assert list(before.fields) == list(after.fields)
    one, other = ({t.name: (t.tensor_type, t.data.tolist()) for t in reader.tensors} for reader in (before, after))
    assert one["quantised"] == other["quantised"] and one["fc.weight"][0] == other["fc.weight"][0]
    assert not np.any(other["fc.weight"][1])


def test_which_paths_are_weights_alone(tmp_path: Path) -> None:
    index = shards(tmp_path)
    assert TensorsAdapter.accepts(index) and TensorsAdapter.accepts(tmp_path)
    assert isinstance(open_model(tmp_path), TensorsAdapter)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert not TensorsAdapter.accepts(tmp_path) and TensorsAdapter.accepts(index)
    assert not TensorsAdapter.accepts(tmp_path / "none.npz") and not TensorsAdapter.accepts({"a": 1})
    assert "tensors" in registry.names("adapter")


def test_nothing_can_be_run(tmp_path: Path) -> None:
    adapter = TensorsAdapter.open(safetensors(tmp_path))
    assert not adapter.can_perturb("conv") and not adapter.outputs()
    with pytest.raises(ModelError, match="without a network"):
        adapter.inputs()
    for call in (adapter.run, adapter.moments, adapter.capture):
        with pytest.raises(ModelError, match="--bits"):
            call({})


def test_two_shards_with_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        save_file({"w": np.ones((64, 64), np.float32)}, tmp_path / name)
    with pytest.raises(ModelError, match="in two files"):
        TensorsAdapter.open(tmp_path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_are_refused_or_read(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Truncated and with flipped bytes: an error of ours, or tensors."""
    folder = tmp_path_factory.mktemp("damaged")
    name = data.draw(st.sampled_from(["safetensors", "npz", "deflated", "gguf"]))
    path = MAKERS[name](folder)
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    else:
        place = data.draw(st.integers(0, min(len(raw) - 1, 3000)))
        raw[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(raw))
    try:
        adapter = TensorsAdapter.open(path)
        for layer in adapter.layers():
            adapter.read(layer.name)
        adapter.remainder()
    except AttarError as error:
        assert "Received" in str(error)


def _told(skeleton: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(skeleton[:8], "little")
    return json.loads(skeleton[8 : 8 + length]), skeleton[8 + length :]


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told["files"][0].__setitem__(0, "../evil"),
        lambda told: told["files"][0].__setitem__(1, "pickle"),
        lambda told: told["files"][0][2][0].__setitem__(1, "object"),
        lambda told: told["files"][0][2][0].__setitem__(2, [-1, 4]),
        lambda told: told["files"][0][2][0].__setitem__(3, 1 << 40),
        lambda told: told["files"][0][2][0].__setitem__(4, 7),
        lambda told: told["files"][0][2][0].pop(),
        lambda told: told["files"][0].__setitem__(3, 10),
        lambda told: told["files"].append(told["files"][0]),
        lambda told: told.pop("files"),
        lambda told: told.__setitem__("files", []),
    ],
)
def test_skeletons_are_not_believed(tmp_path: Path, change) -> None:
    adapter = TensorsAdapter.open(safetensors(tmp_path))
    told, shell = _told(adapter.skeleton())
    change(told)
    text = json.dumps(told).encode()
    with pytest.raises(FormatError, match="Received"):
        TensorsAdapter.rebuild(len(text).to_bytes(8, "little") + text + shell, adapter.remainder())


def test_other_tensors_must_be_the_models_own(tmp_path: Path) -> None:
    adapter = TensorsAdapter.open(safetensors(tmp_path))
    with pytest.raises(FormatError, match=r"'fc\.bias'"):
        TensorsAdapter.rebuild(adapter.skeleton(), {**adapter.remainder(), "fc.bias": np.zeros(3, np.float32)})
    again = TensorsAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    with pytest.raises(FormatError, match="every tensor"):
        again.save(tmp_path / "unwritten.safetensors")


@pytest.mark.parametrize("name", ["model.bin", "model.ckpt", "model.pkl"])
def test_pickles_are_refused_with_the_remedy(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps({"w": [1.0]}))
    with pytest.raises(FormatError, match=r"safetensors\.torch\.save_file"):
        open_model(tmp_path / name)


@given(st.lists(st.integers(1, 70), min_size=2, max_size=4))
def test_matrices_have_whole_rows(shape: list[int]) -> None:
    tensor = tensors_form.matrix(SpanInfo("w", "float32", tuple(shape), 5))
    if not tensor.cols:
        assert np.prod(shape) < tensors_form.SMALLEST
        return
    layers = [layer for layer, _ in tensor.pieces]
    assert sum(layer.size for layer in layers) == np.prod(shape)
    assert {layer.cols for layer in layers} == {tensor.cols}
    assert tensor.cols >= tensors_form.LEAST_COLS or tensor.cols == np.prod(shape[1:])
