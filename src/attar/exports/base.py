"""What an export is made from and what it hands back; a new format is one file and one line in the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from attar.adapters.base import Adapter
from attar.types import Array, Dataset, Json, TensorSpec

Run = Callable[[Mapping[str, Array]], Array]


@dataclass(frozen=True)
class Task:
    """A model to export.

    calibrate: examples for statistics and ranges (no labels are looked at). acceptable: whether bytes stay within the
    drop on the select split, at the price of a pass over it. batch, threads: what latency is measured with. step: a
    call for each thing tried. like: what an earlier artefact chose for speed, which is taken instead of measured.
    """

    adapter: Adapter
    calibrate: Dataset
    classes: bool
    acceptable: Callable[[bytes], bool]
    batch: Mapping[str, Array]
    threads: int = 1
    step: Callable[[], None] = lambda: None
    like: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Artefact:
    """Bytes for a runtime, and what was decided on the way: notes for people, facts for machines.

    files: instead of the bytes, those of a folder by name.
    """

    data: bytes
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Json] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


class Exporter(Protocol):
    """One format."""

    name: ClassVar[str]
    suffix: ClassVar[str]
    """Of the file, behind the model's name: .int8.onnx, say; a folder's ends in "/"."""
    help: ClassVar[str]
    """In a line: what it is, and what runs it."""

    @staticmethod
    def check(adapter: Adapter) -> None:
        """That a model can be in this format; raises ModelError."""
        ...

    @staticmethod
    def make(task: Task) -> Artefact:
        """The artefact of a model that was checked."""
        ...

    @staticmethod
    def runtime(model: bytes | Path, threads: int) -> Runtime:
        """The artefact in the runtime that it is for."""
        ...


class Runtime(Protocol):
    """A model in its runtime."""

    @property
    def version(self) -> str:
        """The runtime's name and version."""
        ...

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """The model's inputs, with the axis of the examples first."""
        ...

    def run(self, batch: Mapping[str, Array]) -> Array:
        """The first output [n, ...], float32."""
        ...

    def once(self, batch: Mapping[str, Array]) -> Callable[[], Any]:
        """A call that runs a batch and nothing else, for timing."""
        ...
