"""Modules as users hand them over: parametrised, compiled, in wrappers, with activations kept; left as they were."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from adapters import torch_cases
from attar.adapters.torch.adapter import FactorySpec, TorchAdapter
from attar.errors import DataError, FormatError, ModelError
from attar.types import Weight

X = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)


def answer(model: Any) -> Any:
    return model(torch.tensor(X)).detach().numpy()


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm", "orthogonal"])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_parametrised_model_still_works_after_it_was_opened(name: str, frozen: bool) -> None:
    model = nn.Sequential(getattr(parametrizations, name)(nn.Linear(6, 6)), nn.ReLU(), nn.Linear(6, 3)).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(not frozen)
    kind, state, expected = type(model[0]), copy.deepcopy(model.state_dict()), answer(model)
    for _ in range(2):
        adapter = TorchAdapter.open(model)
        assert [layer.name for layer in adapter.layers()] == ["0.weight", "2.weight"]
        np.testing.assert_allclose(adapter.run({"x": X}), expected, atol=1e-6)
        assert type(model[0]) is kind
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
        np.testing.assert_array_equal(answer(model), expected)
    assert all(p.requires_grad is not frozen for p in adapter.model().parameters())


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_the_older_norms_are_taken_after_a_forward_pass(name: str) -> None:
    model = nn.Sequential(getattr(nn.utils, name)(nn.Linear(6, 5)), nn.ReLU(), nn.Linear(5, 3))
    answer(model)  # leaves a weight behind that deepcopy refuses
    model.eval()
    expected = answer(model)
    adapter = TorchAdapter.open(model)
    np.testing.assert_allclose(adapter.run({"x": X}), expected, atol=1e-6)
    np.testing.assert_array_equal(answer(model), expected)
    assert len(model[0]._forward_pre_hooks) == 1


def test_activations_that_a_module_keeps_are_no_obstacle() -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    model.last = model(torch.tensor(X))
    adapter = TorchAdapter.open(model)
    np.testing.assert_array_equal(adapter.run({"x": X}), answer(model))
    assert model.last.requires_grad


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_a_wrapper_comes_back_around_the_users_own_names(wrap: Any) -> None:
    model = wrap(torch_cases.make("dense"))
    adapter = TorchAdapter.open(model)
    assert [layer.name for layer in adapter.layers()] == ["0.weight", "2.weight"]
    first = adapter.read("0.weight")
    adapter.write("0.weight", Weight(first.matrix * 0.5, first.bias))
    expected = adapter.run({"x": X})
    back = adapter.model()
    assert type(back) is type(model)
    np.testing.assert_allclose(answer(back), expected, atol=1e-6)
    assert np.abs(answer(model) - expected).max() > 1e-3
    twin = TorchAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    for layer in adapter.layers():
        twin.write(layer.name, adapter.read(layer.name))
    np.testing.assert_allclose(twin.run({"x": X}), expected, atol=1e-6)


class Passing(nn.Module):
    """A wrapper of the user's own, without names for its inputs."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


def test_inputs_without_names_go_by_position() -> None:
    model = Passing(torch_cases.make("dense"))
    adapter = TorchAdapter.open(model)
    expected = adapter.run({"input": X})
    np.testing.assert_allclose(expected, answer(model), atol=1e-6)
    twin = TorchAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    for layer in adapter.layers():
        twin.write(layer.name, adapter.read(layer.name))
    np.testing.assert_allclose(twin.run({"x": X}), expected, atol=1e-6)
    two = TorchAdapter.open(Passing(torch_cases.TwoInputs()))
    ids, extra = np.ones((3, 2), np.int64), np.ones((3, 4), np.float32)
    assert two.run({"ids": ids, "extra": extra}).shape == (3, 3)


def test_a_forward_of_any_names_is_refused() -> None:
    class Named(Passing):
        def forward(self, **kwargs: Any) -> Any:  # type: ignore[override]
            return self.module(**kwargs)

    with pytest.raises(ModelError, match=r"must name its inputs. Received forward\(\*\*kwargs"):
        TorchAdapter.open(Named(torch_cases.make("dense")))


def test_a_refused_export_says_why_in_one_line_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    def branching(model: Any, x: Any) -> Any:
        return model.a(x) if x.mean() > 0 else model.b(x)

    adapter = TorchAdapter.open(torch_cases.Net(branching, a=nn.Linear(6, 3), b=nn.Linear(6, 3)))
    adapter.run({"x": X})
    with pytest.raises(ModelError, match="branches on the values of tensors") as caught:
        adapter.skeleton()
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["dense-norm", "weight-norm"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_rebuilt_program_saves_a_state_dict_for_the_users_class(tmp_path: Path, name: str, suffix: str) -> None:
    adapter = torch_cases.module_case(name).open()
    expected = adapter.run({"x": X})
    twin = TorchAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    for layer in adapter.layers():
        twin.write(layer.name, adapter.read(layer.name))
    twin.save(tmp_path / f"state{suffix}")
    own = torch_cases.make(name)  # with parametrisations, where the case has some
    torch_cases.make_own = lambda: own  # type: ignore[attr-defined]
    again = TorchAdapter.open(FactorySpec("adapters.torch_cases:make_own", tmp_path / f"state{suffix}"))
    np.testing.assert_allclose(again.run({"x": X}), expected, atol=1e-6)


def test_a_rebuilt_program_is_opened_again_and_takes_eval(tmp_path: Path) -> None:
    adapter = torch_cases.module_case("dense").open()
    twin = TorchAdapter.rebuild(adapter.skeleton(), adapter.remainder())
    for layer in adapter.layers():
        twin.write(layer.name, adapter.read(layer.name))
    twin.save(tmp_path / "model.pt2")
    expected = adapter.run({"x": X})
    np.testing.assert_allclose(TorchAdapter.open(tmp_path / "model.pt2").run({"x": X}), expected, atol=1e-6)
    model = twin.model()
    assert model.eval() is model
    assert not model.training
    np.testing.assert_allclose(answer(copy.deepcopy(model).eval()), expected, atol=1e-6)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_a_state_dict_saved_from_a_wrapper_is_loaded(tmp_path: Path, prefix: str) -> None:
    model = torch_cases.make("dense-norm")
    state = {prefix + name: value for name, value in model.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "state.pt")
    adapter = TorchAdapter.open(FactorySpec("adapters.torch_cases:make_dense_norm", tmp_path / "state.pt"))
    np.testing.assert_allclose(adapter.run({"x": X}), answer(model.eval()), atol=1e-5)


def test_what_does_not_fit_in_a_state_dict_is_named(tmp_path: Path) -> None:
    state = torch_cases.make("dense").state_dict()
    state["0.weight"] = state["0.weight"][:2]
    state["extra"] = state.pop("2.weight")
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(ModelError) as caught:
        TorchAdapter.open(FactorySpec("adapters.torch_cases:make_dense", tmp_path / "state.pt"))
    assert "missing: 2.weight; unknown: extra; of another shape: 0.weight [2, 6] for [5, 6]" in str(caught.value)


def test_parameters_without_values_are_refused() -> None:
    with pytest.raises(ModelError, match="'weight' on the meta device"):
        TorchAdapter.open(nn.Linear(3, 3, device="meta"))


class Counting(nn.Module):
    """A module that keeps a state between calls."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 3)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.body(x) * self.calls


def test_a_model_with_a_state_between_calls_is_refused() -> None:
    with pytest.raises(ModelError, match="keeps a state between calls"):
        TorchAdapter.open(Counting()).run({"x": X})


@pytest.mark.parametrize("scripted", [False, True])
def test_data_that_the_model_does_not_take_are_a_data_error(scripted: bool) -> None:
    model = torch_cases.make("dense")
    adapter = TorchAdapter.open(torch.jit.script(model) if scripted else model)
    for use in (adapter.run, lambda batch: list(adapter.capture([batch])), lambda batch: adapter.moments([batch])):
        with pytest.raises(DataError, match=r"Received x \[4, 5\] float32, on which it failed .*shapes") as caught:
            use({"x": X[:4, :5]})
        assert "\n" not in str(caught.value)
    assert adapter.run({"x": X}).shape == (6, 4)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor, rate: int, half: bool) -> torch.Tensor:
        return self.body(x) * rate if half else self.body(x)


@pytest.mark.parametrize("suffix", [".jit", ".torchscript", ".pt"])
def test_a_script_takes_numbers_that_all_examples_share(tmp_path: Path, suffix: str) -> None:
    model = Scaled()
    torch.jit.script(model).save(tmp_path / f"model{suffix}")
    assert TorchAdapter.accepts(tmp_path / f"model{suffix}")
    adapter = TorchAdapter.open(tmp_path / f"model{suffix}")
    assert [spec.dtype for spec in adapter.inputs()] == ["float32", "int64", "bool"]
    batch = {"x": X, "rate": np.full(6, 3), "half": np.ones(6, bool)}
    np.testing.assert_allclose(adapter.run(batch), 3 * answer(model.body), atol=1e-5)
    with pytest.raises(DataError, match=r"input 'rate': it is one number"):
        adapter.run({**batch, "rate": np.arange(6)})
    adapter.save(tmp_path / f"again{suffix}")
    np.testing.assert_allclose(torch.jit.load(tmp_path / f"again{suffix}")(torch.tensor(X), 3, True).detach(), 3 * answer(model.body), atol=1e-5)  # fmt: skip  # noqa: E501


def test_a_buffer_that_is_a_kernel_is_compressed_and_others_are_listed() -> None:
    adapter = TorchAdapter.open(torch_cases.make("filtered"))
    assert {layer.name: layer.kind for layer in adapter.layers()} == {"out.weight": "dense", "basis": "conv"}
    assert adapter.skipped() == {"shift": "no use as a matrix was recognised"}
    assert set(adapter.remainder()) == {"shift"}


class Bag(nn.Module):
    """Ids looked up before code that cannot be traced."""

    def __init__(self, branches: bool) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(9, 6)
        self.out = nn.Linear(6, 3)
        self.branches = branches

    def forward(self, text: torch.Tensor, pad_mask: torch.Tensor) -> torch.Tensor:
        if self.branches and text.max() > 100:
            return self.table(text)
        return self.out(self.table(text))


@pytest.mark.parametrize("branches", [False, True])
def test_ids_are_told_from_numbers_without_a_graph(branches: bool) -> None:
    specs = TorchAdapter.open(Bag(branches)).inputs()
    assert [(spec.name, spec.dtype) for spec in specs] == [("text", "int64"), ("pad_mask", "bool")]
    assert TorchAdapter.open(torch_cases.Net(torch_cases.packed, rnn=nn.GRU(6, 5), out=nn.Linear(5, 3))).inputs()[0].dtype == "float32"  # fmt: skip  # noqa: E501


def test_a_script_offers_no_gradients() -> None:
    assert TorchAdapter.open(torch.jit.script(torch_cases.make("dense"))).fisher is None
    assert callable(TorchAdapter.open(torch_cases.make("dense")).fisher)


class Packed(nn.Linear):
    """A module that keeps its weight where only its state dict shows it, as quantised ones do."""

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}scale"] = torch.tensor(0.1)


def test_tensors_that_are_no_parameters_or_buffers_are_not_lost_in_silence() -> None:
    with pytest.raises(ModelError, match=r"such as '1.scale'"):
        TorchAdapter.open(nn.Sequential(nn.Linear(6, 5), Packed(5, 3)))


def needy(size: int) -> nn.Module:
    return nn.Linear(size, 2)


@pytest.mark.parametrize("factory", ["needy", "X"])
def test_a_factory_that_cannot_be_called_bare_is_named(factory: str) -> None:
    with pytest.raises(ModelError, match=r"without arguments.*functools.partial"):
        TorchAdapter.open(FactorySpec(f"{__name__}:{factory}"))


def test_a_whole_pickled_module_is_refused_in_our_words(tmp_path: Path) -> None:
    torch.save(Counting(), tmp_path / "whole.pt")
    with pytest.raises(FormatError, match=r"Received one that names [\w.]+Counting. Save") as caught:
        TorchAdapter.open(tmp_path / "whole.pt")
    assert "options" not in str(caught.value)


def test_inputs_with_a_default_are_optional() -> None:
    specs = TorchAdapter.open(torch_cases.TwoInputs()).inputs()
    assert [(spec.name, spec.optional) for spec in specs] == [("ids", False), ("extra", False), ("scale", True)]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_a_models_size_is_that_of_its_tensors(dtype: str) -> None:
    from attar.job import size_of

    model = torch_cases.make("dense").to(getattr(torch, dtype))
    assert size_of(model, TorchAdapter.open(model)) == sum(p.nbytes for p in model.parameters())
