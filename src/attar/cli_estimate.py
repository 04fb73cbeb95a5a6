"""`attar estimate`: time, memory and disk that a compression would take, here and on several machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attar.cli_options import AsJson, Factory, Verbose, reach
from attar.ending import guard
from attar.errors import UsageError
from attar.stdout import json_line, tell

if TYPE_CHECKING:
    from attar.estimating.kernels import Kernels
    from attar.estimating.phases import Estimate
    from attar.estimating.shapes import Shapes
    from attar.types import Json

GIGABIT = 1.25e8


def estimate(
    model: Annotated[
        str, typer.Argument(help="config.json or its folder, .safetensors, its index, .gguf, .npz, or any other model.")
    ],
    workers: Annotated[int, typer.Option(min=1, help="Machines like this one that work together.")] = 1,
    examples: Annotated[
        str, typer.Option(help="Examples to calibrate, select and certify on: one number, or three with commas.")
    ] = "256",
    window: Annotated[int, typer.Option(min=1, help="Tokens of an example.")] = 512,
    bits: Annotated[float, typer.Option(min=0.1, max=16, help="Bits per weight in the file.")] = 4.0,
    network: Annotated[float, typer.Option(min=0.001, help="Gbit/s between machines.")] = 10.0,
    speeds: Annotated[
        Path | None, typer.Option(help="Speeds of another machine: what `attar estimate --json` has written there.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure this machine again, not from the cache.")] = False,
    factory: Factory = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Say what a compression of this model would take, from its shapes and this machine's measured speeds."""
    with guard(verbose):
        from attar.estimating import kernels, phases, shapes

        reach(factory)
        found = shapes.shapes_of(model, factory)
        machine = kernels.measured(again=again) if speeds is None else kernels.read(speeds)
        load = phases.Load(*_three(examples), window, bits, workers, network * GIGABIT)
        made = phases.estimates(found, machine, load)
        if as_json:
            tell(json_line(_facts(found, machine, made, workers)))
            return
        tell("\n".join(_lines(found, machine, made, workers)))


def _three(text: str) -> list[int]:
    """Examples of the three splits."""
    parts = text.split(",")
    if len(parts) not in (1, 3) or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise UsageError(
            f"--examples: it must be one number or three. Received {text!r}. Write it as 256 or 4000,2000,2000."
        )
    return [int(part) for part in (parts * 3 if len(parts) == 1 else parts)]


def _facts(shapes: Shapes, kernels: Kernels, made: Sequence[Estimate], workers: int) -> dict[str, Json]:
    """For a machine."""
    from dataclasses import asdict

    return {
        "model": shapes.name, "weights": shapes.size, "others": shapes.others, "stored_bytes": shapes.stored_bytes,
        "kernels": asdict(kernels), "workers": workers,
        "ways": [
            {"way": one.way, "seconds": one.seconds(), "seconds_of_workers": one.seconds(workers),
             "memory_bytes": one.memory, "disk_bytes": one.disk, "received_bytes": one.received,
             "stages": {phase.name: phase.seconds for phase in one.phases}} for one in made
        ],
    }  # fmt: skip


def _lines(shapes: Shapes, machine: Kernels, made: Sequence[Estimate], workers: int) -> list[str]:
    """For a person."""
    from attar.estimating.kernels import facts
    from attar.show import columns, printable

    head = ["way", "time here", *([f"on {workers} machines"] if workers > 1 else []), "memory", "disk",
            *(["received each"] if workers > 1 else []), "most of it"]  # fmt: skip
    rows = [head]
    for one in made:
        total = max(one.seconds(), 1e-12)
        most = sorted(one.phases, key=lambda phase: -phase.seconds)[:3]
        many = [duration(one.seconds(workers))] if workers > 1 else []
        received = [size(one.received)] if workers > 1 else []
        shares = ", ".join(f"{phase.name} {phase.seconds / total:.0%}" for phase in most)
        fits = "" if one.memory <= machine.memory else " (does not fit here)"
        rows.append([one.way, duration(total), *many, size(one.memory) + fits, size(one.disk), *received, shares])
    return [
        f"model     {printable(shapes.name)}: {shapes.size / 1e6:,.1f} M weights in matrices, "
        f"{size(shapes.stored_bytes)} as stored",
        "machine   " + "; ".join(f"{name} {value}" for name, value in facts(machine).items()),
        *columns(rows),
    ]


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days, two digits.

    >>> [duration(x) for x in (0.4, 42, 600, 9000, 400000)]
    ['0.4 s', '42 s', '10 min', '2.5 h', '4.6 d']
    """
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}" if seconds < 99 * length else f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.2g} s"


def size(count: float) -> str:
    """Bytes with a decimal unit, two digits.

    >>> [size(x) for x in (900, 5.3e6, 1.62e10, 2.1e12)]
    ['900 B', '5.3 MB', '16 GB', '2.1 TB']
    """
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= length:
            return f"{count / length:.2g} {unit}" if count < 99 * length else f"{count / length:,.0f} {unit}"
    return f"{count:.0f} B"
