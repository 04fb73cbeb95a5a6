"""The example models through attar and through onnxruntime's static int8 with zstd -19, in one table.

    python benchmarks/models.py [--models lenet300 lenet5 resnet20 dwcnn] [--json results.json]

Sizes are those of the files on disk; ratios are to the float32 ONNX file; drops are on the 10,000 test images, which
neither tool has seen before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import attar
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.types import Dataset

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
MAX_DROP = 0.5
CALIBRATION = 2000
TARGETS = {"lenet300": (35, 26, 7), "lenet5": (31, 22, 7), "resnet20": (22, None, 4.5), "dwcnn": (9, None, 2)}
"""Ratio at a point estimate of MAX_DROP, ratio certified, and how many times smaller than the rival."""


class Images(CalibrationDataReader):
    """Unlabelled images for onnxruntime's calibration."""

    def __init__(self, name: str, data: Dataset) -> None:
        self.batches: Iterator[dict[str, Any]] = ({name: next(iter(b.values()))} for b in data.batches(100))

    def get_next(self) -> dict[str, Any] | None:
        """The next batch."""
        return next(self.batches, None)


def rival(path: Path, calibrate: Dataset, test: Dataset) -> dict[str, float]:
    """onnxruntime static int8 (QDQ, per channel), then zstd -19 over the file."""
    original = OnnxAdapter.open(path)
    metric = resolve_metric("accuracy")
    with tempfile.TemporaryDirectory() as folder:
        ready, out = Path(folder, "ready.onnx"), Path(folder, "int8.onnx")
        quant_pre_process(str(path), str(ready))
        quantize_static(
            str(ready), str(out), Images(original.inputs()[0].name, calibrate), quant_format=QuantFormat.QDQ,
            per_channel=True, weight_type=QuantType.QInt8, activation_type=QuantType.QInt8,
        )  # fmt: skip
        packed = zstandard.ZstdCompressor(level=19).compress(out.read_bytes())
        before = score(original.run, test, metric)
        after = score(OnnxAdapter.open(out).run, test, metric, before.outputs)
    verdict = certify(before, after, metric, MAX_DROP)
    return {
        "bytes": len(packed),
        "ratio": path.stat().st_size / len(packed),
        "drop": verdict.drop,
        "upper": verdict.upper,
    }


def ours(path: Path, guarantee: str) -> dict[str, float]:
    """attar, from the command's defaults."""
    started = time.perf_counter()
    result = attar.compress(
        path, EXAMPLES / "fashion-mnist", metric="accuracy", max_drop=MAX_DROP, guarantee=guarantee
    )  # fmt: skip
    c = result.certificate
    return {
        "bytes": result.bytes_after, "ratio": result.ratio, "drop": c.drop, "lower": c.lower, "upper": c.upper,
        "before": c.before, "certified": c.verdict == "certified", "seconds": time.perf_counter() - started,
        "evaluations": sum(e["event"] == "candidate" for e in result.events),
    }  # fmt: skip


def main() -> None:
    """Run everything, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(TARGETS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}")
    print(f"{'model':<9} {'how':<22} {'bytes':>8} {'ratio':>6} {'drop':>6} {'upper':>6} {'passes':>6} {'s':>5}  target")
    rows: dict[str, Any] = {}
    for name in options.models:
        path = EXAMPLES / "models" / f"{name}.onnx"
        parts = read(EXAMPLES / "fashion-mnist")
        specs = OnnxAdapter.open(path).inputs()
        assert not isinstance(parts, Dataset)
        train, test = (fit_inputs(parts[part], specs) for part in ("train", "test"))
        estimate, bound, theirs = ours(path, "estimate"), ours(path, "bound"), None
        theirs = rival(path, train.take(range(CALIBRATION)), test)
        rows[name] = {"estimate": estimate, "bound": bound, "onnxruntime int8 + zstd": theirs}
        point, certified, smaller = TARGETS[name]
        show(name, "attar, estimate", estimate, f">= {point}x at {MAX_DROP} points")
        show(name, "attar, certified", bound, f">= {certified}x" if certified else "")
        factor = theirs["bytes"] / estimate["bytes"]
        show(name, "onnxruntime int8+zstd", theirs, f"attar is {factor:.1f}x smaller (target {smaller}x)")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def show(name: str, how: str, row: dict[str, float], target: str) -> None:
    """One line of the table."""
    passes, seconds = row.get("evaluations", ""), f"{row['seconds']:.0f}" if "seconds" in row else ""
    print(
        f"{name:<9} {how:<22} {row['bytes']:>8,.0f} {row['ratio']:>5.1f}x {row['drop']:>+6.2f} {row['upper']:>+6.2f} "
        f"{passes:>6} {seconds:>5}  {target}",
        flush=True,
    )


if __name__ == "__main__":
    main()
