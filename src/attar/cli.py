"""The command line: parse, call api, print. Results go to stdout, progress and notes to stderr."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from attar.errors import AttarError

if TYPE_CHECKING:
    from attar.api import Result

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Compress a trained model as far as the drop you can accept allows, and prove it on the file on disk.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage or data, 3 budget not met (best file written), 4 unsupported model, "
    "130 interrupted.",
)

ModelArg = Annotated[str, typer.Argument(help="Model file: .onnx, .pt2, TorchScript, .keras, .h5, or .attar.")]
Data = Annotated[
    str | None,
    typer.Option(help=".npz with x and y, folder of idx files, folder of images by class, or package.module:function."),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing results.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show tracebacks and the library's log.")]
Factory = Annotated[
    str | None, typer.Option(help="package.module:function that makes the PyTorch module for a state dict.")
]
MetricName = Annotated[
    str | None,
    typer.Option(help="A metric of attar (accuracy, top5, f1, mse, agreement, ...) or package.module:function."),
]  # fmt: skip


@app.command()
def compress(
    model: Annotated[str | None, typer.Argument(help="Model file; may come from the recipe.")] = None,
    data: Data = None,
    calibrate: Annotated[str | None, typer.Option(help="Set for statistics only.")] = None,
    select: Annotated[str | None, typer.Option(help="Set for the search only.")] = None,
    certify: Annotated[str | None, typer.Option(help="Set for the certificate only.")] = None,
    metric: MetricName = None,
    max_drop: Annotated[float | None, typer.Option(help="Allowed drop; for accuracy in percentage points.")] = None,
    max_relative_drop: Annotated[str | None, typer.Option(help="Allowed relative drop, e.g. 2%.")] = None,
    confidence: Annotated[float | None, typer.Option(help="Of the one-sided bound (default 0.95).")] = None,
    guarantee: Annotated[str | None, typer.Option(help="Within the drop: bound (default) or estimate.")] = None,
    out: Out = Path("out"),
    recipe: Annotated[Path | None, typer.Option(help="Recipe (TOML); options given here win over it.")] = None,
    factory: Factory = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice (default 0).")] = None,
    evaluations: Annotated[int | None, typer.Option(help="Full evaluations the search may spend (default 8).")] = None,
    scale: Annotated[float | None, typer.Option(help="Factor for the inputs; uint8 without it: 1/255.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Threads over layers (default: the cores).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Open and check, compute and write nothing.")] = False,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:  # fmt: skip
    """Find the smallest model within the drop; write it, its plain twin, a report, the recipe and the ledger."""
    with _guard(verbose):
        from attar import api
        from attar import recipe as recipes

        fields = {
            "calibrate": calibrate, "select": select, "certify": certify, "metric": metric, "max_drop": max_drop,
            "max_relative_drop": _share(max_relative_drop), "confidence": confidence, "guarantee": guarantee,
            "factory": factory, "seed": seed, "evaluations": evaluations, "scale": scale,
        }  # fmt: skip
        given = {name: value for name, value in fields.items() if value is not None}
        base = recipes.read(recipe) if recipe else None
        sys.path.insert(0, str(Path.cwd()))
        if dry_run:
            _print_preview(api.preview(model, data, recipe=base, **given).events, as_json)
            return
        with _bars() as progress, _interrupts() as interrupted:
            result = api.compress(
                model,
                data,
                recipe=base,
                out=out,
                force=force,
                jobs=jobs,
                progress=progress,
                interrupted=interrupted,
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
    out: Out = Path(),
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Write the plain model of a .attar file, in the format it came from."""
    with _guard(verbose):
        from attar import api

        typer.echo(str(api.expand(archive, out, force=force)))


@app.command(name="eval")
def evaluate(
    model: ModelArg,
    data: Annotated[str, typer.Option(help="Examples: see `attar compress --help`.")],
    metric: MetricName = "accuracy",
    against: Annotated[str | None, typer.Option(help="The original, for agreement, cosine and kl.")] = None,
    factory: Factory = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Measure a model, or the model inside a .attar file, on data."""
    with _guard(verbose):
        from attar import api

        sys.path.insert(0, str(Path.cwd()))
        measured = api.evaluate(model, data, metric or "accuracy", against=against, factory=factory)
        line = {"metric": measured.metric, "value": measured.value, "n": measured.n}
        typer.echo(
            json.dumps(line) if as_json else f"{measured.metric} {measured.value:.4f} on {measured.n:,} examples"
        )


@app.command()
def inspect(model: ModelArg, factory: Factory = None, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """List a model's or archive's layers: shape, bits per weight, zeros, bytes, share of the file."""
    with _guard(verbose):
        from attar import api, show

        rows = api.inspect(model, factory=factory)
        typer.echo(json.dumps(rows) if as_json else show.layer_table(rows))


@app.command()
def report(
    ledger: Annotated[Path, typer.Argument(help="ledger.jsonl of a run, also of one that was interrupted.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="HTML file.")] = Path("report.html"),
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Make the report again from a ledger."""
    with _guard(verbose):
        from attar.report import write_report

        write_report(ledger, out, force=force)
        typer.echo(str(out))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, which SIMD path runs, and what is missing for which format."""
    from attar import show

    facts = show.doctor()
    typer.echo(json.dumps(facts) if as_json else show.doctor_text(facts))


def _share(text: str | None) -> float | None:
    """'2%' or '0.02' as 0.02."""
    if text is None:
        return None
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise typer.BadParameter(f"must be a share such as 2% or 0.02. Received {text!r}.") from None


class _guard:
    """What attar raises becomes one line on stderr and an exit code; a traceback only with -v."""

    def __init__(self, verbose: bool) -> None:
        self.verbose = verbose
        if verbose:
            import logging

            logging.basicConfig(level=logging.INFO, stream=sys.stderr)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.verbose or error is None or isinstance(error, typer.Exit):
            return
        if isinstance(error, AttarError):
            _fail(str(error), error.exit_code)
        if isinstance(error, KeyboardInterrupt):
            _fail("interrupted: nothing that was there has been changed.", 130)
        if isinstance(error, MemoryError):
            _fail("memory: the run did not fit. Use fewer --calibration-examples or a smaller --jobs.", 1)


def _fail(text: str, code: int) -> NoReturn:
    """One line on stderr, then the exit code."""
    typer.echo(f"attar: {text}", err=True)
    raise typer.Exit(code)


def _bars() -> Any:
    """Progress on stderr: bars with the remaining time on a terminal, plain lines elsewhere."""
    from attar.show import Bars

    return Bars()


class _interrupts:
    """The first Ctrl-C asks the search to end with the best so far; the second ends the process."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> _interrupts:
        self.before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.before)

    def __call__(self) -> bool:
        return self.asked

    def _note(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        typer.echo("attar: ending with the best so far; Ctrl-C again to stop at once.", err=True)


def _print_preview(events: Any, as_json: bool) -> None:
    """What a run would work on."""
    from attar import show

    typer.echo(json.dumps(list(events)) if as_json else show.preview_text(events))


def _print_result(result: Result, out: Path, as_json: bool) -> None:
    """The six closing lines, or one JSON object."""
    from dataclasses import asdict

    from attar import show

    report_path = out / "report.html"
    if as_json:
        typer.echo(json.dumps({
            "bytes_before": result.bytes_before, "bytes_after": result.bytes_after, "ratio": result.ratio,
            "certificate": asdict(result.certificate), "within": result.within, "report": str(report_path),
        }))  # fmt: skip
        return
    for line in show.closing_lines(result, report_path):
        typer.echo(line)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
