"""The stage that says how good the statistics are: what more examples have saved so far, and what twice as many would.

Every layer is rounded by the statistics of an eighth, a quarter and a half of the examples (of LADDER of them at most),
and distortion is taken under the statistics of the others, which none of them has seen. Differences in distortion count
as the bits that they are worth: a half is rounded more coarsely, too, which shows what one is exchanged for the other
at. What a doubling saves falls with a power of the number of examples: two doublings show which, and the sum of all
that are to come is what these examples cost still beside perfect statistics. Sensitivities are taken as known.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from attar import registry
from attar.adapters.base import Adapter
from attar.job import Job, choice_of
from attar.measuring import BATCH
from attar.methods.base import distortion
from attar.run.executor import generator
from attar.run.ledger import Ledger
from attar.run.memory import give_back
from attar.run.progress import Progress, Silent
from attar.search.course import FIRST_KL, first_slope
from attar.search.divergence import divergence, kind_of
from attar.search.loop import Loop
from attar.search.sensitivity import relative_prior, row_deviation
from attar.search.subject import Subject, shared
from attar.selection.choose import seen_by
from attar.types import Array, Dataset, Json, Layer, Point, Stats, Weight

LEAST = 400
"""Fewest examples to say anything of: with fewer in an eighth, shrinkage leaves little but the diagonal of H."""
LADDER = 2000
"""Most examples whose eighth, quarter and half are compared, so that the score stays cheap beside the run."""
FALL = (1.0, 2.0)
"""Bounds of the power with which savings fall: a mean's noise costs c / n, and shrinkage makes that fall faster."""
SEEN = 2000
"""Examples that choices are compared on."""
TRIALS, STRIDE = 3, (0.25, 4.0)
"""Rounded models for each choice, and the most that the slope changes between two."""
PARTS = (0, 8), (4, 8), (2, 4)
"""First example and step of what makes an eighth, a quarter with it, and a half with both."""
COARSER = 2.0
"""Slope of the coarser half, of that of the others."""
LITTLE = 0.001
"""A share of the bytes that is not worth a word."""

Costs = NDArray[np.float64]
"""Distortion in nats and rate in bits of a layer, [4, 2]: by an eighth, a quarter, a half, and that more coarsely."""


@dataclass(frozen=True)
class Quality:
    """What two doublings of the examples have saved, in bits at equal distortion.

    early: by layer, from an eighth to a quarter of `ladder` of the examples. late: from a quarter to a half; below zero
    by chance alone. size_bytes: of the layers' codes.
    """

    examples: int
    ladder: int
    early: Mapping[str, float]
    late: Mapping[str, float]
    size_bytes: float

    @property
    def fall(self) -> float:
        """The power of the number of examples with which savings fall; 1 is the law c / n of unbiased estimates."""
        early, late = sum(self.early.values()), sum(self.late.values())
        return float(np.clip(np.log2(early / late), *FALL)) if min(early, late) > 0 else 1.0

    def saved(self, times: float) -> float:
        """What so many times the examples would save, about, as a share of the layers' bytes."""
        # A cost c n^-a saves c n^-a (8^a - 2^a) from an eighth of n to a half.
        both = sum(self.early.values()) + sum(self.late.values())
        cost = max(both, 0.0) / (8**self.fall - 2**self.fall) * (self.ladder / self.examples) ** self.fall
        return float(cost * (1 - times**-self.fall) / 8 / self.size_bytes)

    @property
    def excess(self) -> float:
        """How much larger the layers are than perfect statistics would make them, as a share."""
        return self.saved(np.inf)

    def facts(self) -> dict[str, Json]:
        """For the ledger."""
        return {
            "examples": self.examples, "ladder": self.ladder, "excess": self.excess,
            "saved_by_twice": self.saved(2),
            "fall": self.fall, "early": dict(self.early), "late": dict(self.late),
        }  # fmt: skip

    def line(self) -> str:
        """For a person."""
        if self.excess < LITTLE:
            return (
                f"calibration: {self.examples:,} examples are enough: twice as many would save less than {LITTLE:.1%}"
            )
        return (
            f"calibration: with {self.examples:,} examples the layers are about {self.excess:.1%} larger than with "
            f"perfect statistics; twice as many would save about {self.saved(2):.1%}"
        )


def measured(subject: Subject, data: Dataset, slope: float, progress: Progress) -> Quality | None:
    """The quality of a subject's statistics, found on the examples that they came from; None where these are too few.

    The model runs over half of the ladder once more; every layer is encoded four times by its first method.
    """
    if len(data) < LEAST:
        return None
    progress.stage("quality of the statistics", len(subject.layers))
    ladder = data.take(np.linspace(0, len(data) - 1, min(len(data), LADDER)).astype(int))
    # Each part is rounded by as soon as it is there: no earlier one is held while the model runs for the next.
    half: dict[str, Stats] = {}
    tries: dict[str, list[tuple[Point, Weight]]] = {layer.name: [] for layer in subject.layers}
    for start, step in PARTS:
        _add(half, _seen(subject, ladder, start, step))
        for layer in subject.layers:
            if layer.name in half:
                tries[layer.name].append(_by(subject, layer, half[layer.name], slope))
    found: dict[str, Costs] = {}
    for layer in subject.layers:
        whole, own = subject.stats[layer.name], half.pop(layer.name, None)
        if own is not None and len(tries[layer.name]) == len(PARTS) and own.samples < whole.samples:
            rest, mine = without(whole, own), [*tries[layer.name], _by(subject, layer, own, COARSER * slope)]
            weight = subject.weights[layer.name]
            found[layer.name] = np.array([[distortion(layer, weight, w, rest), point.rate_bits] for point, w in mine])
        progress.step()
    if not found:
        return None
    total = np.sum(list(found.values()), 0)
    price = float(total[3, 0] - total[2, 0]) / max(float(total[2, 1] - total[3, 1]), 1e-9)
    bits = {name: costs[:, 1] + costs[:, 0] / max(price, slope) for name, costs in found.items()}
    early, late = ({name: float(cost[at] - cost[at + 1]) for name, cost in bits.items()} for at in (0, 1))
    return Quality(len(data), len(ladder), early, late, float(total[2, 1]) / 8)


def chosen(job: Job, ledger: Ledger, progress: Progress) -> Job:
    """The job with the calibration examples that the recipe's [settings.calibration] chooses from its split.

    Raises UsageError where the method needs what the model does not have.
    """
    method, data, count = choice_of(job.recipe), job.splits.calibrate, job.recipe.calibration_examples
    if method == "random" or len(data) <= count:
        return job
    way, seed = registry.get("choice", method), job.recipe.seed
    progress.stage(f"choosing {count:,} of {len(data):,} examples", len(data))
    pool = seen_by(job.adapter, data, way.needs, seed, progress.step)
    rows = np.sort(way.choose(pool, count, generator(seed, f"choice by {method}")))
    ledger.add("choice", method=method, of=len(data), examples=count)
    return replace(job, splits=replace(job.splits, calibrate=data.take(rows)))


def gauged(job: Job, loop: Loop, ledger: Ledger, progress: Progress) -> Quality | None:
    """The quality of a run's statistics at the slope of its first candidate, in the ledger and said."""
    quality = measured(loop.subject, job.splits.calibrate, first_slope(loop.subject), progress)
    if quality is not None:
        ledger.add("calibration", **quality.facts())
        progress.note(quality.line())
    return quality


def larger(adapter: Adapter, data: Dataset, choices: Sequence[Array]) -> list[float]:
    """How much larger layers are by the statistics of some examples than by those of all, at equal KL, as shares.

    choices are row numbers. KL is measured on at most SEEN of the examples. Layers weigh what they were measured to,
    their rows alike (equal relative noise). The model is as before afterwards.
    """
    layers = [layer for layer in adapter.layers() if layer.tied_to is None]
    weights = {layer.name: adapter.read(layer.name) for layer in layers}
    whole = {layer.name: _even(layer, weights, stats) for layer, stats in _moments(adapter, layers, data)}
    layers = [layer for layer in layers if layer.name in whole]
    few = data.take(np.linspace(0, len(data) - 1, min(len(data), SEEN)).astype(int))
    original = np.concatenate([adapter.run(batch) for batch in few.batches(BATCH)])
    subject = Subject(adapter, layers, weights, whole, {}, None, {})
    slope = first_slope(subject)
    subject, _ = subject.corrected(slope, lambda: _moved(adapter, few, original), Silent())
    least = _bits(subject, slope, few, original)
    shares = []
    for rows in choices:
        some = dict(whole)
        for layer, stats in _moments(adapter, layers, data.take(np.sort(rows))):
            some[layer.name] = replace(stats, sensitivity=subject.stats[layer.name].sensitivity)
        shares.append(_bits(replace(subject, stats=some), slope, few, original) / least - 1)
    return shares


def _bits(subject: Subject, slope: float, data: Dataset, original: Array) -> float:
    """Bits of all layers where the outputs are FIRST_KL from the original ones, between TRIALS rounded models."""
    found: list[tuple[float, float]] = []
    for _ in range(TRIALS):
        bits, kl = _rounded(subject, slope, data, original)
        found.append((float(np.log(max(kl, 1e-12) / FIRST_KL)), float(np.log(bits))))
        slope *= float(np.clip(FIRST_KL / max(kl, 1e-12), *STRIDE))
    (x0, y0), (x1, y1) = sorted(found, key=lambda trial: abs(trial[0]))[:2]
    return float(np.exp(y0 - x0 * (y1 - y0) / (x1 - x0) if x1 != x0 else y0))


def _rounded(subject: Subject, slope: float, data: Dataset, original: Array) -> tuple[float, float]:
    """Bits of all layers, and KL from the original outputs with all of them rounded."""
    bits = 0.0
    try:
        for layer in subject.layers:
            point, decoded = subject.sample(layer, slope)
            subject.adapter.write(layer.name, decoded)
            bits += point.rate_bits
        return bits, _moved(subject.adapter, data, original)
    finally:
        for name, weight in subject.weights.items():
            subject.adapter.write(name, weight)


def _moved(adapter: Adapter, data: Dataset, original: Array) -> float:
    """Mean KL of the outputs from the original ones."""
    changed = np.concatenate([adapter.run(batch) for batch in data.batches(BATCH)])
    return float(divergence(original, changed, kind_of(original, True)).mean())


def _moments(adapter: Adapter, layers: Sequence[Layer], data: Dataset) -> list[tuple[Layer, Stats]]:
    """The statistics of layers that were reached."""
    found = adapter.moments(data.batches(BATCH))
    seen = found if isinstance(found, MutableMapping) else dict(found)
    return [(layer, shared(layer, seen.pop(layer.name))) for layer in layers if layer.name in seen]


def _even(layer: Layer, weights: Mapping[str, Weight], stats: Stats) -> Stats:
    """Statistics with rows that count alike."""
    return replace(stats, sensitivity=relative_prior(layer, row_deviation(layer, weights[layer.name], stats)))


def _seen(subject: Subject, data: Dataset, start: int, step: int) -> dict[str, Stats]:
    """Statistics of every so many examples, as the subject has them of all."""
    give_back()
    seen = _moments(subject.adapter, subject.layers, data.take(range(start, len(data), step)))
    return {layer.name: replace(stats, sensitivity=subject.stats[layer.name].sensitivity) for layer, stats in seen}


def _add(total: dict[str, Stats], seen: dict[str, Stats]) -> None:
    """Take over the statistics of further examples, layer by layer, with those of a total that there are."""
    for name in list(seen):
        new = seen.pop(name)
        total[name] = merged(total[name], new) if name in total else new


def _by(subject: Subject, layer: Layer, own: Stats, slope: float) -> tuple[Point, Weight]:
    """A layer rounded by these statistics of it."""
    return replace(subject, stats={layer.name: own}).sample(layer, slope)


def merged(one: Stats, other: Stats) -> Stats:
    """The statistics of two sets of examples together (Chan, Golub, LeVeque 1983)."""
    return _combined(one, 1.0, other)


def without(whole: Stats, part: Stats) -> Stats:
    """The statistics of the examples of a set that are not in a part of it."""
    return _combined(whole, -1.0, part)


def _combined(one: Stats, sign: float, other: Stats) -> Stats:
    """Examples added or taken away; they weigh alike, since adapters may look at more positions of some than of others.

    The mean of the part taken away is that of its own positions.
    """
    samples = one.samples + int(sign) * other.samples
    a, b = one.samples / samples, sign * other.samples / samples
    mean = a * one.mean + b * other.mean
    hessian = a * (one.hessian + _spread(one, mean)) + b * (other.hessian + _spread(other, mean))
    return Stats(hessian, mean, round(one.count * samples / one.samples), samples, one.sensitivity)


def _spread(stats: Stats, mean: np.ndarray) -> np.ndarray:
    """What is added to a second moment where it is taken about another mean; nothing where it is a diagonal."""
    if stats.hessian.ndim == 2:
        return np.zeros_like(stats.hessian)
    away = stats.mean - mean
    return np.asarray(away[:, :, None] * away[:, None, :])
