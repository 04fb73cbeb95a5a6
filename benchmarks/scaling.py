"""What scale moves change for integers of fixed width and for `uniform`, on the example models.

    python benchmarks/scaling.py [--models lenet300 lenet5 resnet20 dwcnn] [--moves none equalise smooth]
    python benchmarks/scaling.py --models dwcnn --plans 0.005 0.01 0.02 0.05 0.1

All layers are rounded alike; KL and drop are measured on 4,000 images that no statistic has seen. "tensor": nearest,
one scale for the whole tensor by its largest magnitude, as in the paper of equalisation; attar has no such method.
"row": the same with a scale for each row. "fixed": attar's method, a scale for each row, ranges by squared error,
descent. "uniform": a plan of `uniform` and `keep` at the slope of a predicted KL; bytes are the whole file's. With
--plans, `uniform` alone, at these KL.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from attar import registry
from attar.methods.fixed import FixedParams
from attar.search.divergence import divergence, kind_of
from attar.types import Layer, Weight
from methods import MODELS, Case, prepare, run

MOVES = ("none", "equalise", "smooth")
KLS = (0.01, 0.05)
BITS = (8, 4)
Rounding = Callable[[Case, Layer, Weight, int], Weight]


def nearest(weight: Weight, bits: int, axis: int | None) -> Weight:
    """Codes to the nearest of a symmetric grid whose end is the largest magnitude; biases stay."""
    top = (1 << (bits - 1)) - 1
    step = np.maximum(np.abs(weight.matrix).max(axis, keepdims=True), 1e-30) / np.float32(top)
    return Weight(np.rint(weight.matrix / step) * step, weight.bias)


def by_tensor(_: Case, __: Layer, weight: Weight, bits: int) -> Weight:
    """One scale."""
    return nearest(weight, bits, None)


def by_row(_: Case, __: Layer, weight: Weight, bits: int) -> Weight:
    """A scale for each output."""
    return nearest(weight, bits, 1)


def by_fixed(case: Case, layer: Layer, weight: Weight, bits: int) -> Weight:
    """attar's method, one scale for each output."""
    method, params = registry.get("method", "fixed"), FixedParams(bits=bits, part=0)
    (point,) = method.points(layer, weight, case.subject.stats[layer.name], [1e-6], params)
    return method.decode(point.encoded)


ROUNDINGS: dict[str, Rounding] = {"tensor": by_tensor, "row": by_row, "fixed": by_fixed}


def judged(case: Case) -> str:
    """KL and drop of what is in the working copy."""
    outputs, labels = run(case.subject, case.held_out), case.held_out.labels
    kl = divergence(case.original, outputs, kind_of(case.original, True)).mean()
    drop = 100 * (np.mean(case.original.argmax(1) == labels) - np.mean(outputs.argmax(1) == labels))
    return f"{kl:>9.5f} {drop:>+7.2f}"


def rounded(name: str, moves: str, case: Case) -> None:
    """One line for each width and rounding."""
    subject = case.subject
    for bits in BITS:
        for title, rounding in ROUNDINGS.items():
            for layer in subject.layers:
                weight = subject.weights[layer.name]
                subject.adapter.write(layer.name, rounding(case, layer, weight, bits))
            print(f"{name:<9} int{bits} {title:<8} {moves:<9} {judged(case)}", flush=True)
    for layer in subject.layers:
        subject.adapter.write(layer.name, subject.weights[layer.name])


def planned(name: str, moves: str, case: Case, kls: Sequence[float]) -> None:
    """One line for each slope: a real file of the default methods."""
    for kl in kls:
        slope = case.slope(kl)
        candidate = replace(case.subject, methods=("uniform", "keep")).build(slope)
        case.subject.put(candidate)
        cost = sum(p.distortion + slope * p.rate_bits for p in candidate.plan.choices.values())
        print(
            f"{name:<9} {kl:<5} uniform {moves:<9} {judged(case)} {candidate.size_bytes:>8,} {cost:>9.4f}", flush=True
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--moves", nargs="+", default=MOVES, choices=MOVES)
    parser.add_argument("--plans", nargs="+", type=float, default=[])
    options = parser.parse_args()
    print("model     what          moves      KL held    drop    bytes  D+slope*R")
    for name in options.models:
        for moves in options.moves:
            case = prepare(name, moves)
            if not options.plans:
                rounded(name, moves, case)
            planned(name, moves, case, options.plans or KLS)


if __name__ == "__main__":
    main()
