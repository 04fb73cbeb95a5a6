"""Weights & Biases, offline unless WANDB_MODE says otherwise: `wandb sync` sends it when and if somebody wants that."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

import wandb

PROJECT = "attar"


class WandbRun:
    """See attar.watchers.base.Tool."""

    def __init__(self, title: str, params: Mapping[str, str], dest: Path | None) -> None:
        if dest is not None:
            dest.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True,
                                  x_disable_meta=True)  # fmt: skip
        self._run = wandb.init(
            project=PROJECT, name=title, dir=None if dest is None else str(dest), config=dict(params), settings=settings
        )

    def metrics(self, values: Mapping[str, float], step: int, when: float) -> None:
        """One row, with the ledger's time; steps are its own, since several rows may have one evaluation."""
        self._run.log({**values, "evaluation": step, "time": when})

    def file(self, path: Path) -> None:
        """A file of an artifact of its own."""
        artifact = wandb.Artifact(path.name.replace(".", "-"), type="attar")
        artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def close(self, finished: bool) -> None:
        """The exit code is 1 for a run that was broken off."""
        self._run.summary["finished"] = finished
        self._run.finish(exit_code=0 if finished else 1)
