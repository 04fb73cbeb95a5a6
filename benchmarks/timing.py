"""Seconds by medians of interleaved runs, and what they were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

Action = Callable[[], object]
CLOCK = process_time if os.environ.get("ATTAR_CLOCK") == "cpu" else perf_counter
"""The process's own seconds where the machine is shared with others: they say nothing of several threads."""
PATIENCE_SECONDS = 6.0
"""After so many seconds of its own an action runs no more."""


def medians(actions: Mapping[str, Action], repeats: int) -> dict[str, float]:
    """Median seconds of each action; they take turns, so that a noisy machine troubles all alike.

    The first round warms up and is not counted, but for an action that takes so long that it runs only once.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats + 1):
        for name, action in actions.items():
            if sum(seconds[name]) < PATIENCE_SECONDS:
                seconds[name].append(timed(action))
    return {name: median(runs[1:] or runs) for name, runs in seconds.items()}


def timed(action: Action) -> float:
    """Seconds of one run."""
    start = CLOCK()
    action()
    return CLOCK() - start


def machine() -> str:
    """Processor, cores that may be used, system."""
    names = [platform.processor() or platform.machine()]
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        fields = {key: _field(lines, key) for key in ("model name", "cpu family", "model")}
        names = [f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']})"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{names[0]}, {cores} cores, {platform.system()}, Python {platform.python_version()}"


def _field(lines: list[str], key: str) -> str:
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == key), "?")
