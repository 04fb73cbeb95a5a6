"""4-bit weights in blocks (MatMulNBits) by attar and by onnxruntime's quantiser: size, drop, divergence, latency.

    python benchmarks/int4.py [--json FILE]

LeNet-300-100 on the 10,000 test images of Fashion-MNIST. onnxruntime's quantiser takes MatMul only, so its model has
each Gemm written as a MatMul and an Add. Its default rounds to nearest, with a scale for each block; HQQ fits zero
points too. Latencies are of the files as each writes them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    HQQWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

from attar.adapters.onnx import OnnxAdapter
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.exports.base import Task
from attar.exports.onnx_int4 import BLOCKS, OnnxInt4
from attar.exports.onnx_runtime import Runtime
from attar.exports.timing import latencies
from attar.search.divergence import divergence, kind_of
from attar.types import Dataset
from timing import machine

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
MODEL = EXAMPLES / "models" / "lenet300.onnx"


def as_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each Gemm as a MatMul and an Add."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type != "Gemm":
            nodes.append(node)
            continue
        turned = any(a.name == "transB" and a.i for a in node.attribute)
        weight = numpy_helper.to_array(stored[node.input[1]])
        name = f"{node.input[1]}_product"
        plain = np.ascontiguousarray(weight.T if turned else weight)
        model.graph.initializer.append(numpy_helper.from_array(plain, name))
        nodes.append(helper.make_node("MatMul", [node.input[0], name], [f"{name}_out"], name=name))
        nodes.append(helper.make_node("Add", [f"{name}_out", node.input[2]], [node.output[0]], name=f"{name}_bias"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def rival(block: int, *, fitted: bool) -> bytes:
    """onnxruntime's quantiser, to nearest or with HQQ."""
    config = (
        HQQWeightOnlyQuantConfig(block_size=block, bits=4)
        if fitted
        else DefaultWeightOnlyQuantConfig(block_size=block, is_symmetric=True, accuracy_level=4)
    )
    quantiser = MatMulNBitsQuantizer(as_products(onnx.load(MODEL)), block, algo_config=config)
    quantiser.process()
    data: bytes = quantiser.model.model.SerializeToString()
    return data


def attars(block: int, train: Dataset) -> bytes:
    """attar's, with this block."""
    adapter = OnnxAdapter.open(MODEL)
    mark = f"block_size{block}"

    def wanted(data: bytes) -> bool:
        nodes = onnx.load_from_string(data).graph.node
        return any(f"{a.name}{a.i}" == mark for node in nodes for a in node.attribute)

    return OnnxInt4.make(Task(adapter, train.take(range(4000)), True, wanted, dict(train.take([0]).inputs))).data


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    specs = OnnxAdapter.open(MODEL).inputs()
    parts = read(EXAMPLES / "fashion-mnist")
    train, test = (fit_inputs(parts[name], specs) for name in ("train", "test"))
    metric, files = resolve_metric("accuracy"), {"float32": MODEL.read_bytes()}
    for block in BLOCKS:
        files[f"onnxruntime, to nearest, block {block}"] = rival(block, fitted=False)
        files[f"onnxruntime, HQQ, block {block}"] = rival(block, fitted=True)
        files[f"attar, block {block}"] = attars(block, train)
    runtimes = {way: Runtime(data) for way, data in files.items()}
    before = score(runtimes["float32"].run, test, metric, None)
    batch = dict(test.take([0]).inputs)
    times = latencies({way: runtime.once(batch) for way, runtime in runtimes.items()})
    rows: dict[str, Any] = {}
    print(f"{machine()}; one thread\n\n| | bytes | drop | 95 % bound | KL | batch 1 |\n|---|---|---|---|---|---|")
    for way, runtime in runtimes.items():
        after = score(runtime.run, test, metric, before.outputs)
        verdict = certify(before, after, metric, 0.5, 0.95)
        moved = float(divergence(before.outputs, after.outputs, kind_of(before.outputs, True)).mean())
        rows[way] = {"bytes": len(files[way]), "drop": verdict.drop, "upper": verdict.upper, "kl": moved,
                     "ratio": times[way].ratio}  # fmt: skip
        print(f"| {way} | {len(files[way]):,} | {verdict.drop:+.2f} | {verdict.upper:+.2f} | {moved:.4f} | "
              f"{times[way].ratio:.2f} |")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
