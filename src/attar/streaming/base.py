"""What streaming needs of an adapter, and what all its stages share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attar.adapters.base import Gradients
from attar.errors import OutputError
from attar.job import Job
from attar.run.kept import Kept, Unit
from attar.run.progress import Progress
from attar.run.states import States
from attar.streaming.settings import StreamSettings
from attar.types import Array, Layer, Stats, Weight

Ids = NDArray[np.int64]
Inputs = tuple[Array | None, Array]
"""States [n, t, d] before a part (None before the first), and ids [n, t]."""
Lookups = tuple[Array, Array]
"""Ids [n] that a table was asked for, and the squared gradients of the vectors found there [n]."""
TOKENS = 2048
"""Tokens that a part works on at once."""
SCORED = 256
"""The same behind the last block, where every token has a score for every word."""


class Part(Protocol):
    """One part of a model, its weights in memory; more on its methods in adapters/transformers/part.py."""

    def read(self, name: str) -> Weight:
        """A layer's matrix and bias."""
        ...

    def write(self, name: str, weight: Weight) -> None:
        """The inverse, rounded to the dtype of the folder."""
        ...

    def remainder(self) -> dict[str, Array]:
        """All other tensors."""
        ...

    def restore(self, remainder: Mapping[str, Array]) -> None:
        """The inverse, of the part's own tensors among many."""
        ...

    def run(self, states: Array | None, ids: Array) -> Array:
        """States behind it, or what metrics look at."""
        ...

    def moments(self, inputs: Iterable[Inputs], names: Sequence[str] | None = None) -> dict[str, Stats]:
        """Input statistics of its layers."""
        ...

    def pull(
        self, inputs: Inputs, cotangent: Array | None, squares: dict[str, Array], rng: np.random.Generator
    ) -> tuple[Array | None, dict[str, Lookups]]:
        """The gradient before it from that behind it, squared ones of its layers added to squares."""
        ...

    def pullback(self, inputs: Inputs, cotangent: Callable[[Array], Array]) -> Gradients:
        """Gradients of its layers, their biases and its other parameters, from that of the states behind it."""
        ...


class Model(Protocol):
    """A model that is opened part by part; more in adapters/transformers/stream.py."""

    framework: str

    @property
    def parts(self) -> int:
        """Their number: the blocks, and one before and behind them."""
        ...

    def part(self, number: int, *, blank: bool = False) -> AbstractContextManager[Part]:
        """One of them with its weights, or with room for others."""
        ...

    def layers(self) -> list[Layer]:
        """All matrices, tied ones under each name."""
        ...

    def layers_of(self, number: int) -> list[Layer]:
        """Those that belong to a part."""
        ...

    def stored(self, number: int) -> list[tuple[str, str]]:
        """The matrices of a part, and under which name each is stored."""
        ...

    def head(self) -> str | None:
        """The matrix of the first part that is multiplied by behind the blocks."""
        ...

    def skipped(self) -> Mapping[str, str]:
        """What is left as it is, and why."""
        ...

    def skeleton(self) -> bytes:
        """The graph."""
        ...

    def settled(self, number: int, stats: Mapping[str, Stats]) -> dict[str, Stats]:
        """Statistics with what is known beforehand."""
        ...

    def weighed(self, stats: Mapping[str, Stats], lookups: Mapping[str, Lookups]) -> dict[str, Stats]:
        """Statistics in which a word counts by what its vector does to the output."""
        ...


@dataclass(frozen=True)
class Stream:
    """One run: mark is a hash of model, data and settings, by which work is kept."""

    model: Model
    job: Job
    settings: StreamSettings
    kept: Kept
    states: States
    mark: str
    progress: Progress
    stop: Callable[[], bool] = lambda: False

    @property
    def last(self) -> int:
        """The number of the part behind the blocks."""
        return self.model.parts - 1

    def ids(self, split: str) -> Ids:
        """The windows [n, t] of a split."""
        return np.ascontiguousarray(getattr(self.job.splits, split).inputs["input_ids"], np.int64)

    def unit(self, key: str) -> Unit:
        """What was kept a moment ago; raises OutputError where the disk did not take it."""
        found = self.kept.get(key)
        if found is None:
            raise OutputError(
                f"work {str(self.kept.folder)!r}: the disk must take what is done. Received a full or unwritable one. "
                "Free some space, or choose another folder with --work."
            )
        return found

    def course(self, slope: float) -> str:
        """What tells the work at one slope from that at others, and from the same slope with blocks trained."""
        steps = self.settings.recovery
        return f"{slope.hex()}-{steps}" if steps else slope.hex()

    def layers(self) -> list[Layer]:
        """The matrices that are stored."""
        return [layer for layer in self.model.layers() if layer.tied_to is None]

    def inputs(self, name: str, ids: Ids, number: int) -> Iterator[Inputs]:
        """What a part is given, a few windows at a time: the states behind the part before it, and ids."""
        for start, stop in chunks(ids, SCORED if number == self.last else TOKENS):
            yield (self.states.rows(f"{name}.{number - 1}", start, stop) if number else None), ids[start:stop]


def chunks(ids: Ids, tokens: int) -> Iterator[tuple[int, int]]:
    """Windows [start, stop) of at most so many tokens together, one at least."""
    step = max(1, tokens // max(ids.shape[1], 1))
    return ((start, min(start + step, len(ids))) for start in range(0, len(ids), step))


def flow(
    stream: Stream,
    groups: Mapping[str, Ids],
    opened: Callable[[int], AbstractContextManager[Part]],
    *,
    before: Callable[[int, Part], None] | None = None,
    held: Sequence[str] = (),
    scored: Sequence[str] = (),
) -> dict[str, Array]:
    """Take windows through all parts, one part in memory at a time; what comes out at the end of those scored.

    States are dropped when the next part has them, but for those held. `before` sees a part before anything runs
    through it. What an interrupted run has kept on disk is not computed again.
    """
    states, last = stream.states, stream.last
    done = [k for k in range(last) if groups and all(f"{name}.{k}" in states for name in groups)]
    found: dict[str, Array] = {}
    for number in range(max(done, default=-1) + 1, last + 1):
        if stream.stop():
            raise KeyboardInterrupt
        with opened(number) as part:
            if before is not None:
                before(number, part)
            for name, ids in groups.items():
                given = stream.inputs(name, ids, number)
                if number == last and name in scored:
                    found[name] = np.concatenate([part.run(*one) for one in given])
                elif number < last:
                    states.put(f"{name}.{number}", len(ids), (part.run(*one) for one in given))
        for name in groups:
            if name not in held:
                states.drop(f"{name}.{number - 1}")
        stream.progress.step()
    return found
