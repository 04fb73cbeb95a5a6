"""A float model on the int8 grid, in the static route, with the ranges that suit it best."""

from __future__ import annotations

from typing import Any

import onnx

from attar.adapters.onnx.adapter import OnnxAdapter
from attar.exports.int8_ranges import Int8, best_rule, judge_of
from attar.exports.int8_start import measured
from attar.types import Dataset


def opened(proto: onnx.ModelProto, data: Dataset) -> tuple[OnnxAdapter, Int8, Any]:
    """The model, what becomes of it, and what says how far outputs have moved."""
    adapter = OnnxAdapter.open(proto)
    work = measured(adapter, data)
    judge = judge_of(adapter.run, data, classes=False)
    best_rule(work, judge)
    return adapter, work, judge
