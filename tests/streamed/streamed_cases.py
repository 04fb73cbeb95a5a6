"""Tiny runs of streaming, which the tests of this folder share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from adapters.transformers_models import WORDS, folder
from attar import api
from attar.streaming.result import Streamed
from attar.types import Array

FAMILIES = ("llama", "untied", "gpt2", "mixtral", "phi3", "half")
QUICK = {"sweeps": 0}


def ids(count: int, length: int = 16, seed: int = 0) -> Array:
    """Windows [count, length]."""
    return np.asarray(np.random.default_rng(seed).integers(3, WORDS, (count, length)))


def compressed(name: str, out: Path, **fields: Any) -> Streamed:
    """A streamed run on 24 windows, in one pass; fields: those of `compress` and of [settings.stream]."""
    stream = {"on": "yes", "passes": 1, "windows": 3}
    stream |= {key: fields.pop(key) for key in ("passes", "windows", "hold") if key in fields}
    given: dict[str, Any] = {
        "metric": "perplexity", "max_relative_drop": 0.5, "guarantee": "estimate",
        "settings": {"stream": stream, "uniform": QUICK}, **fields,
    }  # fmt: skip
    data = given.pop("data", {"input_ids": ids(24)})
    result = api.compress(given.pop("model", folder(name)), data, out=out, **given)
    assert isinstance(result, Streamed)
    return result
