"""Files: what is refused and why, external data, sizes of skeletons."""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import inliner

import attar
from adapters import onnx_models as models
from attar.adapters.onnx import files as onnx_files
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.errors import FormatError, ModelError
from attar.types import Weight

RNG_PIXELS = np.random.default_rng(0)

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", b"...")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (zipped(), "zip archive"),
        (pickle.dumps({"a": 1}), "pickle"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "safetensors"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<!DOCTYPE html>", "HTML"),
        (b"", "an empty file"),
        (b"\xff\xff\xff\xff", "protobuf"),
        (b"\x08\x07", "0 nodes"),
    ],
)
def test_other_files_are_named(tmp_path, data, word):
    path = tmp_path / "weights.onnx"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=word) as error:
        OnnxAdapter.open(path)
    assert "weights.onnx" in str(error.value)
    assert "Export the model to ONNX again" in str(error.value)


@pytest.mark.parametrize("name", [b"Conv", b"Conv_h", b"gamma"])
def test_names_that_are_no_text_are_refused(tmp_path, name):
    path = tmp_path / "m.onnx"
    path.write_bytes(models.conv_norm().SerializeToString().replace(name, b"\x80" + name[1:]))
    with pytest.raises(FormatError, match="its names must be text"):
        OnnxAdapter.open(path)


@pytest.mark.parametrize("equation", ["nsd->nshk", ""])
def test_impossible_nodes_are_refused(equation):
    with pytest.raises(FormatError, match=r"cannot be read \(.*onnx.checker"):
        OnnxAdapter.open(models.einsum(equation, first=True))


def test_a_folder_is_no_model(tmp_path):
    folder = tmp_path / "folder.onnx"
    folder.mkdir()
    with pytest.raises(FormatError, match=r"model 'folder.onnx': it must be a file that can be read"):
        OnnxAdapter.open(folder)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [("ir_version", 99, "Received: Unsupported model IR version: 99"), ("opset", 99, "Received: ONNX Runtime only")],
)
def test_what_the_runtime_refuses_is_said_without_its_source_code(field, value, says):
    model = models.matmul()
    if field == "opset":
        model.opset_import[0].version = value
    else:
        model.ir_version = value
    adapter = OnnxAdapter.open(model)
    with pytest.raises(ModelError, match=says) as error:
        adapter.run({"x": np.zeros((2, 3, 5), np.float32)})
    assert "onnxruntime_src" not in str(error.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), byte=st.integers(0, 255), cut=st.floats(0, 1), truncate=st.booleans())
def test_damaged_files_open_or_are_refused(tmp_path, place, byte, cut, truncate):
    """Never anything but FormatError: a flipped byte may also be a value or a name."""
    data = bytearray(models.conv_norm().SerializeToString())
    data[int(place * (len(data) - 1))] = byte
    path = tmp_path / "m.onnx"
    path.write_bytes(data[: int(cut * len(data))] if truncate else data)
    try:
        adapter = OnnxAdapter.open(path)
        adapter.skeleton()
    except FormatError:
        return
    for layer in adapter.layers():
        if layer.tied_to is None:
            adapter.read(layer.name)


def externally(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    nodes = [models.node("MatMul", "x w", "h"), models.node("Add", "h b", "y")]
    model = models.model(nodes, {"w": models.random(40, 30), "b": models.random(30)}, [40])
    onnx.save(model, str(path), save_as_external_data=True, location="m.bin", size_threshold=0)
    return path


def test_external_data_are_mapped_and_written_beside(tmp_path):
    path = externally(tmp_path)
    adapter = OnnxAdapter.open(path)
    assert adapter.files_beside() == [tmp_path / "m.bin"]
    x = models.random(5, 40, seed=6)
    np.testing.assert_array_equal(adapter.read("w").matrix, models.random(40, 30).T)
    expected = ort.InferenceSession(str(path)).run(None, {"x": x})[0]
    np.testing.assert_allclose(adapter.run({"x": x}), expected, atol=1e-6)
    before = (tmp_path / "m.bin").read_bytes()
    adapter.write("w", Weight(adapter.read("w").matrix * 2))
    target = tmp_path / "out" / "small.onnx"
    target.parent.mkdir()
    adapter.save(target)
    assert (tmp_path / "m.bin").read_bytes() == before
    assert sorted(p.name for p in target.parent.iterdir()) == ["small.onnx", "small.onnx.data"]
    assert target.stat().st_size < 1500
    saved = ort.InferenceSession(str(target)).run(None, {"x": x})[0]
    np.testing.assert_allclose(saved, adapter.run({"x": x}), atol=1e-6)
    np.testing.assert_array_equal(OnnxAdapter.open(target).read("w").matrix, models.random(40, 30).T * 2)


def edit(path: Path, **entries: str) -> None:
    model = onnx.load(str(path), load_external_data=False)
    tensor = model.graph.initializer[0]
    kept = {e.key: e.value for e in tensor.external_data} | entries
    del tensor.external_data[:]
    for key, value in kept.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ({"location": "../m.bin"}, "beside the model"),
        ({"location": "/etc/passwd"}, "beside the model"),
        ({"location": "gone.bin"}, "does not"),
        ({"offset": "4000"}, "must take 4800 bytes. Received 920"),
        ({"offset": "-4"}, "numbers"),
        ({"length": "9600"}, "must take 4800 bytes. Received 9600"),
        ({"length": "99999999999999"}, "must take 4800 bytes. Received 99999999999999"),
        ({"length": "x"}, "numbers"),
    ],
)
def test_external_data_are_checked(tmp_path, entries, word):
    path = externally(tmp_path)
    edit(path, **entries)
    with pytest.raises(FormatError, match=word):
        OnnxAdapter.open(path)


def test_a_message_without_its_data_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"Pass the path of the \.onnx file"):
        OnnxAdapter.open(onnx.load(str(externally(tmp_path)), load_external_data=False))


def test_models_beyond_one_message(tmp_path, monkeypatch):
    """With the limits lowered: tensors are handed to sessions beside the message, and saved in a file beside it."""
    from attar.adapters.onnx import session as onnx_session

    model = models.matmul_add_then_relu_gemm()
    x = models.random(3, 6, seed=2)
    expected = OnnxAdapter.open(model).run({"x": x})
    monkeypatch.setattr(onnx_files, "LARGEST", 100)
    monkeypatch.setattr(onnx_session, "IN_MESSAGE", 100)
    monkeypatch.setattr(onnx_files, "EXTERNAL_BYTES", 64)
    adapter = OnnxAdapter.open(model)
    np.testing.assert_array_equal(adapter.run({"x": x}), expected)
    np.testing.assert_array_equal(adapter.run({"x": x}, {"w": np.zeros((3, 8), np.float32)}), expected)
    assert set(adapter.moments([{"x": x}])) == {"w", "v"}
    adapter.save(tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").stat().st_size >= 4 * (48 + 32)
    np.testing.assert_array_equal(ort.InferenceSession(str(tmp_path / "m.onnx")).run(None, {"x": x})[0], expected)
    with pytest.raises(ModelError, match="at most 2 GB"):
        adapter.model()


@pytest.mark.parametrize("name", ["half", "brain", "double", "listed_inputs", "constants", "branches", "lstm"])
def test_tensors_beside_the_message_are_the_same(name, monkeypatch):
    """Whatever their type and place: those that cannot be handed over stay in the message."""
    from attar.adapters.onnx import session as onnx_session

    adapter = OnnxAdapter.open(models.MODELS[name]())
    spec = adapter.inputs()[0]
    x = np.ones((3, *spec.shape[1:]), spec.dtype)
    expected = adapter.run({"x": x})
    monkeypatch.setattr(onnx_session, "IN_MESSAGE", 0)
    monkeypatch.setattr(onnx_files, "EXTERNAL_BYTES", 48)
    np.testing.assert_array_equal(OnnxAdapter.open(models.MODELS[name]()).run({"x": x}), expected)


def test_one_session_is_kept():
    adapter = OnnxAdapter.open(models.matmul_add_then_relu_gemm())
    x = models.random(3, 6)
    for _ in range(2):
        adapter.run({"x": x})
        adapter.run({"x": x}, {"w": np.zeros((3, 8), np.float32)})
        adapter.moments([{"x": x}])
        assert len(adapter._runner._sessions) <= 1  # none after statistics


def test_no_session_is_kept_of_a_run_of_large_examples(monkeypatch):
    adapter = OnnxAdapter.open(models.matmul_add_then_relu_gemm())
    x = models.random(7, 6)
    whole = adapter.run({"x": x})
    monkeypatch.setattr("attar.adapters.parts.MOST_VALUES", 12)
    np.testing.assert_allclose(adapter.run({"x": x}), whole, rtol=1e-6)
    assert not adapter._runner._sessions


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        OnnxAdapter.open(models.matmul()).save(path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_weights_of_functions_are_told_and_are_layers_once_inlined():
    model = models.in_function()
    inner = model.functions[0]
    inner.input.append("w")
    inner.node.append(models.node("MatMul", "r w", "s"))
    inner.output[0] = "s"
    model.graph.node[-1].input.append("own")
    model.graph.initializer.append(onnx.numpy_helper.from_array(models.random(20, 20), "own"))
    skipped = OnnxAdapter.open(model).skipped()
    assert skipped["own"].startswith("read by Last, a function of the model: onnx.inliner")
    assert skipped["k"].startswith("nothing reads it, or a function of the model does: onnx.inliner")
    plain = OnnxAdapter.open(inliner.inline_local_functions(model))
    assert "own" in {layer.name for layer in plain.layers()} and not plain.skipped()


@pytest.mark.parametrize(
    ("first", "stored", "takes"),
    [
        (["Mul x k a"], {"k": np.float32(1 / 255)}, True),
        (
            ["Sub x m b", "Div b k a"],
            {"m": np.full((1, 3, 1, 1), 123, "f4"), "k": np.full((1, 3, 1, 1), 58, "f4")},
            True,
        ),
        (["Identity x b", "Div b k a"], {"k": np.float32(255)}, True),
        (["Sub x m b", "Div b k a"], {"m": np.float32(0.5), "k": np.float32(0.5)}, False),
        (["Div x k b", "Add b x a"], {"k": np.float32(255)}, False),
        (["Relu x a"], {}, False),
    ],
)
def test_graphs_that_scale_pixels_take_them_as_they_are(first, stored, takes):
    nodes = [models.node(op, f"{' '.join(names[:-1])}", names[-1]) for op, *names in map(str.split, first)]
    nodes.append(models.node("Conv", "a w", "y"))
    model = models.model(nodes, {**stored, "w": models.random(4, 3, 3, 3)}, [3, 8, 8])
    assert OnnxAdapter.open(model).inputs()[0].scales_pixels == takes
    x = RNG_PIXELS.integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
    found = attar.evaluate(model, x, "cosine", against=model).outputs
    expected = ort.InferenceSession(model.SerializeToString()).run(
        None, {"x": x * np.float32(1 if takes else 1 / 255)}
    )[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_packed_integers():
    """int4 weights behind DequantizeLinear are a layer; those that nothing maps come back bit for bit."""
    values = np.arange(200).reshape(20, 10) % 15 - 7
    nodes = [models.node("DequantizeLinear", "q s", "w"), models.node("MatMul", "x w", "y")]
    model = models.model(nodes, {"s": np.float32(0.5)}, [20], opset=21)
    model.ir_version = 10
    for name in ("q", "unread"):
        model.graph.initializer.append(onnx.helper.make_tensor(name, onnx.TensorProto.INT4, [20, 10], values))
    adapter = OnnxAdapter.open(model)
    np.testing.assert_array_equal(adapter.read("w").matrix, 0.5 * values.T)
    assert adapter.skipped() == {"unread": "nothing reads it"}
    twin = OnnxAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    twin.write("w", adapter.read("w"))
    stored = next(t for t in twin.model().graph.initializer if t.name == "unread")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored).astype(np.int32), values)
    x = models.random(3, 20)
    np.testing.assert_array_equal(adapter.run({"x": x}), twin.run({"x": x}))


@pytest.mark.parametrize(("name", "limit"), [("lenet300", 700), ("lenet5", 1000), ("dwcnn", 1700), ("resnet20", 4500)])
def test_skeletons_are_small(name, limit):
    path = EXAMPLES / f"{name}.onnx"
    adapter = OnnxAdapter.open(path)
    assert len(zlib.compress(adapter.skeleton(), 9)) < limit
    assert not adapter.skipped()
    assert sum(value.nbytes for value in adapter.remainder().values()) < 0.05 * path.stat().st_size


@given(st.binary(max_size=200))
def test_a_wrong_skeleton_is_refused(data):
    with pytest.raises(FormatError):
        OnnxAdapter.rebuild(data, {})


def test_a_skeleton_needs_its_own_remainder():
    adapter = OnnxAdapter.open(models.conv_norm())
    with pytest.raises(FormatError, match="belong together"):
        OnnxAdapter.rebuild(adapter.skeleton(), {})
    wrong = {**adapter.remainder(), "gamma": np.zeros(5, np.float32)}
    with pytest.raises(FormatError, match="gamma"):
        OnnxAdapter.rebuild(adapter.skeleton(), wrong)
