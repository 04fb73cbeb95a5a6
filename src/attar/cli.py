"""The command line: parse, call api, print. Results go to stdout, progress and notes to stderr."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attar import cli_estimate, cli_export, cli_runs
from attar.cli_data import data
from attar.cli_options import (
    MODELS,
    AsJson,
    Data,
    Factory,
    Force,
    MetricName,
    ModelArg,
    OutputName,
    Preset,
    Scale,
    Verbose,
    reach,
    share,
)
from attar.ending import fail, guard, interrupts
from attar.stdout import json_line, tell

if TYPE_CHECKING:
    from attar.api import Result
    from attar.dataless import Blind
    from attar.streaming.result import Streamed

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Compress a trained model as far as the drop you can accept allows, and prove it on the file on disk.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage or data, 3 budget not met (best file written), 4 unsupported model, "
    "130 interrupted.",
)
app.add_typer(data, name="data")
app.add_typer(cli_runs.recipe, name="recipe")
app.command(epilog="Example: attar export m.onnx --to onnx-int8 --data d/ --max-drop 0.5")(cli_export.export)
app.command(epilog="Example: attar bench m.onnx m.int8.onnx --data d/ --metric accuracy")(cli_export.bench)
app.command(epilog="Example: attar estimate config.json --workers 8")(cli_estimate.estimate)
app.command(epilog="Example: attar pick out/ --max-drop 0.3 -o smaller/")(cli_runs.pick)
app.command(epilog="Example: attar log out/ --to mlflow --dest mlruns/")(cli_runs.log)

Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")]


def _version(asked: bool) -> None:
    """What --version prints."""
    if asked:
        from attar import __version__

        tell(f"attar {__version__}")
        raise typer.Exit


@app.callback()
def attar(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""


@app.command(
    epilog="Example: attar compress lenet5.onnx --data fashion-mnist/ --metric accuracy --max-drop 0.5 -o out/"
)
def compress(
    model: Annotated[str | None, typer.Argument(help=f"{MODELS} May come from the recipe.")] = None,
    data: Data = None,
    calibrate: Annotated[str | None, typer.Option(help="Set of its own for statistics; labels are not needed.")] = None,
    select: Annotated[str | None, typer.Option(help="Set of its own for the search.")] = None,
    certify: Annotated[str | None, typer.Option(help="Set of its own for the certificate.")] = None,
    train: Annotated[
        str | None, typer.Option(help="Set that candidates are trained on after compression; labels help.")
    ] = None,
    no_train: Annotated[bool, typer.Option("--no-train", help="Do not train, whatever the recipe says.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training set (default 10).")] = None,
    methods: Annotated[str | None, typer.Option(help="Methods that compete, with commas between them.")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Layers that keep their weights, as a pattern: 'head.*'. May be repeated.")
    ] = None,
    remove: Annotated[
        float | None, typer.Option(min=0, max=0.99, help="Share of the multiply-adds that goes as whole channels.")
    ] = None,
    scale_moves: Annotated[
        str | None, typer.Option(help="Scales moved between layers before compression: none, equalise, smooth, fold.")
    ] = None,
    goal: Annotated[str | None, typer.Option(help="Made least: size (default), latency or latency,size.")] = None,
    latency_budget: Annotated[str | None, typer.Option(help="Most time of a call, as 3ms; for --goal latency.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the runtime, for --goal latency.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Examples in a call, for --goal latency.")] = None,
    metric: MetricName = None,
    output_name: OutputName = None,
    max_drop: Annotated[float | None, typer.Option(help="Allowed drop; for accuracy in percentage points.")] = None,
    max_relative_drop: Annotated[str | None, typer.Option(help="Allowed relative drop, e.g. 2%.")] = None,
    bits: Annotated[
        float | None, typer.Option(help="Bits per weight: of weights without a network, or of one --stream pass.")
    ] = None,
    max_error: Annotated[
        str | None, typer.Option(help="Relative error of every matrix at most, e.g. 1%, in place of --bits.")
    ] = None,
    confidence: Annotated[float | None, typer.Option(help="Confidence of the one-sided bound (default 0.95).")] = None,
    guarantee: Annotated[str | None, typer.Option(help="What must be within it: bound (default) or estimate.")] = None,
    stream: Annotated[
        bool | None, typer.Option("--stream/--no-stream", help="Block by block; without it where memory would not do.")
    ] = None,
    out: Out = Path("out"),
    recipe: Annotated[Path | None, typer.Option(help="Recipe (TOML); options given here win over it.")] = None,
    preset: Preset = None,
    factory: Factory = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random choice (default 0).")] = None,
    evaluations: Annotated[int | None, typer.Option(help="Full evaluations the search may spend (default 8).")] = None,
    early_stop: Annotated[
        bool | None,
        typer.Option("--early-stop/--no-early-stop", help="End the search's evaluations where they have told enough."),
    ] = None,
    time_budget: Annotated[
        str | None, typer.Option(help="Time that the run should take, e.g. 10m: the best so far is handed back.")
    ] = None,
    tune: Annotated[
        str | None, typer.Option(help="Try parameters of methods: so many trials (20), or for so long (5m).")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder in which statistics and codes are kept for further runs.")
    ] = None,
    coder: Annotated[str | None, typer.Option(help="fast, dense (smaller) or auto: dense if decoded in 1 s.")] = None,
    scale: Scale = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Layers at once (default: as many as cores).")] = None,
    engine: Annotated[
        str, typer.Option(help="Where layers are worked on: threads, processes, ray or ray://host:port.")
    ] = "threads",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Open and check, compute and write nothing.")] = False,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:  # fmt: skip
    """Find the smallest model within the drop; write it, its plain twin, a report, the recipe and the ledger."""
    with guard(verbose):
        from attar import api
        from attar import recipe as recipes
        from attar.run.clock import seconds_of

        fields = {
            "calibrate": calibrate, "select": select, "certify": certify, "metric": metric, "output_name": output_name,
            "max_drop": max_drop,
            "max_relative_drop": share(max_relative_drop), "confidence": confidence, "guarantee": guarantee,
            "preset": preset, "factory": factory, "seed": seed, "evaluations": evaluations, "coder": coder,
            "scale": scale, "early_stop": early_stop, "train": train, "remove": remove, "exclude": exclude or None,
            "tune": tune, "bits": bits, "max_error": share(max_error, "--max-error"),
            "goal": goal, "latency_budget": latency_budget, "threads": threads, "batch": batch,
            "methods": methods.split(",") if methods else None,
            "time_budget": seconds_of(time_budget) if time_budget else None,
        }  # fmt: skip
        given = {name: value for name, value in fields.items() if value is not None}
        base = recipes.read(recipe) if recipe else None
        on = None if stream is None else "yes" if stream else "no"
        for table, name, value in (
            ("recovery", "epochs", epochs), ("scaling", "moves", scale_moves), ("stream", "on", on),
        ):  # fmt: skip
            if value is not None:
                settings = given.get("settings", {} if base is None else base.settings)
                given["settings"] = recipes.with_setting(settings, table, name, value)
        if no_train:
            given.pop("train", None)
            base = base and base.model_copy(update={"train": None})
        reach(data, *given.values(), *(base.model_dump().values() if base else ()))
        if dry_run:
            _print_preview(api.preview(model, data, recipe=base, out=out, force=force, **given).events, as_json)
            return
        with _bars() as progress, interrupts() as interrupted:
            result = api.compress(
                model,
                data,
                recipe=base,
                out=out,
                force=force,
                jobs=jobs,
                engine=engine,
                progress=progress,
                interrupted=interrupted,
                work=work,
                **given,
            )
        _print_result(result, out, as_json)
        if interrupted():
            raise typer.Exit(130)
        if not result.within:
            raise typer.Exit(3)


@app.command()
def expand(
    archive: Annotated[Path, typer.Argument(help="A .attar file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder, or a file with the format's ending.")] = Path(),
    sparse: Annotated[
        bool, typer.Option("--sparse", help="Leave zeros out where the format can: ONNX, PyTorch state dicts (.pt).")
    ] = False,
    stream: Annotated[bool, typer.Option("--stream", help="Tensor by tensor; for Hugging Face models.")] = False,
    factory: Factory = None,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Write the plain model of a .attar file, in the format it came from."""
    with guard(verbose):
        from attar import stored
        from attar.opening import made_by

        reach(factory)
        with _bars() as progress:
            place = stored.expand(
                archive, out, into=made_by(factory), force=force, sparse=sparse, stream=stream, progress=progress
            )
        tell(str(place))


@app.command(name="eval")
def evaluate(
    model: ModelArg,
    data: Annotated[str, typer.Option(help="Examples: see `attar compress --help`.")],
    metric: MetricName = "accuracy",
    output_name: OutputName = None,
    against: Annotated[str | None, typer.Option(help="The original, for agreement, cosine and kl.")] = None,
    factory: Factory = None,
    scale: Scale = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Measure a model, or the model inside a .attar file, on data."""
    with guard(verbose):
        from attar import api

        fields = {"scale": scale, "factory": factory, "output_name": output_name}
        given = {name: value for name, value in fields.items() if value is not None}
        reach(data, metric, factory)
        measured = api.evaluate(model, data, metric or "accuracy", against=against, **given)
        line = {"metric": measured.metric, "value": measured.value, "n": measured.n}
        tell(json_line(line) if as_json else f"{measured.metric} {measured.value:.4f} on {measured.n:,} examples")


@app.command()
def inspect(model: ModelArg, factory: Factory = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """List a model's or archive's layers: shape, bits per weight, zeros, bytes, share of the file."""
    with guard(verbose):
        from attar import show, stored

        reach(factory)
        rows = stored.inspect(model, factory=factory)
        tell(json_line(rows) if as_json else show.layer_table(rows))


Base = Annotated[
    Path | None,
    typer.Option(help="Another checkpoint of the family, plain or packed: differences are stored."),
]


@app.command()
def pack(
    path: Annotated[
        Path, typer.Argument(help="safetensors (or its index), ONNX, GGUF, TFLite, npz, PyTorch; a folder.")
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The archive (default: PATH.attar).")] = None,
    base: Base = None,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Pack a checkpoint without losing a bit; what was written is read back and compared."""
    with guard(verbose):
        from attar import show_packed
        from attar.packing.pack import pack as packing

        result = packing(path, out, base=base, force=force)
        tell(json_line(show_packed.packed_facts(result)) if as_json else "\n".join(show_packed.packed_lines(result)))


@app.command()
def unpack(
    archive: Annotated[Path, typer.Argument(help="What `attar pack` wrote.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="File or folder (default: the original name).")
    ] = None,
    base: Base = None,
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Write the file or folder that was packed, byte by byte as it was."""
    with guard(verbose):
        from attar.packing.unpack import unpack as unpacking

        tell(str(unpacking(archive, out, base=base, force=force)))


@app.command()
def verify(
    archives: Annotated[list[Path], typer.Argument(help=".attar files.")],
    as_json: AsJson = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show every section.")] = False,
) -> None:
    """Check archives: read, compare and decode every section. Exit code 1 where one is damaged."""
    with guard(verbose):
        from attar import show_packed, stored

        found = {str(path): stored.verify(path) for path in archives}
        tell(json_line(found) if as_json else show_packed.verify_lines(found, every=verbose))
        if any(row["error"] for rows in found.values() for row in rows):
            raise typer.Exit(1)


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="A run's folder or its ledger.jsonl, finished or not; two are compared.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="HTML file.")] = Path("report.html"),
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Make the report again from a ledger, or one that compares two runs."""
    with guard(verbose):
        from attar.report import write_comparison, write_report

        if len(runs) > 2:
            fail(f"report: one run, or two to compare. Received {len(runs)}. Name at most two.", 2)
        if len(runs) == 2:
            write_comparison(*runs, out, force=force)
        else:
            write_report(*runs, out, force=force)
        tell(str(out))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, which SIMD path runs, and what is missing for which format."""
    with guard(verbose=False):
        from attar import doctor

        facts = doctor.findings()
        tell(json_line(facts) if as_json else doctor.text(facts))


def _bars() -> Any:
    """Progress on stderr: bars with the remaining time on a terminal, plain lines elsewhere."""
    from attar.live import Bars

    return Bars()


def _print_preview(events: Any, as_json: bool) -> None:
    """What a run would work on."""
    from attar import show

    tell(json_line(list(events)) if as_json else show.preview_text(events))


def _print_result(result: Result | Blind | Streamed, out: Path, as_json: bool) -> None:
    """The closing lines, or one JSON object."""
    from dataclasses import asdict

    from attar import show
    from attar.dataless import Blind

    report_path = out / "report.html"
    if isinstance(result, Blind):
        tell(json_line(show.blind_facts(result)) if as_json else "\n".join(show.blind_lines(result, report_path)))
        return
    if as_json:
        tell(json_line({
            "bytes_before": result.bytes_before, "bytes_after": result.bytes_after, "ratio": result.ratio,
            "certificate": asdict(result.certificate), "within": result.within, "report": str(report_path),
            "warnings": list(result.warnings), "calibration": result.calibration,
            "fast": None if result.fast is None else dict(result.fast.record),
        }))  # fmt: skip
        return
    tell("\n".join(show.closing_lines(result, report_path)))


def main() -> None:
    """Entry point."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: the next file opened must not take its number
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    app()


if __name__ == "__main__":
    main()
