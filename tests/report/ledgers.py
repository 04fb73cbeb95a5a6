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


def hostile() -> Events:
    """Every string that a stranger could choose is an attack."""
    events = sample()
    event(events, "run").update(model=HOSTILE, framework=HOSTILE, warnings=[HOSTILE], recipe={HOSTILE: HOSTILE})
    event(events, "run")["metric"] = {"name": HOSTILE, "unit": HOSTILE, "higher_is_better": True}
    event(events, "run")["machine"] = {HOSTILE: HOSTILE}
    event(events, "layers").update(skipped={HOSTILE: HOSTILE})
    event(events, "sensitivity")["method"] = HOSTILE
    for number, layer in enumerate(event(events, "result")["layers"]):
        layer.update(name=HOSTILE + str(number), kind=HOSTILE, method=HOSTILE, shape=[HOSTILE])
    for flip in event(events, "result")["flips"]:
        flip.update(label=HOSTILE, before=HOSTILE, after=HOSTILE, picture="https://example.com/track.png")
    for candidate in (event for event in events if event["event"] == "candidate"):
        candidate.update(index=HOSTILE, split=HOSTILE)
    event(events, "result")["reproduce"] = {"command": HOSTILE, "recipe": HOSTILE}
    event(events, "result").update(file=HOSTILE, other_bytes={HOSTILE: 9})
    return events
