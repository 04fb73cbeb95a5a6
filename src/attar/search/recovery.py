"""Candidates that are trained: from where rounding alone must stop, on to steeper slopes, each from a milder one's end.

Every candidate is planned on the weights that the nearest milder one was left with, trained under the penalty's price
of a bit, and evaluated on the select split from the bytes of its file, like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np

from attar.methods.base import distortion
from attar.plan.planner import Plan
from attar.recover.latents import bits, decoded, forms_of, stored, weight_of
from attar.recover.settings import RecoverySettings
from attar.recover.teacher import Teacher
from attar.recover.tune import Course
from attar.run.executor import generator
from attar.search.bracket import CLOSE, OCTAVE, Target, Trial, shown, slope_of, step_of
from attar.search.loop import Loop
from attar.search.subject import Candidate, Subject
from attar.types import Array, Encoded, Point, Weight

LEAP = 3 * OCTAVE // 2
"""Steps of the slope to the next candidate where all so far are on one side of the limit."""
AHEAD = 2 * OCTAVE
"""Steps of the slope from where rounding alone lands to the first trained candidate."""
BETWEEN = 0.5
"""Trained candidates stand at half steps of the slope: none is at that of a candidate that was rounded only."""
BOLD = 1.0
"""Standard deviations of luck that a candidate may need to be tested on the certify split."""


@dataclass
class Recovery:
    """The trained candidates of one run; ends has the unrounded weights and the remainder of each, by slope."""

    loop: Loop
    teacher: Teacher
    settings: RecoverySettings
    seed: int
    ends: dict[float, tuple[Mapping[str, Weight], Mapping[str, Array]]] = field(default_factory=dict)

    def extend(self, landed: float, target: Target, interrupted: Callable[[], bool]) -> list[Trial]:
        """Train candidates from above the slope that rounding landed on; those that may pass on the certify split."""
        trials: list[Trial] = []
        step = step_of(landed) + AHEAD
        while len(trials) < self.settings.candidates and not interrupted():
            trials.append(self.trial(slope_of(step) * 2 ** (BETWEEN / OCTAVE)))
            following = next_step(trials, target)
            if following is None:
                break
            step = following
        return [trial for trial in trials if shown(trial, target, -BOLD) <= target.limit]

    def trial(self, slope: float) -> Trial:
        """Train a candidate and evaluate it on the select split."""
        started = perf_counter()
        self.loop.built[slope] = self.train(slope)
        n, settings = len(self.teacher.data), self.settings
        self.loop.ledger.add(
            "training", slope=slope, epochs=settings.epochs, examples=n, labels=self.teacher.data.labels is not None,
            bytes=self.loop.built[slope].size_bytes, seconds=perf_counter() - started,
        )  # fmt: skip
        return self.loop.trial(slope, sharpen=False)

    def train(self, slope: float) -> Candidate:
        """The candidate of a slope, planned where a milder one ended and trained."""
        loop, before = self.loop, self.loop.subject
        subject = self._beginning(slope)
        planned = subject.build(slope / self.settings.pressure, loop.progress)
        encoded = {layer.name: subject.encoded(planned.plan, layer) for layer in subject.layers}
        free = [layer for layer in subject.layers if not subject.excluded(layer)]
        forms = forms_of(free, encoded, subject.weights)
        course = Course(
            self.teacher, forms, self.settings, slope=slope, classification=loop.kind != "regression",
            rng=generator(self.seed, f"recovery/{step_of(slope)}"),
            adapter=None if before.adapter is self.teacher.adapter else before.adapter,
            fixed={n: decoded(e) for n, e in encoded.items() if n not in {form.layer.name for form in forms}},
        )  # fmt: skip
        rest = course.run(loop.progress)
        self.ends[slope] = {form.layer.name: weight_of(form) for form in forms}, rest
        encoded |= {form.layer.name: stored(form) for form in forms}
        plan = Plan({name: self._point(each, planned.plan, name) for name, each in encoded.items()}, slope)
        data = replace(before, remainder=rest).pack(plan)
        return Candidate(slope, plan, data, planned.earned, trained=True)

    def _beginning(self, slope: float) -> Subject:
        """The subject with the weights of the nearest milder candidate, the original's where there is none."""
        before = self.loop.subject
        weights, rest = self.ends.get(max((s for s in self.ends if s < slope), default=0.0), ({}, {}))
        return replace(before, weights={**before.weights, **weights}, remainder=rest or before.remainder)

    def _point(self, encoded: Encoded, plan: Plan, name: str) -> Point:
        """Where a trained layer stands on its chart; its distortion is from the original's weights."""
        subject = self.loop.subject
        layer = next(layer for layer in subject.layers if layer.name == name)
        loss = distortion(layer, subject.weights[name], decoded(encoded), subject.stats[name])
        return Point(bits(encoded), loss, {**plan.choices[name].choice, "recovered": True}, encoded)


def next_step(trials: Sequence[Trial], target: Target) -> int | None:
    """Further out while all are within the limit, back while none is, otherwise between; None where that is close."""
    steps = {step_of(trial.slope): shown(trial, target, 0) for trial in trials}
    inside = [step for step, value in steps.items() if value <= target.limit]
    outside = [step for step, value in steps.items() if value > target.limit]
    if not outside:
        return max(inside) + LEAP
    if not inside:
        return min(outside) - LEAP
    low, high = max(inside), min((step for step in outside if step > max(inside)), default=0)
    if high - low <= CLOSE or high <= low:
        return None
    share = (target.limit - steps[low]) / (steps[high] - steps[low])
    return low + int(np.clip(round(share * (high - low)), CLOSE, high - low - 1))
