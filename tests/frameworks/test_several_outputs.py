"""Models that hand out more than one thing: which of them counts, and what becomes of the others."""

import numpy as np
import pytest

import attar
from attar.errors import UsageError
from attar.opening import led, open_model

torch = pytest.importorskip("torch")


class TwoHeads(torch.nn.Module):
    """Says what kind something is, and how old."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(12, 32), torch.nn.ReLU())
        self.kind, self.age = torch.nn.Linear(32, 5), torch.nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.body(x)
        return {"kind": self.kind(hidden), "age": self.age(hidden)}


@pytest.fixture(scope="module")
def two_heads() -> tuple[TwoHeads, np.ndarray]:
    torch.manual_seed(0)
    return TwoHeads().eval(), np.random.default_rng(0).normal(size=(400, 12)).astype(np.float32)


def moved(model: torch.nn.Module, other: torch.nn.Module, x: np.ndarray) -> dict[str, float]:
    """How far each output is from what it was, relative to its size."""
    with torch.no_grad():
        before, after = (one(torch.tensor(x)) for one in (model, other))
    return {name: float((after[name] - before[name]).norm() / before[name].norm()) for name in before}


def test_what_the_first_output_does_not_show_is_not_given_away(two_heads) -> None:
    model, x = two_heads
    result = attar.compress(model, x, metric="agreement", max_drop=5, guarantee="estimate", preset="quick")
    assert result.ratio > 2
    assert all(0 < far < 0.3 for far in moved(model, result.model, x).values())


def test_another_output_may_be_the_one_that_counts(two_heads, tmp_path) -> None:
    model, x = two_heads
    with torch.no_grad():
        labels = model(torch.tensor(x))["age"].argmax(1).numpy()
    fields = {"max_drop": 20, "guarantee": "estimate", "preset": "quick"}
    first = attar.compress(model, x, metric="agreement", **fields)
    assert "the metric looks at 'kind' alone" in first.events[0]["warnings"][0]
    data = {"train": (x[:200], labels[:200]), "test": (x[200:], labels[200:])}
    result = attar.compress(model, data, output_name="age", out=tmp_path, **fields)
    assert result.certificate.before == 100 and result.before.outputs.shape[1] == 3
    assert not any("output" in text for text in result.events[0]["warnings"])
    value = attar.evaluate(tmp_path / "TwoHeads.attar", data["test"], output_name="age").value
    assert value == pytest.approx(result.certificate.after) and 50 < value < 100
    assert set(attar.load(tmp_path / "TwoHeads.attar")(torch.tensor(x))) == {"kind", "age"}
    with pytest.raises(UsageError, match="Received one that gives 'kind', 'age'"):
        attar.compress(model, x, output_name="kin", metric="agreement", **fields)


def test_every_framework_lets_another_output_lead(two_heads, tmp_path) -> None:
    model, x = two_heads
    with torch.no_grad():
        age = model(torch.tensor(x))["age"].numpy()
    opened = {"torch": open_model(model)}
    torch.onnx.export(model, (torch.tensor(x[:2]),), str(tmp_path / "m.onnx"), input_names=["x"],
                      output_names=["kind", "age"], dynamic_axes={"x": {0: "n"}}, dynamo=False)  # fmt: skip
    opened["onnx"] = open_model(tmp_path / "m.onnx")
    for name, adapter in opened.items():
        led(adapter, "age")
        np.testing.assert_allclose(adapter.run({"x": x}), age, rtol=1e-4, atol=1e-5, err_msg=name)
        assert [spec.name for spec in adapter.outputs()] == ["age", "kind"]
        copy = adapter.copied()
        np.testing.assert_allclose(copy.run({"x": x}), age, rtol=1e-4, atol=1e-5, err_msg=name)
        gradients = adapter.pullback({"x": x}, np.ones_like)
        assert all(not weight.matrix.any() for layer, weight in gradients.layers.items() if "kind" in layer)


def test_a_tensor_by_its_place_and_a_transformer_by_its_metric() -> None:
    class Pair(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
            return super().forward(x), (x, -x)

    x = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(led(open_model(Pair(4, 5)), "1").run({"x": x}), x)
    with pytest.raises(UsageError, match="Received one that gives 'output'"):
        led(open_model(torch.nn.Linear(4, 5)), "logits").run({"x": x})
