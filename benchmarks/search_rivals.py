"""What else looks for a point: Optuna's TPE over attar's own points, NNCF's accuracy control, Olive's search.

TPE chooses one of the slopes below for each layer, from the very points that attar would take, by the observed drop on
select: 200 trials or so many seconds. NNCF and Olive write int8 ONNX files, which are counted as zstd -19 leaves them;
for the Keras model they begin with its ONNX form, and where there are no labels the float network's answers serve.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from attar.beginning import job_of
from attar.evaluate.certificate import Certificate, certify
from attar.evaluate.score import score
from attar.job import Job
from attar.opening import open_model
from attar.types import Score
from search_cases import CASES, PASSES, peak, task

TRIALS, OLIVE_TRIALS = 200, 8
SLOPES = 2.0 ** np.arange(-28, -20)
"""What TPE may choose from for each layer, in nats per bit."""


class Setting(NamedTuple):
    """A model as ONNX, what it is judged by, the bytes of the file that attar is given, and a rival's examples."""

    model: Path
    job: Job
    bytes_before: int
    before: dict[str, Score]
    case: Any

    def verdict(self, path: Path, split: str) -> Certificate:
        """How far a file falls behind on a split."""
        after = score(
            open_model(str(path)).run, getattr(self.job.splits, split), self.job.metric, self.before[split].outputs
        )
        return certify(self.before[split], after, self.job.metric, self.case.max_drop)


def setting(name: str, folder: Path) -> Setting:
    """What NNCF and Olive begin with."""
    from int8 import keras_cnn
    from int8_rivals import Case

    given, options = task(name, folder)
    model = keras_cnn(folder)[0] if CASES[name].endswith(".keras") else Path(given)
    job = job_of(model, options.pop("data", None), None, options)
    before = {split: _float(job, split) for split in ("select", "certify")}
    select, metric = job.splits.select, job.metric.name
    if select.labels is None:
        select, metric = dataclasses.replace(select, labels=before["select"].outputs.argmax(1)), "accuracy"
    case = Case(model, job.splits.calibrate, select, metric, options["max_drop"])
    return Setting(model, job, Path(given).stat().st_size, before, case)


def _float(job: Job, split: str) -> Score:
    """The original's score, which its own outputs are part of where a metric asks them."""
    data = getattr(job.splits, split)
    outputs = score(job.adapter.run, data, job.metric).outputs
    return score(job.adapter.run, data, job.metric, outputs)


def zstd(path: Path) -> int:
    """Bytes of a file after zstd -19."""
    import zstandard

    return len(zstandard.ZstdCompressor(level=19).compress(path.read_bytes()))


def row(given: Setting, size: int, verdict: Certificate, passes: float, begun: float) -> dict[str, Any]:
    """A row, as search.py has it: passes over select, and one over certify."""
    splits = given.job.splits
    looked = passes * len(splits.select) + len(splits.certify)
    return {
        "bytes": size, "ratio": given.bytes_before / size, "drop": verdict.drop, "upper": verdict.upper,
        "landing": round(passes, 1), "landing_share": passes / PASSES, "evaluations": round(passes + 1, 1),
        "share": looked / (PASSES * len(splits.certify)), "seconds": time.process_time() - begun, "peak": peak(),
        "start": 0, "allowed": 0,
    }  # fmt: skip


def optuna_tpe(name: str, seconds: float) -> dict[str, Any]:
    """TPE over the slope of each layer; the smallest file whose observed drop on select is within the limit."""
    import optuna

    from attar import pipeline
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

        def measured(candidate: Candidate, split: str) -> Certificate:
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
        given = Setting(Path(model), job, job.bytes_before, dict(loop.before), None)
    return row(given, best.size_bytes, verdict, len(study.trials), begun)


def nncf_control(name: str) -> dict[str, Any]:
    """NNCF's accuracy control: int8, layers back to float until the drop on select holds."""
    from int8_rivals import nncf_controlled

    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        given, out = setting(name, Path(folder)), Path(folder, "out.onnx")
        nncf_controlled(given.case, out)
        return row(given, zstd(out), given.verdict(out, "certify"), given.case.passes, begun)


def olive(name: str) -> dict[str, Any]:
    """Olive's static int8 pass, its searchable parameters drawn by its own Optuna sampler for the best on select.

    Needs `pip install --no-deps --target FOLDER olive-ai torchmetrics questionary opentelemetry-sdk ...`, FOLDER in
    PYTHONPATH. Without a place for a drop: the smallest file within it of the trials is taken.
    """
    import optuna
    from olive.data.registry import Registry
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict
    from olive.passes.onnx.quantization import OnnxStaticQuantization

    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        given = setting(name, Path(folder))
        limit = given.case.max_drop
        rows = [({key: value[0] for key, value in one.items()}, 0) for one in given.case.rows]
        Registry.register_dataset("attar_rows")(lambda **_: rows)
        data = {"name": "rows", "type": "DataContainer", "load_dataset_config": {"type": "attar_rows"}}
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
            path = Path(made.run(ONNXModelHandler(str(given.model)), str(place)).model_path)
            size, drop = zstd(path), given.verdict(path, "select").drop
            tried.append((size, drop, path))
            return size * (1 + 4 * max(drop - limit, 0))

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0)).optimize(objective, n_trials=OLIVE_TRIALS)
        size, _, path = min([one for one in tried if one[1] <= limit] or tried)
        return row(given, size, given.verdict(path, "certify"), len(tried), begun)
