"""int8 ONNX models by attar and its rivals, in onnxruntime: size, drop and latency in one run.

    python benchmarks/int8.py [--models lenet5 resnet20 dwcnn efficientnet] [--threads 1] [--json FILE]

Rivals: onnxruntime's static quantiser with its defaults (int8 activations, a scale for each tensor), the same with
uint8 activations and a scale for each channel, its dynamic quantiser, and NNCF's post-training quantisation. All
calibrate on training images. Drops are on the 10,000 test images (EfficientNet-Lite0: agreement with float on 80 crops
of ten pictures). Latencies are interleaved; ratios to the float model, medians with the middle half's spread.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

import attar
from attar.adapters.onnx import OnnxAdapter
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.exports.onnx_runtime import Runtime
from attar.exports.timing import latencies
from attar.search.divergence import divergence, kind_of
from attar.types import Dataset
from timing import machine

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
RIVALS_SEE = 300
"""Examples that rivals calibrate with: NNCF's default; attar counts 512."""
BATCHES = (1, 32)


class Reader(CalibrationDataReader):
    """Examples one by one."""

    def __init__(self, data: Dataset, name: str) -> None:
        self._rows: Iterator[dict[str, Any]] = (
            {name: next(iter(batch.values()))} for batch in data.take(range(min(RIVALS_SEE, len(data)))).batches(1)
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next one."""
        return next(self._rows, None)


def static_default(model: Path, out: Path, data: Dataset, name: str) -> None:
    """onnxruntime's static quantiser as its documentation calls it first."""
    _static(model, out, data, name)


def static_tuned(model: Path, out: Path, data: Dataset, name: str) -> None:
    """The same with the activation type that its kernels like, and a scale for each channel."""
    _static(model, out, data, name, activation_type=QuantType.QUInt8, per_channel=True)


def _static(model: Path, out: Path, data: Dataset, name: str, **options: Any) -> None:
    ready = out.with_suffix(".ready")
    quant_pre_process(str(model), str(ready), skip_symbolic_shape=True)
    quantize_static(str(ready), str(out), Reader(data, name), quant_format=QuantFormat.QDQ, **options)


def dynamic(model: Path, out: Path, data: Dataset, name: str) -> None:
    """onnxruntime's dynamic quantiser."""
    del data, name
    quantize_dynamic(str(model), str(out))


def nncf(model: Path, out: Path, data: Dataset, name: str) -> None:
    """NNCF's post-training quantisation with its defaults."""
    import nncf as rival

    logging.getLogger("nncf").setLevel(logging.ERROR)
    rows = [{name: next(iter(batch.values()))} for batch in data.take(range(RIVALS_SEE)).batches(1)]
    onnx.save(rival.quantize(onnx.load(model), rival.Dataset(rows), subset_size=RIVALS_SEE), out)


RIVALS: dict[str, Callable[[Path, Path, Dataset, str], None]] = {
    "onnxruntime static, defaults": static_default,
    "onnxruntime static, uint8, per channel": static_tuned,
    "onnxruntime dynamic": dynamic,
    "NNCF post-training": nncf,
}


def example(name: str) -> tuple[Path, tuple[Dataset, Dataset], str]:
    """A model of examples/, training and test images, and the metric."""
    path = EXAMPLES / "models" / f"{name}.onnx"
    specs = OnnxAdapter.open(path).inputs()
    parts = read(EXAMPLES / "fashion-mnist")
    return path, (fit_inputs(parts["train"], specs), fit_inputs(parts["test"], specs)), "accuracy"


def efficientnet(folder: Path) -> tuple[Path, tuple[Dataset, Dataset], str]:
    """EfficientNet-Lite0 as an ONNX file, crops of pictures for ranges, and crops of others."""
    from efficientnet import crops, exported, network, pictures

    given, held = pictures()
    return exported(network(), folder / "efficientnet.onnx"), (crops(given, 480, 0), crops(held, 80, 1)), "agreement"


def measured(name: str, folder: Path, threads: int, max_drop: float) -> dict[str, Any]:
    """Every way of quantising one model: bytes, drop, bound, latencies."""
    path, (train, test), metric = efficientnet(folder) if name == "efficientnet" else example(name)
    files = {"float32": path}
    for rival, make in RIVALS.items():
        files[rival] = folder / f"{name}-{len(files)}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make(path, files[rival], train, OnnxAdapter.open(path).inputs()[0].name)
    found = attar.export(
        path, "onnx-int8", calibrate=train, certify=test, out=folder, metric=metric, max_drop=max_drop, threads=threads
    )
    files["attar"] = found.path
    runtimes = {way: Runtime(file, threads) for way, file in files.items()}
    how = resolve_metric(metric)
    before = score(runtimes["float32"].run, test, how, None)
    rows: dict[str, Any] = {}
    for way, runtime in runtimes.items():
        after = score(runtime.run, test, how, None if way == "float32" else before.outputs)
        verdict = certify(before, after, how, max_drop, 0.95)
        moved = float(divergence(before.outputs, after.outputs, kind_of(before.outputs, True)).mean())
        rows[way] = {"bytes": files[way].stat().st_size, "drop": verdict.drop, "upper": verdict.upper, "kl": moved}
    for size in BATCHES:
        batch = dict(test.take(np.arange(size)).inputs)
        for way, latency in latencies({way: runtime.once(batch) for way, runtime in runtimes.items()}).items():
            rows[way][f"batch {size}"] = [latency.milliseconds, latency.ratio, latency.low, latency.high]
    rows["attar"]["notes"] = list(found.notes)
    return rows


def show(name: str, rows: dict[str, Any]) -> None:
    """One table."""
    print(f"\n**{name}**\n\n| | bytes | drop | 95 % bound | KL | batch 1 | batch 32 |\n|---|---|---|---|---|---|---|")
    for way, row in rows.items():
        first = " | ".join(
            f"{row[f'batch {size}'][0]:.3g} ms" if way == "float32"
            else f"{row[f'batch {size}'][1]:.2f} ({row[f'batch {size}'][2]:.2f} to {row[f'batch {size}'][3]:.2f})"
            for size in BATCHES
        )  # fmt: skip
        print(f"| {way} | {row['bytes']:,} | {row['drop']:+.2f} | {row['upper']:+.2f} | {row['kl']:.2g} | {first} |")
    for note in rows["attar"]["notes"]:
        print(f"\nattar: {note}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["lenet5", "resnet20", "dwcnn", "efficientnet"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"{machine()}; {options.threads} threads; onnxruntime's CPU provider")
    found = {}
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measured(name, Path(folder), options.threads, 10 if name == "efficientnet" else 0.5)
        show(name, found[name])
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
