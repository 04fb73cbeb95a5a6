"""What a person reads of packed files and data sets, and of what verifying archives found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attar.show import verdict
from attar.types import Json

if TYPE_CHECKING:
    from attar.packing.pack import Packed
    from attar.sets.lossy import Lost
    from attar.sets.pack import PackedSet


def packed_facts(result: Packed) -> dict[str, Json]:
    """What packing came to, for a machine."""
    return {
        "path": str(result.path), "bytes_before": result.bytes_before, "bytes_after": result.bytes_after,
        "ratio": result.bytes_before / max(result.bytes_after, 1), "notes": list(result.notes),
        "tensors": sum(len(file.spans) for file in result.files),
    }  # fmt: skip


def packed_lines(result: Packed) -> list[str]:
    """The same for a person."""
    facts = packed_facts(result)
    return [
        f"before    {result.bytes_before:,} bytes, {facts['tensors']:,} tensors",
        f"after     {result.bytes_after:,} bytes, read back and compared",
        f"ratio     {facts['ratio']:.3f}x smaller",
        f"archive   {result.path}",
        *(f"note      {note}" for note in result.notes),
    ]


def packed_set_lines(result: PackedSet) -> list[str]:
    """What packing a data set came to, for a person."""
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in result.kinds.items())
    lines = [f"before    {result.bytes_before:,} bytes in files ({kinds})"]
    if result.images:
        lines.append(f"pixels    {result.pixels:,} bytes in {result.images:,} images")
    return [
        *lines,
        f"after     {result.bytes_after:,} bytes, read back and compared",
        *lost_lines(result.lost),
        f"archive   {result.path}",
    ]


def lost_lines(lost: Lost | None) -> list[str]:
    """What images have lost, where they may."""
    if lost is None:
        return []
    missed = "" if lost.reached else ": not reached"
    if lost.exact:
        missed = "; the rest is coded too, and nothing is lost"
    lines = [f"quality   {lost.quality:.4f} of {lost.held:,} images held out, error {lost.error:.2f} of 255 in all"]
    if lost.agreement is not None:
        lines.append(f"answers   {lost.agreement:.2%} of those held out as before")
    if (c := lost.certificate) is not None:
        lines.append(f"metric    {c.metric} {c.before:.2f} -> {c.after:.2f} (decoded file, {c.n:,} images not seen)")
        lines.append(
            f"drop      {c.drop:+.2f} points, {c.confidence:.0%} bounds {c.lower:+.2f} and {c.upper:+.2f}, "
            f"allowed {c.max_drop:g}: {verdict(c)}"
        )
    else:
        lines[-1] += missed
    return lines


def verify_lines(found: Mapping[str, Sequence[Mapping[str, Json]]], *, every: bool) -> str:
    """A line for each file, under it one for each damaged section, or for every one."""
    lines = []
    for path, rows in found.items():
        damaged = sum(row["error"] is not None for row in rows)
        size = sum(row["bytes"] for row in rows)
        count = f"{len(rows)} section{'s' * (len(rows) != 1)}"
        lines.append(f"{path}: " + (f"{damaged} of {count} damaged" if damaged else f"whole, {count}, {size:,} bytes"))
        lines += [
            f"  {row['kind']} {row['section']!r}, {row['bytes']:,} bytes: {row['error'] or 'whole'}"
            for row in rows
            if every or row["error"]
        ]
    return "\n".join(lines)
