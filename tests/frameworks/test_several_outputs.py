"""Models that hand out more than one thing: which of them counts, and what becomes of the others."""

import numpy as np
import pytest

import attar

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
