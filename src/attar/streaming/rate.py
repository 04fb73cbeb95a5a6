"""The slope at which a model takes so many bits a weight: read off a few slopes, on rows of a few parts.

Rows are rounded one for one given the second moment, so that some of a matrix tell the rate of all; the first block,
one in the middle and the last stand for those near them. Each octave of slope is half a bit at high resolution.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from attar.run.executor import generator
from attar.run.kept import key_of
from attar.run.memory import give_back
from attar.search.bracket import slope_of, step_of
from attar.streaming.base import Part, Stream, flow
from attar.streaming.original import Known
from attar.streaming.rounding import sensitive
from attar.streaming.sliced import rates_of, some
from attar.types import Array

ROWS = 256
"""Rows of a matrix that tell its rate."""
LADDER = (-8, -4, 0, 4, 8)
"""Octaves of slope at which rates are taken, about the slope of START."""
START = 0.01
"""Nats of divergence predicted."""


def slope_for(stream: Stream, known: Known, bits: float) -> float:
    """The slope whose predicted rate, over all layers, is `bits` per weight; a whole step of the search."""
    from scipy.interpolate import PchipInterpolator

    total = sum(layer.size for layer in stream.layers())
    first = 2 * float(np.log(2)) * START / max(total, 1)
    slopes = [slope_of(step_of(first * 2.0**octave)) for octave in LADDER]
    rates = _rates(stream, known, slopes) / total
    octaves = np.log2(slopes)
    if bits >= rates[0] or bits <= rates[-1]:
        end = 0 if bits >= rates[0] else -1
        return slope_of(step_of(float(2 ** (octaves[end] + 2 * (rates[end] - bits)))))
    curve = PchipInterpolator(octaves, rates)
    fine = np.linspace(octaves[0], octaves[-1], 8 * (LADDER[-1] - LADDER[0]) + 1)
    return slope_of(step_of(float(2 ** fine[np.abs(curve(fine) - bits).argmin()])))


def _rates(stream: Stream, known: Known, slopes: list[float]) -> Array:
    """Bits of the whole model at each slope, falling."""
    ids = stream.ids("calibrate")[: stream.settings.windows]
    standing = _standing(stream.last)
    keys = {number: key_of("rate", stream.mark, slopes, number) for number in standing}

    def look(number: int, part: Part) -> None:
        if number in standing and stream.kept.get(keys[number]) is None:
            stream.kept.put(keys[number], number, {"bits": _part_bits(stream, known, number, part, slopes)})

    if any(stream.kept.get(key) is None for key in keys.values()):
        stream.progress.stage("bits by slope", stream.model.parts)
        flow(stream, {"rate": ids}, stream.model.part, before=look)
    bits = sum((times * stream.unit(keys[number])[1]["bits"] for number, times in standing.items()), np.zeros(1))
    return np.asarray(np.minimum.accumulate(bits) - 1e-9 * np.arange(len(slopes)))


def _standing(last: int) -> Mapping[int, int]:
    """Parts that are looked at, and how many each stands for."""
    found = {0: 1, last: 1}
    for place, numbers in enumerate(np.array_split(np.arange(1, last), min(3, last - 1))):
        found[int(numbers[(0, len(numbers) // 2, -1)[place]])] = len(numbers)
    return found


def _part_bits(stream: Stream, known: Known, number: int, part: Part, slopes: list[float]) -> Array:
    """Bits of a part at each slope, from some rows of each of its layers and the inputs of the original."""
    ids = stream.ids("calibrate")[: stream.settings.windows]
    stats = sensitive(stream, known, number, part, ("rate", ids))
    rng, bits = generator(stream.job.recipe.seed, f"rate/{number}"), np.zeros(len(slopes))
    for layer in stream.model.layers_of(number):
        give_back()
        rows = np.sort(rng.choice(layer.rows, min(ROWS, layer.rows), replace=False))
        few = some(layer, part.read(layer.name), stats.pop(layer.name), rows)
        bits += np.array(rates_of(stream, *few, slopes)) * layer.rows / len(rows)
    return np.asarray(bits)
