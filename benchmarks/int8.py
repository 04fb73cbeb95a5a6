"""int8 ONNX models by attar and its rivals, in onnxruntime: size, drop, passes and latency in one run.

    python benchmarks/int8.py [--models lenet5 minilm ...] [--threads 1 2] [--folder KEPT] [--json FILE]

Rivals are those of int8_rivals.py; all calibrate on training examples. Drops are on the 10,000 test images; on 4,000
crops of ten pictures, by agreement with float (EfficientNet-Lite0); on 1,000 paragraphs, by the cosine to float
(MiniLM); and on 600 rendered lines, by agreement at each place (the PP-OCRv4 recogniser). Passes are those over
examples with which a quantiser decides; NNCF's accuracy control runs where there are labels. Latencies are interleaved;
ratios to the float model, medians with the middle half's spread. What is in --folder already is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import attar
from attar.adapters.onnx.adapter import OnnxAdapter
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.exports.onnx.runtime import Runtime
from attar.exports.timing import latencies
from attar.search.divergence import divergence, kind_of
from attar.types import Array, Dataset, Score
from int8_rivals import RIVALS, Case
from timing import machine

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
BATCHES = (1, 32)
SELECT = 5000
"""Training images that decisions are made with, by attar and by NNCF's accuracy control."""
RECOGNISER_DROP = 1.5
"""Points that the recogniser may lose: about what 600 lines can prove of the rival that loses least."""
Sets = tuple[Dataset, Dataset, Dataset]
"""To calibrate with, to decide with, to measure with."""


def images(path: Path) -> tuple[Path, Sets, str, float]:
    """A model of Fashion-MNIST, with its training images in two parts."""
    specs = OnnxAdapter.open(path).inputs()
    parts = read(EXAMPLES / "fashion-mnist")
    train = fit_inputs(parts["train"], specs)
    rows = np.random.default_rng(0).permutation(len(train))
    given, held = train.take(rows[SELECT : 2 * SELECT]), train.take(rows[:SELECT])
    return path, (given, held, fit_inputs(parts["test"], specs)), "accuracy", 0.5


def example(name: str) -> Callable[[Path], tuple[Path, Sets, str, float]]:
    """A model of examples/."""
    return lambda _: images(EXAMPLES / "models" / f"{name}.onnx")


KERAS = """
import sys, keras, torch
model = keras.models.load_model(sys.argv[1], compile=False).eval()
torch.onnx.export(model, (torch.zeros(2, 28, 28, 1),), sys.argv[2], input_names=["image"], output_names=["logits"],
                  dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}}, dynamo=False)
"""


def keras_cnn(folder: Path) -> tuple[Path, Sets, str, float]:
    """The Keras file of the depthwise CNN, written as ONNX by PyTorch, on which Keras 3 runs."""
    path = folder / "keras.onnx"
    command = [sys.executable, "-W", "ignore", "-c", KERAS, str(EXAMPLES / "models" / "dwcnn.keras"), str(path)]
    subprocess.run(command, check=True, env={**os.environ, "KERAS_BACKEND": "torch"}, capture_output=True)
    return images(path)


def efficientnet(folder: Path) -> tuple[Path, Sets, str, float]:
    """EfficientNet-Lite0 as an ONNX file, crops of pictures for ranges, and crops of others."""
    from efficientnet import crops, exported, network, pictures

    given, held = pictures()
    path = exported(network(), folder / "efficientnet.onnx")
    return path, (crops(given, 300, 0), crops(given, 300, 2), crops(held, 4000, 1)), "agreement", 10.0


def minilm(folder: Path) -> tuple[Path, Sets, str, float]:
    """MiniLM-L6 and paragraphs of e-mails, of 64 tokens at most."""
    from text_lines import minilm as written
    from text_lines import paragraphs, tokens

    first, second = paragraphs()
    sets = tokens(first[:512]), tokens(first[512:1512]), tokens(second[:1000])
    return written(folder / "minilm.onnx"), sets, "cosine", 0.02


def recogniser(folder: Path) -> tuple[Path, Sets, str, float]:
    """PP-OCRv4's recogniser and rendered lines of e-mails."""
    from inputs import asset
    from text_lines import RECOGNISER, lines, paragraphs, words

    del folder
    first, second = (words(part, 900) for part in paragraphs())
    parts = lines(first[:300], 0), lines(first[300:], 1), lines(second[:600], 2)
    return asset(*RECOGNISER), parts, "agreement", RECOGNISER_DROP


MODELS: dict[str, Callable[[Path], tuple[Path, Sets, str, float]]] = {
    "lenet5": example("lenet5"), "resnet20": example("resnet20"), "dwcnn": example("dwcnn"), "keras": keras_cnn,
    "efficientnet": efficientnet, "minilm": minilm, "recogniser": recogniser,
}  # fmt: skip
UNLABELLED = (efficientnet, minilm, recogniser)
"""Models whose metric asks the original."""


def made(name: str, folder: Path) -> dict[str, Any]:
    """Every way of quantising one model: file, bytes, drop, bound, KL, passes, seconds; what the folder has stays."""
    kept = folder / f"{name}.json"
    rows: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    ways = [way for way in RIVALS if not (way == "NNCF accuracy control" and MODELS[name] in UNLABELLED)]
    if {"float32", *ways, "attar"} <= {way for way, row in rows.items() if "kl" in row or "failed" in row}:
        return rows
    path, (calibrate, select, test), metric, max_drop = MODELS[name](folder)
    case = Case(path, calibrate, select, metric, max_drop)
    rows.setdefault("float32", {"file": str(path), "seconds": 0.0, "passes": 0})
    for number, way in enumerate([*ways, "attar"], 1):
        if way not in rows:
            out = folder / f"{name}-{number}.onnx"
            rows[way] = (
                ours(name, case, folder, (calibrate, select, test)) if way == "attar" else theirs(way, case, out)
            )
        judge(rows, test, metric, max_drop)
        kept.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


def theirs(way: str, case: Case, out: Path) -> dict[str, Any]:
    """A rival's file, or why there is none."""
    case.passes, started = 0.0, time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            RIVALS[way](case, out)
            Runtime(out)
        except Exception as error:  # noqa: BLE001  a rival that cannot is a result too
            why = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
            print(f"{way}: {why}", flush=True)
            return {"failed": why}
    spent = time.perf_counter() - started
    return {"file": str(out), "seconds": spent, "passes": round(case.passes, 1)}


def ours(name: str, case: Case, folder: Path, sets: Sets) -> dict[str, Any]:
    """attar's file."""
    started = time.perf_counter()
    parts = dict(zip(("calibrate", "select", "certify"), sets, strict=True))
    found = attar.export(
        case.model, "onnx-int8", **parts, out=folder / f"{name}.int8.onnx", metric=case.metric.name,
        max_drop=case.max_drop, force=True,
    )  # fmt: skip
    row = {"file": str(found.path), "seconds": time.perf_counter() - started, "passes": found.facts["evaluations"]}
    return {**row, "notes": list(found.notes)}


def judge(rows: dict[str, Any], test: Dataset, metric: str, max_drop: float) -> None:
    """Put bytes, drop, bound and KL into the rows that have none; the first is the float model."""
    how, before = resolve_metric(metric), None
    for way, row in rows.items():
        if "failed" in row or ("kl" in row and way != "float32"):
            continue
        file = Path(row["file"])
        after: Score = score(Runtime(file).run, test, how, None if before is None else before.outputs)
        before = before or after
        verdict = certify(before, after, how, max_drop, 0.95)
        classes = kind_of(before.outputs[:256], metric != "cosine")
        each = divergence(before.outputs, after.outputs, classes)
        row |= {"bytes": file.stat().st_size, "drop": verdict.drop, "upper": verdict.upper, "kl": float(each.mean())}
        row["within"] = bool(way == "float32" or verdict.upper <= max_drop)


def examples(name: str, folder: Path) -> dict[str, Array]:
    """As many as the largest batch, kept in the folder."""
    place = folder / f"{name}.npz"
    if not place.exists():
        _, (_, _, test), _, _ = MODELS[name](folder)
        np.savez(place, **test.take(np.arange(max(BATCHES))).inputs)
    with np.load(place) as kept:
        return dict(kept)


def timed(name: str, rows: dict[str, Any], folder: Path, threads: int) -> None:
    """Put latencies into the rows."""
    given = examples(name, folder)
    runtimes = {way: Runtime(Path(row["file"]), threads) for way, row in rows.items()}
    for size in BATCHES:
        batch = {name: values[:size] for name, values in given.items()}
        for way, latency in latencies({way: runtime.once(batch) for way, runtime in runtimes.items()}).items():
            rows[way][f"{threads}, {size}"] = [latency.milliseconds, latency.ratio, latency.low, latency.high]


def show(name: str, rows: dict[str, Any], threads: list[int]) -> None:
    """One table."""
    columns = [f"{one}, {size}" for one in threads for size in BATCHES]
    heads = [f"{one} thread{'s' * (one > 1)}, batch {size}" for one in threads for size in BATCHES]
    print(f"\n**{name}**\n\n| | bytes | drop | 95 % bound | KL | passes | seconds | {' | '.join(heads)} |")
    print("|---" * (7 + len(heads)) + "|")
    for way, row in rows.items():
        times = [
            f"{row[one][0]:.3g} ms" if way == "float32"
            else f"{row[one][1]:.2f} ({row[one][2]:.2f} to {row[one][3]:.2f})"
            for one in columns
        ]  # fmt: skip
        digits = 4 if abs(row["upper"]) < 0.1 or name == "minilm" else 2
        drop, upper = (f"{row[one]:+.{digits}f}" for one in ("drop", "upper"))
        parts = [f"{row['bytes']:,}", drop, upper, f"{row['kl']:.2g}", f"{row['passes']:g}", f"{row['seconds']:.0f}"]
        print(f"| {way} | {' | '.join([*parts, *times])} |")
    for note in rows["attar"]["notes"]:
        print(f"\nattar: {note}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--make", action="store_true", help="no timing")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"{machine()}; onnxruntime's CPU provider")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        found = {}
        for name in options.models:
            kept = folder / f"{name}.json"
            found[name] = made(name, folder)
            rows = {way: row for way, row in found[name].items() if "failed" not in row}
            if not options.make:
                for threads in options.threads:
                    timed(name, rows, folder, threads)
                kept.write_text(json.dumps(found[name], indent=1) + "\n")
                show(name, rows, options.threads)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
