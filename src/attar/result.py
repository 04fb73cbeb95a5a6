"""What a compression hands back, and how it becomes files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attar import outputs
from attar import recipe as recipes
from attar.adapters.base import Adapter
from attar.errors import AttarError, UsageError
from attar.evaluate.certificate import holds
from attar.latency.fast import FastFile
from attar.picking import Seen
from attar.recipe import Recipe
from attar.run.ledger import plain
from attar.types import Certificate, Json, Score

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Result:
    """What `compress` hands back; everything in it is about the model decoded from the file's bytes."""

    data: bytes = field(repr=False)
    certificate: Certificate
    before: Score = field(repr=False)
    after: Score = field(repr=False)
    bytes_before: int
    recipe: Recipe
    points: bool
    events: Sequence[Mapping[str, Json]] = field(repr=False)
    adapter: Adapter = field(repr=False)
    seen: Sequence[Seen] = field(repr=False, default=())
    """Every candidate that was tested on the certify split, safest first."""
    fast: FastFile | None = None
    """With a latency goal: what the runtime executes, and its own certificate."""

    @property
    def model(self) -> Any:
        """The compressed model, of the caller's framework."""
        return self.adapter.model()

    @property
    def bytes_after(self) -> int:
        """Size of the whole .attar file."""
        return len(self.data)

    @property
    def ratio(self) -> float:
        """How many times smaller the .attar file is than the model that came in."""
        return self.bytes_before / self.bytes_after

    @property
    def certified(self) -> bool:
        """Whether the bound is within the budget."""
        return self.certificate.verdict == "certified"

    @property
    def within(self) -> bool:
        """Whether what the recipe's guarantee asks for holds: the bound, or the point estimate; and the time."""
        certificates = [self.certificate] + ([] if self.fast is None else [self.fast.certificate])
        if self.fast is not None and not self.fast.in_time:
            return False
        return all(holds(one, self.recipe.guarantee) for one in certificates)

    @property
    def warnings(self) -> Sequence[str]:
        """What a reader of the certificate should know: splits, outputs and labels that are not what they seem."""
        from attar.report.ledger import gather

        return gather(self.events).warnings

    @property
    def calibration(self) -> Mapping[str, Json] | None:
        """What the number of calibration examples costs (attar/calibration.py); None where they are too few to say."""
        return next((event for event in self.events if event["event"] == "calibration"), None)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from attar.report.notebook import card

        unit = " points" if self.points else ""
        return card(self.certificate, self.bytes_before, self.bytes_after, unit, self.events)

    def save(self, path: PathLike, *, force: bool = False) -> None:
        """Write a .attar file, or, with an ending of the framework's own, a plain model; raises OutputError."""
        place = Path(path)
        outputs.check_free(place.parent, [entry(place.name, self.adapter)], force)
        with outputs.staged(place.parent) as stage:
            self._write(stage / place.name)
            outputs.publish(stage, place.parent, force)

    def _write(self, path: Path) -> None:
        """One file, by its ending."""
        if path.suffix == ".attar":
            outputs.write(path, self.data)
        elif path.suffix == ".html":
            from attar.report import render

            outputs.write(path, render(self.events).encode())
        elif path.suffix in self.adapter.suffixes or not self.adapter.suffixes[0]:
            outputs.guarded(lambda: self.adapter.save(path), path)
        else:
            raise UsageError(
                f"output {path.name!r}: the ending must be .attar, .html or one of {', '.join(self.adapter.suffixes)}. "
                f"Received {path.suffix!r}. Choose one of these."
            )

    def write_all(self, folder: Path, names: Mapping[str, str]) -> None:
        """Archive, plain model, report and recipe into a folder; the ledger is there already."""
        self._write(folder / names["archive"])
        if (folder / names["archive"]).read_bytes() != self.data:
            raise AttarError(f"archive {names['archive']!r}: the file must read back as it was written. It does not.")
        self._write(folder / names["native"])
        self._write(folder / names["report"])
        outputs.write(folder / names["recipe"], recipes.to_toml(self.recipe).encode())
        if self.fast is not None:
            outputs.write(folder / names["fast"], self.fast.data)
            text = json.dumps(plain(dict(self.fast.record)), indent=1)
            outputs.write(folder / names["record"], f"{text}\n".encode())


def entry(name: str, adapter: Adapter) -> str:
    """A model's name among the outputs: with "/" at its end where the format is a folder."""
    return name if adapter.suffixes[0] else f"{name}/"
