"""What a person reads on a terminal: closing lines, tables."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attar.types import Certificate, Json

if TYPE_CHECKING:
    from attar.api import Result
    from attar.benching import Timed
    from attar.dataless import Blind
    from attar.exporting import Exported
    from attar.latency.fast import FastFile
    from attar.picking import Picked
    from attar.streaming.result import Streamed


def closing_lines(result: Result | Streamed, report: Path) -> list[str]:
    """The lines that end a run: six, and what speaks against them."""
    c = result.certificate
    unit = " points" if result.points else ""
    digits = 2 if result.points else 4
    # As many digits as show on which side of the limit the bound is.
    fine = next((d for d in range(digits, 9) if (round(c.upper, d) > c.max_drop) == (c.upper > c.max_drop)), 9)
    return [
        f"before    {result.bytes_before:,} bytes",
        f"after     {result.bytes_after:,} bytes",
        f"ratio     {result.ratio:.1f}x smaller",
        f"metric    {c.metric} {c.before:.{digits}f} -> {c.after:.{digits}f} (decoded file, {c.n:,} examples)",
        f"drop      {c.drop:+.{digits}f}{unit}, {c.confidence:.0%} upper bound {c.upper:+.{fine}f}, "
        f"allowed {c.max_drop:g}: {verdict(c)}",
        *([] if result.fast is None else fast_lines(result.fast)),
        *(f"warning   {warning}" for warning in result.warnings),
        f"report    {report}",
    ]


def blind_lines(result: Blind, report: Path) -> list[str]:
    """The lines that end a run without data: what is known of the weights, and that nothing else is."""
    asked = f"{result.recipe.bits:g} bits" if result.recipe.bits is not None else f"{result.recipe.max_error:.3g}"
    held = "at most" if result.within else "MISSED:"
    return [
        f"before    {result.bytes_before:,} bytes",
        f"after     {result.bytes_after:,} bytes",
        f"ratio     {result.ratio:.1f}x smaller",
        f"weights   {result.bits:.3f} bits each, relative error {result.error:.4f}, of one matrix up to "
        f"{result.worst:.4f} ({held} {asked} asked for)",
        f"drop      not measured: {result.certificate.verdict}",
        f"report    {report}",
    ]


def blind_facts(result: Blind) -> dict[str, Json]:
    """The same for a machine."""
    from dataclasses import asdict

    from attar.run.ledger import plain

    facts: dict[str, Json] = plain({
        "bytes_before": result.bytes_before, "bytes_after": result.bytes_after, "ratio": result.ratio,
        "bits": result.bits, "error": result.error, "worst": result.worst, "certificate": asdict(result.certificate),
        "within": result.within,
    })  # fmt: skip
    return facts


def fast_lines(fast: FastFile) -> list[str]:
    """What a latency goal came to: the artefact, its time, its certificate; loudly where it takes too long."""
    c, ratio = fast.certificate, fast.latency
    predicted = "" if fast.predicted is None else f"; predicted {fast.predicted:.3g} ms"
    lines = [
        f"fast      {fast.record['file']}: {fast.record['how']}",
        f"latency   {fast.milliseconds:.3g} ms, {ratio.ratio:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) of the float "
        f"model's{predicted}",
        f"          drop {c.drop:+.2f}, {c.confidence:.0%} upper bound {c.upper:+.2f}, allowed {c.max_drop:g}: "
        f"{verdict(c)}, in {fast.record['runtime']}",
    ]
    if not fast.in_time:
        lines.append(
            f"MISSED    {fast.budget_ms:g} ms were asked for: nothing within the drop is so fast. This is the fastest "
            "that was found; allow a larger drop, or pass --train."
        )
    return lines


def exported_lines(found: Exported) -> list[str]:
    """What an export came to: the file, its certificate in its runtime, and what was decided."""
    c = found.certificate
    unit, digits = (" points", 2) if c.lost is not None else ("", 4)
    lines = [
        f"format    {found.format}, {found.bytes_before:,} -> {found.bytes_after:,} bytes",
        f"metric    {c.metric} {c.before:.{digits}f} -> {c.after:.{digits}f} ({found.runtime}, {c.n:,} examples)",
        f"drop      {c.drop:+.{digits}f}{unit}, {c.confidence:.0%} upper bound {c.upper:+.{digits}f}, "
        f"allowed {c.max_drop:g}: {verdict(c)}",
    ]
    ratio = found.facts.get("latency_ratio")
    lines += [] if ratio is None else [f"latency   {ratio:.2f} of the float model's"]
    return [*lines, *(f"note      {note}" for note in found.notes), f"file      {found.path}"]


def picked_lines(found: Picked) -> list[str]:
    """The candidates of a run with their bounds, which hold all at once, and the one that was chosen."""
    level = found.choices[0].certificate.confidence if found.choices else 0.0
    rows = [["bytes", "ratio", "drop", f"bound ({level:.1%})", ""]]
    for one in found.choices:
        c = one.certificate
        own = "" if one.own is None else f"the run's own: {one.own.upper:+.4g} ({one.own.confidence:.1%})"
        chosen = "chosen" if found.chosen is not None and one.data == found.chosen.data else ""
        mark = ", ".join(filter(None, [own, chosen]))
        ratio = found.bytes_before / max(len(one.data), 1)
        rows.append([f"{len(one.data):,}", f"{ratio:.1f}x", f"{c.drop:+.4g}", f"{c.upper:+.4g}", mark])
    lines = columns(rows)
    if found.chosen is not None:
        c = found.chosen.certificate
        lines.append(f"drop      {c.drop:+.4g}, upper bound {c.upper:+.4g}, allowed {c.max_drop:g}: {verdict(c)}")
    return [*lines, *(f"file      {path}" for path in found.files)]


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their cells below each other."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def bench_lines(found: Sequence[Timed], metric: str | None) -> list[str]:
    """A table: bytes, milliseconds and ratio for each batch size, the metric."""
    sizes = list(found[0].latency)
    head = ["file", "bytes", *(f"batch {size}: ms   ratio" for size in sizes), *([metric] if metric else [])]
    rows = [head]
    for one in found:
        cells = [f"{t.milliseconds:.3f}   {t.ratio:.2f} ({t.low:.2f} to {t.high:.2f})" for t in one.latency.values()]
        value = [] if one.value is None else [f"{one.value:.4f}"]
        rows.append([printable(one.path), f"{one.nbytes:,}", *cells, *value])
    return columns(rows)


def verdict(c: Certificate) -> str:
    """The verdict in words, with the number of samples it would take where there are too few."""
    rate = "flip rate" if c.lost is not None else "spread"
    needed = f": at this {rate} {c.needed:,} are needed" if c.needed else ""
    if c.verdict == "not certifiable":
        return f"not certifiable with {c.n:,} samples{needed}"
    if c.verdict == "not certified" and needed:
        return f"not certified with {c.n:,} samples{needed}"
    return c.verdict


def layer_table(rows: Sequence[Mapping[str, Json]]) -> str:
    """The layers as a table, then what is left alone and why."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", overflow="fold")
    for title in ("kind", "shape", "method"):
        table.add_column(title, no_wrap=True)
    for title in ("bits/weight", "zeros", "bytes", "share"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in (r for r in rows if "reason" not in r):
        shape = "x".join(str(n) for n in row["shape"])
        bits = f"{row['bits_per_weight']:.2f}" if "bits_per_weight" in row else ""
        zeros = f"{row['zeros']:.0%}" if "zeros" in row else ""
        cells = (
            row["name"],
            row["kind"],
            shape,
            row["method"],
            bits,
            zeros,
            f"{row['bytes']:,}",
            f"{row['share']:.1%}",
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    out = io.StringIO()
    Console(file=out, width=_width()).print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    left = [f"left alone: {printable(row['name'])} ({printable(row['reason'])})" for row in rows if "reason" in row]
    return "\n".join([line for line in lines if line] + left)


def printable(text: str) -> str:
    """The text with control characters escaped: names come from strangers' files, and a terminal obeys them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _width() -> int:
    """Columns of the terminal; where the text goes to a file or a pipe, enough for any name."""
    import shutil

    return shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 10_000


def preview_text(events: Sequence[Mapping[str, Json]]) -> str:
    """What a run would work on."""
    run = next(e for e in events if e["event"] == "run")
    layers = next(e for e in events if e["event"] == "layers")
    splits = ", ".join(f"{name} {n:,}" for name, n in run["splits"].items())
    lines = [
        f"model     {run['model']} ({run['framework']}), {run['bytes_before']:,} bytes",
        f"layers    {len(layers['layers'])} to compress, {sum(x['size'] for x in layers['layers']):,} weights",
        f"examples  {splits or 'none: nothing is measured on data'}",
        f"metric    {run['metric']['name']}",
    ]
    lines += [f"skipped   {printable(name)}: {printable(why)}" for name, why in layers["skipped"].items()]
    return "\n".join(
        lines + [f"warning   {text}" for text in run["warnings"]] + ["dry run: nothing was computed or written"]
    )


def say(text: str) -> None:
    """A line on stderr, if it can be written."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the display
