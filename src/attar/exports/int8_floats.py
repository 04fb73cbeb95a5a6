"""Nodes that go back to float: those that the drop asks for, and those that the runtime is faster without."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from attar.exports.base import Task
from attar.exports.int8_ranges import Int8, Judge
from attar.exports.onnx_runtime import Runtime
from attar.exports.qdq import ALL, CARRYING, CORE, kinds_of
from attar.exports.timing import latencies

NOISE = 0.05
EVALUATIONS = 8
"""Most full passes over the select split that are spent on giving nodes back to float."""


def worst_first(work: Int8, judge: Judge, step: Callable[[], None] = lambda: None) -> list[str]:
    """Nodes with integers by how much nearer the outputs are with each of them alone in float, the most first."""
    gains: dict[str, float] = {}
    for name in dict.fromkeys([*work.nodes, *work.kernels] if work.ops else work.kernels):
        gains[name] = judge(work.build([name]))
        step()
    return sorted(gains, key=gains.__getitem__)


def fewest_floats(order: Sequence[str], passes: Callable[[Sequence[str]], bool], most: int = EVALUATIONS) -> list[str]:
    """The shortest beginning of an order of nodes that passes when in float, in at most `most` tests; else all of it.

    Halved by ratio, since few are the rule: of 50 the first 7 are tried first. `passes` is for a beginning.
    """
    low, high = 0, len(order)
    for _ in range(most):
        if high - low <= 1:
            break
        middle = min(max(round(math.sqrt(max(low, 1) * high)), low + 1), high - 1)
        low, high = (low, middle) if passes(order[:middle]) else (middle, high)
    return list(order[:high])


@dataclass(frozen=True)
class Choice:
    """What is left in float, in words; the operators in integers; the nodes in float."""

    name: str
    ops: tuple[str, ...]
    floats: tuple[str, ...]


def choices_of(work: Int8, harmful: Sequence[str]) -> list[Choice]:
    """What may be faster in float: operators with arithmetic of their own, all that is not weights, kinds of nodes."""
    kept = tuple(harmful)
    wider = {
        "nothing": ALL,
        "operators with arithmetic but without weights": CORE + CARRYING,
        "operators without weights": CORE,
    }
    found = [Choice(name, ops, kept) for name, ops in wider.items() if set(ops) <= set(work.ops)]
    if not found:
        return [Choice("nothing", (), kept)]
    for kind, names in kinds_of(work.model).items():
        extra = tuple(name for name in names if name not in kept and name not in work.kernels)
        if extra and len(extra) < len(work.nodes):
            found.append(Choice(kind, found[0].ops, kept + extra))
    return found


def fastest(work: Int8, harmful: Sequence[str], task: Task) -> tuple[Choice, float]:
    """The choice with the least latency of the whole graph, and its ratio to the float model's.

    Another than the first, which is what was judged, has to be faster beyond noise.
    """
    choices = choices_of(work, harmful)
    if "float_for_speed" in task.like:
        known = {*work.nodes, *work.kernels} - set(harmful)
        floats = (*harmful, *(name for name in task.like["float_for_speed"] if name in known))
        ops = tuple(op for op in task.like.get("integer_operators", ()) if op in work.ops)
        choices = [Choice(str(task.like.get("in_float", "nothing")), ops, floats)]
    calls = {"float": Runtime(work.model.SerializeToString(), task.threads).once(task.batch)}
    for choice in choices:
        work.ops = choice.ops
        calls[choice.name] = Runtime(work.build(choice.floats), task.threads).once(task.batch)
    found = latencies(calls)
    task.step()
    ratios = [found[choice.name].ratio for choice in choices]
    best = int(np.argmin([ratios[0] * (1 - NOISE), *ratios[1:]]))
    return choices[best], ratios[best]
