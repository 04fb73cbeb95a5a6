"""Block-wise recovery: what stands beside a rounded block's codes learns to undo what rounding did to its outputs.

The rounded block sees what the rounded blocks before it put out, and is to put out what the original block makes of
the original's states, so that it makes up for errors before it too (block reconstruction: BRECQ, Li et al. 2021,
section 3.2). Codes stay; trained are the scales of norms (norm tweaking, Li et al. 2023) and loose biases, biases of
layers, and one factor beside a layer's steps, none of which makes a file larger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from attar import registry
from attar.coding import known_dtype
from attar.methods.base import Rescalable, Tunable
from attar.recover.adam import Adam
from attar.recover.base import F32
from attar.recover.latents import decoded
from attar.recover.tune import OTHERS
from attar.run.states import States
from attar.streaming.base import TOKENS, Ids, Inputs, Part, chunks
from attar.types import Array, Encoded, Weight

BATCH = 512
"""Tokens of a step, one window at least."""
HELD = 8
"""Of so many windows one is not trained on; it tells whether training has helped."""
RATE = 0.05
"""First step of Adam, in units: a share of a tensor's size, a step of a bias, a tenth of a factor's logarithm."""
FACTOR = np.float32(0.1)
Read = Callable[[str], Encoded]
"""A layer of the block as the file has it."""


@dataclass(frozen=True)
class Windows:
    """The block's inputs and what it is to put out, both states by name, and ids [n, t]."""

    states: States
    ids: Ids
    given: str
    wanted: str

    def take(self, rows: Sequence[int]) -> tuple[Inputs, Array]:
        """Inputs and targets [n, t, d] of some windows."""
        given, wanted = (
            np.concatenate([self.states.rows(name, row, row + 1) for row in rows]) for name in (self.given, self.wanted)
        )
        return (given, self.ids[list(rows)]), wanted


@dataclass(frozen=True)
class Gain:
    """The loss (see `apart`) on windows that are not trained on, before and after; kept: whether training stays."""

    before: float
    after: float
    kept: bool


@dataclass
class Loose:
    """What is moved beside a layer's codes: a factor, and its bias in units [rows] (None: it has none, or stays)."""

    weight: Weight
    factor: F32 | None = None
    bias: F32 | None = None
    unit: F32 | float = 1.0

    def now(self) -> Weight:
        """The layer as the file would have it; a bias is in whole steps, which the factor scales too."""
        factor = self.scale
        bias = self.weight.bias
        if self.bias is not None:
            bias = np.asarray(np.rint(self.bias / factor) * self.unit * factor, np.float32)
        return Weight(self.weight.matrix * factor, bias)

    @property
    def scale(self) -> np.float32:
        """The factor."""
        return np.float32(1) if self.factor is None else np.exp(self.factor[0] * FACTOR)

    def retold(self, encoded: Encoded) -> Encoded:
        """The layer with the factor and the bias."""
        method: Any = registry.get("method", encoded.method)
        if self.factor is not None:
            encoded = method.rescaled(encoded, float(self.scale))
        if self.bias is not None:
            encoded = method.retold(encoded, encoded.arrays[method.CODES].astype(np.float32), self.bias / self.scale)
        return encoded


@dataclass
class Training:
    """A block in training: `rest` and `layers` are what it begins with, `moved` what the optimiser moves."""

    part: Part
    rest: Mapping[str, Array]
    layers: dict[str, Loose]
    moved: dict[str, F32] = field(default_factory=dict)
    units: dict[str, np.float32] = field(default_factory=dict)

    @classmethod
    def of(cls, part: Part, names: Sequence[str], read: Read) -> Training:
        """What of the block can be moved."""
        rest = part.remainder()
        layers = {name: one for name in names if (one := loose(read(name))) is not None}
        return cls(part, rest, layers)

    def run(self, windows: Windows, rows: Sequence[int], steps: int, rng: np.random.Generator) -> None:
        """Train on some of the windows, each as often as the others."""
        optimiser, order = Adam(steps), drawn(rows, max(1, BATCH // max(windows.ids.shape[1], 1)), rng)
        for _ in range(steps):
            inputs, wanted = windows.take(next(order))
            found = self.part.pullback(inputs, partial(pull, wanted=wanted))
            values, gradients = self._of_layers(found.layers)
            for name, gradient in found.others.items():
                if name not in self.moved:
                    self.units[name] = _unit(self.rest[name])
                    self.moved[name] = np.asarray(self.rest[name].astype(np.float32) / self.units[name])
                values[f"rest/{name}"] = self.moved[name]
                gradients[f"rest/{name}"] = np.asarray(gradient * self.units[name], np.float32)
            optimiser.step(values, gradients, RATE)
            self.put()

    def _of_layers(self, found: Mapping[str, Weight]) -> tuple[dict[str, F32], dict[str, F32]]:
        """Values that are moved beside the layers' codes and their gradients, in units."""
        values: dict[str, F32] = {}
        gradients: dict[str, F32] = {}
        for name, one in self.layers.items():
            got = found.get(name)
            if got is not None and one.factor is not None:
                total = np.vdot(got.matrix, one.weight.matrix) * one.scale * FACTOR
                values[f"{name}/factor"], gradients[f"{name}/factor"] = one.factor, np.full(1, total, np.float32)
            if got is not None and got.bias is not None and one.bias is not None:
                values[f"{name}/bias"] = one.bias
                gradients[f"{name}/bias"] = np.asarray(got.bias * one.unit, np.float32)
        return values, gradients

    def put(self) -> None:
        """Write what the file would hold into the block."""
        for name, one in self.layers.items():
            self.part.write(name, one.now())
        if self.rest:
            self.part.restore(self.remainder())

    def remainder(self) -> dict[str, Array]:
        """The block's other tensors in their own dtype."""
        return {**self.rest, **{n: like(self.rest[n], v * self.units[n]) for n, v in self.moved.items()}}


def recovered(
    part: Part, names: Sequence[str], read: Read, windows: Windows, steps: int, rng: np.random.Generator
) -> tuple[Gain, dict[str, Encoded], dict[str, Array]]:
    """Train a block that holds its rounded layers; it ends as the file will have it.

    Gives what it brought, the layers that are stored otherwise, and the other tensors: no layers, and the tensors as
    they were, where the loss has not fallen.
    """
    held = np.arange(len(windows.ids) - 1, -1, -HELD)[::-1] if len(windows.ids) > 1 else np.arange(1)
    rows = [row for row in range(len(windows.ids)) if row not in held] or [0]
    training = Training.of(part, names, read)
    before = apart(part, windows, held)
    training.run(windows, rows, steps, rng)
    told = {name: one.retold(read(name)) for name, one in training.layers.items()}
    for name, encoded in told.items():
        part.write(name, decoded(encoded))
    after = apart(part, windows, held)
    if after < before:
        return Gain(before, after, True), told, training.remainder()
    for name, one in training.layers.items():
        part.write(name, one.weight)
    part.restore(training.rest)
    return Gain(before, after, False), {}, dict(training.rest)


def loose(encoded: Encoded) -> Loose | None:
    """What can be moved beside the codes of a layer: nothing where its method has none."""
    method: Any = registry.get("method", encoded.method)
    if not (isinstance(method, Tunable) and hasattr(method, "CODES")):
        return None
    weight = decoded(encoded)
    made = Loose(weight, np.zeros(1, np.float32) if isinstance(method, Rescalable) else None)
    if weight.bias is not None:
        made.unit = method.units(encoded)[1]
        made.bias = np.asarray(weight.bias / made.unit, np.float32)
    return made if made.factor is not None or made.bias is not None else None


def drawn(rows: Sequence[int], size: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Batches without an end, each round in an order of its own."""
    waiting: list[int] = []
    while True:
        while len(waiting) < size:
            waiting += [int(row) for row in rng.permutation(np.asarray(rows))]
        yield waiting[:size]
        waiting = waiting[size:]


def like(before: Array, value: Array) -> Array:
    """Values in the dtype of a tensor and no finer than its own: those of bfloat16 in float32 take half the bytes."""
    if before.dtype == np.float32 and not np.any(before.view(np.uint32) & 0xFFFF):
        value = value.astype(known_dtype("bfloat16"))
    return np.asarray(value.astype(before.dtype))


def pull(made: Array, wanted: Array) -> Array:
    """Gradient of the loss: for each token its squared error over its target's square, the mean of all.

    A few tokens have states a thousand times larger than those of all others, and would drown them.
    """
    return np.asarray(2 * (made - wanted) / (_squares(wanted)[..., None] * wanted[..., 0].size), np.float32)


def apart(part: Part, windows: Windows, rows: Array) -> float:
    """The loss on some of the windows."""
    total, count = 0.0, 0
    for start, stop in chunks(windows.ids[rows], TOKENS):
        inputs, wanted = windows.take([int(row) for row in rows[start:stop]])
        error = np.square(part.run(*inputs) - wanted, dtype=np.float64).sum(-1)
        total, count = total + float((error / _squares(wanted)).sum()), count + error.size
    return total / count


def _squares(wanted: Array) -> Array:
    return np.asarray(np.maximum(np.square(wanted, dtype=np.float64).sum(-1), 1e-30))


def _unit(value: Array) -> np.float32:
    """A share of a tensor's size."""
    size = float(np.sqrt(np.square(value.astype(np.float64)).mean())) if value.size else 0.0
    return np.float32(OTHERS * (size or 1))
