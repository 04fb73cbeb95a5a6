"""ONNX models with 4-bit weights in blocks, for dense layers and tables (embeddings); activations stay float or 8 bits.

The smallest file that stays within the drop is taken: coarser blocks where they pass; where 4 bits do not, the weights
that do most harm for their size get 8. Each dense layer has the kernel (products.py) that serves it: the faster one for
8-bit activations with one scale, where those cost no more than the weights' 4 bits do, and MatMulNBits elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from attar.adapters.base import Adapter
from attar.errors import ModelError
from attar.exports.base import Artefact, Task
from attar.exports.int8_ranges import judge_of
from attar.exports.judging import Judge
from attar.exports.onnx.model import onnx_model
from attar.exports.onnx.runtime import Runtime
from attar.exports.products import BLOCKS, DYNAMIC, dense_nodes
from attar.exports.qdq import lifted
from attar.exports.timing import latencies
from attar.exports.weights import Weights
from attar.types import Json

FIRST = 32
"""The block that is tried first, and in which weights are when others get 8 bits."""
COARSER, FINER = (64, 128), 16
EVALUATIONS = 8
"""Most passes over the select split."""
NOISE = 0.05
JUDGED = 64
"""Examples on which the harm of one weight is measured."""


class OnnxInt4:
    """See the module's docstring."""

    name: ClassVar[str] = "onnx-int4"
    suffix: ClassVar[str] = ".int4.onnx"
    help: ClassVar[str] = "4-bit weights of dense layers and embeddings in blocks, for onnxruntime"

    @staticmethod
    def check(adapter: Adapter) -> None:
        """An ONNX model with dense layers; raises ModelError."""
        if not dense_nodes(lifted(onnx_model(adapter, OnnxInt4.name).model())):
            raise ModelError(
                "onnx-int4: the model must have a MatMul or Gemm with stored float32 weights of two axes. Received "
                "none. Export onnx-int8 instead."
            )

    @staticmethod
    def make(task: Task) -> Artefact:
        """The smallest file that is within the drop; the most exact one where none is."""
        work = Weights(onnx_model(task.adapter, OnnxInt4.name).model(), task.calibrate)
        harm = Harm(work, judge_of(task.adapter.run, task.calibrate, classes=task.classes, most=JUDGED), task.step)
        kernels = kernels_of(work, harm, task)
        found = smallest(work, kernels, harm, task)
        calls = {
            "float": Runtime(work.model.SerializeToString(), task.threads).once(task.batch),
            "int4": Runtime(found.data, task.threads).once(task.batch),
        }
        ratio = latencies(calls)["int4"].ratio
        eight = [name for name, bits in found.bits.items() if bits == 8]
        notes = [f"blocks of {found.block} weights, in {len(work.layers)} dense layers and {len(work.tables)} tables"]
        if eight:
            notes.append(f"{len(eight)} of them in 8 bits, for the drop")
        if ratio >= 1:
            notes.append(f"int4 takes {ratio:.2f} of float's time here")
        facts: dict[str, Json] = {
            "block": found.block, "latency_ratio": ratio, "layers": len(work.layers), "tables": len(work.tables),
            "eight_bits": eight, "dynamic": sorted(name for name in work.layers if kernels.get(name) == DYNAMIC),
        }  # fmt: skip
        return Artefact(found.data, tuple(notes), facts)

    @staticmethod
    def runtime(model: bytes | Path, threads: int) -> Runtime:
        """onnxruntime on the CPU."""
        return Runtime(model, threads)


@dataclass
class Harm:
    """What a weight does to the outputs by itself, in nats: its 4 bits, or its 8-bit activations; measured once."""

    work: Weights
    judge: Judge
    step: Callable[[], None]
    _known: dict[tuple[str, int, str], float] = field(default_factory=dict)

    def __call__(self, name: str, bits: int = 4, kernel: str = BLOCKS) -> float:
        """The KL with this weight alone in integers."""
        key = name, bits, kernel
        if key not in self._known:
            self._known[key] = self.judge(self.work.build({name: bits}, FIRST, {name: kernel}))
            self.step()
        return self._known[key]


@dataclass(frozen=True)
class Found:
    """A file, the block of its 4-bit weights, and the bits of each weight."""

    data: bytes
    block: int
    bits: Mapping[str, int]


def kernels_of(work: Weights, harm: Harm, task: Task) -> dict[str, str]:
    """The kernel of each dense weight: DYNAMIC where the whole graph is faster so and activations do little harm."""
    four = dict.fromkeys([*work.layers, *work.tables], 4)
    every = dict.fromkeys(work.layers, DYNAMIC)
    if not work.foldable:
        return {}
    if "dynamic" in task.like:
        return {name: DYNAMIC for name in work.layers if name in task.like["dynamic"]}
    calls = {
        kernel: Runtime(work.build(four, FIRST, chosen), task.threads).once(task.batch)
        for kernel, chosen in ((BLOCKS, {}), (DYNAMIC, every))
    }
    ratio = latencies(calls)[DYNAMIC].ratio
    task.step()
    if ratio > 1 - NOISE:
        return {}
    return {name: DYNAMIC for name in work.layers if harm(name, 8, DYNAMIC) <= harm(name)}


def smallest(work: Weights, kernels: Mapping[str, str], harm: Harm, task: Task) -> Found:
    """The smallest file that passes; see the module's docstring."""
    names = [*work.layers, *work.tables]
    four = dict.fromkeys(names, 4)

    def file(block: int, eight: Sequence[str] = ()) -> Found:
        bits = {**four, **dict.fromkeys(eight, 8)}
        return Found(work.build(bits, block, kernels), block, bits)

    best = file(FIRST)
    task.step()
    if task.acceptable(best.data):
        for block in COARSER:
            coarser = file(block)
            # Rows that are no multiple of a block are filled up, so that larger blocks may be larger files.
            if len(coarser.data) >= len(best.data) or not task.acceptable(coarser.data):
                break
            best = coarser
        return best
    finer = file(FINER)
    if task.acceptable(finer.data):
        return finer
    order = sorted(names, key=lambda name: -harm(name) / work.size(name))
    passing = shortest(order, lambda some: task.acceptable(file(FIRST, some).data), EVALUATIONS - 2)
    return file(FIRST, passing)


def shortest(order: Sequence[str], passes: Callable[[Sequence[str]], bool], most: int) -> list[str]:
    """The shortest beginning of an order that passes, by halving in so many tests; all of it if nothing shorter does.

    The empty one is known not to pass.
    """
    low, high = 0, len(order)
    for _ in range(most):
        if high - low <= 1:
            break
        middle = (low + high) // 2
        low, high = (low, middle) if passes(order[:middle]) else (middle, high)
    return list(order[:high])
