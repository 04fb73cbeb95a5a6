"""The slope at which a model takes so many bits a weight: bracketed on a sample of rows of one block and of the ends.

Rows are rounded one for one given the second moment, so that some of a matrix tell the rate of all; blocks are alike
enough for the one in the middle to stand for the others. Each octave of slope is half a bit at high resolution.
"""

from __future__ import annotations

import numpy as np

from attar.run.executor import generator
from attar.search.bracket import slope_of, step_of
from attar.streaming.base import Part, Stream, flow
from attar.streaming.original import Known
from attar.streaming.rounding import sensitive
from attar.streaming.sliced import rounded, some
from attar.types import Layer, Stats, Weight

ROWS = 256
"""Rows of a matrix that tell its rate."""
CLOSE = 0.02
"""Bits per weight within which the slope is good enough."""
TRIES = 8
START = 0.01
"""Nats of divergence predicted at the slope that is tried first."""
Sample = tuple[Layer, Weight, Stats, float]
"""A layer of fewer rows, and how many weights of the model it stands for."""


def slope_for(stream: Stream, known: Known, bits: float) -> float:
    """The slope whose rate, over all layers, is `bits` per weight within CLOSE; a whole step of the search."""
    samples = _samples(stream, known)
    weights = sum(share for *_, share in samples)
    total = sum(layer.size for layer in stream.layers())
    slope = 2 * float(np.log(2)) * START / max(total, 1)
    stream.progress.stage(f"slope for {bits:g} bits per weight", TRIES)
    tried: dict[int, float] = {}
    for _ in range(TRIES):
        step = step_of(slope)
        if step not in tried:
            tried[step] = sum(_rate(stream, one, slope_of(step)) * one[3] for one in samples) / weights
        stream.progress.step()
        rate = tried[step]
        if abs(rate - bits) <= CLOSE:
            break
        slope = _next(tried, bits)
        if step_of(slope) in tried:
            break
    return slope_of(min(tried, key=lambda one: abs(tried[one] - bits)))


def _next(tried: dict[int, float], bits: float) -> float:
    """By the secant through the two nearest trials, or half a bit for each octave beside one."""
    order = sorted(tried, key=lambda one: abs(tried[one] - bits))
    slant = -1 / 16
    if len(order) > 1 and tried[order[0]] != tried[order[1]]:
        slant = min((tried[order[0]] - tried[order[1]]) / (order[0] - order[1]), -1 / 160)
    return slope_of(round(order[0] + (bits - tried[order[0]]) / slant))


def _samples(stream: Stream, known: Known) -> list[Sample]:
    """Layers of the ends and of the block in the middle, with the original's inputs on a few windows."""
    ids = stream.ids("calibrate")[: stream.settings.windows]
    middle, rng = 1 + (stream.last - 1) // 2, generator(stream.job.recipe.seed, "rate")
    found: list[Sample] = []

    def look(number: int, part: Part) -> None:
        if number not in (0, middle, stream.last):
            return
        stats = sensitive(stream, known, number, part, ("rate", ids))
        for layer in stream.model.layers_of(number):
            times = stream.last - 1 if number == middle else 1
            rows = np.sort(rng.choice(layer.rows, min(ROWS, layer.rows), replace=False))
            few = some(layer, part.read(layer.name), stats.pop(layer.name), rows)
            found.append((*few, float(layer.size * times)))

    flow(stream, {"rate": ids}, stream.model.part, before=look)
    return found


def _rate(stream: Stream, sample: Sample, slope: float) -> float:
    """Bits for each weight of a sample."""
    layer, weight, stats, _ = sample
    return rounded(stream, layer, weight, stats, slope)[1] / layer.size
