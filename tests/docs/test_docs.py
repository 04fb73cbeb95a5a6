"""The documentation holds: blocks run, tables are complete, names exist, examples are tested."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import doc_blocks
import pytest
import typer.main

from attar import cli, errors, registry
from attar.adapters.base import Adapter
from attar.coding.base import Coder
from attar.evaluate.base import Metric
from attar.methods.base import Method
from attar.recipe import Recipe
from attar.selection.base import CalibrationSettings
from attar.structure.scaling import ScalingSettings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = {"README.md": ROOT / "README.md"} | {
    page.relative_to(DOCS).as_posix(): page for page in sorted(DOCS.rglob("*.md"))
}
TEXT = {name: page.read_text(encoding="utf-8") for name, page in PAGES.items()}
TOP = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
COMMANDS = {name: one for name, one in TOP.items() if not hasattr(one, "commands")} | {
    f"{group} {name}": one for group in TOP for name, one in getattr(TOP[group], "commands", {}).items()
}
LONG = {"data.md", "export.md", "hugging-face.md", "latency.md", "quickstart.md", "recovery.md", "runs.md", "scale.md"}
"""Pages whose blocks compute for more than twenty seconds each: `make test-all` runs them."""
WHOLE = {"README.md", "watching.md"}
"""Pages that show how many candidates a run had, which less work in it would change."""
RUN = [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in PAGES]
DOCTESTED = ("attar.plan", "attar.evaluate", "attar.entropy", "attar.coding")


@pytest.mark.parametrize("page", RUN)
def test_blocks_run_and_print_what_the_page_shows(page: str, tmp_path: Path) -> None:
    """In a process of its own, in an empty folder with `examples` in it; kits are importable as in the tests.

    Each command of WHOLE and of long pages is a process too; those of others are not, with less work in their runs.
    """
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    places = [str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
        "COLUMNS": "100",
        "OMP_NUM_THREADS": "1",
    }
    quick = [] if page in {*WHOLE, *LONG} else ["--quick"]
    command = [sys.executable, doc_blocks.__file__, *quick, str(PAGES[page])]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_runner_can_fail(tmp_path: Path) -> None:
    def outcome(text: str) -> int:
        (tmp_path / "page.md").write_text(text)
        command = [sys.executable, doc_blocks.__file__, "page.md"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode

    assert outcome("```python\nx = 1\n```\n\n```python\nprint(x)\n```\n\n```text\n27\n```\n") == 0
    assert outcome("```python\nprint('one')\n```\n\n```text\ntwo\n```\n") == 1
    assert outcome("```python\n1 / 0\n```\n") == 1
    assert outcome("```console\n$ attar inspect missing.onnx\n```\n") == 1
    assert outcome("```console\n$ attar inspect missing.onnx\n...\n$ echo $?\n2\n```\n") == 0
    assert outcome("```console\n$ attar inspect missing.onnx\n...\n$ echo $?\n3\n```\n") == 1
    assert outcome("```console\n$ attar --help\nUsage\n...\n```\n") == 1


def test_shapes() -> None:
    assert doc_blocks.alike(["after  1,234 bytes", "..."], ["after 99 bytes", "more", "and more"])
    assert doc_blocks.alike(["drop +0.10 points"], ["drop -0.02 points"])
    assert not doc_blocks.alike(["certified"], ["not certified"])
    assert not doc_blocks.alike(["one"], ["one", "two"])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command: str) -> None:
    everything = "\n".join(TEXT.values())
    options = {name for item in COMMANDS[command].params for name in item.opts if name.startswith("--")}
    assert f"attar {command}" in everything
    assert not {name for name in options if not re.search(rf"{name}\b(?!-)", everything)}


def test_every_field_of_a_recipe_is_explained() -> None:
    """A row for each, with the description and the default of the class."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", TEXT["recipe.md"], re.MULTILINE)
    stated = {name: (default, meaning) for name, default, meaning in rows}
    assert list(stated) == list(Recipe.model_fields)
    for name, field in Recipe.model_fields.items():
        default = field.get_default(call_default_factory=True)
        assert stated[name] == ("none" if default is None else f"`{default!r}`", field.description), name


def test_every_exit_code_is_explained() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", TEXT["errors.md"], re.MULTILINE))
    classes = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    raised = {name: str(kind.exit_code) for name, kind in classes.items() if issubclass(kind, errors.AttarError)}
    assert rows == raised
    for code in (0, 1, 2, 3, 4, 130):
        assert re.search(rf"^\| {code} \|", TEXT["errors.md"], re.MULTILINE), code


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        ("certificate.md", "metric"),
        ("format.md", "coder"),
        ("method.md", "method"),
        ("methods.md", "method"),
        ("data.md", "choice"),
    ],
)
def test_everything_registered_is_explained(page: str, kind: str) -> None:
    assert not [name for name in registry.names(kind) if f"`{name}`" not in TEXT[page]]


@pytest.mark.parametrize("name", registry.names("method"))
def test_every_parameter_of_a_method_is_explained(name: str) -> None:
    """A row for each, with its default and the help and bounds of the class."""
    found = re.findall(rf"^\| `{name}\.(\w+)` \| `(.*?)` \| (.*?) \|$", "\n".join(TEXT.values()), re.MULTILINE)
    stated = {field: (default, meaning) for field, default, meaning in found}
    fields = dataclasses.fields(registry.get("method", name).Params)
    assert list(stated) == [field.name for field in fields]
    for field in fields:
        limits = [f"{field.metadata['low']:g} to {field.metadata['high']:g}"] if "low" in field.metadata else []
        assert stated[field.name] == (repr(field.default), ", ".join([field.metadata["help"], *limits]))


@pytest.mark.parametrize(
    ("page", "table", "settings"),
    [("methods.md", "scaling", ScalingSettings), ("recipe.md", "calibration", CalibrationSettings)],
)
def test_every_parameter_of_a_stage_is_explained(page: str, table: str, settings: type) -> None:
    found = re.findall(rf"^\| `{table}\.(\w+)` \| `(.*?)` \| (.*?) \|$", TEXT[page], re.MULTILINE)
    stated = {field: (default, meaning) for field, default, meaning in found}
    fields = dataclasses.fields(settings)
    assert list(stated) == [field.name for field in fields]
    for field in fields:
        limits = [f", {field.metadata['low']:g} to {field.metadata['high']:g}"] if "low" in field.metadata else []
        choices = [f": {', '.join(field.metadata['choices'])}"] if "choices" in field.metadata else []
        assert stated[field.name] == (repr(field.default), "".join([field.metadata["help"], *limits, *choices]))


@pytest.mark.parametrize(
    ("page", "words", "name"),
    [
        ("method.md", "a predicted KL of {} nats", "attar.search.course:FIRST_KL"),
        ("method.md", "within {} steps of one already tried", "attar.search.bracket:CLOSE"),
        ("method.md", "in steps of an eighth of an octave", "attar.search.bracket:OCTAVE"),
        ("certificate.md", "luck is {} standard deviations", "attar.search.course:SAFEST"),
        ("method.md", "of {} standard deviations", "attar.search.sensitivity:RELATIVE"),
        ("method.md", "up to {:,} calibrate examples", "attar.measuring:SENSITIVITY_EXAMPLES"),
        ("method.md", "one of {} conditional tables", "attar.entropy:CLASSES"),
        ("format.md", "sum to {:,}", "attar.coding.twin:TOTAL"),
        ("data.md", "at least {} examples", "attar.data.splits:LEAST"),
        ("adapters.md", "fewer than {} weights", "attar.adapters.onnx.sites:SMALLEST"),
    ],
)
def test_constants_are_those_of_the_code(page: str, words: str, name: str) -> None:
    module, constant = name.split(":")
    value = getattr(importlib.import_module(module), constant)
    flat = re.sub(r"\s+", " ", TEXT[page])
    assert words.format(value) in flat


def test_every_operator_of_onnx_is_named() -> None:
    finders = importlib.import_module("attar.adapters.onnx.ops").FINDERS
    assert not [op for _, op in finders if not re.search(rf"\b{op}\b", TEXT["adapters.md"])]


@pytest.mark.parametrize("protocol", [Adapter, Method, Coder, Metric], ids=lambda one: one.__name__)
def test_every_part_of_a_protocol_is_explained(protocol: type) -> None:
    members = {name for name in {**vars(protocol), **protocol.__annotations__} if not name.startswith("_")}
    assert not [name for name in members if not re.search(rf"\b{name}\b", TEXT["extending.md"])]


def test_the_table_of_benchmarks_has_its_place() -> None:
    inside = re.search(r"^<!-- bench:models -->\n(.+?)^<!-- /bench:models -->$", TEXT["README.md"], re.S | re.M)
    assert inside and inside[1].strip()


def test_no_file_holds_a_path_of_somebodys_machine() -> None:
    """Home and work directories: what a tool wrote into a file, or what somebody forgot in a text."""
    place = re.compile(rb"/(?:home|Users|root|work)/[A-Za-z][\w.+-]*/|[A-Z]:\\\\?Users\\\\?\w")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )  # fmt: skip
    names = listing.stdout.decode().split("\0") if listing.returncode == 0 else []
    files = [ROOT / name for name in names if name and (ROOT / name).is_file()] or [
        path for part in ("src", "tests", "docs", "examples", "benchmarks") for path in (ROOT / part).rglob("*.*")
    ]
    assert len(files) > 50
    bad = {}
    for path in files:
        found = place.search(path.read_bytes())
        if found:
            bad[str(path.relative_to(ROOT))] = found[0]
    assert not bad


def _modules() -> list[str]:
    """The modules whose examples run, found without importing them."""
    found = []
    for name in DOCTESTED:
        spec = importlib.import_module(name)
        found.append(name)
        if hasattr(spec, "__path__"):
            found += [f"{name}.{one.name}" for one in pkgutil.iter_modules(spec.__path__)]
    return found


@pytest.mark.parametrize("name", _modules())
def test_examples_in_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_there_are_examples_in_docstrings() -> None:
    found = [
        example for name in _modules()
        for test in doctest.DocTestFinder().find(importlib.import_module(name)) for example in test.examples
    ]  # fmt: skip
    assert len(found) >= 4


def test_pages_speak_of_names_that_exist() -> None:
    """Every `attar.x.y` in a page is a module or an attribute of one, every src/ or tests/ path a file."""
    for page, text in TEXT.items():
        prose = re.sub(r"```.*?```", "", text, flags=re.S)
        for dotted in set(re.findall(r"(?<![.\w/-])attar(?:\.[A-Za-z_]\w*)+", prose)):
            assert _exists(dotted), f"{page}: {dotted}"
        for path in set(re.findall(r"`((?:src|tests|examples|benchmarks|native)/[\w./-]+)`", text)):
            assert (ROOT / path).exists(), f"{page}: {path}"


def _exists(dotted: str) -> bool:
    """Whether a dotted name can be imported, or its last part is an attribute."""
    try:
        importlib.import_module(dotted)
    except ImportError:
        module, _, attribute = dotted.rpartition(".")
        try:
            return hasattr(importlib.import_module(module), attribute)
        except ImportError:
            owner, _, name = module.rpartition(".")
            return hasattr(getattr(importlib.import_module(owner), name, None), attribute)
    return True


def test_python_blocks_parse() -> None:
    """Also on pages whose blocks are run by nobody else: at least one page has python and every block is valid."""
    count = 0
    for text in TEXT.values():
        for block in doc_blocks.blocks(text):
            if block.language == "python":
                ast.parse("\n".join(block.lines))
                count += 1
    assert count >= 5
