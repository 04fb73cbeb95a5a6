"""MLflow: a run in the experiment "attar", on the tracking server that is set, or in a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

EXPERIMENT = "attar"
LONGEST = 6000
"""Characters of a parameter that every store takes."""


class MlflowRun:
    """See attar.watchers.base.Tool."""

    def __init__(self, title: str, params: Mapping[str, str], dest: Path | None) -> None:
        if dest is not None:
            # MLflow 3 asks for this word before it writes into a folder instead of a database.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._client = MlflowClient(None if dest is None else dest.resolve().as_uri())
        known = self._client.get_experiment_by_name(EXPERIMENT)
        number = self._client.create_experiment(EXPERIMENT) if known is None else known.experiment_id
        self._run = self._client.create_run(number, run_name=title, tags={"tool": "attar"}).info.run_id
        told = [Param(name, value[:LONGEST]) for name, value in params.items()]
        for start in range(0, len(told), 100):
            self._client.log_batch(self._run, params=told[start : start + 100])

    def metrics(self, values: Mapping[str, float], step: int, when: float) -> None:
        """One batch."""
        stamp = int(1000 * when)
        self._client.log_batch(self._run, metrics=[Metric(name, value, stamp, step) for name, value in values.items()])

    def file(self, path: Path) -> None:
        """An artifact."""
        self._client.log_artifact(self._run, str(path))

    def close(self, finished: bool) -> None:
        """FINISHED, or KILLED."""
        self._client.log_batch(self._run, tags=[RunTag("finished", str(finished).lower())])
        self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")
