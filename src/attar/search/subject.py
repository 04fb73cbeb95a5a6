"""The model under compression: its layers, weights and statistics, and how a slope becomes a file's bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from attar import opening, registry
from attar.adapters.base import Adapter
from attar.adapters.folded import held, with_sensitivity
from attar.archive import read_archive, to_bytes
from attar.coding import effort_of
from attar.methods.base import distortion
from attar.methods.keep import narrowed
from attar.plan.planner import Plan, at_slope, earned
from attar.recipe import LayerRule
from attar.run.engines import Engine, Threads
from attar.run.executor import map_in_order
from attar.run.kept import Kept
from attar.run.memory import at_once, give_back
from attar.run.progress import Progress, Silent
from attar.search import remember
from attar.search.offers import every, first, sized
from attar.search.params import Settings
from attar.search.sensitivity import relative_prior, rounded, row_deviation
from attar.types import Array, Encoded, Json, Layer, Point, Stats, Weight

POSITION_SHARE = 0.1
"""How much of the variance within an example counts beside the variance between examples; 0.03 to 0.3 do as well."""
CORRECTION = (0.02, 50.0)
"""Bounds of the correction of a layer's sensitivity by the KL that it causes when really quantised."""
UNSEEN = 1e-5
"""Nats of output KL that nobody will see."""
Measure = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One compressed model: its slope and plan, its file's bytes, and what each method earned there."""

    slope: float
    plan: Plan
    data: bytes
    earned: Mapping[str, tuple[int, float]]
    trained: bool = False

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return len(self.data)

    def bare(self) -> Candidate:
        """Without what the file was made of, which is many times as large."""
        choices = {name: replace(point, encoded=None) for name, point in self.plan.choices.items()}
        return replace(self, plan=Plan(choices, self.plan.slope))


@dataclass(frozen=True)
class Subject:
    """What stays the same for all candidates of a run; `adapter` is the working copy that they are written into."""

    adapter: Adapter
    layers: Sequence[Layer]
    weights: Mapping[str, Weight]
    stats: Mapping[str, Stats]
    remainder: Mapping[str, Array]
    skeleton: bytes | None
    meta: Mapping[str, Json]
    methods: Sequence[str] = ("uniform", "keep")
    settings: Mapping[str, Mapping[str, Any]] | None = None
    engine: Engine = field(default_factory=Threads, compare=False)
    coder: str = "auto"
    exclude: Sequence[str] = ()
    rules: Mapping[str, LayerRule] | None = None
    kept: Kept = field(default_factory=Kept, compare=False)

    @property
    def weight_count(self) -> int:
        """Weights in all layers together."""
        return sum(layer.size for layer in self.layers)

    def excluded(self, layer: Layer) -> bool:
        """Whether a layer is to keep its weights."""
        return any(fnmatchcase(layer.name, pattern) for pattern in self.exclude)

    def allowed(self, layer: Layer) -> tuple[Sequence[str], Settings]:
        """The methods that compete for a layer and their settings: excluded layers keep every bit."""
        if self.excluded(layer):
            return ("keep",), {"keep": {"half": False}}
        for pattern, rule in (self.rules or {}).items():
            if fnmatchcase(layer.name, pattern):
                return rule.methods or self.methods, {**(self.settings or {}), **rule.settings}
        return self.methods, self.settings or {}

    def points(self, layer: Layer, *slopes: float) -> list[Point]:
        """What every method offers for one layer at each slope; raises UsageError where all of them decline it."""
        return every(*self._task(layer, *slopes))

    def sample(self, layer: Layer, slope: float) -> tuple[Point, Weight]:
        """The first point that a method offers for a layer at a slope, and the weights that come back from it."""
        return first(*self._task(layer, slope))

    def _task(self, layer: Layer, *slopes: float) -> tuple[Any, ...]:
        """What `every` and `first` take."""
        found = held(self.stats, layer.name)
        return layer, self.weights[layer.name], found.told(None), found.stats.sensitivity, *self.allowed(layer), slopes

    def _sent(self, layer: Layer, slope: float) -> tuple[Any, ...]:
        """The same as a task: arrays of weights and moments are shared among all tasks of a run."""
        _, weight, moments, *rest = self._task(layer, slope)
        return layer, self.engine.share(weight), self.engine.share(moments, of=moments.stats.hessian), *rest

    def _curves(self, slope: float) -> Iterator[list[Point]]:
        """What every method offers for each layer, in order; what was kept is not computed again."""
        keys: list[str | None] = [None] * len(self.layers)
        if self.kept.folder is not None:
            keys = list(map_in_order(lambda layer: self._key(layer, slope), self.layers, self.engine.jobs))
        known = [None if key is None else remember.points(self.kept, key) for key in keys]
        missing = [layer for layer, points in zip(self.layers, known, strict=True) if points is None]
        made = self.engine.map(sized, [(self._effort, *self._sent(layer, slope)) for layer in missing])
        for key, points in zip(keys, known, strict=True):
            if points is None:
                points = next(made)
                remember.keep_points(self.kept, key, points)
            yield points

    @property
    def _effort(self) -> str:
        """How much time a file's decoding may take for the sake of size."""
        return effort_of(self.coder, self.weight_count)

    def _key(self, layer: Layer, slope: float) -> str:
        """The name under which offers are kept."""
        return remember.points_key(
            layer, self.weights[layer.name], held(self.stats, layer.name).stats, *self.allowed(layer), slope,
            self._effort,
        )  # fmt: skip

    @at_once()
    def build(self, slope: float, progress: Progress | None = None) -> Candidate:
        """Encode every layer at one slope and pack the file."""
        progress = progress or Silent()
        progress.stage(f"encoding at slope {slope:.3g}", len(self.layers))
        curves: dict[str, list[Point]] = {}
        for layer, points in zip(self.layers, self._curves(slope), strict=True):
            best = at_slope({layer.name: points}, slope).choices[layer.name]
            curves[layer.name] = [point if point is best else replace(point, encoded=None) for point in points]
            progress.step()
        plan = at_slope(curves, slope)
        return Candidate(slope, plan, self.pack(plan), earned(curves, slope))

    def encoded(self, plan: Plan, layer: Layer) -> Encoded:
        """What a plan stores of a layer."""
        point = plan.choices[layer.name]
        method = registry.get("method", point.choice["method"])
        made: Encoded = point.encoded or method.encode(
            layer, self.weights[layer.name], self.stats[layer.name], point.choice
        )
        return made

    def pack(self, plan: Plan) -> bytes:
        """The archive of a plan."""
        coded = [(layer, self.encoded(plan, layer)) for layer in self.layers]
        return to_bytes(
            layers=coded, remainder=self.remainder, skeleton=self.skeleton, meta=self.meta, coder=self.coder
        )

    @at_once()
    def put(self, candidate: Candidate) -> None:
        """Write a candidate, decoded from its file's bytes, into the working copy."""
        archive = read_archive(candidate.data)
        for layer in archive.layers:
            self.adapter.write(layer.name, opening.decode(archive, layer.name))
        self.adapter.restore(archive.remainder())

    def bare(self) -> Subject:
        """Without weights and second moments, when no more candidates are made of them."""
        none = np.zeros(0)
        known = {name: held(self.stats, name).stats for name in self.stats}
        stats = {name: replace(one, hessian=none, coupling=None) for name, one in known.items()}
        return replace(self, weights={}, stats=stats)

    def halved(self, measure: Measure) -> Subject:
        """The subject with other tensors as float16 where every value survives, if the outputs show nothing of it.

        measure() runs the working copy and returns its mean KL from the original. A tensor alone does not tell: half
        a unit matters in a norm's mean of 1,000 where the deviation is 0.1.
        """
        half = {name: narrowed(array) for name, array in self.remainder.items()}
        if all(array is self.remainder[name] for name, array in half.items()):
            return self
        self.adapter.restore(half)
        unseen = measure() <= UNSEEN
        self.adapter.restore(self.remainder)  # the working copy is still the original, which drops are measured from
        return replace(self, remainder=half) if unseen else self

    @at_once()
    def corrected(
        self, slope: float, measure: Measure, progress: Progress, alike: Callable[[str], str] | None = None,
        apart: Collection[str] = (),
    ) -> tuple[Subject, dict[str, float]]:  # fmt: skip
        """Sensitivities scaled layer by layer so that the KL predicted for the layer alone is the one it causes.

        measure() runs the working copy and returns its mean KL from the original. alike gives the role of a layer by
        its name: layers of one role are changed together and have one factor. Layers apart are left as they
        are. Also returns each layer's factor.
        """
        rows = {name: held(self.stats, name).stats.sensitivity for name in self.stats}
        factors: dict[str, float] = {}
        parts: dict[str, list[Layer]] = {}
        for layer in self.layers:
            if layer.name in apart:
                continue
            parts.setdefault(layer.name if alike is None else alike(layer.name), []).append(layer)
        progress.stage("layer by layer", len(self.layers))
        tasks = [self._sent(layer, slope) for layers in parts.values() for layer in layers]
        samples = self.engine.map(first, tasks)
        for layers in parts.values():
            predicted = 0.0
            try:
                for layer in layers:
                    _, decoded = next(samples)
                    predicted += distortion(layer, self.weights[layer.name], decoded, self.stats[layer.name])
                    self.adapter.write(layer.name, decoded)
                    progress.step()
                measured = measure()
            finally:
                for layer in layers:
                    self.adapter.write(layer.name, self.weights[layer.name])
                give_back()  # layers are rounded on other threads meanwhile, between whose arrays a run leaves holes
            least = UNSEEN * (1e-3 if alike is not None else 1e-6)  # what rounding leaves shows nothing
            if alike is None and measured > max(CORRECTION[1] * predicted, UNSEEN):
                even = self._even(layer)
                rows[layer.name] = even.sensitivity
                predicted = distortion(layer, self.weights[layer.name], decoded, even)
            factor = float(np.clip(measured / predicted, *CORRECTION)) if min(measured, predicted) > least else 1.0
            factors |= {layer.name: factor for layer in layers}
        for layer in self.layers:
            known, factor = rows[layer.name], factors.setdefault(layer.name, 1.0)
            rows[layer.name] = rounded((np.ones(layer.rows) if known is None else known) * factor)
        return replace(self, stats=with_sensitivity(self.stats, rows)), factors

    def _even(self, layer: Layer) -> Stats:
        """Statistics with the rows of a layer alike, where shifts of its outputs tell nothing of errors in it.

        Keys of attention, a layer before an instance norm, and one whose outputs for two inputs are subtracted: what is
        added at every position does nothing there.
        """
        found = self.stats[layer.name]
        return replace(found, sensitivity=relative_prior(layer, row_deviation(layer, self.weights[layer.name], found)))


def role(name: str) -> str:
    """A layer's name without the numbers that tell the blocks of a network apart."""
    return re.sub(r"\b\d+\b", "*", name)


def shared(layer: Layer, stats: Stats) -> Stats:
    """For a convolution, the second moment that matters to the output: what an example's positions have in common.

    A weight's error is the same at every position, and what follows (pooling, further convolutions) adds positions
    up, so that the common part counts in full and the rest with POSITION_SHARE; compare the "expand" and "reduce"
    settings of K-FAC with weight sharing (Eschenhagen et al. 2023, section 3). What they have in common alone is not
    handed on.
    """
    if stats.pooled is None or layer.kind not in ("conv", "conv_transpose"):
        return replace(stats, pooled=None)
    mixed = stats.hessian - stats.pooled
    mixed *= POSITION_SHARE
    mixed += stats.pooled
    return replace(stats, hessian=mixed, pooled=None)


def blind_stats(layer: Layer) -> Stats:
    """Statistics for a layer whose inputs nobody saw: all inputs alike, independent, centred."""
    hessian = np.broadcast_to(np.eye(layer.cols), (layer.groups, layer.cols, layer.cols)).copy()
    if layer.kind == "embedding":
        hessian = np.full((1, layer.cols), 1.0 / layer.cols)
    return Stats(hessian, np.zeros((layer.groups, layer.cols)), 10**6, 10**6)
