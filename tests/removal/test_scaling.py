# ruff: noqa: E501
"""Scale moves: what may be scaled and what not, the formulas, and a whole compression."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import attar
from adapters.onnx_models import model, node, random
from attar import beginning, cli, registry, scale_moves
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.errors import AttarError, ModelError, UsageError
from attar.run.ledger import Ledger
from attar.run.progress import Silent
from attar.structure.graph import Graph, Multiply, Vector
from attar.structure.remove import subject_of
from attar.structure.scalable import scalable
from attar.structure.scaling import LARGEST, ScalingSettings, barred, factors_of, move, scaled
from fakes import trained

ROOT = Path(__file__).parents[2]
EQUALISE = ScalingSettings(moves="equalise")


def between(*nodes, opset=17, **weights):
    """Two layers, w1 [5, 8] before and w2 [8, 4] behind, with what joins them: from the value a to the value z."""
    whole = [node("MatMul", "x w1", "a"), *nodes, node("MatMul", "z w2", "y")]
    return model(whole, {"w1": random(5, 8), "w2": random(8, 4), **weights}, [5], opset=opset)


VECTOR = {"v": random(8)}
NORM = {name: np.abs(random(8, seed=i)) for i, name in enumerate(("gamma", "beta", "mean", "var"))}
JOINTS = {
    "relu": (between(node("Relu", "a", "z")), 1),
    "leaky": (between(node("LeakyRelu", "a", "z", alpha=0.3)), 1),
    "prelu": (between(node("PRelu", "a v", "z"), **VECTOR), 1),
    "prelu computed": (between(node("Neg", "a", "b"), node("PRelu", "a b", "z")), 0),
    "clip from zero": (between(node("Clip", "a low", "z"), low=np.float32(0)), 1),
    "clip to infinity": (between(node("Clip", "a low up", "z"), low=np.float32(0), up=np.float32(np.inf)), 1),
    "relu6": (between(node("Clip", "a low up", "z"), low=np.float32(0), up=np.float32(6)), 0),
    "clip from one": (between(node("Clip", "a low", "z"), low=np.float32(1)), 0),
    "sigmoid": (between(node("Sigmoid", "a", "z")), 0),
    "gelu": (between(node("Erf", "a", "b"), node("Mul", "a b", "z")), 0),
    "square": (between(node("Mul", "a a", "z")), 0),
    "bias": (between(node("Add", "a v", "z"), **VECTOR), 1),
    "one number": (between(node("Add", "a v", "z"), v=np.float32(2)), 0),
    "one number for all": (between(node("Sub", "a v", "z"), v=np.ones(1, np.float32)), 0),
    "maximum": (between(node("Max", "a v", "z"), **VECTOR), 1),
    "gain": (between(node("Mul", "a v", "z"), **VECTOR), 1),
    "gain and bias of one tensor": (between(node("Mul", "a v", "b"), node("Add", "b v", "z"), **VECTOR), 1),
    "quotient": (between(node("Div", "a v", "z"), **VECTOR), 1),
    "reciprocal": (between(node("Div", "v a", "z"), **VECTOR), 0),
    "quotient of values": (between(node("Abs", "a", "b"), node("Div", "a b", "z")), 0),
    "power": (between(node("Pow", "a v", "z"), v=np.float32(2)), 0),
    "batch norm": (between(node("Relu", "a", "b"), node("BatchNormalization", "b gamma beta mean var", "z"), **NORM), 1),
    "layer norm": (between(node("LayerNormalization", "a v w", "z"), v=random(8), w=random(8, seed=1)), 1),
    "gain behind a softmax": (between(node("Softmax", "a", "b"), node("Mul", "b v", "z"), **VECTOR), 1),
    "gain of a computed one": (between(node("Softmax", "a", "b"), node("Mul", "a b", "z")), 0),
    "residual": (between(node("MatMul", "a w3", "b"), node("Relu", "b", "c"), node("Add", "a c", "z"), w3=random(8, 8)), 1),
    "sum over channels": (between(node("ReduceMean", "a", "b", axes=[1]), node("Add", "a b", "z")), 0),
    "scaled by one channel": (between(node("MatMul", "x w3", "b"), node("Mul", "a b", "z"), w3=random(5, 1)), 0),
    "padded by ones": (between(node("Pad", "a p one", "b"), node("Relu", "b", "z"), p=np.zeros(4, np.int64), one=np.float32(1)), 0),
}  # fmt: skip
"""Model, and the groups that can be scaled in it."""


@pytest.mark.parametrize("name", JOINTS)
def test_what_lies_between_decides(name) -> None:
    """Where a group is found, any factors leave the outputs as they are: declared homogeneity is checked by running."""
    proto, count = JOINTS[name]
    adapter = OnnxAdapter.open(proto)
    batch = {"x": np.random.default_rng(3).normal(size=(6, 5)).astype(np.float32)}
    subject = subject_of(adapter, {})
    groups = subject.structure.scalable
    assert len(groups) == count
    assert barred(subject, adapter) == {}
    rng = np.random.default_rng(0)
    factors = {group.name: np.exp(rng.uniform(-2, 2, group.channels)) for group in groups}
    found, expected = scaled(adapter, subject, factors).run(batch), adapter.run(batch)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_an_activation_that_is_fused_with_a_product_counts() -> None:
    found = {}
    for linear in (True, False):
        first = Multiply("p", ("x",), ("a",), "w1", 0, 1, -1, -1, linear=linear)
        second = Multiply("q", ("a",), ("y",), "w2", 0, 1, -1, -1)
        sizes = {"x": (7, 5), "a": (7, 8), "y": (7, 4)}
        graph = Graph([first, second], sizes, {"w1": (8, 5), "w2": (4, 8)}, ["y"], 7)
        found[linear] = len(scalable(graph))
    assert found == {True: 1, False: 0}


def test_a_vector_of_zeros_needs_no_factors() -> None:
    """What a folded norm leaves in a PyTorch module: it cannot be written, and need not."""
    found = {}
    for zeros in (frozenset(), frozenset({"b"})):
        first = Multiply("p", ("x",), ("a",), "w1", 0, 1, -1, -1, vectors=(Vector("b", ((0, 1),)),))
        second = Multiply("q", ("a",), ("y",), "w2", 0, 1, -1, -1)
        tensors = {"w1": (8, 5), "w2": (4, 8), "b": (8,)}
        (group,) = scalable(
            Graph([first, second], {"x": (7, 5), "a": (7, 8), "y": (7, 4)}, tensors, ["y"], 7, {}, zeros)
        )
        found[bool(zeros)] = [member.tensor for member in group.made]
    assert found == {False: ["w1", "b"], True: ["w1"]}


def pair() -> OnnxAdapter:
    return OnnxAdapter.open(JOINTS["bias"][0])


def test_equalisation_is_the_papers() -> None:
    """s = sqrt(r1 r2) / r2, W1 through s, W2 times s: both ranges are then sqrt(r1 r2)."""
    adapter = pair()
    first, second = adapter.read("w1").matrix, adapter.read("w2").matrix
    r1, r2 = np.abs(first).max(1), np.abs(second).max(0)
    moved, report = move(adapter, {}, EQUALISE)
    s = np.sqrt(r1 * r2) / r2
    (factors,) = report.factors.values()
    np.testing.assert_allclose(factors, 1 / s, rtol=1e-6)
    np.testing.assert_allclose(moved.read("w1").matrix, first / s[:, None], rtol=1e-6)
    np.testing.assert_allclose(moved.read("w2").matrix, second * s, rtol=1e-6)
    np.testing.assert_allclose(np.abs(moved.read("w1").matrix).max(1), np.sqrt(r1 * r2), rtol=1e-6)
    assert list(report.layers.values()) == [(("w1",), ("w2",))]
    np.testing.assert_array_equal(adapter.read("w1").matrix, first)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_smoothing_is_the_papers_with_the_root_mean_square(alpha) -> None:
    adapter = pair()
    batches = [{"x": np.random.default_rng(1).normal(size=(64, 5)).astype(np.float32)}]
    stats = adapter.moments(batches)
    (factors,) = move(adapter, stats, ScalingSettings(moves="smooth", alpha=alpha))[1].factors.values()
    seen = np.concatenate([capture.x[0] for capture in adapter.capture(batches) if capture.name == "w2"], 1)
    root = np.sqrt(np.square(seen.astype(np.float64)).mean(1))
    s = root**alpha / np.abs(adapter.read("w2").matrix).max(0) ** (1 - alpha)
    np.testing.assert_allclose(factors, 1 / s, rtol=1e-4)


def test_dead_and_nearly_dead_channels() -> None:
    adapter = pair()
    weight = adapter.read("w1")
    weight.matrix[0] = 0
    weight.matrix[1] *= 1e-12
    adapter.write("w1", weight)
    (factors,) = move(adapter, {}, EQUALISE)[1].factors.values()
    assert (factors[0], factors[1]) == (1, LARGEST)
    assert (factors[2:] < 10).all()


def test_powers_of_two_are_asked_for() -> None:
    (factors,) = move(pair(), {}, ScalingSettings(moves="equalise", powers=True))[1].factors.values()
    np.testing.assert_array_equal(np.log2(factors), np.rint(np.log2(factors)))


def test_a_gain_is_folded() -> None:
    """The norm's gain becomes one, its shift is divided by it, what reads it is multiplied; dead gains stay."""
    adapter = OnnxAdapter.open(JOINTS["layer norm"][0])
    rest = {name: np.array(values) for name, values in adapter.remainder().items()}
    rest["v"][3] = 0
    adapter.restore(rest)
    moved, report = move(adapter, {}, ScalingSettings(moves="fold"))
    gain, live = np.abs(rest["v"]), np.arange(8) != 3
    (factors,) = report.factors.values()
    np.testing.assert_allclose(factors, np.where(live, 1 / np.where(live, gain, 1), 1), rtol=1e-6)
    np.testing.assert_allclose(moved.remainder()["v"], np.sign(rest["v"]), rtol=1e-6)
    np.testing.assert_allclose(moved.remainder()["w"][live], rest["w"][live] / gain[live], rtol=1e-6)
    np.testing.assert_allclose(moved.read("w2").matrix[:, live], (adapter.read("w2").matrix * gain)[:, live], rtol=1e-5)


def test_only_norms_are_folded() -> None:
    assert move(pair(), {}, ScalingSettings(moves="fold"))[1].factors == {}


def test_what_is_excluded_stays() -> None:
    moved, report = move(pair(), {}, EQUALISE, ["w2"])
    assert report.factors == {} and list(report.left.values()) == ["w2 keeps every bit"]
    np.testing.assert_array_equal(moved.read("w2").matrix, pair().read("w2").matrix)


def test_half_precision_moves_by_a_few_powers_of_two() -> None:
    first = random(5, 8).astype(np.float16)
    first[:, 0] *= 512
    half = model(
        [node("Cast", "x", "h", to=10), node("MatMul", "h w1", "a"), node("Relu", "a", "z"), node("MatMul", "z w2", "y")],
        {"w1": first, "w2": random(8, 4).astype(np.float16)}, [5], y_kind=10,
    )  # fmt: skip
    adapter = OnnxAdapter.open(half)
    moved, report = move(adapter, {}, EQUALISE)
    (factors,) = report.factors.values()
    np.testing.assert_array_equal(np.log2(factors), np.rint(np.log2(factors)))
    assert factors.min() == 1 / 16 and factors.max() <= 16
    batch = {"x": random(7, 5)}
    np.testing.assert_allclose(moved.run(batch), adapter.run(batch), rtol=1e-3, atol=1e-3)


def test_no_moves_are_the_default() -> None:
    subject = subject_of(pair(), {})
    (factors,) = factors_of(subject, list(subject.structure.scalable), ScalingSettings(), {}).values()
    assert (factors == 1).all()


@pytest.fixture(scope="module")
def sets():
    specs = OnnxAdapter.open(ROOT / "examples/models/dwcnn.onnx").inputs()
    fresh = fit_inputs(read(ROOT / "examples/fashion-mnist")["train"], specs)
    return {"calibrate": fresh.take(range(300)), "select": fresh.take(range(300, 900)), "certify": fresh.take(range(900, 1500))}  # fmt: skip


@pytest.mark.parametrize("moves", ["equalise", "smooth"])
def test_the_stage_tells_the_ledger(sets, moves) -> None:
    path = ROOT / "examples/models/dwcnn.onnx"
    job = beginning.job_of(path, None, None, {**sets, "settings": {"scaling": {"moves": moves}}, "max_drop": 1})
    ledger = Ledger()
    after = scale_moves.moved(job, ledger, Silent())
    assert after.original is job.adapter is not after.adapter
    (event,) = ledger.events
    assert event["event"] == "scaling" and event["moves"] == moves and len(event["groups"]) == 9
    assert event["layers"][:2] == ["stem.0.weight", "block1.0.weight"] and len(set(event["layers"])) == 10
    batch = next(sets["certify"].batches(100))
    expected = job.adapter.run(batch)
    np.testing.assert_allclose(after.adapter.run(batch), expected, atol=1e-5 * np.abs(expected).max())
    same = beginning.job_of(path, None, None, {**sets, "max_drop": 1})
    assert scale_moves.moved(same, Ledger(), Silent()) is same


@pytest.mark.slow
@pytest.mark.parametrize("moves", ["equalise", "smooth"])
def test_a_compression_with_moves(sets, moves, tmp_path) -> None:
    path, settings = ROOT / "examples/models/dwcnn.onnx", {"scaling": {"moves": moves}}
    fields = {
        "settings": settings,
        "max_drop": 5,
        "guarantee": "estimate",
        "evaluations": 2,
        "methods": ["keep"],
    }
    result = attar.compress(path, **sets, **fields, out=tmp_path)
    event = next(event for event in result.events if event["event"] == "scaling")
    assert event["moves"] == moves and "block1.0.weight" in event["layers"] and len(event["groups"]) == 9
    assert result.certificate.before == pytest.approx(attar.evaluate(path, sets["certify"]).value)
    assert attar.evaluate(tmp_path / "dwcnn.attar", sets["certify"]).value == pytest.approx(result.certificate.after)
    assert f"--scale-moves {moves}" in next(e for e in result.events if e["event"] == "result")["reproduce"]["command"]
    assert 'id="scaled"' in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_a_module_with_moves(sets, monkeypatch) -> None:
    import torch

    monkeypatch.syspath_prepend(ROOT / "examples")
    from torch_models import LeNet300100

    net = LeNet300100()
    net.load_state_dict(torch.load(ROOT / "examples/models/lenet300.pt", weights_only=True))
    fields = {
        "settings": {"scaling": {"moves": "equalise"}},
        "max_drop": 5,
        "guarantee": "estimate",
        "evaluations": 2,
        "methods": ["keep"],
    }
    result = attar.compress(net, **sets, **fields)
    assert type(result.model) is LeNet300100
    assert next(event for event in result.events if event["event"] == "scaling")["layers"]


def test_refusals(sets, monkeypatch) -> None:
    path = ROOT / "examples/models/lenet300.onnx"
    with pytest.raises(
        UsageError, match=r"settings\.scaling\.moves: it must be one of 'none', 'equalise', 'smooth', 'fold'"
    ):
        attar.compress(path, **sets, settings={"scaling": {"moves": "both"}}, max_drop=1)
    monkeypatch.setitem(registry.REGISTRY["adapter"], "numpy", "fakes:NumpyNet")
    net, data = trained()
    with pytest.raises(ModelError, match="scales are moved in ONNX, PyTorch, Keras and Hugging Face models"):
        attar.compress(net, data, settings={"scaling": {"moves": "smooth"}}, max_drop=2)


def test_a_wrong_move_is_noticed(sets, monkeypatch) -> None:
    def broken(adapter, *_):
        moved, report = move(adapter, {}, EQUALISE)
        weight = moved.read("fc1.weight")
        weight.matrix[:] *= 2
        moved.write("fc1.weight", weight)
        return moved, report

    monkeypatch.setattr(scale_moves, "move", broken)
    with pytest.raises(AttarError, match="outputs must stay as they are"):
        attar.compress(
            ROOT / "examples/models/lenet300.onnx", **sets, settings={"scaling": {"moves": "equalise"}}, max_drop=1
        )


def test_the_command_line_adds_to_the_recipe(tmp_path) -> None:
    path, data = str(ROOT / "examples/models/lenet300.onnx"), str(ROOT / "examples/fashion-mnist")
    recipe = tmp_path / "own.toml"
    recipe.write_text("max_drop = 1\n[settings.scaling]\nalpha = 0.3\n[settings.uniform]\nsweeps = 1\n")
    words = ["compress", path, "--data", data, "--recipe", str(recipe), "--dry-run", "--json"]
    done = CliRunner().invoke(cli.app, [*words, "--scale-moves", "smooth", "--epochs", "3"])
    settings = json.loads(done.stdout)[0]["recipe"]["settings"]
    assert settings == {
        "scaling": {"alpha": 0.3, "moves": "smooth"}, "uniform": {"sweeps": 1}, "recovery": {"epochs": 3},
    }  # fmt: skip
    assert CliRunner().invoke(cli.app, [*words, "--scale-moves", "both"]).exit_code == 2
