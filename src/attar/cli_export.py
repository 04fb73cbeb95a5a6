"""`attar export` and `attar bench`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attar import registry
from attar.cli_options import AsJson, Data, Factory, Force, MetricName, ModelArg, Scale, Verbose, reach, share
from attar.ending import guard
from attar.stdout import json_line, tell

FORMATS = ", ".join(registry.names("export"))
Threads = Annotated[int, typer.Option(min=1, help="Threads that the runtime gets.")]


def export(
    model: ModelArg,
    to: Annotated[str, typer.Option(help=f"The format: {FORMATS}.")],
    data: Data = None,
    calibrate: Annotated[str | None, typer.Option(help="Set of its own for ranges; labels are not needed.")] = None,
    select: Annotated[str | None, typer.Option(help="Set of its own for decisions.")] = None,
    certify: Annotated[str | None, typer.Option(help="Set of its own for the certificate.")] = None,
    against: Annotated[str | None, typer.Option(help="The original, where MODEL is a compressed one.")] = None,
    metric: MetricName = None,
    max_drop: Annotated[float | None, typer.Option(help="Allowed drop; for accuracy in percentage points.")] = None,
    max_relative_drop: Annotated[str | None, typer.Option(help="Allowed relative drop, e.g. 2%.")] = None,
    confidence: Annotated[float | None, typer.Option(help="Confidence of the one-sided bound (default 0.95).")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Examples in a call, for latency.")] = 1,
    threads: Threads = 1,
    like: Annotated[Path | None, typer.Option(help="An earlier export's JSON file: choose for speed as there.")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder, or a file with the format's ending.")] = Path(),
    factory: Factory = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random choice (default 0).")] = None,
    scale: Scale = None,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Write a model for a runtime, and certify the file there. Exit code 3 where it misses the drop."""
    with guard(verbose):
        from attar import show
        from attar.exporting import export as exporting
        from attar.live import Bars

        fields = {
            "calibrate": calibrate, "select": select, "certify": certify, "metric": metric, "max_drop": max_drop,
            "max_relative_drop": share(max_relative_drop), "confidence": confidence, "factory": factory, "seed": seed,
            "scale": scale,
        }  # fmt: skip
        given = {name: value for name, value in fields.items() if value is not None}
        reach(data, *given.values())
        with Bars() as progress:
            found = exporting(
                model, to, data, against=against, out=out, batch=batch, threads=threads, like=like, force=force,
                progress=progress, **given,
            )  # fmt: skip
        tell(json_line(found.record()) if as_json else "\n".join(show.exported_lines(found)))
        if not found.within:
            raise typer.Exit(3)


def bench(
    models: Annotated[
        list[Path], typer.Argument(help=".onnx, .tflite and .pt2 files, and .attar files of ONNX and TFLite models.")
    ],
    data: Annotated[str | None, typer.Option(help="Examples: see `attar compress --help`; noise without.")] = None,
    metric: Annotated[str | None, typer.Option(help="Measured on the data beside the time.")] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes, with commas between them.")] = "1,32",
    threads: Threads = 1,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Time models beside each other in their runtime: medians of interleaved calls, ratios to the first."""
    with guard(verbose):
        from attar import show
        from attar.benching import bench as timing
        from attar.errors import UsageError

        try:
            sizes = [int(one) for one in batch.split(",")]
        except ValueError:
            raise UsageError(f"--batch: it must be whole numbers. Received {batch!r}. Write it as 1,32.") from None
        reach(data)
        found = timing(models, data, batches=sizes, threads=threads, metric=metric)
        tell(json_line([one.facts() for one in found]) if as_json else "\n".join(show.bench_lines(found, metric)))
