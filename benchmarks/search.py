"""What a search takes to land: evaluations, examples, time and memory, beside what looks for a point in other ways.

    python benchmarks/search.py [--only lenet5 resnet20 dwcnn lite0] [--rivals] [--seconds 120] [--json results.json]

Every run is a process of its own, so that its peak of memory (VmHWM) is its own; seconds are those of processors, which
what runs beside does not change. "to land" are the search's evaluations on the select split, and the examples that they
took of 8 passes over it; "in all" has the certificate's too, of 8 passes over the certify split. Rivals are given the
same sets; Optuna's TPE chooses one of the slopes below for each layer, from the very points that attar would take, by
the observed drop on select: 200 trials or --seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from acceptance import markdown

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent / "examples/models"
DATA = HERE.parent / "examples/fashion-mnist"
MAX_DROP, PASSES, TRIALS, OLIVE_TRIALS = 0.5, 8, 200, 8
CASES = {"lenet5": "lenet5.onnx", "resnet20": "resnet20.onnx", "dwcnn": "dwcnn.keras", "lite0": ""}
SLOPES = 2.0 ** np.arange(-28, -20)
"""What TPE may choose from for each layer, in nats per bit."""
CROPS, LITE_DROP = (160, 240, 240), 2.0
"""Crops for the splits of EfficientNet-Lite0, and its drop of agreement in points (an estimate: they are few)."""


def peak() -> int:
    """Most memory that this process has held, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def task(name: str, folder: Path) -> tuple[Any, dict[str, Any]]:
    """A model and what it is compressed with."""
    if name != "lite0":
        return MODELS / CASES[name], {"data": DATA, "max_drop": MAX_DROP}
    from efficientnet import crops, exported, network, pictures

    seen, held = pictures()
    sets = [
        crops(source, count, seed) for seed, (source, count) in enumerate(zip((seen, seen, held), CROPS, strict=True))
    ]
    options = {"metric": "agreement", "max_drop": LITE_DROP, "guarantee": "estimate"}
    return exported(network(), folder / "lite0.onnx"), dict(
        zip(("calibrate", "select", "certify"), sets, strict=True)
    ) | options


def ours(name: str, early: bool) -> dict[str, Any]:
    """attar, as the command does it."""
    import attar

    with tempfile.TemporaryDirectory() as folder:
        model, options = task(name, Path(folder))
        size, before, begun = Path(model).stat().st_size, peak(), time.process_time()
        result = attar.compress(model, early_stop=early, **options)
        seconds = time.process_time() - begun
    end, splits = result.events[-1], result.events[0]["splits"]
    looks = [event for event in result.events if event["event"] == "candidate"]
    used = end["examples"]
    return {
        "bytes": result.bytes_after, "ratio": result.ratio, "drop": result.certificate.drop,
        "upper": result.certificate.upper, "landing": sum(look["split"] == "select" for look in looks),
        "landing_share": used["select"] / (PASSES * splits["select"]), "evaluations": len(looks),
        "share": sum(used.values()) / (PASSES * splits["certify"]), "seconds": seconds, "peak": peak(),
        "start": before, "allowed": 3 * size + (500 << 20),
    }  # fmt: skip


def optuna_tpe(name: str, seconds: float) -> dict[str, Any]:
    """TPE over the slope of each layer; the smallest file whose observed drop on select is within the limit."""
    import optuna

    from attar import pipeline
    from attar.beginning import job_of
    from attar.evaluate.certificate import certify
    from attar.evaluate.score import score
    from attar.plan.planner import Plan, at_slope
    from attar.run.ledger import Ledger
    from attar.run.progress import Silent
    from attar.search.subject import Candidate

    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        model, options = task(name, Path(folder))
        job = job_of(model, options.pop("data", None), None, options)
        loop = pipeline.loop_of(job, Ledger(), Silent())
        subject = loop.subject
        choices = {
            layer.name: [
                at_slope({layer.name: subject.points(layer, float(s))}, float(s)).choices[layer.name] for s in SLOPES
            ]
            for layer in subject.layers
        }

        def made(numbers: dict[str, int]) -> Candidate:
            plan = Plan({layer: points[numbers[layer]] for layer, points in choices.items()}, 0.0)
            return Candidate(0.0, plan, subject.pack(plan), {})

        def measured(candidate: Candidate, split: str) -> Any:
            subject.put(candidate)
            before, data = loop.before[split], getattr(job.splits, split)
            after = score(subject.adapter.run, data, job.metric, before.outputs)
            return certify(before, after, job.metric, loop.limit())

        def objective(trial: optuna.Trial) -> float:
            candidate = made({layer: trial.suggest_int(layer, 0, len(SLOPES) - 1) for layer in choices})
            drop = measured(candidate, "select").drop
            trial.set_user_attr("drop", drop)
            return candidate.size_bytes * (1 + max(drop - loop.limit(), 0) * 4)

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
        study.optimize(objective, n_trials=TRIALS, timeout=seconds)
        within = [one for one in study.trials if one.user_attrs.get("drop", np.inf) <= loop.limit()]
        best = made(min(within, key=lambda one: one.value or np.inf).params if within else dict.fromkeys(choices, 0))
        verdict = measured(best, "certify")
    trials = len(study.trials)
    return {
        "bytes": best.size_bytes, "ratio": job.bytes_before / best.size_bytes, "drop": verdict.drop,
        "upper": verdict.upper, "landing": trials, "landing_share": trials / PASSES, "evaluations": trials + 1,
        "share": (trials * len(job.splits.select) + len(job.splits.certify)) / (PASSES * len(job.splits.certify)),
        "seconds": time.process_time() - begun, "peak": peak(), "start": 0, "allowed": 0,
    }  # fmt: skip


def nncf_control(name: str) -> dict[str, Any]:
    """NNCF's accuracy control: int8, layers back to float until the drop on select holds."""
    import zstandard

    from attar.beginning import job_of
    from attar.evaluate.certificate import certify
    from attar.evaluate.score import score
    from attar.opening import open_model
    from int8_rivals import Case, nncf_controlled

    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        model, options = task(name, Path(folder))
        job = job_of(model, options.pop("data", None), None, options)
        case = Case(Path(model), job.splits.calibrate, job.splits.select, job.metric.name, MAX_DROP)
        nncf_controlled(case, Path(folder, "out.onnx"))
        size = len(zstandard.ZstdCompressor(level=19).compress(Path(folder, "out.onnx").read_bytes()))
        before = score(job.adapter.run, job.splits.certify, job.metric)
        after = score(open_model(str(Path(folder, "out.onnx"))).run, job.splits.certify, job.metric, before.outputs)
    verdict = certify(before, after, job.metric, MAX_DROP)
    return {
        "bytes": size, "ratio": job.bytes_before / size, "drop": verdict.drop, "upper": verdict.upper,
        "landing": round(case.passes, 1), "landing_share": case.passes / PASSES,
        "evaluations": round(case.passes + 1, 1),
        "share": (case.passes * len(job.splits.select) + len(job.splits.certify)) / (PASSES * len(job.splits.certify)),
        "seconds": time.process_time() - begun, "peak": peak(), "start": 0, "allowed": 0,
    }  # fmt: skip


def olive(name: str) -> dict[str, Any]:
    """Olive's static int8 pass, its searchable parameters drawn by its own Optuna sampler for the best on select.

    Needs `pip install --no-deps --target FOLDER olive-ai torchmetrics questionary opentelemetry-sdk ...`, FOLDER in
    PYTHONPATH. Without a place for a drop: the smallest file within it of the trials is taken.
    """
    import optuna
    import zstandard
    from olive.data.registry import Registry
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict
    from olive.passes.onnx.quantization import OnnxStaticQuantization

    from attar.beginning import job_of
    from attar.evaluate.certificate import certify
    from attar.evaluate.score import score
    from attar.opening import open_model
    from int8_rivals import Case

    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        model, options = task(name, Path(folder))
        job = job_of(model, options.pop("data", None), None, options)
        case = Case(Path(model), job.splits.calibrate, job.splits.select, job.metric.name, MAX_DROP)
        Registry.register_dataset("attar_rows")(
            lambda **_: [({k: v[0] for k, v in one.items()}, 0) for one in case.rows]
        )
        data = {"name": "rows", "type": "DataContainer", "load_dataset_config": {"type": "attar_rows"}}
        before = {s: score(job.adapter.run, getattr(job.splits, s), job.metric) for s in ("select", "certify")}

        def scored(path: Path, split: str) -> Any:
            after = score(open_model(str(path)).run, getattr(job.splits, split), job.metric, before[split].outputs)
            return certify(before[split], after, job.metric, MAX_DROP)

        tried: list[tuple[int, float, Path]] = []

        def objective(trial: optuna.Trial) -> float:
            settings = {
                "data_config": data, "quant_format": "QDQ",
                "per_channel": trial.suggest_categorical("per_channel", [True, False]),
                "reduce_range": trial.suggest_categorical("reduce_range", [True, False]),
                "activation_type": trial.suggest_categorical("activation_type", ["uint8", "int8"]),
                "calibrate_method": trial.suggest_categorical("method", ["MinMax", "Entropy", "Percentile"]),
            }  # fmt: skip
            place = Path(folder, f"olive-{trial.number}")
            made = create_pass_from_dict(OnnxStaticQuantization, settings, disable_search=True)
            path = Path(made.run(ONNXModelHandler(str(model)), str(place)).model_path)
            size = len(zstandard.ZstdCompressor(level=19).compress(path.read_bytes()))
            drop = scored(path, "select").drop
            tried.append((size, drop, path))
            return size * (1 + 4 * max(drop - MAX_DROP, 0))

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0)).optimize(objective, n_trials=OLIVE_TRIALS)
        within = [one for one in tried if one[1] <= MAX_DROP] or tried
        size, _, path = min(within)
        verdict = scored(path, "certify")
    return {
        "bytes": size, "ratio": job.bytes_before / size, "drop": verdict.drop, "upper": verdict.upper,
        "landing": len(tried), "landing_share": len(tried) / PASSES, "evaluations": len(tried) + 1,
        "share": (len(tried) * len(job.splits.select) + len(job.splits.certify)) / (PASSES * len(job.splits.certify)),
        "seconds": time.process_time() - begun, "peak": peak(), "start": 0, "allowed": 0,
    }  # fmt: skip


def row(name: str, way: str, found: dict[str, Any]) -> list[str]:
    """One line of the table."""
    memory = f"{found['peak'] / 2**20:,.0f} MB" + (f" of {found['allowed'] / 2**20:,.0f}" if found["allowed"] else "")
    return [
        name, way, f"{found['landing']}", f"{found['landing_share']:.0%}", f"{found['evaluations']}",
        f"{found['share']:.0%}", f"{found['seconds']:.0f}", f"{found['ratio']:.1f}x", f"{found['drop']:+.2f}",
        f"{found['upper']:+.2f}", memory,
    ]  # fmt: skip


def main() -> None:
    """Every run in a process, then one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rivals", action="store_true")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    ways: dict[str, Any] = {
        "attar": lambda name: ours(name, True), "attar, whole evaluations": lambda name: ours(name, False),
        "Optuna TPE": lambda name: optuna_tpe(name, options.seconds), "NNCF accuracy control + zstd": nncf_control,
        "Olive static int8 + zstd": olive,
    }  # fmt: skip
    if options.one:
        print(json.dumps(ways[options.one[1]](options.one[0])))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}")
    rows, kept = [], {}
    for name in options.only:
        for way in list(ways)[: 5 if options.rivals else 2]:
            if way.startswith(("NNCF", "Olive")) and name in ("dwcnn", "lite0"):
                continue  # it takes no Keras models, and no labels are there for pictures
            command = [sys.executable, __file__, "--one", name, way, "--seconds", str(options.seconds)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name}, {way}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            kept[f"{name}, {way}"] = found = json.loads(done.stdout.splitlines()[-1])
            rows.append(row(name, way, found))
    head = [
        "model",
        "way",
        "to land",
        "of 8 passes",
        "in all",
        "of 8 passes",
        "CPU s",
        "ratio",
        "drop",
        "upper",
        "memory",
    ]
    print(markdown(head, rows))
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
