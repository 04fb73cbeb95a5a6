"""`attar data ...`: parse, call attar.data, print. Results go to stdout, progress to stderr."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from attar import registry
from attar.ending import guard
from attar.stdout import json_line, tell

data = typer.Typer(no_args_is_help=True, help="Look at, clean, compare, choose from, change and pack data sets.")

SourceArg = Annotated[
    str,
    typer.Argument(
        help="Table (.csv, .parquet, .jsonl), .npz, idx file, or folder of idx files, images, WAV or texts."
    ),
]
Target = Annotated[str | None, typer.Option(help="Column of labels (default: label, labels, target, targets or y).")]
MaxMissing = Annotated[float, typer.Option(help="Examples of which a larger share is missing are dropped.")]
NoLabels = Annotated[bool, typer.Option("--no-labels", help="Do not look for labels that are probably wrong.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show tracebacks and the library's log.")]


@data.command(epilog="Example: attar data inspect images/ --html page.html")
def inspect(
    source: SourceArg,
    target: Target = None,
    max_missing: MaxMissing = 0.5,
    no_labels: NoLabels = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures of the examples concerned.")] = None,
    seed: Seed = 0,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Say what is in a data set and what is wrong with it; nothing is changed."""
    with guard(verbose):
        from attar.cleaning.clean import inspect as look
        from attar.cleaning.table_steps import CleanSettings
        from attar.show_data import inspection_text

        if html is not None:
            _check_page(html, force)
        with _progress("looking at examples") as step:
            settings = CleanSettings(target, max_missing, find_noisy=not no_labels, seed=seed)
            found = look(source, settings, step=step)
        if html is not None:
            from attar.cleaning.clean import drawings
            from attar.report.data_page import render

            _write_page(render(found.facts(), drawings(found)), html)
        tell(json_line(found.facts()) if as_json else inspection_text(found))


@data.command(epilog="Example: attar data clean table.csv -o clean.parquet --target label")
def clean(
    source: SourceArg,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Table, .npz or folder to write; not needed with --dry-run.")
    ] = None,
    target: Target = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and write nothing.")] = False,
    max_missing: MaxMissing = 0.5,
    outliers: Annotated[str, typer.Option(help="What is done to outliers of tables: list, clip or drop.")] = "list",
    drop_noisy: Annotated[
        bool, typer.Option("--drop-noisy", help="Drop examples whose label is probably wrong.")
    ] = False,
    no_labels: NoLabels = False,
    seed: Seed = 0,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Write a data set without its faults, and list every change; the original stays as it is."""
    with guard(verbose):
        from attar.cleaning.clean import clean as written
        from attar.cleaning.table_steps import CleanSettings
        from attar.errors import UsageError
        from attar.show_data import cleaned_text

        if out is None and not dry_run:
            raise UsageError("clean: an output is needed. Received none. Pass -o OUT, or --dry-run to write nothing.")
        find = drop_noisy or not no_labels
        settings = CleanSettings(target, max_missing, outliers, drop_noisy, find_noisy=find, seed=seed)
        place = None if dry_run else out
        with _progress("cleaning examples") as step:
            found = written(source, place, settings, force=force, step=step)
        facts = {**found.facts(), "out": None if place is None else str(place)}
        tell(json_line(facts) if as_json else cleaned_text(found, place))


@data.command(epilog="Example: attar data dedupe train/ --near --against test/ --strict")
def dedupe(
    source: SourceArg,
    against: Annotated[str | None, typer.Option(help="Another set, which must not share examples with it.")] = None,
    near: Annotated[
        bool, typer.Option("--near", help="Find nearly equal images, recordings or text as well.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="End with exit code 2 where sets or parts share.")] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write the set without its duplicates.")] = None,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:  # fmt: skip
    """Find duplicates within a data set, and leaks between its parts or to another set."""
    with guard(verbose):
        from attar.copies.dedupe import dedupe as compare
        from attar.errors import DataError
        from attar.show_data import duplicates_text

        with _progress("comparing examples") as step:
            found = compare(source, against, near=near, out=out, force=force, step=step)
        tell(json_line(found.facts()) if as_json else duplicates_text(found, out))
        if strict and found.leaked:
            raise DataError(
                f"data {source!r}: no example may be in {found.against} as well. Received {found.leaked:,} of "
                f"{len(found.examples.names):,}, e.g. {found.leaks[0][0]} = {found.leaks[0][1]}. Take them out of one."
            )


@data.command(epilog="Example: attar data augment train/ -o more/ --recipe augment.toml --preview page.html")
def augment(
    source: Annotated[
        str, typer.Argument(help="Table, .npz, idx file, or folder of idx files, images, .wav or .txt files.")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Table, .npz or folder to write; not needed with --preview.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML: a table for each change, copies, seed, leave.")] = None,
    copies: Annotated[int | None, typer.Option(help="Changed copies of each example (default: 1).")] = None,
    only_copies: Annotated[bool, typer.Option("--only-copies", help="Write the copies without the originals.")] = False,
    preview: Annotated[Path | None, typer.Option(help="Write a page with a dozen examples before and after.")] = None,
    target: Target = None,
    kind: Annotated[str | None, typer.Option(help="What arrays hold: images, audio or tables.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Threads over the files of a folder (default: one a core).")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random choice (default: 0).")] = None,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Add changed copies of the examples that keep their labels; the original stays as it is."""
    with guard(verbose):
        from attar.augment.plan import Plan, read_plan, with_fields
        from attar.augment.write import augment as written
        from attar.errors import UsageError
        from attar.show_data import augmented_text

        if out is None and preview is None:
            raise UsageError(
                "augment: an output is needed. Received none. Pass -o OUT, or --preview PAGE to look first."
            )
        if preview is not None:
            _check_page(preview, force)
        plan = with_fields(Plan() if recipe is None else read_plan(recipe), copies=copies, seed=seed)
        with _progress("changing examples") as step:
            found = written(
                source, out, plan, only_copies=only_copies, target=target, kind=kind, jobs=jobs, force=force, step=step
            )
        if preview is not None:
            from attar.augment.write import shown
            from attar.report.augment_page import render

            _write_page(render(found.facts(), shown(found)), preview)
        tell(json_line(found.facts()) if as_json else augmented_text(found))


@data.command(name="hash", epilog="Example: attar data hash clicks.csv -o hashed.npz --dims 4096")
def hash_(
    source: Annotated[Path, typer.Argument(help="Table (.csv, .parquet, .jsonl), of any size.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The .npz to write, with x and y.")],
    dims: Annotated[int, typer.Option(help="Length of the vectors.")] = 4096,
    target: Target = None,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Hash the columns of a table into vectors of one length, and say what collides."""
    with guard(verbose):
        from attar.hashing.write import hash_table
        from attar.show_data import hashed_text

        with _progress("hashing rows") as step:
            found = hash_table(source, out, dims=dims, target=target, force=force, step=step)
        tell(json_line(found.facts()) if as_json else hashed_text(found))


@data.command(epilog="Example: attar data select train/ -k 2000 --for model.onnx -o chosen.npz")
def select(
    source: SourceArg,
    count: Annotated[int, typer.Option("-k", "--count", help="How many examples.")],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Table, .npz or folder to write, or a list of positions (.json)."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--for", help="Model that they calibrate: examples are seen as its layers see them.")
    ] = None,
    factory: Annotated[
        str | None, typer.Option(help="package.module:function that makes the PyTorch module of a state dict.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(registry.names('choice'))} (default: undecided with --for, else k-center)."),
    ] = None,
    target: Target = None,
    seed: Seed = 0,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Choose the examples that stand best for all of a set: for calibration, or wherever all are too many."""
    with guard(verbose):
        from attar.calibration import larger
        from attar.opening import open_model
        from attar.selection.choose import choose
        from attar.selection.write import check_place, write_choice
        from attar.show_data import chosen_text

        opened = check_place(source, out, force)
        adapter = None if model is None else open_model(model, factory)
        with _progress("looking at examples") as step:
            found = choose(opened, count, method=method, adapter=adapter, target=target, seed=seed, step=step)
        beside = None
        if adapter is not None and found.data is not None:
            beside = larger(adapter, found.data, [found.positions, found.chance])
        if out is not None:
            write_choice(found, out)
        names = ("larger", "random_larger")
        facts = {**found.facts(), **dict(zip(names, beside or (None, None), strict=True))}
        place = {"for": model, "out": None if out is None else str(out)}
        tell(json_line({**facts, **place}) if as_json else chosen_text(found, beside, out))


@data.command()
def pack(
    source: Annotated[Path, typer.Argument(help="Folder (of images, sounds, tables, texts), or one file.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The archive (default: SOURCE.attar).")] = None,
    quality: Annotated[
        float | None,
        typer.Option(help="Images may differ, by 1 - QUALITY of the pixels' standard deviation."),
    ] = None,
    for_: Annotated[Path | None, typer.Option("--for", help="Model (ONNX, .pt2) that the images are for.")] = None,
    max_drop: Annotated[float | None, typer.Option(help="Points that its accuracy may drop.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Code what --quality leaves, too: images come back.")] = False,
    steps: Annotated[int, typer.Option(help="Steps of training where images may differ.")] = 6000,
    seed: Seed = 0,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Pack a data set without losing a value, or with images that may differ; what was written is read back."""
    with guard(verbose):
        from dataclasses import asdict

        from attar import show_packed
        from attar.api import data_loss
        from attar.live import Bars
        from attar.sets.pack import pack as packing

        loss = data_loss(quality, for_, max_drop, steps=steps, seed=seed, exact=exact)
        with Bars() as progress:
            result = packing(source, out, loss=loss, force=force, progress=progress)
        facts = {**asdict(result), "path": str(result.path)}
        tell(json_line(facts) if as_json else "\n".join(show_packed.packed_set_lines(result)))
        if result.lost is not None and not result.lost.reached:
            raise typer.Exit(3)


@data.command()
def unpack(
    archive: Annotated[Path, typer.Argument(help="What `attar data pack` wrote.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the files.")],
    force: Force = False,
    verbose: Verbose = False,
) -> None:
    """Write the files of a packed data set."""
    with guard(verbose):
        from attar.live import Bars
        from attar.sets.unpack import unpack as unpacking

        with Bars() as progress:
            place = unpacking(archive, out, force=force, progress=progress)
        tell(str(place))


def _check_page(place: Path, force: bool) -> None:
    """That a page can be written; raises OutputError before any work is done."""
    from attar.outputs import check_free

    check_free(place.parent, [place.name], force)


def _write_page(page: str, place: Path) -> None:
    """The page as a file; raises OutputError."""
    from attar.outputs import publish, staged, write

    with staged(place.parent) as stage:
        write(stage / place.name, page.encode("utf-8"))
        publish(stage, place.parent)


class _progress:
    """A line on stderr every few thousand examples, with what has been done."""

    EVERY = 5000

    def __init__(self, name: str) -> None:
        self.name, self.done = name, 0

    def __enter__(self) -> _progress:
        return self

    def __exit__(self, *_: Any) -> None:
        return None

    def __call__(self, count: int) -> None:
        """So many more are done."""
        from attar.show import say

        before, self.done = self.done, self.done + count
        if self.done // self.EVERY > before // self.EVERY:
            say(f"{self.name}: {self.done:,}")
