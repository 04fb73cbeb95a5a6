"""An ONNX model on its way into 8-bit integers: what int8_search.py decides about, and how it judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx

from attar.exports.base import Run
from attar.exports.int8_search import Judge as AnyJudge
from attar.exports.onnx_runtime import Runtime
from attar.exports.qdq import ALL, Grid, quantised
from attar.exports.ranges import Range, Seen
from attar.types import Dataset


@dataclass
class Int8:
    """A model on its way into integers: the float graph on the int8 grid, its grids, and what activations were like."""

    model: onnx.ModelProto
    grids: list[Grid]
    found: dict[str, Seen]
    nodes: list[str]
    ranges: dict[str, Range] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)
    ops: tuple[str, ...] = ALL

    def build(self, floats: Sequence[str] = ()) -> bytes:
        """The artefact's bytes, with these nodes in float."""
        made = quantised(self.model, self.grids, self.ranges, self.ops, floats)
        data: bytes = made.SerializeToString()
        return data


class Judge(AnyJudge):
    """How far the outputs of an artefact's bytes are from the original's, in onnxruntime."""

    def __init__(self, original: Run, data: Dataset, *, classes: bool) -> None:
        super().__init__(original, data, classes=classes, opened=lambda model: Runtime(model).run)
