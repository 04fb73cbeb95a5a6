"""Telling a person how far a run has come: one protocol, silent by default; the command line draws bars."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives stages and steps; must not raise."""

    def stage(self, name: str, total: int) -> None:
        """A new stage of so many steps begins."""
        ...

    def step(self, count: int = 1) -> None:
        """So many steps of the present stage are done."""
        ...

    def note(self, text: str) -> None:
        """Something a person wants to read, once."""
        ...


class Silent:
    """Says nothing."""

    def stage(self, name: str, total: int) -> None:
        """Nothing."""

    def step(self, count: int = 1) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
