"""4-bit weights in blocks by attar and by onnxruntime's quantiser: size, drop, divergence, latency.

    python benchmarks/int4.py [--models lenet300 minilm] [--folder KEPT]

LeNet-300-100 on the 10,000 test images of Fashion-MNIST, every block by itself; MiniLM-L6 by the cosine to float on
2,000 paragraphs of e-mails that no quantiser saw, whole files. onnxruntime's quantiser takes MatMul (and, where told,
Gather) only, so its LeNet has each Gemm written as a MatMul and an Add. Its default rounds to nearest, with a scale for
each block; HQQ fits zero points too. Latencies are of the files as each writes them, of one paragraph of 16 and of 64
tokens for MiniLM. Files that are in --folder already are not made again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
from onnx import helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    HQQWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

import attar
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.exports.onnx.runtime import Runtime
from attar.exports.products import DYNAMIC
from attar.exports.timing import latencies
from attar.exports.weights import Weights
from attar.search.divergence import divergence, kind_of
from attar.types import Array, Dataset
from timing import machine

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
MODEL = EXAMPLES / "models" / "lenet300.onnx"
BLOCKS = (128, 64, 32, 16)
LENGTHS = (16, 64)
MAX_DROP = 0.013
"""Of MiniLM's cosine: its bound on 2,000 paragraphs is a third of a point beside the mean."""


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


def rival(model: onnx.ModelProto, block: int, *, fitted: bool, tables: bool = False) -> bytes:
    """onnxruntime's quantiser, to nearest or with HQQ; tables: looked up ones too."""
    kinds = ("MatMul", "Gather") if tables else ("MatMul",)
    config = (
        HQQWeightOnlyQuantConfig(block_size=block, bits=4)
        if fitted
        else DefaultWeightOnlyQuantConfig(
            block_size=block, is_symmetric=True, accuracy_level=4, op_types_to_quantize=kinds
        )
    )
    quantiser = MatMulNBitsQuantizer(model, block, algo_config=config)
    quantiser.process()
    data: bytes = quantiser.model.model.SerializeToString()
    return data


def lenet300(folder: Path) -> tuple[dict[str, bytes], Dataset, str]:
    """Every block by itself, in both kernels."""
    del folder
    parts = read(EXAMPLES / "fashion-mnist")
    train, test = (fit_inputs(parts[name], OnnxAdapter.open(MODEL).inputs()) for name in ("train", "test"))
    work = Weights(OnnxAdapter.open(MODEL).model(), train.take(range(4000)))
    four, files = dict.fromkeys(work.layers, 4), {"float32": MODEL.read_bytes()}
    for block in BLOCKS:
        files[f"onnxruntime, to nearest, block {block}"] = rival(as_products(onnx.load(MODEL)), block, fitted=False)
        files[f"onnxruntime, HQQ, block {block}"] = rival(as_products(onnx.load(MODEL)), block, fitted=True)
        files[f"attar, MatMulNBits, block {block}"] = work.build(four, block, {})
        files[f"attar, folded, block {block}"] = work.build(four, block, dict.fromkeys(work.layers, DYNAMIC))
    return files, test, "accuracy"


def minilm(folder: Path) -> tuple[dict[str, bytes], Dataset, str]:
    """Whole files: onnxruntime's with and without tables, and what `attar export` writes."""
    from text_lines import minilm as written
    from text_lines import paragraphs, tokens

    first, second = paragraphs()
    test, path = tokens(second[:2000]), folder / "minilm.onnx"
    if not path.exists():
        written(path)
    files = {"float32": path.read_bytes()}
    for block in (128, 32):
        files[f"onnxruntime, to nearest, block {block}"] = rival(onnx.load(path), block, fitted=False)
        # It writes 4-bit tables in operator set 21 and converts nothing else.
        newer = onnx.version_converter.convert_version(onnx.load(path), 21)
        files[f"onnxruntime, to nearest, tables, block {block}"] = rival(newer, block, fitted=False, tables=True)
    files["onnxruntime, HQQ, block 32"] = rival(onnx.load(path), 32, fitted=True)
    place = folder / "minilm.int4.onnx"
    if not place.exists():
        sets = {"calibrate": tokens(first[:512]), "select": tokens(first[512:2512]), "certify": test}
        found = attar.export(path, "onnx-int4", out=place, metric="cosine", max_drop=MAX_DROP, force=True, **sets)
        print(f"attar: {found.certificate.verdict}; {found.facts['evaluations']} passes; {'; '.join(found.notes)}")
    return {**files, "attar": place.read_bytes()}, test, "cosine"


MODELS: dict[str, Callable[[Path], tuple[dict[str, bytes], Dataset, str]]] = {"lenet300": lenet300, "minilm": minilm}


def batches(test: Dataset) -> dict[str, Mapping[str, Array]]:
    """What latency is measured with: one example; where examples are tokens, the first ones of the first full one."""
    if "attention_mask" not in test.inputs:
        return {"batch 1": dict(test.take([0]).inputs)}
    row = int(np.argmax(test.inputs["attention_mask"].sum(1)))
    whole = test.take([row]).inputs
    return {f"{size} tokens": {name: values[:, :size] for name, values in whole.items()} for size in LENGTHS}


def made(name: str, folder: Path) -> dict[str, Any]:
    """Files in the folder, and bytes, drop, bound and KL of each."""
    files, test, metric = MODELS[name](folder)
    how, before, rows = resolve_metric(metric), None, {}
    for way, data in files.items():
        place = folder / f"int4-{name}-{len(rows)}.onnx"
        place.write_bytes(data)
        after = score(Runtime(place).run, test, how, None if before is None else before.outputs)
        before = before or after
        verdict = certify(before, after, how, 0.5, 0.95)
        kind = kind_of(before.outputs, metric != "cosine")
        moved = float(divergence(before.outputs, after.outputs, kind).mean())
        rows[way] = {"file": place.name, "bytes": len(data), "drop": verdict.drop, "upper": verdict.upper, "kl": moved}
    np.savez(folder / f"int4-{name}.npz", **{k: v[:64] for k, v in test.inputs.items()})
    return rows


def timed(name: str, rows: dict[str, Any], folder: Path) -> None:
    """Put latencies into the rows, and print the table."""
    runtimes = {way: Runtime(folder / row["file"]) for way, row in rows.items()}
    with np.load(folder / f"int4-{name}.npz") as kept:
        given = batches(Dataset(dict(kept)))
    for what, batch in given.items():
        for way, found in latencies({way: runtime.once(batch) for way, runtime in runtimes.items()}).items():
            rows[way][what] = [found.milliseconds, found.ratio, found.low, found.high]
    print(f"\n**{name}**\n\n| | bytes | times smaller | drop | 95 % bound | KL | {' | '.join(given)} |")
    print("|---" * (6 + len(given)) + "|")
    digits, whole = 4 if "minilm" in name else 2, rows["float32"]["bytes"]
    for way, row in rows.items():
        drop, upper = (f"{row[one]:+.{digits}f}" for one in ("drop", "upper"))
        parts = [f"{row['bytes']:,}", f"{whole / row['bytes']:.2f}", drop, upper, f"{row['kl']:.4f}"]
        times = [f"{row[what][1]:.2f} ({row[what][2]:.2f} to {row[what][3]:.2f})" for what in given]
        print(f"| {way} | {' | '.join([*parts, *times])} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    print(f"{machine()}; one thread")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        for name in options.models:
            kept = folder / f"int4-{name}.json"
            rows = json.loads(kept.read_text()) if kept.exists() else made(name, folder)
            kept.write_text(json.dumps(rows, indent=1) + "\n")
            timed(name, rows, folder)
            kept.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
