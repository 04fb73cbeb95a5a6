"""Training a compressed model: the model computes with what the file would hold, the optimiser moves what lies behind.

Straight-through estimation (Bengio, Léonard and Courville 2013; for weights: Courbariaux, Bengio and David 2015):
gradients at the rounded weights move unrounded ones, in units of the steps that the file holds. One vector-Jacobian
product of an adapter is all that is asked of a framework; losses, penalties and the optimiser are numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from attar.adapters.base import Adapter, Differentiable
from attar.recover.adam import Adam
from attar.recover.base import F32, Form, Latent
from attar.recover.losses import Loss, loss_for
from attar.recover.pruning import interval, penalties_of
from attar.recover.settings import RecoverySettings
from attar.recover.steps import learned
from attar.recover.teacher import CHUNK, Teacher
from attar.run.progress import Progress
from attar.types import Array, Weight

LOOK = 100
"""Steps between two looks of the penalties at the codes."""
OTHERS = 1 / 16
"""Unit of other tensors (scales of norms, loose biases), relative to their root mean square."""


class Course:
    """One training of one candidate, from its plan to its end."""

    def __init__(
        self,
        teacher: Teacher,
        forms: Sequence[Form],
        settings: RecoverySettings,
        *,
        slope: float,
        classification: bool,
        rng: np.random.Generator,
        fixed: Mapping[str, Weight] | None = None,
        adapter: Adapter | None = None,
    ) -> None:
        """adapter computes, where it is not the teacher's own; fixed layers are as the file holds them, untrained."""
        self.teacher, self.forms, self.settings = teacher, forms, settings
        self.latents = [latent for form in forms for latent in form.latents.values()]
        self.slope, self.classification, self.rng = slope, classification, rng
        self.adapter: Adapter = adapter or teacher.adapter
        self.fixed = fixed or {}
        self.length = settings.epochs * _batches(len(teacher.data), settings.batch)
        self.look = interval(settings, self.length, LOOK)
        self.penalties = penalties_of(forms, settings, -(-self.length // self.look))
        self.steps = learned(self.latents) if (settings.steps, settings.train) == ("learned", "all") else {}
        self.seen: dict[str, dict[str, Weight]] = {}
        rest = teacher.rest if adapter is None else adapter.remainder()
        self.rest = {name: np.array(value) for name, value in rest.items()}
        self.units = {name: _unit(value) for name, value in self.rest.items() if value.dtype.kind == "f"}
        self.moved: dict[str, F32] = {}
        self.loss: Loss | None = None
        self.done = 0

    def run(self, progress: Progress) -> dict[str, Array]:
        """Train the forms in place; the adapter ends with the trained model. Returns the remainder.

        Raises ModelError where the model has an operation without a gradient.
        """
        size = self.settings.batch
        optimiser = Adam(self.length)
        progress.stage("training", self.settings.epochs)
        for _ in range(self.settings.epochs):
            for chunk, said in self.teacher.epoch(self.rng):
                # Whatever the working copy held before: a candidate, or the teacher.
                for name, weight in self.fixed.items():
                    self.adapter.write(name, weight)
                if self.rest:
                    self.adapter.restore(self._remainder())
                for start in range(0, len(chunk), size):
                    rows = range(start, min(start + size, len(chunk)))
                    batch = chunk.take(rows)
                    values, gradients = self._gradients(batch.arrays(), batch.labels, said[rows.start : rows.stop])
                    optimiser.step(values, gradients, self.settings.rate)
                    for step in self.steps.values():
                        step.settle()
            progress.step()
        for latent in self.latents:
            self.penalties[latent.layer.name].finish(latent)
        self._put(noisy=False)
        return self._remainder()

    def _gradients(
        self, batch: Mapping[str, Array], labels: Array | None, said: Array
    ) -> tuple[dict[str, F32], dict[str, F32]]:
        """Values that are trained and their gradients, in units."""
        if self.loss is None:
            self.loss = loss_for(said, self.classification, self.settings)
        if self.done % self.look == 0:
            for latent in self.latents:
                self.penalties[latent.layer.name].refresh(latent)
        self.done += 1
        self._put(noisy=True)
        assert isinstance(self.adapter, Differentiable)
        loss = self.loss
        found = self.adapter.pullback(batch, lambda outputs: loss(outputs, said, labels))
        values: dict[str, F32] = {}
        gradients: dict[str, F32] = {}
        for form in self.forms:
            got = found.layers.get(form.layer.name)
            spread = {} if got is None else form.spread(self.seen[form.layer.name], got)
            for part, pull in spread.items():
                self._of_part(form.latents[part], pull, values, gradients)
        for name, gradient in found.others.items():
            if name in self.units:
                self.moved.setdefault(name, np.asarray(self.rest[name] / self.units[name], np.float32))
                values[f"rest/{name}"] = self.moved[name]
                gradients[f"rest/{name}"] = np.asarray(gradient * self.units[name], np.float32)
        return values, gradients

    def _of_part(self, latent: Latent, got: Weight, values: dict[str, F32], gradients: dict[str, F32]) -> None:
        """Adds a part's values and gradients."""
        name = latent.layer.name
        if self.settings.train == "all":
            loss = np.asarray(got.matrix * latent.unit, np.float32)
            pull = self.penalties[name].gradient(latent, loss, self.slope) if latent.snapped else 0.0
            if name in self.steps:
                step, bias = self.steps[name], None if got.bias is None else got.bias * latent.row_unit
                values[f"{name}/step"], gradients[f"{name}/step"] = step.place, step.gradient(loss, pull, bias)
            loss += pull
            values[name], gradients[name] = latent.values, loss
        if latent.bias is not None and got.bias is not None:
            values[f"{name}/bias"] = latent.bias
            gradients[f"{name}/bias"] = np.asarray(got.bias * latent.row_unit, np.float32)

    def _put(self, *, noisy: bool) -> None:
        """Write what the file would hold into the working copy."""
        for form in self.forms:
            parts = {name: self._seen(latent, noisy) for name, latent in form.latents.items()}
            self.seen[form.layer.name] = parts
            self.adapter.write(form.layer.name, form.weight(parts))
        if self.moved:
            self.adapter.restore(self._remainder())

    def _seen(self, latent: Latent, noisy: bool) -> Weight:
        """A part as the model computes with it."""
        weight = latent.weight()
        noise = self.penalties[latent.layer.name].noise(latent, self.rng) if noisy and latent.snapped else None
        return weight if noise is None else Weight(weight.matrix + noise * latent.unit, weight.bias)

    def _remainder(self) -> dict[str, Array]:
        """All other tensors, with those that were trained."""
        trained = {n: (v * self.units[n]).astype(self.rest[n].dtype) for n, v in self.moved.items()}
        return {**self.rest, **trained}


def _batches(n: int, size: int) -> int:
    """Batches of an epoch."""
    return sum(-(-min(CHUNK, n - start) // size) for start in range(0, n, CHUNK))


def _unit(value: Array) -> np.float32:
    """A share of a tensor's size."""
    return np.float32(OTHERS * (float(np.sqrt(np.square(value, dtype=np.float64).mean())) if value.size else 1) or 1)
