"""`attar data select`: a set as it lies on disk, the examples that stand best for all of it, and these written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from attar import registry
from attar.adapters.base import Adapter
from attar.cleaning.clean import target_of
from attar.cleaning.table_features import table_features
from attar.data.fit import fit_inputs
from attar.data.images import TRAIN
from attar.data.read import read
from attar.errors import DataError, UsageError
from attar.files.pictures import Picture, part_and_label, silent, thumbnail
from attar.files.seen import seen
from attar.files.sources import Arrays, Folder, Source, Table, open_source, taken
from attar.run.executor import generator
from attar.selection.base import Indices, Pool
from attar.selection.features import inputs_of, of_model, of_rows, unseen
from attar.selection.undecided import doubts_of
from attar.types import Array, Dataset, Json

SIDE = 16
"""Images of a folder are looked at in this size where there is no model."""
BLOCK = 256
MOST_CLASSES = 1000
Step = Callable[[int], None]


@dataclass(frozen=True)
class Chosen:
    """Positions in the source, in its order, how they were chosen, and as many random ones to compare with.

    classes: how many of each. data: all examples as the model takes them, None without a model. error: the distance of
    the mean of the chosen examples' moments from that of all, as a share of an example's own; random_error: of as many
    random ones. Both are None where examples were not looked at.
    """

    source: Source
    method: str
    seed: int
    size: int
    positions: Indices
    chance: Indices
    classes: Mapping[str, int]
    error: float | None = None
    random_error: float | None = None
    data: Dataset | None = None

    def facts(self) -> dict[str, Json]:
        """The choice for a machine."""
        return {
            "source": str(self.source.path), "method": self.method, "seed": self.seed, "examples": self.size,
            "chosen": len(self.positions), "error": self.error, "random_error": self.random_error,
            "classes": dict(self.classes), "indices": self.positions.tolist(), "names": self.names(),
        }  # fmt: skip

    def names(self) -> list[str] | None:
        """The files that were chosen, of a folder."""
        return [self.source.files[at] for at in self.positions] if isinstance(self.source, Folder) else None

    def kept(self) -> Source:
        """The source with these examples alone."""
        return taken(self.source, self.positions)


def choose(
    source: str | Path | Source, k: int, *, method: str | None = None, adapter: Adapter | None = None,
    target: str | None = None, seed: int = 0, step: Step = silent,
) -> Chosen:  # fmt: skip
    """k examples of a set; of one that comes in parts, from its train part. Nothing is written.

    With a model's adapter examples are seen as its layers see them, otherwise as they are (tables: all columns but the
    target). The method is undecided with a model and k-center without where none is named. Raises UsageError for a
    method or k that cannot be, DataError, FormatError.
    """
    method = method or ("k-center" if adapter is None else "undecided")
    way = registry.get("choice", method)
    found = train_part(open_source(source))
    if adapter is not None and isinstance(found, Table):
        raise UsageError(
            f"select: a model takes arrays or images. Received the table {found.path.name!r} and a model. Leave --for "
            "out, or give the model's inputs as .npz."
        )
    labels = _labels(found, target)
    size = _size(found)
    if not 1 <= k <= size:
        raise UsageError(f"select: -k must be from 1 to the number of examples, {size:,}. Received {k:,}. Correct it.")
    data = None if adapter is None else _fitted(found, adapter)
    if data is not None and len(data) != size:
        raise DataError(f"data {str(found.path)!r}: {size} examples were counted and {len(data)} read. Clean it first.")
    if adapter is not None and data is not None and way.needs:
        pool = seen_by(adapter, data, way.needs, seed, step)
    elif way.needs == "layers":
        pool = of_rows(_rows(found, target, seed), size, labels, seed, step)
    else:
        pool = unseen(size, labels)
    pool = replace(pool, labels=labels)
    positions = np.sort(way.choose(pool, k, generator(seed, f"choice by {method}")))
    chance = np.sort(registry.get("choice", "random").choose(pool, k, generator(seed, "choice by random")))
    error, by_chance = (off(pool, positions), off(pool, chance)) if pool.layers else (None, None)
    return Chosen(found, method, seed, size, positions, chance, _counted(labels, positions), error, by_chance, data)


def seen_by(adapter: Adapter, data: Dataset, needs: str, seed: int, step: Step) -> Pool:
    """What a method needs to know of examples that fit the model's inputs."""
    if needs == "layers":
        return of_model(adapter, data, seed, step)
    return replace(unseen(len(data), data.labels), doubts=doubts_of(adapter, data, step))


def _counted(labels: Array | None, positions: Indices) -> dict[str, int]:
    """How many of each class were chosen; none where there are no labels, or as many as examples."""
    if labels is None:
        return {}
    names, counts = np.unique(labels[positions], return_counts=True)
    return dict(zip(map(str, names.tolist()), counts.tolist(), strict=True)) if len(names) <= MOST_CLASSES else {}


def off(pool: Pool, positions: Indices) -> float:
    """How far the chosen examples' mean and second moments are from all examples', as a share of one example's."""
    mean = pool.moments.mean(0, dtype=np.float64)
    own = float(np.square(pool.moments - mean).sum(1).mean())
    return float(np.sqrt(np.square(pool.moments[positions].mean(0, dtype=np.float64) - mean).sum() / max(own, 1e-300)))


def train_part(source: Source) -> Source:
    """The train part of a set that comes in parts, as a set without parts; other sets as they are.

    Raises UsageError where there are several parts and none is called train.
    """
    if isinstance(source, Arrays) and len(parts := source.parts()) > 1:
        if "train" not in parts:
            raise UsageError(
                f"select: a set in parts must have one called train. Received {', '.join(map(repr, parts))} in "
                f"{str(source.path)!r}. Give the arrays of one part."
            )
        inputs, labels = parts["train"]
        return Arrays(source.path, inputs if labels is None else {**inputs, "y": labels})
    if isinstance(source, Folder) and {part_and_label(name)[0] for name in source.files} == {"train", "test"}:
        return open_source(next(path for path in sorted(source.path.iterdir()) if path.name.lower() in TRAIN))
    return source


def _size(source: Source) -> int:
    """Number of examples."""
    if isinstance(source, Table):
        return len(source.frame)
    if isinstance(source, Folder):
        return len(source.files)
    inputs, _ = _only(source)
    return len(next(iter(inputs.values())))


def _only(source: Arrays) -> tuple[dict[str, Array], Array | None]:
    """Inputs and labels of a set without parts."""
    (part,) = source.parts().values()
    return part


def _labels(source: Source, target: str | None) -> Array | None:
    """Labels [n] as text or numbers; None where there are none."""
    if isinstance(source, Table):
        name = target_of(source, target)
        return None if name is None else source.frame[name].astype(str).to_numpy(str)
    if target is not None:
        raise UsageError(f"target: only tables have a column to name. Received {target!r}. Leave it out.")
    if isinstance(source, Folder):
        found = np.array([part_and_label(name)[1] for name in source.files])
        return found if found.astype(bool).any() else None
    _, labels = _only(source)
    if labels is None:
        return None
    return labels.argmax(1) if labels.ndim == 2 and labels.shape[1] > 1 else labels.reshape(len(labels), -1)[:, 0]


def _fitted(source: Source, adapter: Adapter) -> Dataset:
    """All examples as the model takes them, in the source's order."""
    specs = adapter.inputs()
    if isinstance(source, Arrays):
        inputs, labels = _only(source)
        return fit_inputs(Dataset(inputs, labels, str(source.path)), specs)
    found = read(source.path, specs=specs)
    assert isinstance(found, Dataset)
    return fit_inputs(found, specs)


def _rows(source: Source, target: str | None, seed: int) -> Iterator[Array]:
    """Examples as blocks of numbers [b, d]; images of a folder are made small one by one."""
    if isinstance(source, Table):
        name = target_of(source, target)
        features = table_features(source.frame.drop(columns=[] if name is None else [name]), seed)
        yield from (features[at : at + BLOCK] for at in range(0, len(features), BLOCK))
    elif isinstance(source, Folder):
        found = seen(source.path, source.files, f"colours of {SIDE}", _small)
        while some := [one for _, one in islice(found, BLOCK)]:
            yield np.stack([np.zeros((SIDE, SIDE, 3), np.uint8) if one is None else one for one in some]) / 255
    else:
        inputs, _ = _only(source)
        yield from (inputs_of(inputs, slice(at, at + BLOCK)) for at in range(0, _size(source), BLOCK))


def _small(_: Picture, pixels: Array | None) -> Array | None:
    """What is looked at of an image."""
    return None if pixels is None else thumbnail(pixels, SIDE, colour=True)
