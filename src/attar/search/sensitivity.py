"""Row sensitivities without gradients: what a small error in one output row of a layer does to the model's output.

Every example gets a small perturbation in one row of one layer, the rows dealt out evenly; the mean of 2 KL / eps^2
over a row's examples is the Fisher diagonal of that row (second-order expansion of KL). The absolute level is then
corrected layer by layer with the KL that the really quantised layer causes (`Subject.corrected`), because the errors
of neighbouring positions of a convolution are correlated, which row sensitivities cannot see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attar.adapters.base import Adapter
from attar.run.executor import generator
from attar.run.progress import Progress
from attar.search.divergence import Kind, divergence
from attar.types import Array, Dataset, Layer, Stats, Weight

RELATIVE = 0.15
"""Perturbation of a row, relative to the standard deviation of its outputs."""
PER_ROW = 8
"""Examples that each row should see; between LEAST and MOST perturbed examples for a layer."""
LEAST, MOST = 1024, 4096
PRIOR = 4
"""Observations of the layer's mean that every row is shrunk with."""
BATCH = 256


def row_deviation(layer: Layer, weight: Weight, stats: Stats) -> NDArray[np.float64]:
    """Standard deviation [rows] of the layer's outputs, from the second moment of its inputs."""
    stacked = weight.matrix.astype(np.float64).reshape(layer.groups, -1, layer.cols)
    if stats.hessian.ndim == 2:
        variance = np.einsum("grc,gc->gr", np.square(stacked), stats.hessian)
    else:
        variance = np.einsum("grc,grc->gr", stacked @ stats.hessian, stacked)
    return np.asarray(np.sqrt(np.maximum(variance, 0)).ravel())


def rows_of(
    adapter: Adapter,
    layer: Layer,
    deviation: NDArray[np.float64],
    data: Dataset,
    original: Array,
    kind: Kind,
    seed: int,
) -> NDArray[np.float64]:
    """Fisher diagonal [rows] of one layer, measured on data, whose original outputs are given."""
    rng = generator(seed, f"sensitivity/{layer.name}")
    amplitude = RELATIVE * np.maximum(deviation, 1e-3 * deviation.mean() + 1e-12)
    total, seen = np.zeros(layer.rows), np.zeros(layer.rows)
    wanted = int(np.clip(PER_ROW * layer.rows, LEAST, MOST))
    for start, batch in _rounds(data, wanted):
        count = len(next(iter(batch.values())))
        rows = rng.permutation(layer.rows * -(-count // layer.rows))[:count] % layer.rows
        delta = np.zeros((count, layer.rows), np.float32)
        delta[np.arange(count), rows] = amplitude[rows] * rng.choice((-1.0, 1.0), count)
        moved = divergence(original[start : start + count], adapter.run(batch, {layer.name: delta}), kind)
        np.add.at(total, rows, 2 * moved / np.square(amplitude[rows]))
        np.add.at(seen, rows, 1)
    # Shrink in units that do not depend on the row's scale: sensitivity times variance.
    noise = total * np.square(amplitude)
    mean = noise.sum() / max(seen.sum(), 1)
    shrunk = (noise + PRIOR * mean) / (seen + PRIOR)
    return np.asarray(shrunk / np.square(amplitude))


def _rounds(data: Dataset, wanted: int) -> Sequence[tuple[int, dict[str, Array]]]:
    """Batches of about `wanted` examples in total, from the start of the data again when it is short."""
    rounds: list[tuple[int, dict[str, Array]]] = []
    done = 0
    while done < wanted:
        for start in range(0, len(data), BATCH):
            size = min(BATCH, len(data) - start, wanted - done)
            rounds.append((start, {name: values[start : start + size] for name, values in data.inputs.items()}))
            done += size
            if done >= wanted:
                break
    return rounds


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
) -> dict[str, Stats]:
    """The statistics of every layer with row sensitivities."""
    original = np.concatenate([adapter.run(batch) for batch in data.batches(BATCH)])
    result: dict[str, Stats] = {}
    progress.stage("sensitivities", len(layers))
    for layer in layers:
        deviation = row_deviation(layer, weights[layer.name], stats[layer.name])
        if adapter.can_perturb(layer.name) and deviation.max(initial=0) > 0:
            rows = rows_of(adapter, layer, deviation, data, original, kind, seed)
        else:
            rows = relative_prior(layer, deviation)
        result[layer.name] = replace(stats[layer.name], sensitivity=rows)
        progress.step()
    return result
