"""What a person reads of `attar data` on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attar.report.data_page import cell
from attar.show import printable
from attar.types import Json

if TYPE_CHECKING:
    from attar.augment.write import Augmented
    from attar.cleaning.clean import Inspection
    from attar.copies.dedupe import Duplicates
    from attar.hashing.write import Hashed
    from attar.selection.choose import Chosen

MOST_LEAKS = 10
"""Leaks and groups that are named; all of them are in the JSON."""


def inspection_text(found: Inspection) -> str:
    """A table of what is there, then a line for each fault."""
    head = f"{found.source.path}: {found.before:,} examples"
    return printable_lines([head, "", *contents(found.rows), "", *_faults(found)])


def cleaned_text(found: Inspection, out: Path | None) -> str:
    """A line for each fault with what was done, and what was written."""
    kept = f"kept {found.after:,} of {found.before:,} examples"
    end = "dry run: nothing was written" if out is None else f"written to {out}; the original is unchanged"
    return printable_lines([*_faults(found), f"{kept}; {end}"])


def _faults(found: Inspection) -> list[str]:
    """One line each; a line where there are none."""
    return [fault.line() for fault in found.faults] or ["no faults found"]


def contents(rows: Sequence[Mapping[str, Json]]) -> list[str]:
    """Rows as aligned columns; numbers to the right."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = [names] + [[cell(row.get(name, "")) for name in names] for row in rows]
    right = [all(isinstance(row.get(name, 0), int | float) for row in rows) for name in names]
    widths = [max(len(line[i]) for line in table) for i in range(len(names))]
    return [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in table
    ]


def augmented_text(found: Augmented) -> str:
    """What was done to how many, and what was written."""
    facts = found.facts()
    done = {
        name: ", ".join(f"{key} {cell(value)}" for key, value in values.items())
        for name, values in facts["changes"].items()
    }
    width = max(map(len, done), default=0)
    lines = [f"{name:<{width}}  {told}" for name, told in done.items()]
    same = facts["examples"] - facts["augmented"]
    lines += [f"{same:,} of {facts['examples']:,} examples are of test parts and get no copies"] if same else []
    if facts["left_out"]:
        lines.append(
            f"{len(facts['left_out']):,} files are not {facts['kind']} and are left out, e.g. {facts['left_out'][0]}"
        )
    if found.out is None:
        return printable_lines([*lines, "nothing was written but the page"])
    copies = facts["augmented"] * facts["copies"]
    rest = facts["written"] - copies
    end = f"{facts['written']:,} examples, {copies:,} of them copies" if rest else f"{copies:,} copies"
    return printable_lines([*lines, f"{end}; written to {found.out}; the original is unchanged"])


def hashed_text(found: Hashed) -> str:
    """What was written, and what collides."""
    report, survey = found.report, found.survey
    kinds = [
        f"{len(names)} {kind}"
        for kind, names in (
            ("of numbers", survey.numbers - {found.target}),
            ("of free text", survey.texts - {found.target}),
            ("of categories", set(survey.columns) - survey.numbers - survey.texts - {found.target}),
        )
        if names
    ]
    target = "" if found.target is None else f", target {found.target}"
    classes = f" ({len(found.classes)} classes, numbered in the order of the alphabet)" if found.classes else ""
    lines = [
        f"read        {survey.rows:,} rows, {len(survey.columns)} columns: {', '.join(kinds)}{target}{classes}",
        f"features    {report['features']:,} in {report['buckets']:,} of {found.dims:,} buckets",
        f"collisions  {report['collided']:.1%} of the features share a bucket ({report['expected']:.1%} expected), "
        f"{report['occurrences']:.1%} of what occurs",
    ]
    if report["larger"] != found.dims:
        lines.append(f"            --dims {report['larger']} would bring it below 1 %")
    return printable_lines([*lines, f"written to {found.path}"])


def duplicates_text(found: Duplicates, out: Path | None) -> str:
    """How many are equal, how many nearly, which, and what sets share."""
    names, total = found.examples.names, len(found.examples.names)
    near = f", {found.surplus - found.exact:,} near" if found.near else ""
    lines = [f"duplicates  {found.surplus:,} of {total:,} examples: {found.exact:,} equal{near}"]
    lines += [f"  {' = '.join(names[at] for at in group[:4])}" for group in found.groups[:MOST_LEAKS]]
    lines += _more(len(found.groups), "groups")
    if found.conflicts:
        lines.append(f"labels      {found.conflicts:,} groups of duplicates carry different labels")
    if found.against:
        lines.append(f"leaks       {found.leaked:,} of {total:,} examples are in {found.against} as well")
        lines += [f"  {one} = {other} ({kind})" for one, other, kind in found.leaks[:MOST_LEAKS]]
        lines += _more(len(found.leaks), "pairs")
    if out is not None:
        lines.append(
            f"kept {total - found.surplus:,} of {total:,} examples; written to {out}; the original is unchanged"
        )
    return printable_lines(lines)


def chosen_text(found: Chosen, larger: Sequence[float] | None, out: Path | None) -> str:
    """How many were chosen and how, how well they stand for all beside random ones, and what was written."""
    count = f"{len(found.positions):,}"
    lines = [f"chosen      {count} of {found.size:,} examples by {found.method}, seed {found.seed}"]
    if found.classes:
        least, most = min(found.classes.values()), max(found.classes.values())
        lines.append(f"classes     {len(found.classes)}, of {least:,} to {most:,} examples")
    if found.error is not None and found.random_error is not None:
        lines.append(f"moments     {found.error:.2%} off those of all; {count} at random: {found.random_error:.2%}")
    if larger is not None:
        lines.append(
            f"layers      {larger[0]:+.1%} in size at equal KL, by their statistics instead of those of all; "
            f"{count} at random: {larger[1]:+.1%}"
        )
    if out is not None:
        lines.append(f"written to {out}; the original is unchanged")
    return printable_lines(lines)


def _more(count: int, what: str) -> list[str]:
    """What is not named."""
    return [f"  and {count - MOST_LEAKS:,} more {what}"] if count > MOST_LEAKS else []


def printable_lines(lines: Sequence[str]) -> str:
    """Lines without control characters of strangers' files."""
    return "\n".join(printable(line) for line in lines)
