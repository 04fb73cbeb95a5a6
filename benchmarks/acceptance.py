"""Tables of figures beside their targets, with a plain met or missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MISSING = "-"


@dataclass(frozen=True)
class Line:
    """One target: figures by column (or a single one), each to be at least, or at most, the target.

    A figure of None is one that was not asked for; a note says why there are none.
    """

    what: str
    target: float
    figures: Sequence[float | None]
    at_most: bool = False
    unit: str = ""
    note: str = ""

    def verdict(self, columns: Sequence[str]) -> str:
        """Met, or missed with the columns, or not measured."""
        known = [(figure, column) for figure, column in zip(self.figures, columns, strict=True) if figure is not None]
        if not known:
            return "not measured"
        missed = [c for figure, c in known if (figure > self.target if self.at_most else figure < self.target)]
        if not missed:
            return "met"
        return "missed" if len(missed) == len(known) else f"missed at {', '.join(missed)}"


def table(title: str, columns: Sequence[str], lines: Sequence[Line]) -> str:
    """Markdown with a row for each line, in columns of even width."""
    head = [title, *columns, "target", "verdict"]
    rows = [
        [
            line.what + (f" ({line.note})" if line.note else ""),
            *(MISSING if figure is None else number(figure, line.unit) for figure in line.figures),
            f"{'<=' if line.at_most else '>='} {number(line.target, line.unit)}",
            line.verdict(columns),
        ]
        for line in lines
    ]
    return markdown(head, rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are padded, so that it also reads well as plain text."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in (head, *rows)]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])


def number(value: float, unit: str) -> str:
    """As printed: a signed percentage, a multiple, or a plain figure of about three digits."""
    if unit == "%":
        return f"{value:+.2f} %"
    plain = f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"
    return plain.rstrip(".") + (unit if unit == "x" or not unit else " " + unit)
