"""What a certified file's size owes to luck, and to evaluations that stop early, on a real model.

    python benchmarks/resampled.py [--only lenet300 lenet5] [--methods uniform keep] [--runs 300]

One run says little: all seeds share the examples that certify, and half of the luck of a candidate is its own. So every
candidate along the slope is made once and run on the select and the certify split of the examples. Each simulated run
then draws both splits anew, with replacement, from these 14,000, and the search's own code chooses among the
candidates. A certificate is false where all 14,000 lose more than the limit.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from acceptance import markdown
from attar import pipeline
from attar.beginning import job_of
from attar.recipe import METHODS
from attar.run.ledger import Ledger
from attar.run.progress import Silent
from attar.search.bracket import slope_of, step_of
from attar.search.course import first_slope, search
from attar.search.divergence import divergence
from attar.types import Array, Score
from false_certificates import LIMIT, METRIC, Simulated, looped
from search_cases import DATA, MODELS

BELOW, ABOVE = 40, 24
"""Steps of the grid of candidates on both sides of the search's first slope."""
SIZES = {"select": 4000, "certify": 10_000}


@dataclass(frozen=True)
class Pool:
    """All candidates of a model on all examples: outputs [steps, n, classes], scores [steps, n], sizes [steps]."""

    first: int
    """The step of the first."""
    before: Array
    labels: Array
    after: Array
    sizes: Array
    weights: int

    @staticmethod
    def of(name: str, methods: Sequence[str]) -> Pool:
        """The candidates of an example model, made and run."""
        job = job_of(MODELS / f"{name}.onnx", DATA, None, {"max_drop": LIMIT, "methods": list(methods)})
        loop = pipeline.loop_of(job, Ledger(), Silent())
        middle = step_of(first_slope(loop.subject))
        after, sizes = [], []
        for step in range(middle - BELOW, middle + ABOVE + 1):
            candidate = loop.subject.build(slope_of(step))
            loop.subject.put(candidate)
            run = loop.subject.adapter.run
            batches = [batch for split in SIZES for batch in getattr(loop.splits, split).batches(256)]
            after.append(np.concatenate([run(batch) for batch in batches]))
            sizes.append(candidate.size_bytes)
        before, labels = (np.concatenate([getattr(loop.before[s], of) for s in SIZES]) for of in ("outputs", "labels"))
        return Pool(middle - BELOW, before, labels, np.array(after), np.array(sizes), loop.subject.weight_count)

    def at(self, slope: float) -> int:
        """The candidate that stands for a slope: beyond the grid its last."""
        return int(np.clip(step_of(slope) - self.first, 0, len(self.sizes) - 1))


@dataclass(frozen=True)
class Drawn:
    """A pool as one run sees it: rows of each split are drawn."""

    pool: Pool
    rows: dict[str, Array]

    def score(self, slope: float | None, split: str) -> Score:
        pool, rows = self.pool, self.rows[split]
        outputs = (pool.before if slope is None else pool.after[pool.at(slope)])[rows]
        labels = pool.labels[rows]
        each = METRIC.examples(outputs, labels, pool.before[rows])
        return Score(METRIC.name, float(each.mean()), len(each), outputs, each, labels)

    def moved(self, slope: float, split: str, rows: Array) -> float:
        chosen = self.rows[split][rows]
        before, after = self.pool.before[chosen], self.pool.after[self.pool.at(slope)][chosen]
        return float(divergence(before, after, "logits").mean())


class Resampled(Simulated):
    """The search's own loop over drawn examples."""

    model: Drawn

    def cost(self, slope: float) -> float:
        return float(self.model.pool.sizes[self.model.pool.at(slope)])


def outcomes(pool: Pool, runs: int, early: bool) -> Array:
    """[runs, 5]: bytes, whether certified, whether falsely, shares of eight passes over select and over certify."""
    right = METRIC.examples(pool.before, pool.labels, pool.before).mean()
    true = [float(right - METRIC.examples(after, pool.labels, pool.before).mean()) for after in pool.after]
    found = []
    for seed in range(runs):
        rng = np.random.default_rng([3, seed])
        drawn = Drawn(pool, {split: rng.integers(0, len(pool.labels), n) for split, n in SIZES.items()})
        loop = looped(Resampled, drawn, seed, early, SIZES, pool.weights)
        outcome = search(loop)
        at, certified = pool.at(outcome.candidate.slope), outcome.certificate.verdict == "certified"
        looked = [loop.examples[split] / 8 / n for split, n in SIZES.items()]
        found.append([pool.sizes[at], certified, certified and true[at] > LIMIT, *looked])
    return np.array(found, float)


def row(name: str, way: str, found: Array) -> list[str]:
    """One line of the table."""
    sizes, runs, false = found[:, 0], len(found), int(found[:, 2].sum())
    low, high = beta.ppf([0.025, 0.975], [false, false + 1], [runs - false + 1, runs - false])
    logs = np.log(sizes)
    mean, error = np.exp(logs.mean()), 100 * logs.std() / np.sqrt(runs)
    tenth, most = np.percentile(sizes, (10, 90))
    interval = f"{100 * np.nan_to_num(low):.1f} to {100 * high:.1f}"
    return [
        name, way, f"{mean:,.0f} ± {error:.1f} %", f"{tenth:,.0f}", f"{most:,.0f}",
        f"{100 * found[:, 1].mean():.1f} %", f"{100 * false / runs:.1f} % ({interval})",
        *(f"{100 * share:.1f} %" for share in found[:, 3:].mean(0)),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["lenet300", "lenet5"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--runs", type=int, default=300)
    given = parser.parse_args()
    rows = []
    for name in given.only:
        pool = Pool.of(name, given.methods)
        for way, early in (("stopping early", True), ("whole", False)):
            rows.append(row(name, way, outcomes(pool, given.runs, early)))
    head = [
        "model",
        "evaluations",
        "bytes, geometric mean",
        "10 %",
        "90 %",
        "certified",
        "falsely",
        "select",
        "certify",
    ]
    print(markdown(head, rows))


if __name__ == "__main__":
    main()
