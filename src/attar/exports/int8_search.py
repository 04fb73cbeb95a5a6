"""What 8-bit exports decide by a model's outputs, whatever the runtime: ranges of activations, operators in float."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, MutableMapping, Sequence
from typing import Any, Protocol, TypeVar

from attar.exports.judging import Judge, choices_of, worth_trying
from attar.exports.ranges import Range, Seen

EVALUATIONS = 8
"""Most full passes over the select split that are spent on giving operators back to float."""
FIRST, NEARER = 3, 0.2
"""First operators that may stay in float together, and the share of the divergence that each of them has to take."""
RUN = 4
"""Most operators behind each other that go to float together where outputs are near already."""
K = TypeVar("K", bound=Hashable)
Tried = TypeVar("Tried")
Operator = TypeVar("Operator", bound=Hashable, contravariant=True)


class Buildable(Protocol[Operator]):
    """What can be built with some operators in float."""

    def build(self, floats: Sequence[Operator] = ()) -> Any:
        """What a judge looks at, with these operators in float."""
        ...


class Work(Buildable[K], Protocol[K]):
    """A model on its way into integers."""

    @property
    def found(self) -> Mapping[K, Seen]:
        """What each activation was like."""
        ...

    @property
    def ranges(self) -> MutableMapping[K, Range]:
        """What the integers of each activation span."""
        ...

    @property
    def rules(self) -> MutableMapping[K, str]:
        """The rule that each range is by."""
        ...


def with_ranges(work: Work[K], judge: Judge, step: Callable[[], None] = lambda: None) -> float:
    """Choose the ranges in place: one rule for all tensors, then tensors that do better by another; gives the KL."""
    choices = choices_of(work.found)
    best, least = "", float("inf")
    for rule, ranges in choices.items():
        work.ranges.update(ranges)
        moved = judge(work.build())
        step()
        if moved < least or not best:
            best, least = rule, moved
    work.ranges.update(choices[best])
    work.rules.update(dict.fromkeys(choices[best], best))
    for name, rule in worth_trying(choices, choices[best]):
        kept = work.ranges[name]
        work.ranges[name] = choices[rule][name]
        moved = judge(work.build())
        step()
        if moved < least:
            least, work.rules[name] = moved, rule
        else:
            work.ranges[name] = kept
    return least


def first_floats(
    work: Buildable[K], operators: Sequence[K], judge: Judge, step: Callable[[], None] = lambda: None
) -> list[K]:
    """The first operators that have to be in float together: up to FIRST of them, where each brings outputs nearer.

    What lies between two operators stays in 8 bits while one of them is in integers, so that each alone may gain
    nothing; and what the first ones round is the source of all else.
    """
    best: list[K] = []
    least = judge(work.build())
    for count in range(1, min(FIRST, len(operators) - 1) + 1):
        moved = judge(work.build(operators[:count]))
        step()
        if moved < (1 - NEARER) * least:
            best, least = list(operators[:count]), moved
    return best


def runs_first(
    work: Buildable[K],
    operators: Sequence[K],
    judge: Judge,
    counts: Mapping[K, float],
    kept: Sequence[K] = (),
    ends: Collection[K] = (),
    step: Callable[[], None] = lambda: None,
) -> list[list[K]]:
    """Runs of up to RUN operators, cut behind `ends`, by how much nearer the outputs are for their multiply-adds.

    What lies inside of a run is in float with it, so that it gains more than its operators do one by one, which is
    within the noise of the few examples of a judge where outputs are near already. `kept` are in float.
    """
    runs: list[list[K]] = []
    for one in operators:
        if one not in kept:
            if not runs or len(runs[-1]) == RUN or runs[-1][-1] in ends:
                runs.append([])
            runs[-1].append(one)
    least, gains = judge(work.build(kept)), []
    for run in runs:
        gains.append((least - judge(work.build([*kept, *run]))) / max(sum(counts.get(one, 0.0) for one in run), 1.0))
        step()
    return [runs[k] for k in sorted(range(len(runs)), key=lambda k: -gains[k])]


def worst_first(
    work: Buildable[K],
    operators: Sequence[K],
    judge: Judge,
    step: Callable[[], None] = lambda: None,
    kept: Sequence[K] = (),
) -> list[K]:
    """Operators by how much nearer the outputs are with each of them in float, the most first; `kept` are in float."""
    gains: dict[K, float] = {}
    for one in operators:
        if one not in kept:
            gains[one] = judge(work.build([*kept, one]))
            step()
    return sorted(gains, key=gains.__getitem__)


def fewest_floats(
    order: Sequence[Tried], passes: Callable[[Sequence[Tried]], bool], most: int = EVALUATIONS
) -> list[Tried]:
    """The shortest beginning of an order of operators that passes when in float, in at most `most` tests; else all.

    Halved by ratio, since few are the rule: of 50 the first 7 are tried first. `passes` is for a beginning.
    """
    low, high = 0, len(order)
    for _ in range(most):
        if high - low <= 1:
            break
        middle = min(max(round(math.sqrt(max(low, 1) * high)), low + 1), high - 1)
        low, high = (low, middle) if passes(order[:middle]) else (middle, high)
    return list(order[:high])


def within_drop(
    work: Buildable[K],
    operators: Sequence[K],
    judge: Judge,
    acceptable: Callable[[Any], bool],
    step: Callable[[], None] = lambda: None,
) -> list[K]:
    """Operators that have to stay in float for the drop on the select split: as few as can be, by their effect."""
    if acceptable(work.build()):
        return []
    return floats_within(work, operators, judge, acceptable, EVALUATIONS - 1, step)


def floats_within(
    work: Buildable[K],
    operators: Sequence[K],
    judge: Judge,
    acceptable: Callable[[Any], bool],
    most: int,
    step: Callable[[], None] = lambda: None,
) -> list[K]:
    """The same for a model that is known not to pass in integers, in at most `most` tests."""
    kept = first_floats(work, operators, judge, step)
    if kept:
        most -= 1
        if acceptable(work.build(kept)):
            return kept
    order = worst_first(work, operators, judge, step, kept)
    return [*kept, *fewest_floats(order, lambda some: acceptable(work.build([*kept, *some])), most)]
