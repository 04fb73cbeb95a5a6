"""Every method's points on the layers of the example models, beside those of `uniform`, at a few slopes.

    python benchmarks/methods.py [--models lenet300 lenet5 resnet20 dwcnn] [--layers] [--run]

A method's gain is how much smaller D + slope * R it makes a layer than `uniform` does, R in bits by the entropy model
and D in nats of output KL predicted from 2,000 calibration images. --layers prints every layer's best point. --run puts
plans into the model and measures KL and drop on 4,000 images that neither statistics nor plans have seen.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attar import measuring, reading, recipe, registry
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.evaluate.budget import Budget
from attar.evaluate.metrics import resolve_metric
from attar.job import Job
from attar.methods.base import declined
from attar.run.progress import Silent
from attar.search.divergence import divergence, kind_of
from attar.search.subject import Subject
from attar.structure.scaling import ScalingSettings, move
from attar.types import Array, Dataset, Point

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
MODELS = ("lenet300", "lenet5", "resnet20", "dwcnn")
KLS = (0.003, 0.01, 0.02, 0.05)
"""Predicted KL at which slopes are taken, by the high-resolution rule slope = 2 ln 2 KL / weights."""
CALIBRATION, HELD_OUT = 2000, 4000
TOGETHER = {
    "uniform": ("uniform", "keep"),
    "+ lowrank": ("uniform", "lowrank", "keep"),
    "all": tuple(registry.names("method")),
}


@dataclass(frozen=True)
class Case:
    """One model with its statistics, and the images that these have not seen."""

    subject: Subject
    held_out: Dataset
    original: Array

    def slope(self, kl: float) -> float:
        """The slope that a predicted KL goes with."""
        return 2 * float(np.log(2)) * kl / self.subject.weight_count


def run(subject: Subject, data: Dataset) -> Array:
    """The working copy's outputs."""
    return np.concatenate([subject.adapter.run(batch) for batch in data.batches(256)])


def prepare(name: str, moves: str = "none") -> Case:
    """Statistics, sensitivities and their correction, as a run of attar finds them, after scale moves if asked for."""
    chosen = recipe.make(calibration_examples=CALIBRATION)
    adapter, metric = OnnxAdapter.open(EXAMPLES / "models" / f"{name}.onnx"), resolve_metric("accuracy")
    sets = {"data": EXAMPLES / "fashion-mnist", "calibrate": None, "select": None, "certify": None}
    splits = reading.read_splits(sets, chosen, adapter, metric)
    job = Job(chosen, adapter, splits, metric, Budget(max_drop=0.5), 1, name)
    if moves != "none":
        stats = adapter.moments(splits.calibrate.batches(256))
        job = replace(job, adapter=move(adapter, stats, ScalingSettings(moves=moves))[0])
    subject, few = measuring.subject_of(job, Silent()), splits.calibrate.take(range(CALIBRATION))
    original = run(subject, few)
    kind = kind_of(original, True)
    subject, _ = measuring.with_sensitivities(job, subject, few, kind, Silent())
    first = 2 * float(np.log(2)) * 0.01 / subject.weight_count
    subject, _ = subject.corrected(
        first, lambda: float(divergence(original, run(subject, few), kind).mean()), Silent()
    )  # fmt: skip
    held_out = splits.select.take(range(min(HELD_OUT, len(splits.select))))
    return Case(subject, held_out, run(subject, held_out))


def best(case: Case, method: str, slope: float) -> dict[str, Point]:
    """A method's point of least D + slope * R for every layer that it takes."""
    points = {}
    for layer in case.subject.layers:
        if declined(registry.get("method", method), layer, case.subject.stats[layer.name]) is None:
            offered = replace(case.subject, methods=(method,)).points(layer, slope)
            points[layer.name] = min(offered, key=lambda p: cost(p, slope))
    return points


def cost(point: Point, slope: float) -> float:
    """What the plan makes small."""
    return point.distortion + slope * point.rate_bits


def compare(name: str, case: Case, layers: bool) -> None:
    """One line for each slope and method; with `layers` one for each layer below it."""
    sizes = {layer.name: layer.size for layer in case.subject.layers}
    for kl in KLS:
        slope = case.slope(kl)
        base = best(case, "uniform", slope)
        for method in registry.names("method"):
            started = time.perf_counter()
            points = best(case, method, slope)
            seconds = time.perf_counter() - started
            costs = {key: (cost(point, slope), cost(base[key], slope)) for key, point in points.items()}
            total = sum(cost(point, slope) for point in base.values())
            saved = sum(max(theirs - ours, 0) for ours, theirs in costs.values())
            weights = max(sum(sizes[key] for key in points), 1)
            print(
                f"{name:<9} {kl:<6} {method:<9} {len(points):>3} "
                f"{sum(p.rate_bits for p in points.values()) / weights:>6.2f} "
                f"{sum(p.distortion for p in points.values()):>8.4f} "
                f"{sum(a for a, _ in costs.values()) / max(sum(b for _, b in costs.values()), 1e-300):>9.3f} "
                f"{sum(a < b for a, b in costs.values()):>3}/{len(sizes):<3} {saved / total:>6.1%} {seconds:>5.1f}",
                flush=True,
            )
            for key, point in points.items() if layers else ():
                print(
                    f"    {key:<28} {point.rate_bits / sizes[key]:>6.2f} bits {point.distortion:.2e} nats, "
                    f"{costs[key][0] / costs[key][1]:.3f} of uniform's"
                )


def measure(name: str, case: Case) -> None:
    """Files of plans, with what they do on held-out images."""
    kind = kind_of(case.original, True)
    labels = case.held_out.labels
    before = np.mean(case.original.argmax(1) == labels)
    for kl in KLS[1:]:
        for title, methods in TOGETHER.items():
            subject = replace(case.subject, methods=methods)
            candidate = subject.build(case.slope(kl))
            subject.put(candidate)
            outputs = run(subject, case.held_out)
            used = Counter(point.choice["method"] for point in candidate.plan.choices.values())
            print(
                f"{name:<9} {kl:<6} {title:<10} {candidate.size_bytes:>7,} "
                f"{divergence(case.original, outputs, kind).mean():>8.4f} "
                f"{100 * (before - np.mean(outputs.argmax(1) == labels)):>+6.2f}  "
                + ", ".join(f"{count} {method}" for method, count in used.most_common()),
                flush=True,
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--layers", action="store_true")
    parser.add_argument("--run", action="store_true")
    options = parser.parse_args()
    if options.run:
        print("model     KL     plan         bytes  KL held  drop   layers by method")
    else:
        print("model     KL     method    its   bits    D nats  D+slope*R won/all saved     s")
    for name in options.models:
        case = prepare(name)
        measure(name, case) if options.run else compare(name, case, options.layers)


if __name__ == "__main__":
    main()
