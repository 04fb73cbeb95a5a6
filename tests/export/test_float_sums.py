"""Sums of a residual stream in float between integers: rounding does not pile up, and products give floats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from static_int8 import opened

from adapters.onnx_models import model, node, random
from attar.exports.base import Task
from attar.exports.int8_search import runs_first
from attar.exports.onnx import int8 as onnx_int8
from attar.exports.onnx.runtime import Runtime
from attar.exports.sums import sums_of
from attar.exports.timing import Latency
from attar.types import Dataset

BLOCKS = 6
CHANNELS, WIDE = 16, 32


def residual(clipped: bool = False, wide: int = 1) -> onnx.ModelProto:
    """Blocks that are added to what they read: 1x1, 3x3 by channel, 1x1; wide: the last one's kernel."""
    nodes, weights, x = [node("Conv", "x w", "a0")], {"w": random(CHANNELS, 3, 1, 1)}, "a0"
    for k in range(BLOCKS):
        weights |= {f"e{k}": random(WIDE, CHANNELS, 1, 1) / 3, f"d{k}": random(WIDE, 1, 3, 3) / 3,
                    f"p{k}": random(CHANNELS, WIDE, wide, wide) / 4, f"b{k}": random(CHANNELS)}  # fmt: skip
        nodes += [
            node("Conv", f"{x} e{k}", f"s{k}"), node("Relu", f"s{k}", f"t{k}"),
            node("Conv", f"t{k} d{k}", f"u{k}", pads=[1] * 4, group=WIDE), node("Relu", f"u{k}", f"v{k}"),
            node("Conv", f"v{k} p{k} b{k}", f"q{k}", pads=[wide // 2] * 4),
            *([node("Relu", f"q{k}", f"r{k}")] if clipped else []),
            node("Add", f"{x} {'r' if clipped else 'q'}{k}", f"y{k}"),
        ]  # fmt: skip
        x = f"y{k}"
    return model([*nodes, node("Conv", f"{x} m", "y")], {**weights, "m": random(CHANNELS, CHANNELS, 1, 1)}, [3, 8, 8])


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset({"x": np.random.default_rng(0).normal(size=(200, 3, 8, 8)).astype(np.float32)})


def kinds(made: bytes) -> list[str]:
    return [one.op_type for one in onnx.load_from_string(made).graph.node]


def test_outputs_are_nearer_and_the_runtime_turns_nothing_around(data, tmp_path):
    adapter, work, judge = opened(residual(), data)
    plain = work.build()
    assert sums_of(work.model) == [f"y{k}" for k in range(BLOCKS)]
    work.sums = True
    made = work.build()
    assert kinds(made).count("MatMulIntegerToFloat") == BLOCKS + 1 and "MatMulIntegerToFloat" not in kinds(plain)
    assert judge(made) < 0.9 * judge(plain)
    assert len(made) < 1.2 * len(plain)
    assert np.array_equal(Runtime(made).run(next(data.batches(7)))[:3], Runtime(made).run(next(data.batches(3))))
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    ort.InferenceSession(made, options)
    fused = kinds((tmp_path / "fused.onnx").read_bytes())
    assert fused.count("Transpose") <= 2 and fused.count("QLinearConv") == 2 * BLOCKS + 1
    assert adapter.model().SerializeToString() == residual().SerializeToString()


@pytest.mark.parametrize(("clipped", "wide"), [(True, 1), (False, 3)])
def test_an_activation_or_a_wider_kernel_stays_a_rounded_term(data, clipped, wide):
    """What a convolution makes before a Relu that went into its rounding is not what is added."""
    _, work, judge = opened(residual(clipped, wide), data)
    plain = judge(work.build())
    work.sums = True
    made = work.build()
    assert kinds(made).count("MatMulIntegerToFloat") == 1 and judge(made) < 1.2 * plain


def test_float_nodes_read_sums_as_they_are(data):
    _, work, _ = opened(residual(), data)
    work.sums = True
    nodes = [one.name for one in work.model.graph.node if one.output[0] == "s3"]
    made = onnx.load_from_string(work.build(nodes))
    assert next(one for one in made.graph.node if one.name == nodes[0]).input[0] == "y2"
    work.sums = False
    made = onnx.load_from_string(work.build(nodes))
    assert next(one for one in made.graph.node if one.name == nodes[0]).input[0] != "y2"


def alike(calls):
    return {name: Latency(1.0, 1.0, 1.0, 1.0, 9) for name in calls}


@pytest.mark.parametrize("share", [1.01, 0.5, 0.0])
def test_sums_and_then_runs_go_to_float_where_little_is_missing(data, monkeypatch, share):
    adapter, work, judge = opened(residual(), data)
    monkeypatch.setattr(onnx_int8, "latencies", alike)
    work.sums = True
    many = judge(work.build(work.operators[:-4]))
    limit, tested = many + share * (judge(work.build()) - many), list[float]()
    limit = limit if share else 0.0
    work.sums = False

    def acceptable(made: bytes) -> bool:
        tested.append(judge(made))
        return tested[-1] <= limit

    example = {"x": data.inputs["x"][:1]}
    found, left = onnx_int8.nearby(work, judge, Task(adapter, data, False, acceptable, example), [], 6)
    assert len(tested) <= 6 - left and work.sums == (found is not None) == (share > 0.1)
    if share > 1:
        assert found == [] and len(tested) == 1
    elif found is not None:
        assert found and judge(work.build(found)) <= limit and len(found) < len(work.operators)


def test_the_search_hands_on_what_was_near(data, monkeypatch):
    adapter, work, judge = opened(residual(), data)
    monkeypatch.setattr(onnx_int8, "nearby", lambda work, judge, task, first, left: ([*first, "Conv_4"], left))
    task = Task(adapter, data, False, lambda made: False, {"x": data.inputs["x"][:1]})
    found = onnx_int8.landed(work, judge, task)
    assert found.harmful == [*found.bold, "Conv_4"]


def test_sums_that_bring_nothing_or_take_long_stay_in_integers(data, monkeypatch):
    adapter, work, judge = opened(residual(), data)
    task = Task(adapter, data, False, lambda made: True, {"x": data.inputs["x"][:1]})
    monkeypatch.setattr(onnx_int8, "latencies", lambda calls: {name: Latency(1.0, 1.2, 1.15, 1.3, 9) for name in calls})
    assert not onnx_int8.float_sums(work, judge, task, []) and not work.sums
    monkeypatch.setattr(onnx_int8, "latencies", alike)
    assert onnx_int8.float_sums(work, judge, task, []) and work.sums
    monkeypatch.setattr(onnx_int8, "NEARER", 0.99)
    assert not onnx_int8.float_sums(work, judge, task, []) and not work.sums
    task = replace(task, like={"float_sums": True})
    assert onnx_int8.float_sums(work, judge, task, [])


def test_runs_are_ordered_by_what_they_gain_for_their_work():
    class Noisy:
        def build(self, floats=()):
            return 1.0 - 0.01 * sum(floats)

    work = dict.fromkeys(range(10), 1.0) | {9: 100.0}
    order = runs_first(Noisy(), range(10), lambda built: built, work, [0], [2])
    assert order == [[3, 4, 5, 6], [1, 2], [7, 8, 9]]
