"""What is wrong with a data set, as values: every finding says where, how many of how many, which, and what is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from attar.types import Json

SHOWN = 3
"""Examples that a fault names."""
LISTED = "listed, not changed"


@dataclass(frozen=True, slots=True)
class Fault:
    """One finding: its kind, the place (a column, an array, a folder), how many of how many are concerned.

    `examples` are a few of them in words, `change` is what cleaning does about it ("" where it is only listed), and
    `samples` are positions of examples that a page can draw, `notes` what is said below each of them.
    """

    kind: str
    place: str
    count: int
    total: int
    examples: tuple[str, ...] = ()
    change: str = ""
    samples: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def line(self) -> str:
        """The finding as one line."""
        several = f"{self.count:,} of {self.total:,}"
        examples = f", e.g. {'; '.join(self.examples)}" if self.examples else ""
        return f"{self.kind:<20} {self.place}: {several}{examples}: {self.change or LISTED}"


def facts(faults: Iterable[Fault]) -> list[dict[str, Json]]:
    """Faults for a machine."""
    return [asdict(fault) for fault in faults]


def examples(items: Sequence[object], form: str = "{}") -> tuple[str, ...]:
    """The first few items in words, cut where they are long."""
    return tuple(form.format(short(item)) for item in items[:SHOWN])


def short(item: object, most: int = 40) -> str:
    """An item as text of at most `most` characters."""
    text = str(item)
    return text if len(text) <= most else text[: most - 3] + "..."
