"""What a latency goal keeps of its work for a run that goes on after a kill: integers, and candidates as timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from attar.exports.timing import Latency
from attar.latency.candidate import Candidate
from attar.latency.made import Fast, Integers
from attar.run.kept import Kept


def integers(kept: Kept, key: str, compute: Callable[[], Integers]) -> Integers:
    """How a model became integers, found once."""
    unit = kept.get(key)
    if unit is not None:
        told, _ = unit
        bold = None if told["bold"] is None else tuple(told["bold"])
        return Integers(
            told["rules"], told["usual"], told["route"], tuple(told["ops"]), told["sums"], tuple(told["harmful"]), bold
        )
    found = compute()
    told = asdict(found) | {"ops": list(found.ops), "harmful": list(found.harmful)}
    told["bold"] = None if found.bold is None else list(found.bold)
    kept.put(key, told, {})
    return found


def flag(kept: Kept, key: str, compute: Callable[[], bool]) -> bool:
    """What a measurement decided, once."""
    unit = kept.get(key)
    if unit is not None:
        return bool(unit[0])
    found = compute()
    kept.put(key, found, {})
    return found


def candidate(kept: Kept, key: str, compute: Callable[[], Candidate]) -> Candidate:
    """A candidate, made and timed once."""
    unit = kept.get(key)
    if unit is not None:
        told, arrays = unit
        fast = Fast(arrays["fast"].tobytes(), told["integers"], tuple(told["floats"]), told["how"])
        return Candidate(
            told["key"], arrays["archive"].tobytes(), fast, Latency(**told["latency"]), told["milliseconds"],
            told["predicted"], {name: (a, b) for name, (a, b) in told["channels"].items()}, told["share"],
        )  # fmt: skip
    found = compute()
    told = {
        "key": found.key, "integers": found.fast.integers, "floats": list(found.fast.floats), "how": found.fast.how,
        "latency": asdict(found.latency), "milliseconds": found.milliseconds, "predicted": found.predicted,
        "channels": {name: list(counts) for name, counts in found.channels.items()}, "share": found.share,
    }  # fmt: skip
    parts = {"archive": found.archive, "fast": found.fast.data}
    kept.put(key, told, {name: np.frombuffer(data, np.uint8) for name, data in parts.items()})
    return found
