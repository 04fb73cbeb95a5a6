"""How calibration examples are chosen, how many there are, and what that does to a file's size at equal KL.

    python benchmarks/selection.py [--parts chosen number spoilt] [--count 500] [--seeds 10] [--own]

LeNet-5 and Fashion-MNIST. A seed draws a pool of 4,000 of the example set's 8,000 training images; each method chooses
its examples from that pool, so that methods are compared in pairs. From them come the statistics, as in a run
(`uniform` and `keep`, no recovery); sensitivities are measured once on 2,000 random images, or with --own on the chosen
ones. The size is that of the file whose outputs are KL = 0.01 nats from the original's on the 10,000 test images,
between files at slopes around it. "spoilt": 60 % of the pool are other images, 30 % are near copies (moved by a pixel,
with noise) of 40 of them, and 10 % more come from one class. --json FILE keeps what was measured and goes on from it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from attar import calibration, measuring, recipe, registry
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.evaluate.budget import Budget
from attar.evaluate.metrics import resolve_metric
from attar.job import Job
from attar.run.executor import generator
from attar.run.progress import Silent
from attar.search.course import first_slope
from attar.search.divergence import Kind, divergence, kind_of
from attar.search.subject import Subject
from attar.selection.features import of_model
from attar.selection.undecided import doubts_of
from attar.types import Array, Dataset, Splits

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
POOL = 4000
NUMBERS = (250, 500, 1000, 2000, 4000)
COPIED, COPIES, ONE_CLASS = 40, 0.3, 0.1
SHARED = 2000
TARGET = 0.01
"""Nats at which sizes are compared."""


class Bench:
    """The model, the images, and what was measured so far."""

    def __init__(self, model: str, results: Path | None, methods: Sequence[str]):
        self.model, self.path, self.methods = model, results, methods
        self.adapter = OnnxAdapter.open(EXAMPLES / "models" / f"{model}.onnx")
        parts = read(EXAMPLES / "fashion-mnist")
        assert not isinstance(parts, Dataset)
        self.train, self.test = (fit_inputs(parts[part], self.adapter.inputs()) for part in ("train", "test"))
        self.original = self.outputs(self.adapter, self.test)
        self.shared: dict[str, Array | None] | None = None
        self.rows: list[dict[str, Any]] = []
        if results is not None and results.exists():
            self.rows = json.loads(results.read_text())

    @staticmethod
    def outputs(adapter: OnnxAdapter, data: Dataset) -> Array:
        """The first output on all examples."""
        return np.concatenate([adapter.run(batch) for batch in data.batches(256)])

    def pool(self, seed: int, spoilt: bool) -> Dataset:
        """The images to choose from."""
        rng = generator(seed, "pool")
        order = rng.permutation(len(self.train))
        if not spoilt:
            return self.train.take(order[:POOL])
        assert self.train.labels is not None
        copies, same = int(COPIES * POOL), int(ONE_CLASS * POOL)
        plain, rest = order[: POOL - copies - same], order[POOL - copies - same :]
        alike = rest[self.train.labels[rest] == self.train.labels[rest[0]]][:same]
        copied = self.train.take(np.resize(plain[:COPIED], copies))
        x = next(iter(copied.inputs.values()))
        moved = np.stack([np.roll(one, rng.integers(-1, 2, 2), (-2, -1)) for one in x])
        moved = np.clip(moved + rng.normal(0, 0.01, x.shape), 0, 1).astype(np.float32)
        clean = self.train.take(np.concatenate([plain, alike]))
        (name,) = clean.inputs
        return Dataset(
            {name: np.concatenate([clean.inputs[name], moved])},
            np.concatenate([clean.labels, copied.labels]),
        )  # fmt: skip

    def subject(self, job: Job) -> tuple[Subject, Kind, float]:
        """A job's statistics, with its own sensitivities or those of all jobs, and the slope to begin with."""
        if self.shared is None:
            subject, _, kind, measure = measuring.measured(job, Silent())
            first = first_slope(subject)
            return subject.corrected(first, measure, Silent())[0], kind, first
        subject = measuring.subject_of(job, Silent())
        stats = {name: replace(one, sensitivity=self.shared[name]) for name, one in subject.stats.items()}
        first = first_slope(subject)
        return replace(subject, stats=stats), kind_of(self.original, True), first

    def share(self) -> None:
        """Measure sensitivities once, on images that no pool is known to favour, for all jobs."""
        data = self.train.take(generator(0, "sensitivities").permutation(len(self.train))[:SHARED])
        subject, _, _ = self.subject(self.job(data, 0))
        self.shared = {name: stats.sensitivity for name, stats in subject.stats.items()}

    def job(self, data: Dataset, seed: int) -> Job:
        """What `attar compress` would work on."""
        splits = Splits(replace(data, labels=None), self.test, self.test)
        run, metric = recipe.make(seed=seed), resolve_metric("accuracy")
        return Job(run, self.adapter, splits, metric, Budget(max_drop=0.5), 1, self.model)

    def size(self, data: Dataset, seed: int) -> dict[str, float]:
        """Bytes at TARGET for these calibration examples, and what their quality score says."""
        begun = time.perf_counter()
        job = self.job(data, seed)
        subject, kind, first = self.subject(job)
        started = time.perf_counter()
        quality = calibration.measured(subject, job.splits.calibrate, first, Silent())
        seconds = time.perf_counter() - started
        slope, points = first, []
        for _ in range(3):
            candidate = subject.build(slope)
            subject.put(candidate)
            changed = self.outputs(self.adapter, self.test)
            kl = float(divergence(self.original, changed, kind).mean())
            drop = float(
                np.mean(self.original.argmax(1) == self.test.labels) - np.mean(changed.argmax(1) == self.test.labels)
            )
            points.append((np.log(kl), np.log(candidate.size_bytes), 100 * drop))
            slope *= float(np.clip(TARGET / kl, 0.25, 4))
        for name, weight in subject.weights.items():
            self.adapter.write(name, weight)
        self.adapter.restore(subject.remainder)
        near = sorted(points, key=lambda point: abs(point[0] - np.log(TARGET)))[:2]
        (x0, y0, drop), (x1, y1, _) = near
        at = (np.log(TARGET) - x0) / (x1 - x0) if x1 != x0 else 0.0
        score = {"excess": np.nan, "twice": np.nan}
        if quality is not None:
            score = {"excess": quality.excess, "twice": quality.saved(2)}
        return {
            **score, "bytes": float(np.exp(y0 + at * (y1 - y0))), "drop": drop, "seconds": seconds,
            "all_seconds": time.perf_counter() - begun,
        }  # fmt: skip

    def measure(self, part: str, method: str, k: int, seed: int) -> dict[str, Any]:
        """One row, measured or found in the results."""
        own = self.shared is None
        key = {"model": self.model, "own": own, "part": part, "method": method, "k": k, "seed": seed}
        for row in self.rows:
            if key.items() <= row.items():
                return row
        pool = self.pool(seed, part == "spoilt")
        known = of_model(self.adapter, pool, seed, lambda _: None)
        known = replace(known, labels=pool.labels, doubts=doubts_of(self.adapter, pool, lambda _: None))
        chosen = registry.get("choice", method).choose(known, k, generator(seed, f"choice by {method}"))
        row = {**key, **self.size(pool.take(np.sort(chosen)), seed)}
        self.rows.append(row)
        if self.path is not None:
            self.path.write_text(json.dumps(self.rows, indent=1) + "\n")
        return row


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval (Student)."""
    n = len(values)
    half = float(student.ppf(0.975, n - 1)) * float(np.std(values, ddof=1)) / np.sqrt(n) if n > 1 else np.nan
    return float(np.mean(values)), half


def said(shares: Sequence[float]) -> str:
    """Shares as per cents with their interval."""
    mean, half = interval([100 * share for share in shares])
    return f"{mean:+.1f} % ± {half:.1f}" if np.isfinite(mean) else "-"


def chosen(bench: Bench, part: str, count: int, seeds: int) -> None:
    """All methods on the same pools: bytes, and their ratio to random's, pool by pool."""
    print(f"| {part}: {count:,} of {POOL:,} | bytes at KL {TARGET} | to random |\n|---|---|---|")
    base: list[float] = []
    for method in bench.methods:
        sizes = [bench.measure(part, method, count, seed)["bytes"] for seed in range(seeds)]
        base = base or sizes
        mean, half = interval(sizes)
        ratio = said([one / other - 1 for one, other in zip(sizes, base, strict=True)]) if sizes != base else "-"
        print(f"| {method} | {mean:,.0f} ± {half:,.0f} | {ratio} |", flush=True)


def number(bench: Bench, seeds: int) -> None:
    """Random examples, more and more of them: bytes beside those at the most, and what the score said of each step."""
    print(f"| examples | bytes at KL {TARGET} | to the most | score: excess | twice saves, by score | in fact |")
    print("|---|---|---|---|---|---|")
    found = {k: [bench.measure("number", "random", k, seed) for seed in range(seeds)] for k in NUMBERS}
    sizes = {k: [row["bytes"] for row in rows] for k, rows in found.items()}
    for k, rows in found.items():
        mean, half = interval(sizes[k])
        ratio = said([one / other - 1 for one, other in zip(sizes[k], sizes[NUMBERS[-1]], strict=True)])
        score, twice = (said([row[name] for row in rows]) for name in ("excess", "twice"))
        fact = "-"
        if 2 * k in sizes:
            fact = said([1 - after / before for before, after in zip(sizes[k], sizes[2 * k], strict=True)])
        print(f"| {k:,} | {mean:,.0f} ± {half:,.0f} | {ratio} | {score} | {twice} | {fact} |", flush=True)


PARTS = ("chosen", "number", "spoilt")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--own", action="store_true", help="sensitivities from the chosen examples, too")
    parser.add_argument("--methods", nargs="+", default=list(registry.names("choice")))
    parser.add_argument("--model", default="lenet5")
    parser.add_argument("--count", type=int, default=500, help="examples that are chosen")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}")
    bench = Bench(options.model, options.json, options.methods)
    if not options.own:
        bench.share()
    for part in options.parts:
        if part == "number":
            number(bench, options.seeds)
        else:
            chosen(bench, part, options.count, options.seeds)


if __name__ == "__main__":
    main()
