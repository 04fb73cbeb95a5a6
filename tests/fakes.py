"""A two-layer network in numpy behind the adapter protocol: the whole path without any framework."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from attar.adapters.base import Gradients
from attar.adapters.moments import MomentSum
from attar.types import Array, Capture, Dataset, Layer, Stats, TensorSpec, Weight


class NumpyNet:
    """x -> relu(W1 x + b1) -> W2 h + b2."""

    framework: ClassVar[str] = "numpy"
    suffixes: ClassVar[tuple[str, ...]] = (".npz",)

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.weights = {name: np.array(value, np.float32) for name, value in weights.items()}

    @classmethod
    def accepts(cls, model: object) -> bool:
        return isinstance(model, NumpyNet)

    @classmethod
    def open(cls, model: Any) -> Self:
        return cls(model.weights)

    def inputs(self) -> Sequence[TensorSpec]:
        return [TensorSpec("x", "float32", (None, self.weights["w1"].shape[1]))]

    def outputs(self) -> Sequence[TensorSpec]:
        return [TensorSpec("y", "float32", (None, self.weights["w2"].shape[0]))]

    def layers(self) -> Sequence[Layer]:
        return [Layer(n, "dense", *self.weights[n].shape, self.weights[n].shape, has_bias=True) for n in ("w1", "w2")]

    def skipped(self) -> Mapping[str, str]:
        return {}

    def read(self, name: str) -> Weight:
        return Weight(self.weights[name].copy(), self.weights["b" + name[1]].copy())

    def write(self, name: str, weight: Weight) -> None:
        self.weights[name] = weight.matrix.astype(np.float32)
        if weight.bias is not None:
            self.weights["b" + name[1]] = weight.bias.astype(np.float32)

    def _forward(self, batch: Mapping[str, Array], perturb: Mapping[str, Array]) -> tuple[Array, Array, Array]:
        x = next(iter(batch.values()))
        hidden = np.maximum(x @ self.weights["w1"].T + self.weights["b1"] + perturb.get("w1", 0), 0)
        return x, hidden, hidden @ self.weights["w2"].T + self.weights["b2"] + perturb.get("w2", 0)

    def capture(self, batches: Iterable[Any], only: Sequence[str] | None = None) -> Iterator[Capture]:
        for batch in batches:
            x, hidden, _ = self._forward(batch, {})
            for name, seen in (("w1", x), ("w2", hidden)):
                if only is None or name in only:
                    yield Capture(name, seen.T[None], self.weights[name] @ seen.T)

    def moments(self, batches: Iterable[Any], only: Sequence[str] | None = None) -> Mapping[str, Stats]:
        sums = {layer.name: MomentSum(1, layer.cols) for layer in self.layers()}
        for one in self.capture(batches, only):
            assert one.x is not None
            sums[one.name].add(one.x, one.x.shape[2])
        return {name: stats for name, total in sums.items() if (stats := total.stats()) is not None}

    def run(self, batch: Mapping[str, Array], perturb: Mapping[str, Array] | None = None) -> Array:
        return np.asarray(self._forward(batch, perturb or {})[2], np.float32)

    def pullback(self, batch: Mapping[str, Array], cotangent: Callable[[Array], Array]) -> Gradients:
        x, hidden, y = self._forward(batch, {})
        seed = cotangent(np.asarray(y, np.float32))
        inner = (seed @ self.weights["w2"]) * (hidden > 0)
        outer = np.asarray(seed.T @ hidden, np.float32)
        return Gradients({"w1": Weight(inner.T @ x, inner.sum(0)), "w2": Weight(outer, seed.sum(0))})

    def can_perturb(self, name: str) -> bool:
        return name in ("w1", "w2")

    def remainder(self) -> Mapping[str, Array]:
        return {}

    def restore(self, remainder: Mapping[str, Array]) -> None:
        assert not remainder

    def skeleton(self) -> bytes:
        return json.dumps([self.weights["w1"].shape, self.weights["w2"].shape]).encode()

    @classmethod
    def rebuild(cls, skeleton: bytes, remainder: Mapping[str, Array]) -> Self:
        (hidden, inputs), (outputs, _) = json.loads(skeleton)
        shapes = {"w1": (hidden, inputs), "b1": (hidden,), "w2": (outputs, hidden), "b2": (outputs,)}
        return cls({name: np.zeros(shape) for name, shape in shapes.items()})

    def model(self) -> Any:
        return self

    def save(self, path: Path) -> None:
        np.savez(path, **self.weights)


def trained(seed: int = 0, classes: int = 4, inputs: int = 24) -> tuple[NumpyNet, Dataset]:
    """A random-feature classifier fitted in closed form to Gaussian clusters, and 3,000 labelled examples."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 0.55, (classes, inputs))
    labels = rng.integers(0, classes, 3000)
    mix = rng.normal(0, 1, (inputs, inputs)) / np.sqrt(inputs)
    x = (centres[labels] + rng.normal(0, 1, (3000, inputs)) @ mix).astype(np.float32)
    w1 = rng.normal(0, 1 / np.sqrt(inputs), (64, inputs))
    hidden = np.maximum(x @ w1.T, 0)
    target = 4 * np.eye(classes)[labels] - 1
    design = np.hstack([hidden, np.ones((3000, 1))])
    solved = np.linalg.solve(design.T @ design + np.eye(65), design.T @ target)
    net = NumpyNet({"w1": w1, "b1": np.zeros(64), "w2": solved[:-1].T, "b2": solved[-1]})
    return net, Dataset({"x": x}, labels, class_names=tuple("abcdefgh"[:classes]))
