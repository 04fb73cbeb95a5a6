"""From events to parameters, metrics and files: what every tool gets; how it gets them is a small file of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from attar import registry
from attar.errors import UsageError
from attar.types import Json

CANDIDATE = ("bytes", "ratio", "value", "drop", "lower", "upper", "kl", "lost", "gained", "milliseconds", "seconds")
RESULT = ("bytes_before", "bytes_after", "ratio", "before", "after", "evaluations", "seconds")
CERTIFICATE = ("drop", "lower", "upper", "max_drop", "confidence", "n")


class Tool(Protocol):
    """One run in a tool; it is made when the ledger tells of the run."""

    def __init__(self, title: str, params: Mapping[str, str], dest: Path | None) -> None:
        """Begin a run with its parameters; dest is a folder for what the tool writes, None for its own default."""
        ...

    def metrics(self, values: Mapping[str, float], step: int, when: float) -> None:
        """Numbers of a step, at a time in seconds since 1970."""
        ...

    def file(self, path: Path) -> None:
        """A file that belongs to the run."""
        ...

    def close(self, finished: bool) -> None:
        """End the run: finished, or broken off."""
        ...


class Watch:
    """Takes a run's events, one call for each, and hands them to a tool: `attar.compress(..., on_event=watch)`."""

    def __init__(self, name: str, dest: str | os.PathLike[str] | None = None) -> None:
        try:
            self._make: type[Tool] = registry.get("watcher", name)
        except ImportError as error:
            raise UsageError(
                f"--to {name}: its package must be installed. Received none ({error}). pip install {PACKAGES[name]}."
            ) from None
        self.dest = None if dest is None else Path(dest)
        self.tool: Tool | None = None
        self.finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, event: Mapping[str, Json]) -> None:
        """One event of the ledger; those before that of the run are left out."""
        kind, when = event.get("event"), float(event["time"]) if isinstance(event.get("time"), int | float) else 0.0
        if kind == "run" and self.tool is None:
            self.tool = self._make(_title(event), dict(params_of(event)), self.dest)
        if self.tool is None:
            return
        if kind == "candidate":
            split, step = event.get("split", "select"), event.get("evaluation", 0)
            self.tool.metrics(numbers(event, CANDIDATE, f"{split}/"), int(step), when)
        elif kind == "result":
            certificate = event.get("certificate") or {}
            values = numbers(event, RESULT, "result/") | numbers(certificate, CERTIFICATE, "certificate/")
            values["certificate/certified"] = float(certificate.get("verdict") == "certified")
            self.tool.metrics(values, int(event.get("evaluations") or 0), when)
            self.finished = True

    def files(self, paths: Sequence[Path]) -> None:
        """Files of the run: those that are there."""
        for path in paths:
            if self.tool is not None and path.is_file():
                self.tool.file(path)

    def close(self) -> None:
        """End the run in the tool, once."""
        tool, self.tool = self.tool, None
        if tool is not None:
            tool.close(self.finished)


PACKAGES = {"mlflow": "mlflow-skinny", "tensorboard": "tensorboard", "wandb": "wandb"}
"""What to install."""


def watch(name: str, dest: str | os.PathLike[str] | None = None) -> Watch:
    """A watcher by its registered name; raises UsageError for an unknown name or a package that is missing."""
    return Watch(name, dest)


def _title(event: Mapping[str, Json]) -> str:
    """The model's file, without its folder."""
    return Path(str(event.get("model") or "attar")).name or "attar"


def params_of(event: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """What a run was asked for, by dotted names, as text."""
    for name in ("attar", "model", "framework", "seed"):
        if event.get(name) is not None:
            yield name, str(event[name])
    for name in ("metric", "splits", "machine", "recipe"):
        yield from _flat(name, event.get(name))


def _flat(name: str, value: Json) -> Iterator[tuple[str, str]]:
    """Leaves with their dotted names."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(f"{name}.{key}", part)
    elif value is not None:
        yield name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def numbers(event: Mapping[str, Json], keys: Sequence[str], prefix: str) -> dict[str, float]:
    """The numbers among an event's fields."""
    known = {key: event.get(key) for key in keys}
    return {
        f"{prefix}{key}": float(value)
        for key, value in known.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
