"""TFLite models in 8-bit integers: our rounding on the runtime's grid, ranges by output error, float where it pays.

Weights: codes on a per-channel int8 grid whose reach has the least squared error, rounded with error feedback and
coordinate descent on the inputs' second moments (methods/fixed.py), with the mean error taken off the bias. Ranges: for
all activations the rule, and then for each tensor the one, that moves the model's outputs least. Operators go back to
float where the drop asks for it, or where the runtime is faster so, as measured on the whole graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from attar.adapters.base import Adapter
from attar.adapters.tflite.adapter import TfliteAdapter
from attar.adapters.tflite.sites import Site, find_sites
from attar.adapters.tflite.store import Store
from attar.errors import ModelError
from attar.exports.base import Artefact, Task
from attar.exports.int8_search import with_ranges, within_drop
from attar.exports.judging import Judge
from attar.exports.ranges import RULES, Range, Seen
from attar.exports.tflite.graph import CARRYING, CORE, FREE, kind_of
from attar.exports.tflite.model import tflite_model
from attar.exports.tflite.quantise import Plan, Writer
from attar.exports.tflite.runtime import Runtime
from attar.exports.tflite.watch import seen
from attar.exports.tflite.weights import rounded
from attar.exports.timing import latencies, least
from attar.types import Array, Dataset, Json

WATCHED = 512
"""Examples whose activations are counted."""
ALL = (*CORE, *CARRYING, *FREE)
SLOWER = 0.98
"""Of the float model's time, from which on int8 is no gain."""
NOISE = 0.05


@dataclass
class Int8:
    """A model on its way into integers: the float graph, that on the grid, scales, what activations were like."""

    plain: Store
    store: Store
    scales: Mapping[int, Array]
    found: Mapping[int, Seen]
    size: int | None
    ranges: MutableMapping[int, Range] = field(default_factory=dict)
    rules: MutableMapping[int, str] = field(default_factory=dict)
    ops: Sequence[str] = ALL

    def __post_init__(self) -> None:
        self.sites: dict[int, Site] = {site.index: site for site in find_sites(self.store)[0] if site.top}
        self.kinds = [kind_of(self.store, operator) for operator in self.store.model.subgraphs[0].operators]

    @property
    def nodes(self) -> list[int]:
        """Operators with weights on the grid, by number."""
        scaled = [k for k, site in self.sites.items() if self.store.buffer(site.stored) in self.scales]
        return [k for k in sorted(scaled) if self.kinds[k] in CORE]

    def plan(self, floats: Sequence[int] = ()) -> Plan:
        """What is in integers, with these operators in float."""
        return Plan(self.store, self.sites, self.scales, self.ranges, floats, self.ops)

    def build(self, floats: Sequence[int] = ()) -> bytes:
        """The artefact's bytes, with these operators in float."""
        return Writer(self.plan(floats), self.plain).written()

    def runtime(self, data: bytes, threads: int = 1) -> Runtime:
        """The bytes in LiteRT; they are ours, and take as many examples as the model does."""
        return Runtime(data, threads, self.size)


def measured(adapter: TfliteAdapter, calibrate: Dataset) -> Int8:
    """Weights rounded and activations counted."""
    plain, store, scales = rounded(adapter, calibrate)
    few = calibrate.take(range(min(len(calibrate), WATCHED)))
    inner = TfliteAdapter(store)
    return Int8(plain, store, scales, seen(store, inner.ports, adapter.size, few), adapter.size)


class TfliteInt8:
    """See the module's docstring."""

    name: ClassVar[str] = "tflite-int8"
    suffix: ClassVar[str] = ".int8.tflite"
    help: ClassVar[str] = "8-bit weights and activations, for LiteRT (TensorFlow Lite) and microcontrollers"

    @staticmethod
    def check(adapter: Adapter) -> None:
        """A TFLite or Keras model with weights that integers multiply; raises ModelError."""
        check_weights(adapter, TfliteInt8.name)

    @staticmethod
    def make(task: Task) -> Artefact:
        """Integers wherever the drop allows it and the runtime is faster so."""
        adapter = tflite_model(task.adapter, TfliteInt8.name)
        work = measured(adapter, task.calibrate)
        judge = Judge(
            task.adapter.run, task.calibrate, lambda data: work.runtime(data).run, classes=task.classes
        )  # fmt: skip
        kl = with_ranges(work, judge, task.step)
        harmful = within_drop(work, work.nodes, judge, task.acceptable, task.step)
        chosen, ratio = fastest(work, adapter.model(), harmful, task)
        work.ops = chosen.ops
        whole = work.plan(chosen.floats).whole
        slow = [index for index in chosen.floats if index not in harmful]
        notes = []
        if harmful:
            notes.append(f"{len(harmful)} of {len(work.nodes)} operators with weights stay in float, for the drop")
        if slow or chosen.ops != ALL:
            notes.append(f"in float, because the whole graph is faster so: {chosen.name}")
        outside = sorted({kind for k, kind in enumerate(work.kinds) if k not in whole and kind not in ALL})
        if outside:
            notes.append(f"in float, because attar has no integers for them: {', '.join(outside)}")
        if ratio >= SLOWER:
            notes.append(f"int8 takes {ratio:.2f} of float's time here: keep the float model")
        used = {rule: sum(one == rule for one in work.rules.values()) for rule in RULES}
        facts: dict[str, Json] = {
            "kl": kl, "ranges": {rule: count for rule, count in used.items() if count},
            "float_nodes": [_name(work, index) for index in harmful],
            "in_float": chosen.name, "float_for_speed": [_name(work, index) for index in slow],
            "integer_operators": list(chosen.ops), "in_integers": len(whole), "operators": len(work.kinds),
            "latency_ratio": ratio,
        }  # fmt: skip
        return Artefact(work.build(chosen.floats), tuple(notes), facts)

    @staticmethod
    def runtime(model: bytes | Path, threads: int) -> Runtime:
        """LiteRT on the CPU."""
        return Runtime(model, threads)


def check_weights(adapter: Adapter, goal: str) -> None:
    """That a model can become TFLite and has weights for a grid; raises ModelError."""
    kinds = {layer.kind for layer in adapter.layers()}
    if adapter.framework not in ("tflite", "keras"):
        tflite_model(adapter, goal)
    if not kinds & {"dense", "conv", "conv_transpose", "einsum"}:
        raise ModelError(
            f"{goal}: the model must have a convolution or a dense layer with float weights. Received none. "
            "`attar inspect` lists what is left alone and why: weights in integers already are not quantised again."
        )


def _name(work: Int8, index: int) -> str:
    return work.sites[index].layer.name


@dataclass(frozen=True)
class Choice:
    """What is left in float, in words; the kinds of operators in integers; the operators in float."""

    name: str
    ops: Sequence[str]
    floats: tuple[int, ...]


def choices_of(work: Int8, harmful: Sequence[int]) -> list[Choice]:
    """What may be faster in float: operators with arithmetic of their own, all that is not weights, kinds of layers."""
    kept = tuple(harmful)
    found = [
        Choice("nothing", ALL, kept),
        Choice("operators with arithmetic but without weights", (*CORE, *CARRYING), kept),
        Choice("operators without weights", tuple(CORE), kept),
    ]
    kinds: dict[str, list[int]] = {"depthwise convolutions": [], "the first layer": work.nodes[:1], "dense layers": []}
    for index in work.nodes:
        if work.kinds[index] == "DEPTHWISE_CONV_2D":
            kinds["depthwise convolutions"].append(index)
        elif work.kinds[index] == "FULLY_CONNECTED":
            kinds["dense layers"].append(index)
    for kind, indices in kinds.items():
        extra = tuple(index for index in indices if index not in kept)
        if extra and len(extra) < len(work.nodes):
            found.append(Choice(kind, ALL, kept + extra))
    return found


def fastest(work: Int8, plain: bytes, harmful: Sequence[int], task: Task) -> tuple[Choice, float]:
    """The choice with the least latency of the whole graph, and its ratio to the float model's.

    Another than the first, which is what was judged, has to be faster beyond noise.
    """
    choices = choices_of(work, harmful)
    if "float_for_speed" in task.like:
        slow = set(task.like["float_for_speed"])
        floats = (*harmful, *(index for index in work.nodes if index not in harmful and _name(work, index) in slow))
        ops = tuple(op for op in task.like.get("integer_operators", ALL) if op in ALL)
        choices = [Choice(str(task.like.get("in_float", "nothing")), ops, floats)]
    calls: dict[str, Callable[[], object]] = {}
    for choice in choices:
        work.ops = choice.ops
        calls[choice.name] = work.runtime(work.build(choice.floats), task.threads).once(task.batch)
    found = latencies(calls | {"float": work.runtime(plain, task.threads).once(task.batch)})
    task.step()
    best = choices[least(found, [choice.name for choice in choices], NOISE)]
    return best, found[best.name].ratio / found["float"].ratio
