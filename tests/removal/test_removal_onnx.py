"""Removal of channels from ONNX models: the laws, and what is coupled how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from adapters.test_onnx_real import REAL
from assets import asset
from attar.adapters.onnx.adapter import OnnxAdapter
from kits import structure_laws as laws
from removal.onnx_nets import NETS

MODELS = Path(__file__).parents[2] / "examples" / "models"
EXAMPLES = {"lenet300": 2, "lenet5": 3, "dwcnn": 5, "resnet20": 12}
SCALABLE = {
    "residual": 1, "concat": 3, "depthwise": 2, "depthwise_multiplier": 2, "grouped": 2, "channels_last": 1,
    "squeezed": 2, "split": 1, "attention": 1, "embedding": 2, "shared": 1, "kept": 2, "lenet300": 2, "lenet5": 3,
    "dwcnn": 9, "resnet20": 12,
}  # fmt: skip
"""Groups that can be scaled: others than those that can go, since a depthwise kernel has factors on either side."""


def run_plain(path: Path, model: onnx.ModelProto, batch) -> np.ndarray:
    """The file by onnxruntime; its sizes must agree by ONNX's own inference as well."""
    onnx.shape_inference.infer_shapes(model, strict_mode=True)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: next(iter(batch.values()))})[0]


def case(name: str) -> laws.Case:
    rng = np.random.default_rng(0)
    if name in EXAMPLES:
        batch = {"image": rng.random((4, 1, 28, 28), np.float32)}
        return laws.Case(
            OnnxAdapter,
            lambda: MODELS / f"{name}.onnx",
            [batch],
            run_plain,
            least=EXAMPLES[name],
            scalable=SCALABLE[name],
        )
    make, shape, count = NETS[name]
    values = rng.integers(0, 20, (4, *shape)) if name == "embedding" else rng.normal(size=(4, *shape))
    batch = {"x": values.astype(np.int64 if name == "embedding" else np.float32)}
    silent = name not in ("squeezed", "attention")
    return laws.Case(OnnxAdapter, make, [batch], run_plain, silent=silent, least=count, scalable=SCALABLE[name])


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", [*NETS, *EXAMPLES])
def test_laws(name, law):
    law(case(name))


def members(name: str) -> dict[str, list[tuple[str, int, tuple[int, ...], str]]]:
    groups = OnnxAdapter.open(NETS[name][0]()).structure().groups
    return {g.name: [(m.tensor, m.axis, m.index.shape, m.side) for m in g.members] for g in groups}


def test_a_sum_is_one_group():
    (group,) = members("residual").values()
    assert [m[0] for m in group if m[3] == "out"] == ["w1", "w2"]
    assert [m[0] for m in group if m[3] == "in"] == ["w2", "w3"]
    assert {m[0] for m in group if m[3] == "with"} == {"b1", "gamma", "beta", "mean", "var"}


def test_a_concat_has_offsets():
    groups = {g.name: g for g in OnnxAdapter.open(NETS["concat"][0]()).structure().groups}
    assert [groups[n].channels for n in ("w1", "w2", "w4")] == [4, 6, 6]
    own = {m.tensor: m.index.ravel().tolist() for m in groups["w2"].members}
    assert own["w3"] == own["w4"] == [4, 5, 6, 7, 8, 9]
    flat = next(m for m in groups["w4"].members if m.tensor == "w5")
    np.testing.assert_array_equal(flat.index, np.arange(96).reshape(6, 16))


def test_groups_of_a_convolution_lose_alike():
    groups = {g.name: g for g in OnnxAdapter.open(NETS["grouped"][0]()).structure().groups}
    assert groups["w1"].channels == 4
    np.testing.assert_array_equal(groups["w1"].members[0].index, np.arange(8).reshape(2, 4).T)
    assert groups["w2"].channels == 6


def test_heads_go_as_a_whole():
    group = members("attention")["wq"]
    assert {m[0]: m[2] for m in group} == dict.fromkeys(("wq", "bq", "wk", "bk", "wv", "bv", "wo"), (4, 6))


def test_what_must_stay_says_why():
    fixed = OnnxAdapter.open(NETS["kept"][0]()).structure().fixed
    assert "LayerNormalization" in fixed["w1"]
    assert "Softmax" in fixed["w2"]
    assert "CumSum" in fixed["w3"]
    assert "Gather" in fixed["w4"]
    assert fixed["w6"] == "an output of the model"
    assert "w5" not in fixed


def test_sizes_that_nothing_reads_any_more_go():
    adapter = case("depthwise").open()
    smaller = adapter.shrunk(laws.some(adapter.structure().groups)).model()
    used = {name for node in smaller.graph.node for name in node.input}
    assert {tensor.name for tensor in smaller.graph.initializer} <= used


def test_multiply_adds_are_counted_by_positions():
    products = OnnxAdapter.open(MODELS / "resnet20.onnx").structure().products
    assert products["conv.weight"].positions == 784
    assert products["fc.weight"].macs == 640
    assert OnnxAdapter.open(NETS["shared"][0]()).structure().products["w2"].positions == 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("ocr_rec", 3000), ("ocr_cls", 1000), ("pitch", 50), ("vad", 0)])
def test_real_models(name, least):
    """Unread channels of models that others made can go: hard swish gates, transformer blocks, NHWC conversions."""
    path, batch, _, _ = REAL[name]
    adapter = OnnxAdapter.open(asset(path))
    groups = adapter.structure().groups
    assert sum(group.channels for group in groups) >= least
    keep = laws.some(groups)
    laws.unread(adapter, keep)
    expected = adapter.run(batch)
    laws.close([adapter.shrunk(keep).run(batch)], [expected], 1e-4, name)
