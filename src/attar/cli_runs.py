"""`attar pick` and `attar log`: what is made of a run that has ended; `attar recipe`: what is done with recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attar.cli_options import AsJson, Force, Preset, Verbose
from attar.ending import guard
from attar.stdout import json_line, tell

recipe = typer.Typer(no_args_is_help=True, help="Check, show and compare recipes.")
RecipeArg = Annotated[Path, typer.Argument(help="Recipe (.toml, .json, .yaml).")]


@recipe.command(epilog="Example: attar recipe validate my.toml")
def validate(path: RecipeArg, verbose: Verbose = False) -> None:
    """Check every field and parameter; nothing is opened but the recipe. Exit code 2 where one is wrong."""
    with guard(verbose):
        from attar.recipe_verbs import validate as validating

        validating(path)
        tell(f"{path}: every field and parameter is one that a run takes")


@recipe.command(epilog="Example: attar recipe show --preset quick")
def show(
    path: Annotated[Path | None, typer.Argument(help="Recipe (.toml, .json, .yaml).")] = None,
    preset: Preset = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Print a recipe or preset in full, defaults included, with what each value means."""
    with guard(verbose):
        from attar import recipe_verbs

        found = recipe_verbs.of(path, preset)
        tell(json_line(recipe_verbs.in_full(found)) if as_json else recipe_verbs.shown(found).rstrip())


@recipe.command(epilog="Example: attar recipe diff a/recipe.toml b/recipe.toml")
def diff(first: RecipeArg, second: RecipeArg, as_json: AsJson = False, verbose: Verbose = False) -> None:
    """Print what differs between two recipes, defaults included."""
    with guard(verbose):
        from attar import recipe_verbs
        from attar.recipe import toml_value

        found = recipe_verbs.differences(recipe_verbs.validate(first), recipe_verbs.validate(second))
        if as_json:
            tell(json_line([{"name": name, "first": one, "second": two} for name, one, two in found]))
            return
        said = [[name, *("-" if value is None else toml_value(value) for value in pair)] for name, *pair in found]
        tell("\n".join(f"{name}: {one} -> {two}" for name, one, two in said) or "no difference")


@recipe.command(epilog="Example: attar recipe schema > recipe.schema.json")
def schema(verbose: Verbose = False) -> None:
    """Print the JSON schema of recipes, for editors and other programs."""
    with guard(verbose):
        from attar.recipe_verbs import schema_text

        tell(schema_text())


def pick(
    run: Annotated[Path, typer.Argument(help="Folder that `attar compress -o` wrote.")],
    max_drop: Annotated[float | None, typer.Option(help="Allowed drop; without it the candidates are listed.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the chosen one.")] = None,
    force: Force = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Choose another candidate of a finished run for another drop. Exit code 3 where none is within it."""
    with guard(verbose):
        from dataclasses import asdict

        from attar.picking import pick as picking
        from attar.show import picked_lines

        found = picking(run, max_drop, out, force=force)
        rows = [{"bytes": len(one.data), "trained": one.trained, **asdict(one.certificate)} for one in found.choices]
        chosen = None if found.chosen is None else {"bytes": len(found.chosen.data), **asdict(found.chosen.certificate)}
        told = {"candidates": rows, "chosen": chosen, "within": found.within, "files": [str(p) for p in found.files]}
        tell(json_line(told) if as_json else "\n".join(picked_lines(found)))
        if not found.within:
            raise typer.Exit(3)


def log(
    run: Annotated[Path, typer.Argument(help="A run's folder or its ledger.jsonl, finished or not.")],
    to: Annotated[str, typer.Option(help="mlflow, tensorboard or wandb.")],
    dest: Annotated[Path | None, typer.Option(help="Folder for what the tool writes (default: its own).")] = None,
    verbose: Verbose = False,
) -> None:
    """Tell a tool of a run: its recipe, every candidate's numbers, its report and certificate."""
    with guard(verbose):
        from attar.watchers import log as logging

        count = logging(run, to, dest)
        tell(f"{to}: {count} candidate{'s' * (count != 1)} of {run}" + (f" in {dest}" if dest else ""))
