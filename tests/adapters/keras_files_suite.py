"""Files, copies, folding, names and the Fisher diagonal of the Keras adapter; run by test_keras.py."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as kl

from adapters.keras_models import EXAMPLES, Unregistered, convolutions, mlp, sequential, shared
from adapters.keras_suite import run
from attar.adapters.keras.adapter import KerasAdapter
from attar.errors import FormatError, ModelError
from attar.types import Weight

MODELS = Path(__file__).parents[2] / "examples" / "models"


@pytest.mark.parametrize("name", ["lenet300", "dwcnn"])
def test_a_trained_model_comes_back_as_a_file_that_keras_opens(name: str, tmp_path: Path) -> None:
    batch = {"image": np.random.default_rng(0).random((4, 28, 28, 1), np.float32)}
    source = MODELS / f"{name}.keras"
    adapter = KerasAdapter.open(source)
    for layer in adapter.layers():
        weight = adapter.read(layer.name)
        adapter.write(layer.name, Weight(weight.matrix * np.float32(0.5), weight.bias))
    halved = adapter.run(batch)
    adapter.save(tmp_path / "out.keras")
    np.testing.assert_allclose(run(tmp_path / "out.keras", batch), halved, atol=1e-5)
    assert np.abs(halved - run(source, batch)).max() > 0.1
    assert (tmp_path / "out.keras").stat().st_size < 1.2 * source.stat().st_size


def test_the_examples_are_twins_of_the_pytorch_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.syspath_prepend(MODELS.parent)  # before this folder, which has a module of that name too
    import keras_models as twins  # type: ignore[import-not-found]

    state = torch.load(MODELS / "dwcnn.pt", weights_only=True)
    model = twins.from_torch_state("dwcnn", {name: value.numpy() for name, value in state.items()})
    import torch_models  # type: ignore[import-not-found]

    other = torch_models.MODELS["dwcnn"]().eval()
    other.load_state_dict(state)
    x = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    with torch.no_grad():
        expected = other(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(run(model, {"image": x}), expected, atol=1e-4)


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
def test_hdf5_in_and_out(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    model = mlp()
    model.compile("adam", keras.losses.MeanSquaredError())
    keras.saving.save_model(model, path)
    batch = EXAMPLES["mlp"].batches[0]
    adapter = KerasAdapter.open(path)
    np.testing.assert_allclose(adapter.run(batch), run(model, batch), atol=1e-5)
    assert isinstance(adapter.model().optimizer, keras.optimizers.Adam)
    adapter.save(tmp_path / f"out{suffix}")
    np.testing.assert_allclose(run(tmp_path / f"out{suffix}", batch), adapter.run(batch), atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_hdf5_from_any_state_leaves_the_model_as_it_is(compiled: bool, tmp_path: Path) -> None:
    """Models that were never compiled have no optimizer; Keras' writer loses that of the others."""
    model = mlp()
    if compiled:
        model.compile(keras.optimizers.SGD(0.5), keras.losses.MeanSquaredError())
    adapter = KerasAdapter.open(model)
    for suffix in (".h5", ".keras"):
        adapter.save(tmp_path / f"out{suffix}")
        again = keras.saving.load_model(tmp_path / f"out{suffix}")
        assert again.compiled is compiled
        assert not compiled or float(again.optimizer.learning_rate) == 0.5


def test_weights_alone_are_not_a_model(tmp_path: Path) -> None:
    mlp().save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(ModelError, match="a model is needed"):
        KerasAdapter.open(tmp_path / "only.weights.h5")


class Evil:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> Any:
        return (print, ("executed",))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_garbage_is_a_format_error(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / f"good{suffix}"
    keras.saving.save_model(mlp(), good)
    whole = good.read_bytes()
    for data in (pickle.dumps(Evil()), b"", b"garbage" * 99, whole[: len(whole) // 2], whole[:9] + b"x" * 500):
        path = tmp_path / f"bad{suffix}"
        path.write_bytes(data)
        with pytest.raises(FormatError):
            KerasAdapter.open(path)
    assert "executed" not in capsys.readouterr().out
    with pytest.raises(FormatError, match="no such file"):
        KerasAdapter.open(tmp_path / f"absent{suffix}")


def rewritten(path: Path, target: Path, **members: bytes) -> Path:
    """A copy of a .keras archive with some members replaced (None of them left out by an empty value)."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, members.get(name.split(".")[0], old.read(name)))
    return target


def test_an_archive_with_a_broken_member_is_a_format_error(tmp_path: Path) -> None:
    good = tmp_path / "good.keras"
    mlp().save(good)
    for members in (
        {"config": b"{"},
        {"config": b"[]"},
        {"config": b"{}"},
        {"model": b"\x89HDF\r\n\x1a\n" + b"0" * 50},
    ):
        with pytest.raises(FormatError):
            KerasAdapter.open(rewritten(good, tmp_path / "bad.keras", **members))


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    call = eval(f"lambda x: (open({str(trace)!r}, 'w').close(), x)[1]")
    model = keras.Sequential([keras.Input((4,)), kl.Dense(5), kl.Lambda(call, output_shape=(5,))])
    model.save(tmp_path / "code.keras")
    trace.unlink(missing_ok=True)
    with pytest.raises(ModelError, match="Python code"):
        KerasAdapter.open(tmp_path / "code.keras")
    assert not trace.exists()
    adapter = KerasAdapter.open(model)  # the caller's own process and own function
    assert [layer.name for layer in adapter.layers()] == ["dense/kernel"] or len(adapter.layers()) == 1
    with pytest.raises(ModelError, match="Python code"):
        adapter.skeleton()


def test_a_class_of_the_process_alone_is_copied_but_not_described(tmp_path: Path) -> None:
    model = Unregistered()
    x = np.ones((2, 5), np.float32)
    expected = run(model, {"x": x})
    adapter = KerasAdapter.open(model)
    np.testing.assert_allclose(adapter.run({"x": x}), expected, atol=1e-6)
    assert [layer.name for layer in adapter.layers()] == ["blocks_0/kernel", "blocks_1/kernel", "head/kernel"]
    with pytest.raises(ModelError, match="register_keras_serializable"):
        adapter.skeleton()


def test_a_model_that_keras_cannot_copy_is_refused() -> None:
    class Closed(keras.Model):
        def __init__(self, secret: object) -> None:
            super().__init__()
            self.dense = kl.Dense(4)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    model = Closed(object())
    with pytest.raises(ModelError, match="unbuilt"):
        KerasAdapter.open(model)
    model(np.zeros((1, 6), np.float32))
    with pytest.raises(ModelError, match="get_config"):
        KerasAdapter.open(model)


def test_the_compile_state_is_kept_without_the_optimizers_variables(tmp_path: Path) -> None:
    model = mlp()
    model.compile("adam", "mse", metrics=["mae"])
    x = EXAMPLES["mlp"].batches[0]["x"]
    model.fit(x, np.zeros((len(x), 5)), verbose=0)
    adapter = KerasAdapter.open(model)
    assert model.optimizer.iterations == 1
    adapter.save(tmp_path / "out.keras")
    again = keras.saving.load_model(tmp_path / "out.keras")
    assert isinstance(again.optimizer, keras.optimizers.Adam)
    again.fit(x, np.zeros((len(x), 5)), verbose=0)
    twin = KerasAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    assert isinstance(twin.model().optimizer, keras.optimizers.Adam)


def test_batch_norms_fold_only_where_that_is_exact() -> None:
    adapter = KerasAdapter.open(convolutions())
    biased = {layer.name for layer in adapter.layers() if layer.has_bias}
    assert biased == {"grouped/kernel", "dilated/kernel", "depthwise/kernel", "separable/pointwise_kernel"} | {
        layer.name for layer in adapter.layers() if layer.kind == "dense"
    }
    model = adapter.model()
    for name in ("folded", "folded_too"):
        norm = model.get_layer(name)
        np.testing.assert_array_equal(np.asarray(norm.get_weights()[-2]), 0)
    assert np.ptp(model.get_layer("after_relu").get_weights()[-1]) > 0
    assert not np.any(model.get_layer("dilated").get_weights()[1])
    adapter = KerasAdapter.open(shared())
    assert np.ptp(adapter.model().get_layer("not_alone").get_weights()[-1]) > 0
    again = KerasAdapter.open(adapter.model())
    for layer in adapter.layers():
        np.testing.assert_array_equal(again.read(layer.name).matrix, adapter.read(layer.name).matrix)


def test_names_are_paths_and_the_rest_has_reasons() -> None:
    class Odd(kl.Layer):
        def build(self, shape: Any) -> None:
            self.table = self.add_weight(shape=(shape[-1], 5), name="table")

        def call(self, x: Any) -> Any:
            return x @ self.table

    quantized = kl.Dense(9, name="int8")
    model = sequential(
        (6,), kl.Dense(4, name="fc"), Odd(name="odd"), kl.Dense(3, name="tiny"), kl.Dense(8, name="big"), quantized
    )
    quantized.quantize("int8")
    adapter = KerasAdapter(model)
    assert [layer.name for layer in adapter.layers()] == ["fc/kernel", "big/kernel"]
    skipped = adapter.skipped()
    assert skipped["odd/table"] == "custom layer Odd"
    assert skipped["tiny/kernel"] == "fewer than 16 weights"
    assert "int8" in skipped["int8/kernel"]
    assert set(skipped) == {"odd/table", "tiny/kernel", "int8/kernel"}


def test_an_overridden_call_is_a_custom_layer() -> None:
    class Scaled(kl.Dense):
        def call(self, x: Any, training: Any = None) -> Any:
            return 2 * super().call(x)

    adapter = KerasAdapter(sequential((6,), Scaled(4, name="scaled"), kl.Dense(8, name="plain")))
    assert [layer.name for layer in adapter.layers()] == ["plain/kernel"]
    assert adapter.skipped() == {"scaled/kernel": "custom layer Scaled"}


def test_the_skeleton_is_small_and_the_same_in_every_copy() -> None:
    adapter = KerasAdapter.open(MODELS / "lenet300.keras")
    assert len(adapter.skeleton()) < 1100
    twin = KerasAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    assert twin.skeleton() == adapter.skeleton()
    assert json.dumps(twin.model().get_config()) == json.dumps(adapter.model().get_config())


@pytest.mark.parametrize(
    "skeleton",
    [
        b"",
        b"[]",
        b'{"model": 3}',
        b'{"model": {"class_name": "Dense", "config": {"units": 3}, "module": "keras.layers"}}',
    ],
)
def test_a_damaged_skeleton_is_a_format_error(skeleton: bytes) -> None:
    with pytest.raises(FormatError):
        KerasAdapter.rebuild(skeleton, {})


def test_a_skeleton_cannot_name_code() -> None:
    config = json.loads(KerasAdapter.open(mlp()).skeleton())
    layer = config["model"]["config"]["layers"][1]
    for name, module in (("system", "os"), ("Popen", "subprocess"), ("__lambda__", "builtins")):
        layer.update(class_name=name, module=module)
        with pytest.raises(ModelError):
            KerasAdapter.rebuild(json.dumps(config).encode(), {})


def test_fisher_agrees_with_the_closed_form_of_the_last_layer() -> None:
    """For logits z the Fisher diagonal of row r is E[p_r (1 - p_r)]."""
    model = sequential((6,), kl.Dense(8, "relu", name="a"), kl.Dense(4, name="b"))
    batches = [{"x": np.random.default_rng(i).normal(size=(500, 6)).astype(np.float32)} for i in range(4)]
    adapter = KerasAdapter.open(model)
    found = adapter.fisher(batches, 0)
    logits = np.concatenate([adapter.run(batch) for batch in batches]).astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(found["b/kernel"], (p * (1 - p)).mean(0), rtol=0.15)
    assert found["a/kernel"].shape == (8,)
    again = adapter.fisher(batches, 0)
    np.testing.assert_array_equal(found["a/kernel"], again["a/kernel"])
    softmax = keras.Sequential([model, kl.Softmax()])
    squashed = KerasAdapter.open(softmax).fisher(batches, 0)
    values = sorted(float(v.sum()) for v in squashed.values())
    np.testing.assert_allclose(values, sorted(float(v.sum()) for v in found.values()), rtol=1e-2)


def test_gradients_of_convolutions_are_summed_over_positions_and_then_squared() -> None:
    """A channel's shift at all positions is the dense layer's input: the dense layer's Fisher matrix pulled back."""
    model = sequential((5, 3), kl.Conv1D(3, 2, name="a"), kl.Flatten(), kl.Dense(4, name="b"))
    batch = {"x": np.random.default_rng(0).normal(size=(2000, 5, 3)).astype(np.float32)}
    adapter = KerasAdapter.open(model)
    found = adapter.fisher([batch], 0)["a/kernel"]
    logits = adapter.run(batch).astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    information = np.diag(p.mean(0)) - p.T @ p / len(p)
    matrix = adapter.read("b/kernel").matrix.astype(np.float64).reshape(4, 4, 3).sum(1)
    np.testing.assert_allclose(found, np.einsum("kc,kl,lc->c", matrix, information, matrix), rtol=0.15)


def test_a_failing_model_leaves_the_layers_as_they_were() -> None:
    adapter = KerasAdapter.open(mlp())
    model = adapter.model()
    before = (
        [dict(vars(layer)).get("call") for layer in model.layers],
        [getattr(x, "activation", 0) for x in model.layers],
    )
    with pytest.raises((ValueError, TypeError)):
        list(adapter.capture([{"x": np.ones((2, 3, 3, 3), np.float32)}]))
    after = (
        [dict(vars(layer)).get("call") for layer in model.layers],
        [getattr(x, "activation", 0) for x in model.layers],
    )
    assert before == after == ([None] * len(model.layers), before[1])
