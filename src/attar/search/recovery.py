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
from attar.recover.pruning import allows, asked, holds
from attar.recover.settings import RecoverySettings
from attar.recover.teacher import Teacher
from attar.recover.tune import Course
from attar.run.executor import generator
from attar.run.kept import key_of
from attar.search import remember
from attar.search.bracket import CLOSE, OCTAVE, Target, Trial, shown, slope_of, step_of
from attar.search.loop import Loop
from attar.search.remember import Trained
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

    @property
    def alone(self) -> bool:
        """Whether no candidate may be handed back that was rounded only: it would lack the zeros that are asked for."""
        return asked(self.settings)

    def extend(self, landed: float, target: Target, interrupted: Callable[[], bool]) -> list[Trial]:
        """Train candidates from above the slope that rounding landed on; those that may pass on the certify split.

        Where they stand alone the safest of them at least; none where the run was interrupted before the first.
        """
        self._forewarn(interrupted())
        trials: list[Trial] = []
        step = step_of(landed) + AHEAD
        while len(trials) < self.settings.candidates and not interrupted():
            trials.append(self.trial(slope_of(step) * 2 ** (BETWEEN / OCTAVE)))
            following = next_step(trials, target)
            if following is None:
                break
            step = following
        likely = [trial for trial in trials if shown(trial, target, -BOLD) <= target.limit]
        if self.alone and trials and not likely:
            return [min(trials, key=lambda trial: shown(trial, target, 0))]
        return likely

    def _forewarn(self, interrupted: bool) -> None:
        """Say where zeros that are asked for will not be."""
        subject, pattern, note = self.loop.subject, self.settings.pattern, self.loop.progress.note
        if self.alone and interrupted:
            note("recovery: interrupted before a candidate was trained; what is handed back lacks the zeros asked for.")
        for layer in (layer for layer in subject.layers if self.alone and not subject.excluded(layer)):
            methods, _ = subject.allowed(layer)
            if not any(holds(name) for name in methods):
                note(f"{layer.name}: {', '.join(methods)} cannot have the zeros asked for; it stays without them.")
            elif pattern and not allows(layer, pattern):
                note(f"{layer.name}: {layer.groups} x {layer.cols} columns do not allow the pattern {pattern}.")

    def trial(self, slope: float) -> Trial:
        """Train a candidate and evaluate it on the select split."""
        started = perf_counter()
        self.loop.built[slope] = self.train(slope)
        n, settings = len(self.teacher.data), self.settings
        self.loop.ledger.add(
            "training", slope=slope, epochs=settings.epochs, examples=n, labels=self.teacher.data.labels is not None,
            bytes=self.loop.built[slope].size_bytes, zeros=zeros_in(self.loop.built[slope].plan),
            seconds=perf_counter() - started,
        )  # fmt: skip
        self.loop.built[slope] = self.loop.built[slope].bare()
        return self.loop.trial(slope, sharpen=False)

    def train(self, slope: float) -> Candidate:
        """The candidate of a slope, planned where a milder one ended and trained."""
        loop, before = self.loop, self.loop.subject
        subject = self._beginning(slope)
        planned = subject.build(slope / self.settings.pressure, loop.progress)
        encoded = {layer.name: subject.encoded(planned.plan, layer) for layer in subject.layers}
        done = remember.training(
            loop.kept, lambda: self._key(slope, subject, encoded), lambda: self._trained(slope, subject, encoded)
        )  # fmt: skip
        self.ends[slope] = done.weights, done.rest
        encoded |= done.encoded
        plan = Plan({name: self._point(each, planned.plan, name) for name, each in encoded.items()}, slope)
        data = replace(before, remainder=done.rest).pack(plan)
        return Candidate(slope, plan, data, planned.earned, trained=True)

    def _trained(self, slope: float, subject: Subject, encoded: Mapping[str, Encoded]) -> Trained:
        """One course of training, from what a plan stores of the subject's layers."""
        loop, before = self.loop, self.loop.subject
        free = [layer for layer in subject.layers if not subject.excluded(layer)]
        forms = forms_of(free, encoded, subject.weights)
        course = Course(
            self.teacher, forms, self.settings, slope=slope, classification=loop.kind != "regression",
            rng=generator(self.seed, f"recovery/{step_of(slope)}"),
            adapter=None if before.adapter is self.teacher.adapter else before.adapter,
            fixed={n: decoded(e) for n, e in encoded.items() if n not in {form.layer.name for form in forms}},
        )  # fmt: skip
        rest = course.run(loop.progress)
        weights = {form.layer.name: weight_of(form) for form in forms}
        return Trained(weights, rest, {form.layer.name: stored(form) for form in forms})

    def _key(self, slope: float, subject: Subject, encoded: Mapping[str, Encoded]) -> str:
        """The name under which a course of training is kept."""
        weights = {name: remember.weight_parts(weight) for name, weight in subject.weights.items()}
        codes = {name: [dict(each.arrays), str(each.meta), each.method] for name, each in encoded.items()}
        return key_of(
            "training", self.loop.marks.get("original"), remember.data_mark(self.teacher.data), str(self.settings),
            str(self.teacher.changes), self.loop.kind, self.seed, slope, weights, dict(subject.remainder), codes,
        )  # fmt: skip

    def _beginning(self, slope: float) -> Subject:
        """The subject with the weights of the nearest milder candidate, the original's where there is none."""
        before = self.loop.subject
        weights, rest = self.ends.get(max((s for s in self.ends if s < slope), default=0.0), ({}, {}))
        rules = {
            pattern: rule.model_copy(update={"methods": self._fitting(rule.methods)}) if rule.methods else rule
            for pattern, rule in (before.rules or {}).items()
        }
        return replace(
            before, weights={**before.weights, **weights}, remainder=rest or before.remainder,
            methods=self._fitting(before.methods), rules=rules,
        )  # fmt: skip

    def _fitting(self, methods: Sequence[str]) -> Sequence[str]:
        """The methods that can have the zeros that are asked for, if they are; all where none can."""
        return [name for name in methods if not self.alone or holds(name)] or methods

    def _point(self, encoded: Encoded, plan: Plan, name: str) -> Point:
        """Where a trained layer stands on its chart; its distortion is from the original's weights."""
        subject = self.loop.subject
        layer = next(layer for layer in subject.layers if layer.name == name)
        loss = distortion(layer, subject.weights[name], decoded(encoded), subject.stats[name])
        return Point(bits(encoded), loss, {**plan.choices[name].choice, "recovered": True}, encoded)


def zeros_in(plan: Plan) -> float:
    """The share of a plan's weights that are zero."""
    matrices = [decoded(point.encoded).matrix for point in plan.choices.values() if point.encoded is not None]
    return 1 - sum(np.count_nonzero(one) for one in matrices) / max(1, sum(one.size for one in matrices))


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
