"""Row sensitivities without gradients: what a small error in one output row of a layer does to the model's output.

Every example gets a small perturbation in one row of one layer, the rows dealt out evenly; the mean of 2 KL / eps^2
over a row's examples is the Fisher diagonal of that row (second-order expansion of KL). The absolute level is then
corrected layer by layer with the KL that the really quantised layer causes (`Subject.corrected`), because the errors
of neighbouring positions of a convolution are correlated, which row sensitivities cannot see.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from attar.adapters.base import Adapter
from attar.adapters.folded import held, with_sensitivity
from attar.run.executor import generator
from attar.run.progress import Progress
from attar.search.divergence import Kind, divergence, probabilities
from attar.types import Array, Dataset, Layer, Stats, Weight

RELATIVE = 0.15
"""Perturbation of a row, relative to the standard deviation of its outputs."""
PRECISION = 0.07
"""Relative standard error of a row's sensitivity at which to stop."""
WORK, TOTAL = 1e11, 3e11
"""Multiply-adds of the model that may be spent on one layer, and on all of them together; but LEAST to MOST examples
for each layer, in rounds of ROUND."""
LEAST, MOST, ROUND = 128, 524288, 512
OCTAVE = 8
"""Steps of an octave that sensitivities are rounded to, so that sums that differ in the last digits agree."""
PRIOR = 4
"""Observations of the layer's mean that every row is shrunk with."""
FLOOR = 0.03
"""Share of a layer's sensitivity that its rows have in equal parts where it was found by gradients."""
CANCELLED = 1e-6
"""Of what a weight costs in the median layer: less is what rounding leaves of what does nothing, or cancels."""
BATCH = 256
TOGETHER = 1 << 22
"""Weights that are taken to float64 at once."""


def row_deviation(layer: Layer, weight: Weight, stats: Stats) -> NDArray[np.float64]:
    """Standard deviation [rows] of the layer's outputs, from the second moment of its inputs."""
    stacked = weight.matrix.reshape(layer.groups, -1, layer.cols)
    # Float64 beside float32 is three times a matrix: of the rows of a vocabulary, some at a time.
    step = max(1, TOGETHER // (layer.groups * layer.cols))
    parts = [_variance(stacked[:, at : at + step], stats.hessian) for at in range(0, stacked.shape[1], step)]
    return np.asarray(np.sqrt(np.maximum(np.concatenate(parts, 1), 0)).ravel())


def _variance(rows: Array, hessian: NDArray[np.float64]) -> NDArray[np.float64]:
    """Second moment [groups, rows] of the outputs of some rows [groups, rows, cols]."""
    exact = rows.astype(np.float64)
    if hessian.ndim == 2:
        return np.asarray(np.einsum("grc,gc->gr", np.square(exact), hessian))
    return np.asarray(np.einsum("grc,grc->gr", exact @ hessian, exact))


def rows_of(
    adapter: Adapter,
    layer: Layer,
    deviation: NDArray[np.float64],
    data: Dataset,
    original: Array,
    kind: Kind,
    *,
    most: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Fisher diagonal [rows] of one layer, measured on at most about `most` examples of data.

    original [n, ...] are the model's outputs on data.
    """
    amplitude = RELATIVE * np.maximum(deviation, 1e-3 * deviation.mean() + 1e-12)
    odds = uncertainty(original, kind)
    sums = np.zeros((3, layer.rows))  # of 1, KL and KL^2
    while sums[0].sum() < most and _spread(sums) > PRECISION:
        count = min(max(ROUND, layer.rows), most)
        drawn = rng.choice(len(data), count, p=odds / odds.sum())
        rows = rng.permutation(np.resize(rng.permutation(layer.rows), count))
        for start in range(0, count, BATCH):
            which, row = drawn[start : start + BATCH], rows[start : start + BATCH]
            delta = np.zeros((len(which), layer.rows), np.float32)
            delta[np.arange(len(which)), row] = amplitude[row] * rng.choice((-1.0, 1.0), len(which))
            changed = adapter.run(next(data.pick(which).batches(BATCH)), {layer.name: delta})
            moved = divergence(original[which], changed, kind) * odds.mean() / odds[which]
            for total, value in zip(sums, (np.ones_like(moved), moved, np.square(moved)), strict=True):
                np.add.at(total, row, value)
    # Shrunk as KL at equal relative noise, a unit that does not depend on a row's scale.
    shrunk = (sums[1] + PRIOR * sums[1].sum() / sums[0].sum()) / (sums[0] + PRIOR)
    return rounded(2 * shrunk / np.square(amplitude))


def rounded(sensitivity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole powers of 2 ** (1 / OCTAVE), zero as it is: measured to a tenth, and not to differ in the last digits."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp2(np.rint(OCTAVE * np.log2(sensitivity)) / OCTAVE))


def tempered(sensitivity: NDArray[np.float64], deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sensitivities [rows] by gradients, mixed with FLOOR of what equal relative noise in every row would cost.

    A unit that is clipped or dead on every example has no gradient, but an error as large as its outputs wakes it.
    """
    cost = sensitivity * np.square(deviation)
    even = float(cost.mean()) / np.maximum(np.square(deviation), 1e-6 * float(np.square(deviation).mean()) + 1e-24)
    return rounded((1 - FLOOR) * sensitivity + FLOOR * even)


def by_gradients(
    layers: Sequence[Layer], weights: Mapping[str, Weight], stats: Mapping[str, Stats], rows: Mapping[str, Array]
) -> MutableMapping[str, Stats]:
    """The statistics with row sensitivities from gradients; a layer that no gradient reached counts like the others.

    Sensitivities that the statistics have already are those of rows of which more is known, and stay.
    Such a layer does nothing for the output, which another use of the model may look at. So does one whose gradients
    cancel over an example's positions: a norm over these follows, which takes shifts of a row out, but no errors.
    """
    found: dict[str, NDArray[np.float64] | None] = {}
    costs: dict[str, float] = {}
    lost: list[tuple[Layer, NDArray[np.float64]]] = []
    for layer in layers:
        seen = stats[layer.name]
        deviation, told = row_deviation(layer, weights[layer.name], seen), seen.sensitivity
        if layer.name in rows:
            sensitivity = tempered(rows[layer.name], deviation) if told is None else rounded(told)
            found[layer.name] = sensitivity
            costs[layer.name] = float(np.sum(sensitivity * np.square(deviation))) / layer.size
        if told is None or layer.name not in rows:
            lost.append((layer, deviation))
    return with_sensitivity(stats, {**found, **_usual(lost, costs)})


def _usual(
    layers: Sequence[tuple[Layer, NDArray[np.float64]]], costs: Mapping[str, float]
) -> dict[str, NDArray[np.float64]]:
    """Sensitivities [rows] of those layers that do nothing for the output: as much for a weight as in the median layer.

    layers: with the deviation [rows] of their outputs. costs: for each weight, by name, where they were found.
    """
    usual = float(np.median([cost for cost in costs.values() if cost] or [1.0]))
    return {
        layer.name: rounded(relative_prior(layer, deviation) * usual * layer.size / 2)
        for layer, deviation in layers
        if costs.get(layer.name, 0.0) <= CANCELLED * usual
    }


def _spread(sums: NDArray[np.float64]) -> float:
    """Relative standard error of a row's mean, averaged over rows by what they matter; infinite before a few rounds."""
    count, total, square = sums
    if count.min() < 8 or not total.sum():
        return np.inf
    mean = total / count
    variance = np.maximum(square / count - np.square(mean), 0) / count
    share = mean / mean.sum()
    return float(np.sum(share * np.sqrt(variance) / np.maximum(mean, 1e-300)))


def uncertainty(original: Array, kind: Kind) -> NDArray[np.float64]:
    """What an example's KL is roughly proportional to, [n]: how undecided the model is, 1 - sum p^2.

    Examples are drawn in this proportion and weighed by its inverse (importance sampling): most examples are decided
    and say nothing about any row.
    """
    if kind == "regression":
        return np.ones(len(original))
    p = probabilities(original, kind)
    undecided = (1 - np.square(p).sum(-1)).reshape(len(original), -1).mean(1)
    return np.asarray(undecided + 0.05 * undecided.mean() + 1e-9)


def relative_prior(layer: Layer, deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sensitivities [rows] for a layer that cannot be perturbed: equal relative output noise, one nat at 100 %."""
    variance = float(np.square(deviation).mean()) + 1e-12
    return np.full(layer.rows, 2 / (variance * layer.rows))


def measure_rows(
    adapter: Adapter,
    layers: Sequence[Layer],
    weights: Mapping[str, Weight],
    stats: Mapping[str, Stats],
    data: Dataset,
    kind: Kind,
    *,
    seed: int,
    progress: Progress,
) -> MutableMapping[str, Stats]:
    """The statistics of every layer with row sensitivities; one that the output does not show counts like the others.

    It is the way to another output (a second head): at a price of nothing it would come back as zeros.
    """
    original = np.concatenate([adapter.run(batch) for batch in data.batches(BATCH)])
    result: dict[str, NDArray[np.float64] | None] = {}
    counts = ((layer.size, held(stats, layer.name).stats) for layer in layers)
    work = sum(size * seen.count / max(seen.samples, 1) for size, seen in counts)
    most = int(np.clip(min(WORK, TOTAL / len(layers)) / max(work, 1.0), LEAST, MOST))
    progress.stage("sensitivities", len(layers))
    costs: dict[str, float] = {}
    deviations: list[tuple[Layer, NDArray[np.float64]]] = []
    for index, layer in enumerate(layers):
        # By place, not by name: frameworks name the same layer differently, and the plan should be the same.
        rng = generator(seed, f"sensitivity/{index}")
        deviation = row_deviation(layer, weights[layer.name], stats[layer.name])
        rows = relative_prior(layer, deviation)
        if adapter.can_perturb(layer.name) and deviation.max(initial=0) > 0:
            with suppress(KeyError):  # a layer that only some batches reach, or whose outputs no example has alone
                rows = rows_of(adapter, layer, deviation, data, original, kind, most=most, rng=rng)
        result[layer.name] = rows
        costs[layer.name] = float(np.sum(rows * np.square(deviation))) / layer.size
        deviations.append((layer, deviation))
        progress.step()
    return with_sensitivity(stats, {**result, **_usual(deviations, costs)})
