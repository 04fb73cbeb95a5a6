"""How often a certificate is false: the search and its fixed sequence on simulated models, beside ways that look twice.

    python benchmarks/false_certificates.py [--runs 1000]

Each run is a model of its own: how its drop and its flips grow with the slope is drawn, and every candidate's true drop
is known. Examples change sides as that drop says, on the select split and on the certify split, each drawn once. What a
run hands back as certified is false where its true drop is above the limit.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from scipy.stats import beta

from acceptance import markdown
from attar.evaluate.budget import Budget
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import Accuracy
from attar.evaluate.score import part_of
from attar.plan.planner import Plan
from attar.run.ledger import Ledger
from attar.run.progress import Silent
from attar.search.course import FIRST_KL, search
from attar.search.in_order import Outcome
from attar.search.loop import Found, Loop
from attar.search.pieces import ends, losses_of, order_of
from attar.search.subject import Candidate
from attar.types import Certificate, Dataset, Score, Splits

LIMIT, RIGHT = 0.5, 0.9
"""Allowed drop in points; share of examples that the original gets right."""
SIZES = {"select": 4000, "certify": 8000}
FIRST = 2 * float(np.log(2)) * FIRST_KL
"""The slope that the search begins with (`first_slope`)."""
METRIC = Accuracy()
OWN = 0.27
"""Share of examples whose luck is a candidate's own: losses of two candidates then correlate at 0.53, as those of
neighbouring ones of LeNet-300-100 and LeNet-5 do (0.4 to 0.7, hardly more for the nearest)."""


class Known(Protocol):
    """A model all of whose candidates are known."""

    def score(self, slope: float | None, split: str) -> Score:
        """What a candidate, or None: the original, scores on a split."""
        ...

    def moved(self, slope: float, split: str, rows: np.ndarray) -> float:
        """Its mean KL on rows of a split."""
        ...


@dataclass
class Model:
    """A simulated model: drops in points, and shares of examples that change sides, by slope."""

    cost: float
    power: float
    flips: float
    seed: int
    rng: np.random.Generator
    draws: dict[str, np.ndarray] = field(default_factory=dict)

    def kl(self, slope: float) -> float:
        """Nats; what the search fits."""
        return float(FIRST_KL * (slope / FIRST) ** self.power)

    def moved(self, slope: float, *_: object) -> float:
        """The same whatever the examples: of those that decide nothing is left to luck."""
        return self.kl(slope)

    def drop(self, slope: float) -> float:
        """The true drop in points."""
        return self.cost * self.kl(slope)

    def score(self, slope: float | None, split: str) -> Score:
        """Right (100) and wrong (0) on a split; None: the original.

        Who falls at a slope falls at all steeper ones, but for the share of examples that each candidate draws anew.
        """
        if split not in self.draws:
            self.draws[split] = self.rng.random(SIZES[split])
        draws = self.draws[split]
        right = np.arange(len(draws)) < RIGHT * len(draws)
        if slope is not None:
            own = np.random.default_rng([self.seed, round(64 * np.log2(slope)) % 2**32, SIZES[split]])
            draws = np.where(own.random(len(draws)) < OWN, own.random(len(draws)), draws)
            gained = self.flips * np.sqrt(self.kl(slope))
            lost = gained + self.drop(slope) / 100
            right = np.where(right, draws > lost / RIGHT, draws < gained / (1 - RIGHT))
        values = 100.0 * right
        return Score("accuracy", float(values.mean()), len(values), np.empty((len(values), 1)), values)


class Simulated(Loop):
    """The search's own loop, with candidates that are numbers."""

    model: Known
    verdicts: dict[str, dict[float, Certificate]]
    shown: dict[float, int]
    """Examples of evaluations that stopped early, by slope."""

    @property
    def asked(self) -> set[float]:
        """The slopes of all candidates that the search made."""
        return {slope for certificates in self.verdicts.values() for slope in certificates}

    def seen(self, slope: float, split: str, *, whole: bool) -> Found:
        after, before = self.model.score(slope, split), self.before[split]
        known, bounds, level = self.shown.get(slope, 0), None, self.level(slope, split)
        rows = np.arange(before.n)
        self.verdicts[split][slope] = verdict = certify(before, after, METRIC, LIMIT, level)
        if not whole:
            order, aim = order_of(before.n, self.seed), self.aim(split, level)
            for end in ends(before.n):
                few = part_of(before, order[:end]), part_of(after, order[:end])
                bounds = None if end == before.n else aim.decided(*losses_of(*few, METRIC))
                if bounds is not None:
                    before, after, rows = *few, order[:end]
                    verdict = certify(before, after, METRIC, LIMIT, level)
                    break
        if split == "select" and bounds is not None:
            self.shown[slope] = after.n
        elif split == "certify":
            known = 0
            if bounds is None:
                self.certified.append((self.candidate(slope), after))
            else:
                verdict = replace(verdict, verdict="not certified")
        self.count += not known
        self.examples[split] = self.examples.get(split, 0) + after.n - known
        return Found(verdict, before, after, self.model.moved(slope, split, rows), after.n - known, bounds)

    def candidate(self, slope: float) -> Candidate:
        return Candidate(slope, Plan({}, slope), b"", {})


@dataclass
class Size:
    """What `first_slope` asks of a subject."""

    weight_count: int = 1


def looped(
    kind: type[Simulated], model: Known, seed: int, early: bool, sizes: dict[str, int], weights: int
) -> Simulated:
    """A loop of a kind over a model's candidates; early: evaluations of the search may stop early."""
    sets = {name: Dataset({"x": np.empty((n, 0))}) for name, n in sizes.items()}
    splits = Splits(sets["select"], sets["select"], sets["certify"])
    loop = kind(Size(weights), splits, METRIC, Budget(LIMIT), "classification", Ledger(), Silent(), None)  # type: ignore[arg-type]
    loop.model, loop.verdicts, loop.shown = model, {"select": {}, "certify": {}}, {}
    loop.seed, loop.early_stop = seed, early
    loop.before = {split: model.score(None, split) for split in sizes}
    return loop


def simulated(seed: int, early: bool = True) -> Simulated:
    """One model and its loop; early: evaluations of the search may stop early."""
    rng = np.random.default_rng([7, seed])
    model = Model(float(rng.uniform(5, 80)), float(rng.uniform(0.6, 1.8)), float(rng.uniform(0.02, 0.2)), seed, rng)
    return looped(Simulated, model, seed, early, SIZES, 1)


def ours(_: Simulated, outcome: Outcome) -> float | None:
    """The slope of what attar calls certified."""
    return outcome.candidate.slope if outcome.certificate.verdict == "certified" else None


def best_of_all(loop: Simulated, _: Outcome) -> float | None:
    """The smallest of the same candidates whose bound on the certify split is within the limit, in whatever order."""
    for slope in list(loop.asked):
        loop.evaluate(slope, "certify")
    return max((s for s, one in loop.verdicts["certify"].items() if one.upper <= LIMIT), default=None)


def on_select(loop: Simulated, _: Outcome) -> float | None:
    """The smallest whose bound is within the limit on the examples that the search looked at."""
    for slope in list(loop.asked):
        loop.evaluate(slope, "select")
    return max((s for s, one in loop.verdicts["select"].items() if one.upper <= LIMIT), default=None)


def observed(loop: Simulated, _: Outcome) -> float | None:
    """The smallest whose observed drop there is within the limit: what tuners hand back."""
    return max((s for s, one in loop.verdicts["select"].items() if one.drop <= LIMIT), default=None)


WAYS: dict[str, Callable[[Simulated, Outcome], float | None]] = {
    "attar": ours, "best bound of all on certify": best_of_all, "best bound on select": on_select,
    "observed drop on select": observed,
}  # fmt: skip


def shares(runs: int) -> dict[str, tuple[int, int]]:
    """By way: runs that called something certified, and those of them whose true drop is above the limit."""
    found = {name: [0, 0] for name in WAYS}
    for seed in range(runs):
        loop = simulated(seed)
        outcome = search(loop)
        for name, way in WAYS.items():
            slope = way(loop, outcome)
            found[name][0] += slope is not None
            found[name][1] += slope is not None and loop.model.drop(slope) > LIMIT
    return {name: (claims, false) for name, (claims, false) in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    rows = []
    for name, (claims, false) in shares(runs).items():
        low, high = beta.ppf([0.025, 0.975], [false, false + 1], [runs - false + 1, runs - false])
        rows.append(
            [
                name,
                f"{claims:,}",
                f"{100 * false / runs:.1f} %",
                f"{100 * np.nan_to_num(low):.1f} to {100 * high:.1f} %",
            ]
        )
    print(markdown(["way", f"certified of {runs:,} runs", "false, of all runs", "95 % interval"], rows))


if __name__ == "__main__":
    main()
