"""How often each kernel is used on the three ways of a compression, and what that takes: numbers only.

What is counted is what the stages do (measuring.py, search/course.py, streaming/, dataless.py), with as many
evaluations as runs usually spend. Communication between workers is that of this scheme: every worker takes its share of
the examples through every block and has the model on a shared disk; second moments go to the worker that rounds the
layer, and the layer's coded bytes to all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from attar.calibration import LADDER, LEAST
from attar.coding import SOON
from attar.estimating.kernels import Kernels, seconds_of_rounding
from attar.estimating.shapes import Matrix, Shapes
from attar.measuring import CORRECTION_WORK, GLANCE, GRADIENT_WORK, READ, READING_WORK, SENSITIVITY_EXAMPLES
from attar.search import sensitivity
from attar.search.subject import role

BACKWARD = 3.0
"""Passes forward that a gradient takes, its own forward pass among them."""
TRIALS, LOOKS = 4, 3
"""Candidates that a search tries, and that it tests on the certify split until one fails, of 8 evaluations."""
PASSES, SEEN = 3, 8
"""Passes of a run block by block, and windows whose gradients it takes."""
COUPLED = 2048
"""Rows of a layer from which on it is not measured how they go together."""
START = 4.0
"""Seconds until libraries are loaded, model and data are read and the report is written, of a small model."""
FLOATS = 40
"""Bytes of working memory for each weight of a layer that is being rounded."""


@dataclass(frozen=True)
class Load:
    """What is asked for: examples of each split, tokens of an example, bits a weight, workers and their network.

    network: bytes a second between workers. disk: bytes a second from where the model lies.
    """

    calibrate: int = 256
    select: int = 256
    certify: int = 256
    window: int = 512
    bits: float = 4.0
    workers: int = 1
    network: float = 1.25e9
    disk: float = 1e9


@dataclass(frozen=True)
class Phase:
    """A stage: seconds that machines share evenly, and bytes that each worker receives where they are several."""

    name: str
    seconds: float
    received: float = 0.0


@dataclass(frozen=True)
class Estimate:
    """One way: its stages; memory of a worker, disk for what is written, and the bytes that all workers exchange."""

    way: str
    phases: tuple[Phase, ...]
    memory: float
    disk: float
    load: Load

    def seconds(self, workers: int = 1) -> float:
        """Of the whole run."""
        shared = sum(phase.seconds for phase in self.phases) / workers
        return shared + (self.received / self.load.network if workers > 1 else 0.0)

    @property
    def received(self) -> float:
        """Bytes that a worker receives."""
        return sum(phase.received for phase in self.phases)


@dataclass(frozen=True)
class Unit:
    """Seconds and bytes of the parts that stages are made of."""

    shapes: Shapes
    kernels: Kernels
    load: Load

    def positions(self, matrix: Matrix) -> float:
        """At how many positions of an example a matrix is used, of all its copies."""
        count = self.load.window if matrix.positions is None else matrix.positions
        return 0.0 if matrix.kind == "embedding" else count * matrix.share * matrix.copies

    @property
    def work(self) -> float:
        """Multiply-adds of an example, those of attention scores among them."""
        products = sum(m.rows * m.cols * self.positions(m) for m in self.shapes.matrices)
        return float(products + 2 * self.load.window**2 * self.shapes.width * self.shapes.blocks)

    @property
    def forward(self) -> float:
        """Seconds of an example."""
        if self.shapes.forward is not None:
            return self.shapes.forward
        return self.work * self.kernels.product

    @property
    def moments(self) -> float:
        """Seconds of an example's second moments."""
        if self.shapes.moments is not None:
            return self.shapes.moments
        work = sum(m.groups * m.cols**2 * self.positions(m) for m in self.shapes.matrices)
        return float(work) * self.kernels.moments

    @property
    def rounding(self) -> float:
        """Seconds of all matrices."""
        return sum(self._rounding(m) for m in self.shapes.matrices)

    def _rounding(self, m: Matrix) -> float:
        if m.kind == "embedding":
            return self.kernels.blind * m.size
        return m.copies * seconds_of_rounding(self.kernels, m.rows, m.cols, m.groups)

    @property
    def coding(self) -> float:
        """Seconds of all codes."""
        dense = self.kernels.dense if self.shapes.size <= SOON else 0.0
        return (self.kernels.encode + dense) * self.shapes.size

    @property
    def decoding(self) -> float:
        """Seconds of all codes."""
        return (self.kernels.decode if self.shapes.size > SOON else self.kernels.dense) * self.shapes.size

    @property
    def statistics(self) -> float:
        """Bytes of all second moments, float64."""
        return 8.0 * sum(m.squares for m in self.shapes.matrices)

    @property
    def couplings(self) -> float:
        """Bytes of all correlations of rows, float32: those of layers of less than COUPLED rows."""
        rows = (m.rows**2 * m.copies for m in self.shapes.matrices if m.groups == 1 and m.rows < COUPLED)
        return 4.0 * sum(rows) * self.shapes.gradients

    @property
    def coded(self) -> float:
        """Bytes of a file."""
        return self.load.bits / 8 * self.shapes.size + 2 * self.shapes.others

    def working(self, cores: int) -> float:
        """Bytes that the largest matrices take while they are rounded, one a core."""
        each = sorted((8 * 4 * (m.squares // m.copies) + FLOATS * m.rows * m.cols for m in self.shapes.matrices
                       for _ in range(min(m.copies, cores))), reverse=True)  # fmt: skip
        return float(sum(each[:cores]))


def estimates(shapes: Shapes, kernels: Kernels, load: Load) -> list[Estimate]:
    """All ways in which a model can be compressed."""
    unit = Unit(shapes, kernels, load)
    made: dict[str, Callable[[Unit], Estimate]] = {"memory": _in_memory, "blocks": _by_blocks, "weights": _alone}
    return [made[way](unit) for way in shapes.ways]


def _in_memory(unit: Unit) -> Estimate:
    """`attar compress` with the model in memory."""
    load, shapes = unit.load, unit.shapes
    ladder = min(load.calibrate, LADDER) / 2 if load.calibrate >= LEAST else 0
    tested = TRIALS * load.select + LOOKS * load.certify
    builds = TRIALS + LOOKS
    phases = (
        Phase("start", START),
        Phase("original", (load.select + load.certify) * unit.forward),
        Phase("statistics", load.calibrate * (unit.forward + unit.moments), unit.statistics),
        Phase("sensitivities", _sensitivities(unit)),
        Phase("corrections", unit.rounding + _glances(unit) * unit.forward),
        Phase("quality of the statistics", (4 * unit.rounding + ladder * (unit.forward + unit.moments)) * (ladder > 0)),
        Phase("rounding", builds * unit.rounding),
        Phase("coding", builds * (unit.coding + unit.decoding), builds * unit.coded),
        Phase("evaluations", tested * unit.forward),
    )
    tokens = max((load.window if m.positions is None else 1 for m in shapes.matrices), default=1)
    outputs = 4.0 * shapes.outputs * tokens * 2 * (load.select + load.certify)
    # The model, its weights, those of a candidate, and its codes.
    held = unit.statistics + unit.couplings + unit.working(unit.kernels.cores)
    memory = shapes.base_bytes + 16.0 * shapes.size + held + outputs
    return Estimate("in memory", phases, memory, unit.coded + shapes.stored_bytes, load)


def _sensitivities(unit: Unit) -> float:
    """Seconds of gradients, or of outputs measured with one row disturbed at a time."""
    load, work = unit.load, max(unit.work, 1.0)
    if unit.shapes.gradients:
        few = float(np.clip(GRADIENT_WORK / work, READ, SENSITIVITY_EXAMPLES))
        return min(few, load.calibrate) * BACKWARD * unit.forward
    layers = max(len(unit.shapes.matrices), 1)
    limit = min(sensitivity.WORK, sensitivity.TOTAL / layers)
    most = float(np.clip(limit / work, sensitivity.LEAST, sensitivity.MOST))
    return layers * most * unit.forward


def _glances(unit: Unit) -> float:
    """Examples that run through the model while layers are corrected one by one."""
    names = {role(m.name) if unit.shapes.gradients else m.name for m in unit.shapes.matrices}
    least, spent = (READ, READING_WORK) if unit.shapes.gradients else (GLANCE, CORRECTION_WORK)
    few = min(unit.load.calibrate, SENSITIVITY_EXAMPLES)
    if unit.shapes.gradients:
        few = int(min(few, np.clip(GRADIENT_WORK / max(unit.work, 1.0), READ, SENSITIVITY_EXAMPLES)))
    each = np.clip(spent / max(len(names), 1) / max(unit.work, 1.0), min(least, few), few)
    return float(each) * len(names)


def _by_blocks(unit: Unit) -> Estimate:
    """The same a block at a time: the model is read once for each way through it."""
    load, shapes = unit.load, unit.shapes
    reading = shapes.stored_bytes / load.disk
    each = shapes.stored_bytes / max(load.workers, 1)  # a worker's share of the blocks; the others come to it too
    ahead = (load.select + load.certify + SEEN) * unit.forward
    passes, tests = PASSES * load.calibrate, PASSES * load.select + 2 * load.certify
    phases = (
        Phase("start", START),
        Phase("original", ahead + reading, shapes.stored_bytes - each),
        Phase("gradients", SEEN * BACKWARD * unit.forward + reading, shapes.stored_bytes - each),
        Phase("statistics", passes * (2 * unit.forward + unit.moments) + PASSES * reading,
              PASSES * (unit.statistics + shapes.stored_bytes - each)),
        Phase("rounding", PASSES * unit.rounding),
        Phase("coding", PASSES * unit.coding + (PASSES + 2) * unit.decoding, PASSES * unit.coded),
        Phase("evaluations", tests * unit.forward, (PASSES + 2) * unit.coded),
    )  # fmt: skip
    blocks = shapes.blocks + 1
    block = max(shapes.size / blocks, max((m.size for m in shapes.matrices if m.kind == "embedding"), default=0))
    states = states_of(unit)
    memory = shapes.base_bytes + 8.0 * block + 2 * unit.statistics / blocks + unit.working(unit.kernels.cores)
    return Estimate("block by block", phases, memory + min(states, 256 << 20), (PASSES + 1) * unit.coded + states, load)


def states_of(unit: Unit) -> float:
    """Bytes of activations between blocks: two of each example, and all of those whose gradients are taken."""
    load = unit.load
    examples = 2 * (load.calibrate + load.select + load.certify) + SEEN * unit.shapes.blocks
    return 4.0 * unit.shapes.width * load.window * examples


def _alone(unit: Unit) -> Estimate:
    """Without data: rounding without feedback, mostly once."""
    shapes, kernels = unit.shapes, unit.kernels
    passes = 1.5
    sample = min(shapes.size, 1 << 23) * 5
    phases = (
        Phase("start", START / 4),
        Phase("rates of samples", kernels.blind * sample + shapes.stored_bytes / unit.load.disk),
        Phase("rounding", passes * kernels.blind * shapes.size),
        Phase("coding", passes * unit.coding + unit.decoding, unit.coded),
    )
    largest = max((min(m.rows * m.cols, 1 << 23) for m in shapes.matrices), default=0)
    memory = shapes.base_bytes + FLOATS * largest * kernels.cores
    return Estimate("weights alone", phases, memory, unit.coded * 2 + shapes.stored_bytes, unit.load)


def shares(estimate: Estimate) -> Sequence[tuple[str, float]]:
    """Stages with their share of the time of one machine."""
    total = max(estimate.seconds(), 1e-12)
    return [(phase.name, phase.seconds / total) for phase in estimate.phases]
