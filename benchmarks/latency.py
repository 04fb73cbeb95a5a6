"""The latency goal beside the best int8 rivals, in onnxruntime: time, drop and size in one run.

    python benchmarks/latency.py [--models resnet20 lenet5 dwcnn efficientnet] [--epochs 0] [--folder F] [--json FILE]

`attar compress --goal latency` with one point allowed: channels removed and int8 by measured costs. With --epochs
candidates are trained on the first training images. Rivals are those of int8.py that are not slower than float
everywhere: onnxruntime's static quantiser with uint8 activations and a scale for each channel, NNCF, and `attar export
--to onnx-int8`. Drops are on the 10,000 test images, of which no search has seen one (EfficientNet-Lite0: agreement on
4,000 random crops of ten pictures; the search has 4,000 others of these, and 300 of sixteen other pictures calibrate).
All files are timed in turn, one thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import attar
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.exports.onnx.runtime import Runtime
from attar.exports.timing import latencies
from attar.types import Dataset
from fashion import fashion
from int8 import EXAMPLES
from int8_rivals import Case, nncf, static_tuned
from timing import machine

MAX_DROP, TARGET = 1.0, 1.15
CALIBRATED, CROPS = 300, 4000
BATCHES = (1, 32)
GOAL = "attar, goal latency"
RIVALS = {"onnxruntime static, uint8, per channel": static_tuned, "NNCF post-training": nncf}


def sets(name: str, folder: Path, examples: int) -> tuple[Path, dict[str, Dataset], str]:
    """The model's file, its calibrate, select, certify and train sets, and the metric."""
    if name == "efficientnet":
        path, (given, chosen, held) = efficientnet(folder)
        return path, {"calibrate": given, "select": chosen, "certify": held}, "agreement"
    whole = fashion()
    parts = {"calibrate": whole.train.take(range(4000)), "select": whole.select, "certify": whole.certify}
    return EXAMPLES / "models" / f"{name}.onnx", {**parts, "train": whole.train.take(range(examples))}, "accuracy"


def efficientnet(folder: Path) -> tuple[Path, tuple[Dataset, Dataset, Dataset]]:
    """EfficientNet-Lite0 as an ONNX file; crops to calibrate on, and of other pictures to select and to certify on."""
    from efficientnet import crops, exported, network, pictures

    given, others = pictures()
    path = exported(network(), folder / "efficientnet.onnx")
    return path, (crops(given, CALIBRATED, 0), crops(others, CROPS, 2), crops(others, CROPS, 1))


def compressed(path: Path, parts: dict[str, Dataset], metric: str, out: Path, options: Any) -> Path:
    """The artefact of the latency goal."""
    fields: dict[str, Any] = {"goal": "latency", "max_drop": MAX_DROP, "metric": metric, "threads": options.threads}
    recovery = {"epochs": options.epochs, "candidates": options.candidates, "distill": 0.5, "rate": 0.05,
                "augment": ["flip"]}  # fmt: skip
    if options.epochs and "train" in parts:
        fields["settings"] = {"recovery": recovery}
    given = {key: value for key, value in parts.items() if key != "train" or options.epochs}
    result = attar.compress(path, **given, **fields, out=out)
    return out / result.fast.record["file"]


def made(name: str, folder: Path, options: Any) -> tuple[dict[str, Path], dict[str, Dataset], str]:
    """Every file of one model, where it is not there from an earlier run; the sets, and the metric."""
    path, parts, metric = sets(name, folder, options.examples)
    files = {"float32": path}
    for number, (rival, make) in enumerate(RIVALS.items()):
        files[rival] = folder / f"rival-{number}.onnx"
        if not files[rival].exists():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                make(Case(path, parts["calibrate"], parts["select"], metric, MAX_DROP), files[rival])
    files["attar export, int8"] = folder / f"{path.stem}.int8.onnx"
    if not files["attar export, int8"].exists():
        some = {key: value for key, value in parts.items() if key != "train"}
        attar.export(path, "onnx-int8", **some, out=folder, metric=metric, max_drop=MAX_DROP, threads=options.threads)
    out = folder / f"goal-{options.epochs}"
    files[GOAL] = out / f"{path.stem}.fast.onnx"
    if not files[GOAL].exists():
        compressed(path, parts, metric, out, options)
    return files, parts, metric


def measured(name: str, folder: Path, options: Any) -> dict[str, Any]:
    """Every file of one model: bytes, drop, bound, latencies."""
    files, parts, metric = made(name, folder, options)
    runtimes = {way: Runtime(file, options.threads) for way, file in files.items()}
    test, how = parts["certify"], resolve_metric(metric)
    before = score(runtimes["float32"].run, test, how, None)
    before = score(runtimes["float32"].run, test, how, before.outputs)
    rows: dict[str, Any] = {}
    for way, runtime in runtimes.items():
        verdict = certify(before, score(runtime.run, test, how, before.outputs), how, MAX_DROP, 0.95)
        rows[way] = {"bytes": files[way].stat().st_size, "drop": verdict.drop, "upper": verdict.upper}
    for size in BATCHES:
        batch = dict(test.take(np.arange(size) % len(test)).inputs)
        for way, latency in latencies({way: runtime.once(batch) for way, runtime in runtimes.items()}).items():
            rows[way][f"batch {size}"] = [latency.milliseconds, latency.ratio, latency.low, latency.high]
    record = json.loads(files[GOAL].with_name(files[GOAL].name + ".json").read_text())
    rows[GOAL] |= {
        "attar bytes": next(files[GOAL].parent.glob("*.attar")).stat().st_size, "how": record["how"],
        "predicted": record["predicted_milliseconds"], "measured": record["milliseconds"],
        "removed": record["removed"], "trained": record["trained"],
        "earned": [[row["what"], row["ratio"]] for row in record["earned"]],
    }  # fmt: skip
    return rows


def show(name: str, rows: dict[str, Any]) -> None:
    """One table, and the target."""
    print(f"\n| {name} | bytes | drop | 95 % bound | batch 1 | batch 32 |\n|---|---|---|---|---|---|")
    for way, row in rows.items():
        times = " | ".join(
            f"{row[f'batch {size}'][0]:.3g} ms" if way == "float32"
            else f"{row[f'batch {size}'][1]:.2f} ({row[f'batch {size}'][2]:.2f} to {row[f'batch {size}'][3]:.2f})"
            for size in BATCHES
        )  # fmt: skip
        print(f"| {way} | {row['bytes']:,} | {row['drop']:+.2f} | {row['upper']:+.2f} | {times} |")
    own, rivals = rows[GOAL], [row["batch 1"][1] for way, row in rows.items() if way in RIVALS]
    gain = min(rivals) / own["batch 1"][1]
    print(f"\n{name}: {gain:.2f}x the speed of the best rival at batch 1, target {TARGET}x: "
          f"{'met' if gain >= TARGET else 'missed'}; {own['how']}; {own['removed']:.0%} of the multiply-adds removed; "
          f"predicted {own['predicted'] or own['measured']:.3g} ms, measured {own['measured']:.3g} ms; "
          + ", ".join(f"{what} {ratio:.2f}" for what, ratio in own["earned"]))  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet20", "lenet5", "dwcnn", "efficientnet"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=0, help="passes over the training images; 0: no training")
    parser.add_argument("--candidates", type=int, default=2, help="most candidates that are trained")
    parser.add_argument("--examples", type=int, default=20_000, help="training images")
    parser.add_argument("--folder", type=Path, help="where files stay, and are taken from where they are there")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"{machine()}; {options.threads} threads; {options.epochs} passes over {options.examples:,} images")
    found = {}
    for name in options.models:
        with tempfile.TemporaryDirectory() as gone:
            folder = Path(options.folder or gone, name)
            folder.mkdir(parents=True, exist_ok=True)
            found[name] = measured(name, folder, options)
        show(name, found[name])
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
