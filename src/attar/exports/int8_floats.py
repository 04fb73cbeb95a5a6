"""Nodes that go back to float because the runtime is faster without their integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attar.exports.base import Task
from attar.exports.int8_ranges import Int8
from attar.exports.onnx.runtime import Runtime
from attar.exports.qdq import ALL, CARRYING, CORE, kinds_of
from attar.exports.timing import latencies, least

NOISE = 0.05


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
    if work.sums:  # the others know no sums whose terms are not rounded
        found = found[:1]
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
    calls = {}
    for choice in choices:
        work.ops = choice.ops
        calls[choice.name] = Runtime(work.build(choice.floats), task.threads).once(task.batch)
    found = latencies(calls | {"float": Runtime(work.model.SerializeToString(), task.threads).once(task.batch)})
    task.step()
    best = choices[least(found, [choice.name for choice in choices], NOISE)]
    return best, found[best.name].ratio / found["float"].ratio
