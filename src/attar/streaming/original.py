"""What is known of the original before anything is rounded: its outputs, and how much each row matters to them.

Sensitivities are those of a run in memory (adapters/transformers/fisher.py): squared gradients of the likelihood of
labels that the model itself draws. The gradient goes backward through one block after the other, each computed again
from its stored input (checkpointing; Chen et al. 2016), so that no more than one block is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from attar.run.executor import generator
from attar.run.kept import key_of
from attar.streaming.base import SCORED, TOKENS, Ids, Lookups, Part, Stream, chunks, flow
from attar.types import Array, Json, Stats

GRADIENT_TOKENS = TOKENS // 4
"""Tokens whose activations are kept for a gradient at once."""


@dataclass(frozen=True)
class Known:
    """rows: squared gradients [rows] by layer, summed and not yet averaged; tokens: over how many.

    lookups by table; head: input statistics of a head that is tied to the embeddings, which come first.
    """

    rows: Mapping[str, Array]
    tokens: int
    lookups: Mapping[str, Lookups]
    head: Stats | None


def outputs(stream: Stream, splits: tuple[str, ...]) -> dict[str, Array]:
    """The original's outputs [n, t - 1, classes + 1] on splits, from what is kept or by one flow."""
    keys = {split: key_of("original", stream.mark, split) for split in splits}
    found = {split: unit[1]["outputs"] for split in splits if (unit := stream.kept.get(keys[split])) is not None}
    missing = [split for split in splits if split not in found]
    if missing:
        stream.progress.stage(f"original on {', '.join(missing)}", stream.model.parts)
        groups = {f"original-{split}": stream.ids(split) for split in missing}
        made = flow(stream, groups, stream.model.part, scored=list(groups))
        for split in missing:
            found[split] = made[f"original-{split}"]
            stream.kept.put(keys[split], split, {"outputs": found[split]})
    return found


def known(stream: Stream) -> Known:
    """Sensitivities by gradients on a few windows; kept part by part."""
    ids = stream.ids("calibrate")
    few = ids[: stream.settings.windows]
    keys = [key_of("gradient", stream.mark, number) for number in range(stream.model.parts)]
    missing = any(stream.kept.get(key) is None for key in keys)
    head = _ahead(stream, ids, few, gradients=missing)
    if missing:
        _backward(stream, few, keys)
    rows: dict[str, Array] = {}
    lookups: dict[str, Lookups] = {}
    owners = dict(stream.model.stored(stream.last))
    for key in keys:
        unit = stream.unit(key)
        for name, array in unit[1].items():
            kind, _, layer = name.partition("/")
            if kind == "rows":
                rows[owners.get(layer, layer)] = array
            elif kind == "ids":
                lookups[layer] = (array, unit[1][f"weights/{layer}"])
    return Known(rows, len(few) * (few.shape[1] - 1), lookups, head)


def _ahead(stream: Stream, ids: Ids, few: Ids, *, gradients: bool) -> Stats | None:
    """Take windows to the end: a few for gradients, their states held; where the head is tied, all, for what it sees.

    Gives the statistics of a tied head, None where there is none.
    """
    name, key = stream.model.head(), key_of("head", stream.mark)
    unit = None if name is None else stream.kept.get(key)
    groups = {"few": few} if gradients else {}
    if name is not None and unit is None:
        groups["calibrate"] = ids

    def look(number: int, part: Part) -> None:
        if number == stream.last and "calibrate" in groups:
            tied = next(site for site, owner in stream.model.stored(number) if owner == name)
            stats = part.moments(stream.inputs("calibrate", ids, number), [tied])[tied]
            stream.kept.put(key, [stats.count, stats.samples], {"hessian": stats.hessian, "mean": stats.mean})

    if groups:
        stream.progress.stage("original on calibrate", stream.model.parts)
        flow(stream, groups, stream.model.part, before=look, held=["few"])
    return None if name is None else _stats(*stream.unit(key))


def _stats(told: Json, arrays: Mapping[str, Array]) -> Stats:
    return Stats(arrays["hessian"], arrays["mean"], told[0], told[1])


def _backward(stream: Stream, few: Ids, keys: list[str]) -> None:
    """Squared gradients of every layer's outputs, from the last part to the first; states of the few are dropped."""
    rng = generator(stream.job.recipe.seed, "gradient")
    stream.progress.stage("gradients", stream.model.parts)
    done = [n for n in range(1, stream.model.parts) if f"pulled.{n}" in stream.states]
    for number in reversed(range(min(done, default=stream.model.parts))):
        if stream.stop():
            raise KeyboardInterrupt
        _pulled(stream, number, few, keys[number], rng)
        stream.states.drop(f"pulled.{number + 1}")
        stream.progress.step()
    for number in range(stream.last):
        stream.states.drop(f"few.{number}")


def _pulled(stream: Stream, number: int, few: Ids, key: str, rng: np.random.Generator) -> None:
    """One part of it; the gradient behind the part before it becomes states."""
    squares: dict[str, Array] = {}
    looked: dict[str, list[Lookups]] = {}
    with stream.model.part(number) as part:

        def parts() -> Iterator[Array]:
            for start, stop in chunks(few, SCORED if number == stream.last else GRADIENT_TOKENS):
                states = stream.states.rows(f"few.{number - 1}", start, stop) if number else None
                ahead = stream.states.rows(f"pulled.{number + 1}", start, stop) if number < stream.last else None
                gradient, found = part.pull((states, few[start:stop]), ahead, squares, rng)
                for name, one in found.items():
                    looked.setdefault(name, []).append(one)
                if gradient is not None:
                    yield gradient

        pulled = list(parts())
    arrays: dict[str, Array] = {f"rows/{name}": rows for name, rows in squares.items()}
    for name, pairs in looked.items():
        arrays[f"ids/{name}"] = np.concatenate([ids for ids, _ in pairs])
        arrays[f"weights/{name}"] = np.concatenate([weights for _, weights in pairs])
    stream.kept.put(key, number, arrays)
    if number:  # last: what is there says that this part is done
        stream.states.put(f"pulled.{number}", len(few), iter(pulled))
