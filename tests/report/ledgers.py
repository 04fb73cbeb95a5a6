"""Ledgers for the report's tests: the sample, and variants made from it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np

SAMPLE = Path(__file__).parent / "sample.jsonl"
HOSTILE = "</script><img src=x onerror=alert(1)>&'\"\u2028{{7*7}}<!--"

Events = list[dict[str, Any]]


def sample() -> Events:
    """A certified run on a LeNet-5: eight measurements of six candidates, four layers, twelve flips."""
    return [json.loads(line) for line in SAMPLE.read_text("utf-8").splitlines()]


def event(events: Events, kind: str) -> dict[str, Any]:
    return next(event for event in events if event["event"] == kind)


def interrupted(keep: int = 6) -> Events:
    """The sample, killed after its first `keep` events."""
    return sample()[:keep]


def not_certified() -> Events:
    """The verdict is no, and one candidate is so bad that a linear axis would hide all the others."""
    events = sample()
    result = event(events, "result")
    result["certificate"] |= {"drop": 0.31, "lower": -0.2, "upper": 0.83, "verdict": "not certified", "needed": 41250}
    worst = copy.deepcopy(event(events, "candidate"))
    events.insert(4, worst | {"index": 9, "bytes": 21000, "ratio": 82.1, "drop": 41.5, "lower": 40.2, "upper": 42.8})
    return events


def not_certifiable() -> Events:
    events = sample()
    event(events, "result")["certificate"] |= {"n": 400, "upper": 1.31, "verdict": "not certifiable", "needed": 1084}
    return events


def rising_loss() -> Events:
    """A metric where lower is better, without flips."""
    events = sample()
    event(events, "run")["metric"] = {"name": "perplexity", "unit": "", "higher_is_better": False}
    event(events, "result").update(flips=[], before=18.31, after=18.42)
    change = {"metric": "perplexity", "lost": None, "gained": None, "bound": "bootstrap", "drop": 0.11, "upper": 0.19}
    event(events, "result")["certificate"] |= change
    return events


def many_layers(count: int = 120) -> Events:
    """A transformer-like model with long names that begin alike."""
    rng = np.random.default_rng(5)
    events = sample()
    kinds = (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "mlp.up",
        "mlp.down",
    )
    names = [f"/encoder/layers.{k // 6}/{kinds[k % 6]}/MatMul_weight" for k in range(count)]
    shapes = [[768, 3072] if k % 6 > 3 else [768, 768] for k in range(count)]
    bits = np.clip(rng.gamma(9, 0.27, count), 0.4, 8)
    sizes = np.array([shape[0] * shape[1] for shape in shapes])
    bytes_ = np.rint(bits * sizes / 8)
    found = [
        {"name": name, "kind": "dense", "shape": shape, "size": int(size)}
        for name, shape, size in zip(names, shapes, sizes, strict=True)
    ]
    event(events, "layers")["layers"] = found
    event(events, "sensitivity")["layers"] = dict(zip(names, np.exp(rng.normal(-7, 1.6, count)).tolist(), strict=True))
    event(events, "run").update(model="encoder.onnx", bytes_before=int(4 * sizes.sum()))
    event(events, "result").update(
        bytes_before=int(4 * sizes.sum()),
        bytes_after=int(bytes_.sum() + 61000),
        ratio=float(4 * sizes.sum() / (bytes_.sum() + 61000)),
        other_bytes={"skeleton": 21000, "remainder": 40000},
        layers=[
            {
                "name": name,
                "kind": "dense",
                "shape": shape,
                "method": "uniform",
                "bits_per_weight": float(bit),
                "zeros": float(np.exp(-bit / 2)),
                "bytes": int(size),
                "share": float(size / bytes_.sum()),
                "distortion": 1e-3,
            }
            for name, shape, bit, size in zip(names, shapes, bits, bytes_, strict=True)
        ],
    )
    return events


def explored(events: Events | None = None) -> Events:
    """With what later runs tell as well: choices of every candidate, what `pick` can take, classes, answers."""
    events = events or sample()
    result = event(events, "result")
    layers = result["layers"]
    for candidate in (one for one in events if one["event"] == "candidate"):
        share = candidate["bytes"] / result["bytes_after"]
        method = "codebook" if share > 1 else "uniform"
        candidate["choices"] = {
            layer["name"]: [method if place % 3 == 1 else "uniform", round(layer["bytes"] * share)]
            for place, layer in enumerate(layers)
        }
    bounds = {56933: 0.381, 54076: 0.4412, 51000: 0.62}
    result["picks"] = [{"bytes": n, "drop": 0.2, "upper": up, "confidence": 0.975} for n, up in bounds.items()]
    result["folder"] = "runs/lenet 5"
    result["reproduce"] = {
        "command": "attar compress lenet5.onnx --data fashion --max-drop 0.5 --seed 0",
        "recipe": "r",
    }
    result["methods"] = {
        "uniform": {"layers": 3, "saved_bytes": 7000.0},
        "codebook": {"layers": 1, "saved_bytes": 90.0},
    }
    result["slices"] = {
        "by": "class", "of": 10, "confidence": 0.95,
        "rows": [
            {"name": name, "n": 1000, "before": 90.0, "after": 90.0 - drop, "drop": drop, "lower": drop - 1,
             "upper": drop + 1.2}
            for name, drop in (("Shirt", 1.4), ("Coat", 0.3), ("Bag", -0.2))
        ],
    }  # fmt: skip
    result["shifts"] = {
        "changed": 154, "of": 10000, "pairs": 2,
        "rows": [{"before": "Shirt", "after": "Coat", "n": 90, "lost": 60, "gained": 20},
                 {"before": "Coat", "after": "Shirt", "n": 64, "lost": 26, "gained": 30}],
    }  # fmt: skip
    result["reliability"] = {"bins": 15, "before": {"error": 2.1, "confidence": 92.4},
                             "after": {"error": 2.6, "confidence": 91.9}}  # fmt: skip
    told = {"event": "calibration", "examples": 4000, "excess": 0.008, "saved_by_twice": 0.004}
    return [*events[:3], told, *events[3:]]


def timed() -> Events:
    """A latency goal's run: every candidate has been timed, none is kept for `pick`."""
    events = explored()
    for place, candidate in enumerate(one for one in events if one["event"] == "candidate"):
        candidate["milliseconds"] = 0.4 + 0.05 * place
    result = event(events, "result")
    result["picks"] = []
    result["fast"] = {"file": "lenet5.fast.onnx", "milliseconds": 0.75, "latency": {"ratio": 0.6}}
    return events


def spoken() -> Events:
    """Flips of a model that reads texts."""
    events = explored()
    for flip in event(events, "result")["flips"]:
        flip.update(picture=None, text="The plot is thin, but the actors carry it & make it <b>worth</b> an evening.")
    return events


def hostile() -> Events:
    """Every string that a stranger could choose is an attack."""
    events = explored()
    event(events, "run").update(model=HOSTILE, framework=HOSTILE, warnings=[HOSTILE], recipe={HOSTILE: HOSTILE})
    event(events, "run")["metric"] = {"name": HOSTILE, "unit": HOSTILE, "higher_is_better": True}
    event(events, "run")["machine"] = {HOSTILE: HOSTILE}
    event(events, "layers").update(skipped={HOSTILE: HOSTILE})
    event(events, "sensitivity")["method"] = HOSTILE
    for number, layer in enumerate(event(events, "result")["layers"]):
        layer.update(name=HOSTILE + str(number), kind=HOSTILE, method=HOSTILE, shape=[HOSTILE])
    for flip in event(events, "result")["flips"]:
        flip.update(label=HOSTILE, before=HOSTILE, after=HOSTILE, picture="https://example.com/track.png", text=HOSTILE)
    for candidate in (event for event in events if event["event"] == "candidate"):
        candidate.update(index=HOSTILE, split=HOSTILE)
    result = event(events, "result")
    result.update(reproduce={"command": HOSTILE, "recipe": HOSTILE}, folder=HOSTILE)
    for row in (*result["slices"]["rows"], *result["shifts"]["rows"]):
        row.update(dict.fromkeys(("name", "before", "after"), HOSTILE))
    for candidate in (event for event in events if event["event"] == "candidate"):
        candidate["choices"] = {layer["name"]: [HOSTILE, 9] for layer in result["layers"]}
    event(events, "result").update(file=HOSTILE, other_bytes={HOSTILE: 9})
    return events
