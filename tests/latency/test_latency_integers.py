"""The integers of a latency goal are those of `attar export`: the same search, the same operators, the same codes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from latency_net import net
from onnx import numpy_helper

from attar.adapters.onnx.adapter import OnnxAdapter
from attar.exports.base import Task
from attar.exports.int8_ranges import judge_of, judged
from attar.exports.int8_start import measured
from attar.exports.onnx import int8 as onnx_int8
from attar.exports.timing import Latency
from attar.latency import kept
from attar.latency.made import coded, first_integers, quickest, ranged
from attar.run.kept import Kept


def dynamic_first(calls):
    """Dense layers that find their ranges as values come are the faster ones."""
    return {name: Latency(1.0, 0.5 if name == "dynamic" else 1.0, 1.0, 1.0, 9) for name in calls}


@pytest.mark.parametrize("kept_float", [0, 1])
def test_the_artefact_is_the_exports(kept_float, monkeypatch, tmp_path):
    model, sets = net()
    data, asked = sets["calibrate"], list[bytes]()
    monkeypatch.setattr(onnx_int8, "latencies", dynamic_first)

    def acceptable(made: bytes) -> bool:
        asked.append(made)
        return len(asked) > 2 * kept_float

    adapter = OnnxAdapter.open(model)
    task = Task(adapter, data, True, acceptable, {"x": data.inputs["x"][:1]})
    whole = coded(adapter, data)
    how = first_integers(whole, adapter.run, task)
    own, of_goal = whole.work.build(how.harmful), len(asked)
    asked.clear()
    work = measured(adapter, data)
    found = onnx_int8.landed(work, judge_of(adapter.run, data, classes=True, most=judged(work)), task)
    theirs = work.build(found.harmful)
    assert (how.route, how.sums, len(asked)) == (found.route, work.sums, of_goal) and how.ops == work.ops
    first, second = onnx.load_from_string(own), onnx.load_from_string(theirs)
    assert [node.op_type for node in first.graph.node] == [node.op_type for node in second.graph.node]
    assert "MatMulInteger" in [node.op_type for node in first.graph.node] or kept_float
    arrays = [{t.name: numpy_helper.to_array(t) for t in one.graph.initializer} for one in (first, second)]
    assert arrays[0].keys() == arrays[1].keys()
    for name, codes in arrays[0].items():
        if codes.dtype == np.int8:
            assert (codes == arrays[1][name]).mean() > 0.999  # moments are summed in other batches
    again = coded(adapter, data)
    ranged(again, how)
    assert again.work.build(how.harmful) == own
    fast = quickest(again, task, how.harmful, ())
    assert again.work.ops == how.ops and (fast.integers or fast.how == "float")
    place = Kept(tmp_path)
    assert kept.integers(place, "how", lambda: how) == how == kept.integers(place, "how", lambda: 1 / 0)
