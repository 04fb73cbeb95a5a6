"""What a run keeps of its work (attar/run/kept.py): statistics, sensitivities, points, outputs, as JSON and arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attar.adapters.base import Adapter
from attar.adapters.folded import Folded, Moments, held, with_sensitivity
from attar.errors import ModelError
from attar.run.kept import Kept, Unit, key_of
from attar.types import Array, Dataset, Encoded, Json, Layer, Point, Stats, Weight


@dataclass(frozen=True, slots=True)
class Trained:
    """What a course of training ends with: unrounded weights, other tensors, and what the file holds of each layer."""

    weights: Mapping[str, Weight]
    rest: Mapping[str, Array]
    encoded: Mapping[str, Encoded]


PARTS = ("hessian", "mean", "sensitivity", "pooled", "coupling")
OTHERS = tuple(part for part in PARTS if part != "sensitivity")
MOST_OUTPUTS = 1 << 28
"""Bytes of outputs on one split above which they are not kept."""


def model_mark(adapter: Adapter, output: str | None = None) -> str:
    """A hash of a model: layers, weights, other tensors, graph, and the output that is looked at if not the first."""
    owners = [layer for layer in adapter.layers() if layer.tied_to is None]
    weights = {layer.name: key_of("weight", weight_parts(adapter.read(layer.name))) for layer in owners}
    try:
        skeleton = adapter.skeleton()
    except ModelError:
        skeleton = None
    rest = {name: np.asarray(array) for name, array in adapter.remainder().items()}
    told = [] if output is None else [output]
    return key_of("model", adapter.framework, [str(layer) for layer in owners], weights, rest, skeleton, *told)


def data_mark(data: Dataset) -> str:
    """A hash of a set's examples and labels."""
    return key_of("data", dict(data.inputs), data.labels)


def weight_parts(weight: Weight) -> list[Array | None]:
    """A weight as what a hash takes."""
    return [weight.matrix, weight.bias]


def stats_parts(stats: Stats) -> list[Array | int | None]:
    """Statistics as what a hash takes."""
    return [stats.hessian, stats.mean, stats.count, stats.samples, stats.sensitivity, stats.pooled, stats.coupling]


def moments(kept: Kept, key: str, compute: Callable[[], Mapping[str, Stats]]) -> MutableMapping[str, Stats]:
    """Statistics by layer, computed once; they are kept as they are held."""
    unit = kept.get(key)
    if unit is not None:
        told, arrays = unit
        return Moments({name: _folded(name, counts, arrays) for name, counts in told.items()})
    computed = compute()
    found = computed if isinstance(computed, Moments) else dict(computed)
    arrays, counts = {}, {}
    for name in found:
        one = held(found, name)
        arrays |= {f"{name}/{part}": array for part in PARTS if (array := getattr(one.stats, part)) is not None}
        counts[name] = [one.stats.count, one.stats.samples, list(one.parts)]
    kept.put(key, counts, arrays)
    return found


def _folded(name: str, counts: Sequence[Any], arrays: Mapping[str, Array]) -> Folded:
    """One layer's statistics from a unit."""
    sensitivity, pooled = arrays.get(f"{name}/sensitivity"), arrays.get(f"{name}/pooled")
    stats = Stats(arrays[f"{name}/hessian"], arrays[f"{name}/mean"], counts[0], counts[1], sensitivity, pooled)
    return Folded(stats, tuple(counts[2]))


def sensitivities(
    kept: Kept, key: str, stats: Mapping[str, Stats], compute: Callable[[], tuple[Mapping[str, Stats], Json]]
) -> tuple[Mapping[str, Stats], Json]:
    """The statistics with the sensitivities of `compute`, and what it told, computed once.

    Of what else it may have changed of the statistics, that alone is kept.
    """
    unit = kept.get(key)
    if unit is not None:
        told, arrays = unit
        rows = {name: arrays[f"{name}/sensitivity"] for name in stats if f"{name}/sensitivity" in arrays}
        found = with_sensitivity(stats, rows)
        for name in stats:
            parts: dict[str, Any] = {part: arrays[f"{name}/{part}"] for part in OTHERS if f"{name}/{part}" in arrays}
            if parts:
                found[name] = replace(found[name], **parts)
        return found, told
    computed, told = compute()
    arrays = {}
    for name in computed:
        new, old = held(computed, name).stats, held(stats, name).stats
        changed = [part for part in PARTS if getattr(new, part) is not getattr(old, part)]
        arrays |= {f"{name}/{part}": array for part in changed if (array := getattr(computed[name], part)) is not None}
    kept.put(key, told, arrays)
    return computed, told


def points_key(
    layer: Layer, weight: Weight, stats: Stats, methods: Sequence[str], settings: Json, slope: float, effort: str
) -> str:
    """The name of what methods offer for a layer at a slope."""
    told = {name: dict(table) for name, table in settings.items()}
    return key_of(
        "points", str(layer), weight_parts(weight), stats_parts(stats), list(methods), str(told), slope, effort
    )  # fmt: skip


def points(kept: Kept, key: str) -> list[Point] | None:
    """What methods offered, where that was kept."""
    unit = kept.get(key)
    return None if unit is None else list(_points(unit))


def keep_points(kept: Kept, key: str | None, found: Sequence[Point]) -> None:
    """Keep what methods offer; without a key nothing is kept."""
    if key is None:
        return
    told = [
        {"rate_bits": each.rate_bits, "distortion": each.distortion, "choice": dict(each.choice),
         "encoded": None if each.encoded is None else encoded_told(each.encoded)} for each in found
    ]  # fmt: skip
    arrays = {
        f"{number}/{part}": array
        for number, each in enumerate(found) if each.encoded is not None
        for part, array in each.encoded.arrays.items()
    }  # fmt: skip
    kept.put(key, told, arrays)


def encoded_told(encoded: Encoded) -> Json:
    """What of an encoded layer is no array."""
    return {"method": encoded.method, "meta": dict(encoded.meta), "arrays": list(encoded.arrays)}


def encoded_of(told: Json, arrays: Mapping[str, Array], prefix: str) -> Encoded:
    """The inverse; its arrays are called prefix/name."""
    return Encoded(told["method"], {name: arrays[f"{prefix}/{name}"] for name in told["arrays"]}, told["meta"])


def _points(unit: Unit) -> Iterator[Point]:
    """Points from a unit."""
    told, arrays = unit
    for number, each in enumerate(told):
        encoded = None if each["encoded"] is None else encoded_of(each["encoded"], arrays, str(number))
        yield Point(each["rate_bits"], each["distortion"], each["choice"], encoded)


class Again:
    """A model's run over one set, in order: what it said is handed out again where it was kept.

    done: so many outputs are known beforehand, and will not be asked for.
    """

    def __init__(self, kept: Kept, key: str, run: Callable[[Mapping[str, Array]], Array], done: int = 0) -> None:
        self._kept, self._key, self._run = kept, key, run
        unit = kept.get(key)
        self._outputs = None if unit is None else unit[1]["outputs"]
        self._done = done

    def __call__(self, batch: Mapping[str, Array]) -> Array:
        """The outputs of the next examples."""
        start, self._done = self._done, self._done + len(next(iter(batch.values())))
        if self._outputs is None or self._done > len(self._outputs):
            return self._run(batch)
        return self._outputs[start : self._done]

    def keep(self, outputs: Array) -> None:
        """Keep what the model said, of the first examples or all, unless it was kept already or is too large."""
        if (self._outputs is None or len(self._outputs) < len(outputs)) and outputs.nbytes <= MOST_OUTPUTS:
            self._kept.put(self._key, None, {"outputs": outputs})


def training(kept: Kept, key: Callable[[], str], compute: Callable[[], Trained]) -> Trained:
    """A course of training, done once; `key` is asked for where something is kept."""
    if kept.folder is None:
        return compute()
    name = key()
    unit = kept.get(name)
    if unit is not None:
        return _trained(unit)
    found = compute()
    arrays: dict[str, Array] = {f"rest/{part}": array for part, array in found.rest.items()}
    for layer, weight in found.weights.items():
        arrays[f"matrix/{layer}"] = weight.matrix
        if weight.bias is not None:
            arrays[f"bias/{layer}"] = weight.bias
    for layer, encoded in found.encoded.items():
        arrays |= {f"code/{layer}/{part}": array for part, array in encoded.arrays.items()}
    told = {
        "rest": list(found.rest), "weights": list(found.weights),
        "encoded": {layer: encoded_told(encoded) for layer, encoded in found.encoded.items()},
    }  # fmt: skip
    kept.put(name, told, arrays)
    return found


def _trained(unit: Unit) -> Trained:
    """A course of training from its unit."""
    told, arrays = unit
    return Trained(
        {layer: Weight(arrays[f"matrix/{layer}"], arrays.get(f"bias/{layer}")) for layer in told["weights"]},
        {part: arrays[f"rest/{part}"] for part in told["rest"]},
        {layer: encoded_of(each, arrays, f"code/{layer}") for layer, each in told["encoded"].items()},
    )


def retrained(kept: Kept, adapter: Adapter, train: Callable[[], None], *parts: object) -> None:
    """Train an adapter's model in place, once; parts are what the training depends on besides the model."""
    if kept.folder is None:
        train()
        return
    key = key_of("retrained", model_mark(adapter), *parts)
    owners = [layer.name for layer in adapter.layers() if layer.tied_to is None]
    unit = kept.get(key)
    if unit is not None:
        _, arrays = unit
        for name in owners:
            adapter.write(name, Weight(arrays[f"matrix/{name}"], arrays.get(f"bias/{name}")))
        adapter.restore({name: arrays[f"rest/{name}"] for name in adapter.remainder()})
        return
    train()
    arrays = {f"rest/{name}": np.asarray(array) for name, array in adapter.remainder().items()}
    for name in owners:
        weight = adapter.read(name)
        arrays[f"matrix/{name}"] = weight.matrix
        if weight.bias is not None:
            arrays[f"bias/{name}"] = weight.bias
    kept.put(key, None, arrays)
