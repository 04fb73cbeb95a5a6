"""An evaluation in growing pieces, which stops as soon as it is plain on which side of the aim a candidate is.

The aim is the drop at which the bound on the certify split would meet the limit. On which side of it a candidate is is
known by bounds that hold at every number of examples (evaluate/sequential.py): the search, which steps back from what
is beyond and forward from what is within, has no need of the others.

On the certify split a candidate may stop in one way only: given up, where what has been seen leaves hardly a chance
that the bound on the whole will be within the limit. It is then not certified, which by itself can make no certificate
false: giving up turns passes into failures and never the reverse (stopping for futility, Lan and Wittes 1988).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from attar.evaluate.base import Floats, Metric
from attar.evaluate.score import part_of, score
from attar.evaluate.sequential import sequence_bounds, side
from attar.run.executor import generator
from attar.types import Array, Dataset, Score

PIECE, GROWTH = 256, 1.5
"""Examples of the first piece, and how much more have been seen after each."""
PLAIN = 0.95
"""Confidence of each bound that ends an evaluation."""
CHANCE = 0.002
"""Of ending within the limit after all, below which a candidate is given up: at each of a dozen looks, and one wrongly
given up ends the sequence, which costs more bytes than the examples are worth."""
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Aim:
    """What a drop is held against: the limit, and the examples and confidence of the bound that is to be within it."""

    limit: float
    examples: int
    confidence: float

    def decided(self, losses: Floats, low: float, high: float) -> tuple[float, float] | None:
        """The bounds on the mean of losses [n] where it is plainly beyond the aim or within it, else None."""
        margin = float(ndtri(self.confidence)) * float(losses.std()) / float(np.sqrt(self.examples))
        if not side(losses, low, high, self.limit - margin, PLAIN):
            return None
        return sequence_bounds(losses, low, high, PLAIN)


@dataclass(frozen=True, slots=True)
class Hope(Aim):
    """The same for a candidate's test itself, on so many examples: decided only where it is as good as lost."""

    def decided(self, losses: Floats, low: float, high: float) -> tuple[float, float] | None:
        """The bounds on the mean of losses [n] where the mean of all `examples` will hardly be within the aim."""
        n, spread = len(losses), float(losses.std())
        margin = float(ndtri(self.confidence)) * spread / float(np.sqrt(self.examples))
        luck = float(ndtri(1 - CHANCE)) * spread * float(np.sqrt(1 / n - 1 / self.examples))
        if float(losses.mean()) - luck <= self.limit - margin:
            return None
        return sequence_bounds(losses, low, high, PLAIN)


def order_of(n: int, seed: int) -> Rows:
    """The order in which examples are looked at, [n]: bounds need a random one, and data are often sorted by class."""
    return generator(seed, "pieces").permutation(n)


def ends(n: int) -> Iterator[int]:
    """Numbers of examples after which to look, the last of them n: whole batches."""
    seen = PIECE
    while seen < n:
        yield seen
        seen = PIECE * -(-int(seen * GROWTH) // PIECE)
    yield n


def losses_of(before: Score, after: Score, metric: Metric) -> tuple[Floats, float, float]:
    """What each example has lost, [n], and the least and the most that one can lose."""
    assert metric.limits is not None and before.per_example is not None and after.per_example is not None
    width = metric.limits[1] - metric.limits[0]
    losses = before.per_example - after.per_example
    # The original itself has the best value that there is, where it is compared with itself.
    return (losses if metric.higher_is_better else -losses), 0.0 if metric.relative_to_original else -width, width


@dataclass(frozen=True)
class Looked:
    """Scores on the examples that were looked at, in their order, and bounds where it stopped early."""

    before: Score
    after: Score
    new: int
    """Examples that the model was run on now."""
    bounds: tuple[float, float] | None


def look(
    run: Callable[[Mapping[str, Array]], Array], data: Dataset, metric: Metric, before: Score, order: Rows, aim: Aim, *,
    known: Array | None = None, whole: bool = False, progress: Callable[[int], None] | None = None,
) -> Looked:  # fmt: skip
    """Run a model over data in the order given until the aim is decided; whole: over all of it.

    known are outputs [m, ...] on the first examples from an earlier look, which are not computed again.
    """
    outputs = known
    start = 0 if known is None else len(known)
    for end in [len(order)] if whole else ends(len(order)):
        done = 0 if outputs is None else len(outputs)
        if end > done:
            rows = order[done:end]
            new = score(run, data.pick(rows), metric, before.outputs[rows], progress=progress).outputs
            outputs = new if outputs is None else np.concatenate([outputs, new])
        assert outputs is not None
        seen = part_of(before, order[: len(outputs)])
        each = metric.examples(outputs, seen.labels, seen.outputs)
        assert each is not None
        after = Score(metric.name, float(each.mean()), len(each), outputs, each, seen.labels)
        found = Looked(seen, after, len(outputs) - start, None)
        bounds = None if len(outputs) == len(order) else aim.decided(*losses_of(seen, after, metric))
        if bounds is not None:
            return replace(found, bounds=bounds)
    return found
