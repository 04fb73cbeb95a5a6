"""ONNX models in 8-bit integers: our rounding on the runtime's grid, ranges by output error, float where it pays.

Weights: codes on a per-channel int8 grid whose reach has the least squared error, rounded with error feedback and
coordinate descent on the inputs' second moments (methods/fixed.py), with the mean error taken off the bias. Activations
become integers by one of two routes: `static`, with ranges found beforehand (QDQ), or `dynamic`, in which dense layers
and LSTMs find theirs as the values come (products.py, recurrent.py) and the rest is static; the faster one is taken if
it is within the drop. Nodes go back to float where the drop asks for it, or where the runtime is faster so, as measured
on the whole graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar

from attar.adapters.base import Adapter
from attar.errors import ModelError
from attar.exports.base import Artefact, Task
from attar.exports.int8_floats import NOISE, Choice, fastest
from attar.exports.int8_islands import counts_of, harmless_first, most_integers
from attar.exports.int8_ranges import Int8, best_rule, judge_of, judged, refined
from attar.exports.int8_search import EVALUATIONS, fewest_floats, first_floats, floats_within, runs_first
from attar.exports.int8_start import dynamic_nodes, measured
from attar.exports.judging import Judge
from attar.exports.onnx.model import onnx_model
from attar.exports.onnx.runtime import Runtime
from attar.exports.products import DYNAMIC
from attar.exports.qdq import ALL, CORE, lifted, prepared, weight_axes
from attar.exports.ranges import RULES
from attar.exports.recurrent import as_before, lstm_nodes
from attar.exports.sums import SUM, sums_of, term_makers
from attar.exports.timing import latencies
from attar.types import Json

SLOWER = 0.98
"""Of the float model's time, from which on int8 is no gain."""
KEPT = 1.05
"""Of the float model's time, beyond which the float model is written."""
HOPELESS = 0.1
"""Nats of KL, from which on no other range of a tensor here or there is tried."""
NEAR, NEARER, DEAR = 0.01, 0.1, 0.1
"""Nats from which on outputs are near; the share of them that sums in float must take, and of the time that they may.
"""
RUN_TESTS = 3
"""Passes that are spent on finding how many runs of nodes go to float."""
STATIC = "static"
QUANTISING = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
"""Operators of a model that is in integers already."""


class OnnxInt8:
    """See the module's docstring."""

    name: ClassVar[str] = "onnx-int8"
    suffix: ClassVar[str] = ".int8.onnx"
    help: ClassVar[str] = "8-bit weights and activations (QDQ, or dynamic where faster), for onnxruntime"

    @staticmethod
    def check(adapter: Adapter) -> None:
        """An ONNX model with weights that integers multiply; raises ModelError."""
        adapter = onnx_model(adapter, OnnxInt8.name)
        model = lifted(adapter.model())
        integers = sorted({node.op_type for node in model.graph.node} & set(QUANTISING))
        if integers:
            raise ModelError(
                f"onnx-int8: the model must be in floats. Received one with {', '.join(integers)}: it is in integers "
                "already. Export the float model that it was made of."
            )
        if not weight_axes(model) and not lstm_nodes(model):
            raise ModelError(
                "onnx-int8: the model must have a Conv, MatMul, LSTM, or Gemm without alpha and beta, with stored "
                "weights in float32. Received none. Convert it to float32 first, or export onnx-fp16 instead."
            )

    @staticmethod
    def make(task: Task) -> Artefact:
        """Integers wherever the drop allows it and the runtime is faster so."""
        adapter = onnx_model(task.adapter, OnnxInt8.name)
        work = measured(adapter, task.calibrate)
        judge = judge_of(task.adapter.run, task.calibrate, classes=task.classes, most=judged(work))
        found = landed(work, judge, task)
        route, harmful = found.route, found.harmful
        chosen, ratio = fastest(work, harmful, task)
        work.ops = chosen.ops
        slow = [name for name in chosen.floats if name not in harmful]
        used = {rule: sum(one == rule for one in work.rules.values()) for rule in RULES}
        keeps = bool(task.like["kept_float"]) if "kept_float" in task.like else ratio > KEPT
        facts: dict[str, Json] = {
            "kl": found.kl, "kept_float": keeps, "in_float": chosen.name, "route": route,
            "dynamic_nodes": sorted(work.kernels),
            "ranges": {rule: count for rule, count in used.items() if count and work.ops}, "float_nodes": harmful,
            "float_sums": work.sums, "float_for_speed": slow, "integer_operators": list(chosen.ops),
            "latency_ratio": ratio,
        }  # fmt: skip
        if keeps:
            note = f"int8 would take {ratio:.2f} of float's time here: this file is the float model"
            return Artefact(prepared(adapter.model()).SerializeToString(), (note,), facts)
        return Artefact(work.build(chosen.floats), tuple(_notes(work, found, chosen, ratio)), facts)

    @staticmethod
    def runtime(model: bytes | Path, threads: int) -> Runtime:
        """onnxruntime on the CPU."""
        return Runtime(model, threads)


@dataclass(frozen=True)
class Landed:
    """A route, the nodes that it leaves in float for the drop, and the KL with all in integers."""

    route: str
    harmful: list[str]
    kl: float
    bold: list[str] | None = None
    """Fewer nodes in float that did not pass on the select split, but were near."""


def _notes(work: Int8, found: Landed, chosen: Choice, ratio: float) -> list[str]:
    """What people are told."""
    notes = []
    if work.kernels:
        notes.append(f"{len(work.kernels)} dense or LSTM nodes find the ranges of their inputs as they run")
    left = as_before(work.model)
    if left:
        notes.append(left)
    if found.harmful:
        kept = "have finer activations or stay in float" if work.kernels else "stay in float"
        count = len({*work.nodes, *work.kernels})
        notes.append(f"{len(found.harmful)} of {count} nodes with weights {kept}, for the drop")
    if work.sums:
        notes.append("sums of two activations are in float, so that rounding does not pile up")
    if len(chosen.floats) > len(found.harmful) or (chosen.ops != ALL and work.ops):
        notes.append(f"in float, because the whole graph is faster so: {chosen.name}")
    if ratio >= SLOWER:
        notes.append(f"int8 takes {ratio:.2f} of float's time here: keep the float model")
    return notes


def landed(work: Int8, judge: Judge, task: Task) -> Landed:
    """The first route, in the order of `routes_of`, that passes as it is, in at most EVALUATIONS passes.

    Where none does, the one that moves the outputs less with its first nodes in float, if these bring them nearer; then
    what is near to that; then those of `narrower`; and then that one with integers at weights only and as few nodes in
    float as pass.
    """
    moved: dict[str, float] = {}
    routes = routes_of(work, judge, task, moved)
    for route in routes:
        enter(work, route)
        if route == STATIC and moved[route] < HOPELESS:
            moved[route] = refined(work, judge, moved[route], task.step)
        if task.acceptable(work.build()):
            return Landed(route, [], moved[route])
    if len(routes) > 1:  # ranges may have become better since the first was judged
        for route in routes:
            enter(work, route)
            moved[route] = judge(work.build())
    route = min(routes, key=moved.__getitem__)
    left, kl = EVALUATIONS - len(routes), moved[route]
    enter(work, route)
    first = first_floats(work, work.operators, judge, task.step) if kl < HOPELESS else []
    if first:
        left -= 1
        if task.acceptable(work.build(first)):
            return Landed(route, first, kl)
    near, left = nearby(work, judge, task, first, left) if kl < HOPELESS else (None, left)
    if near is not None:
        return Landed(route, near, kl, first if near != first else None)
    for part, ops in narrower(work, route):
        enter(work, part)
        work.ops, left = ops, left - 1
        moved[part] = judge(work.build())
        if task.acceptable(work.build()):
            return Landed(part, [], moved[part]) if ops else joined(work, judge, task, (left, moved[part]))
    enter(work, route)
    work.ops = CORE if work.ops else ()
    return Landed(route, floats_within(work, work.operators, judge, task.acceptable, left, task.step), kl)


def nearby(work: Int8, judge: Judge, task: Task, first: list[str], left: int) -> tuple[list[str] | None, int]:
    """Nodes in float that pass where the first ones fall short by little: sums in float too, and then as few runs.

    None where they are not enough; and the passes that are left then.
    """
    summed = float_sums(work, judge, task, first)
    if summed:
        left -= 1
        if task.acceptable(work.build(first)):
            return first, left
    static = [name for name in work.operators if name not in work.kernels]
    if (first or summed) and static and judge(work.build(first)) < NEAR and left > RUN_TESTS:
        counts = counts_of(work, static, task.batch)
        order = runs_first(work, static, judge, counts, first, term_makers(work.model), task.step)

        def floats(runs: Sequence[list[str]]) -> list[str]:
            return [*first, *chain.from_iterable(runs)]

        runs = fewest_floats(order, lambda tried: task.acceptable(work.build(floats(tried))), RUN_TESTS)
        left -= RUN_TESTS
        if len(runs) < len(order):
            return floats(runs), left
    work.sums = False
    return None, left


def float_sums(work: Int8, judge: Judge, task: Task, first: Sequence[str]) -> bool:
    """Put sums of two activations into float, in place, where that brings outputs nearer for little time."""
    if SUM not in work.ops or not sums_of(work.model):
        return False
    before = judge(work.build(first)), Runtime(work.build(first), task.threads).once(task.batch)
    work.sums = True
    built = work.build(first)
    nearer = judge(built) < (1 - NEARER) * before[0]
    if nearer and "float_sums" not in task.like:
        times = latencies({"before": before[1], "sums": Runtime(built, task.threads).once(task.batch)})
        nearer = times["sums"].low < 1 + DEAR  # a busy machine does not decide
    task.step()
    work.sums = bool(task.like.get("float_sums", nearer))
    return work.sums


def joined(work: Int8, judge: Judge, task: Task, found: tuple[int, float]) -> Landed:
    """Dense layers and LSTMs in integers, and as many convolutions beside them as pass, where that is faster.

    found: passes that are left, and the KL without convolutions.
    """
    left, floor = found
    alone = Runtime(work.build(), task.threads).once(task.batch)
    work.ops = CORE
    order = harmless_first(work, judge, task.batch, floor, task.step)

    def rest(some: Sequence[str]) -> list[str]:
        return [name for name in order if name not in some]

    some = most_integers(order, lambda tried: task.acceptable(work.build(rest(tried))), left)
    if some:
        calls = {"alone": alone, "joined": Runtime(work.build(rest(some)), task.threads).once(task.batch)}
        faster = latencies(calls)["joined"].ratio < 1 - NOISE
        if task.like.get("integer_operators", faster):
            return Landed(DYNAMIC, rest(some), judge(work.build(rest(some))))
    work.ops = ()
    return Landed(DYNAMIC, [], floor)


def narrower(work: Int8, route: str) -> list[tuple[str, tuple[str, ...]]]:
    """The route and the static operators that are tried next: those with weights only; dense layers and LSTMs alone."""
    convolved = {grid.weight for grid in work.grids} - set(work.products)
    found: list[tuple[str, tuple[str, ...]]] = []
    if work.grids and (route == STATIC or convolved):
        found.append((route, CORE))
    if convolved and dynamic_nodes(work):
        found.append((DYNAMIC, ()))
    return found


def routes_of(work: Int8, judge: Judge, task: Task, moved: dict[str, float]) -> list[str]:
    """The routes that the model can take, the faster first, or, where they are as fast, the one with the less KL.

    What each moves is put into `moved`.
    """
    if work.grids:
        enter(work, STATIC)
        moved[STATIC] = best_rule(work, judge, task.step)
    if dynamic_nodes(work):
        enter(work, DYNAMIC)
        moved[DYNAMIC] = judge(work.build())
    if not moved:
        raise ModelError(
            "onnx-int8: the examples must reach a weight that integers multiply. Received none that do. Check the data."
        )
    if task.like.get("route") in moved:
        return [str(task.like["route"])]
    if len(moved) < 2:
        return list(moved)
    calls = {}
    for route in (STATIC, DYNAMIC):
        enter(work, route)
        calls[route] = Runtime(work.build(), task.threads).once(task.batch)
    ratio = latencies(calls)[DYNAMIC].ratio
    task.step()
    faster = DYNAMIC if ratio < 1 else STATIC
    if abs(ratio - 1) < NOISE:
        faster = min(moved, key=moved.__getitem__)
    return sorted(moved, key=lambda route: route != faster)


def enter(work: Int8, route: str) -> None:
    """Take a route, in place."""
    work.kernels = {} if route == STATIC else dict.fromkeys(dynamic_nodes(work), DYNAMIC)
    static = {grid.weight for grid in work.grids} - set(work.products)
    # Ranges of sums and norms alone would cost more than they bring.
    work.ops = ALL if route == STATIC or static else ()
