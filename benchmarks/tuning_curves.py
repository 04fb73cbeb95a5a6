"""Bytes at one KL and at one drop, with the parameters that `benchmarks/tuning.py` found and with the defaults.

    python benchmarks/tuning.py --only lenet300 lenet5 --json tuned.json
    python benchmarks/tuning_curves.py tuned.json

Files along the slope are made with both and run on the 14,000 examples of the select and the certify split. Bytes at a
KL are read off between files. Drops of single files have luck: a power law, drop against bytes, is fitted to all of
them. Intervals are 90 %, from examples drawn anew, the same for both.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import curve_fit

from attar import pipeline
from attar.beginning import job_of
from attar.run.kept import Kept
from attar.run.ledger import Ledger
from attar.run.progress import Silent
from attar.search.bracket import slope_of, step_of
from attar.search.course import first_slope
from attar.search.divergence import divergence
from attar.search.loop import Loop
from attar.types import Array
from search_cases import DATA, MODELS
from tuning import CASES

STEPS = range(-14, 23, 3)
"""Steps of the grid of slopes from where the search begins."""
KLS, DROPS = (0.005, 0.01, 0.02), (0.2, 0.3, 0.4)
DRAWS = 300


@dataclass(frozen=True)
class Curve:
    """Files along the slope: sizes [files], KL and what was lost (1), gained (-1) or neither [files, examples]."""

    sizes: Array
    kls: Array
    lost: Array

    @staticmethod
    def of(loop: Loop, **changed: Any) -> Curve:
        """The files of other settings or methods, made and run."""
        subject = replace(loop.subject, **changed, kept=Kept())
        splits = ("select", "certify")
        before, labels = (np.concatenate([getattr(loop.before[s], of) for s in splits]) for of in ("outputs", "labels"))
        right, sizes, kls, lost = before.argmax(1) == labels, [], [], []
        for step in STEPS:
            candidate = subject.build(slope_of(step_of(first_slope(loop.subject)) + step))
            subject.put(candidate)
            batches = [batch for split in splits for batch in getattr(loop.splits, split).batches(256)]
            outputs = np.concatenate([subject.adapter.run(batch) for batch in batches])
            sizes.append(candidate.size_bytes)
            kls.append(divergence(before, outputs, loop.kind))
            lost.append(right.astype(float) - (outputs.argmax(1) == labels))
        return Curve(np.array(sizes, float), np.array(kls), np.array(lost))

    def at_kl(self, kl: float, rows: Array) -> float:
        """Log bytes at a KL, on some of the examples."""
        return float(np.interp(np.log(kl), np.log(self.kls[:, rows].mean(1)), np.log(self.sizes)))

    def at_drop(self, drop: float, rows: Array) -> float:
        """Log bytes at a drop in points, on some of the examples."""
        lost, middle = self.lost[:, rows], np.log(self.sizes).mean()
        errors = 100 * np.sqrt(np.abs(lost).sum(1)) / len(rows)

        def law(logs: Array, level: float, fall: float) -> Array:
            return np.asarray(np.exp(level - fall * (logs - middle)))

        (level, fall), _ = curve_fit(law, np.log(self.sizes), 100 * lost.mean(1), (-1.0, 2.0), errors)
        return float(middle + (level - np.log(drop)) / fall)


def saved(plain: Curve, other: Curve, rows: Array) -> list[float]:
    """Share of the bytes that the other curve saves at each KL, then at each drop."""
    apart = [other.at_kl(kl, rows) - plain.at_kl(kl, rows) for kl in KLS]
    apart += [other.at_drop(drop, rows) - plain.at_drop(drop, rows) for drop in DROPS]
    return [float(1 - np.exp(one)) for one in apart]


def compare(name: str, plain: Curve, other: Curve) -> None:
    """A line for each place: what the other curve saves, and the interval of that."""
    count, rng = plain.lost.shape[1], np.random.default_rng(0)
    for title, curve in (("plain", plain), ("other", other)):
        points = zip(curve.sizes, curve.kls.mean(1), 100 * curve.lost.mean(1), strict=True)
        print(f"{name} {title}: " + "; ".join(f"{size:,.0f} {kl:.4f} {drop:+.2f}" for size, kl, drop in points))
    drawn = [saved(plain, other, np.asarray(rng.integers(0, count, count))) for _ in range(DRAWS)]
    low, high = np.percentile(drawn, (5, 95), axis=0)
    places = [f"KL {kl}" for kl in KLS] + [f"drop {drop}" for drop in DROPS]
    for place, one, least, most in zip(places, saved(plain, other, np.arange(count)), low, high, strict=True):
        print(f"{name} at {place}: saves {one:.1%} ({least:.1%} to {most:.1%})", flush=True)


def main() -> None:
    """One line for each case and place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tuned", type=Path, help="what tuning.py --json wrote")
    for name, found in json.loads(parser.parse_args().tuned.read_text()).items():
        file, methods = CASES[name]
        settings: dict[str, dict[str, Any]] = {}
        for key, value in found["values"].items():
            _, table, field = key.split(".")
            settings.setdefault(table, {})[field] = value
        job = job_of(MODELS / file, DATA, None, {"max_drop": 0.5, "methods": methods})
        loop = pipeline.loop_of(job, Ledger(), Silent())
        compare(name, Curve.of(loop, settings={}), Curve.of(loop, settings=settings))


if __name__ == "__main__":
    main()
