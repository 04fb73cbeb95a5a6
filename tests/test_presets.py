"""Recipes that come with attar: checked, overridden by what is given, written down, and made again from that."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import attar
from attar import cli, recipe
from attar.recipe import PRESETS
from attar.recipe_verbs import in_full, validate

ROOT = Path(__file__).parents[1]
MODEL, DATA = ROOT / "examples/models/lenet300.onnx", ROOT / "examples/fashion-mnist"
run = CliRunner().invoke


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_recipe_that_says_what_it_is_for(name: str, tmp_path: Path) -> None:
    text = (Path(recipe.__file__).parent / "presets" / f"{name}.toml").read_text()
    assert text.startswith("# ")
    (tmp_path / "r.toml").write_text(text)
    found = validate(tmp_path / "r.toml")
    assert in_full(recipe.make(preset=name)) == in_full(found.model_copy(update={"preset": name}))


def test_there_is_a_file_for_each_name_and_no_other() -> None:
    folder = Path(recipe.__file__).parent / "presets"
    assert {path.stem for path in folder.iterdir()} == set(PRESETS)


def test_balanced_is_what_a_run_does_without() -> None:
    assert recipe.make(preset="balanced").model_copy(update={"preset": None}) == recipe.make()


def test_what_is_given_wins_also_for_single_parameters() -> None:
    found = recipe.make(preset="quick", evaluations=6, settings={"uniform": {"sweeps": 2}, "keep": {"half": False}})
    assert found.evaluations == 6 and found.coder == "fast"
    assert found.settings == {"uniform": {"sweeps": 2}, "keep": {"half": False}}


def test_a_preset_is_under_a_recipe_file_and_options_over_both(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("evaluations = 5\nmax_drop = 1\n")
    shown = run(cli.app, ["recipe", "show", str(path), "--preset", "quick", "--json"])
    assert shown.exit_code == 0 and '"evaluations": 5' in shown.stdout and '"coder": "fast"' in shown.stdout
    options = ["--recipe", str(path), "--preset", "quick", "--seed", "3", "--dry-run", "--json"]
    dry = run(cli.app, ["compress", str(MODEL), "--data", str(DATA), *options])
    assert dry.exit_code == 0, dry.output
    ledger = attar.api.preview(MODEL, DATA, recipe=recipe.read(path), preset="quick")
    told = ledger.events[0]["recipe"]
    assert (told["evaluations"], told["coder"], told["calibration_examples"]) == (5, "fast", 1000)


def test_data_free_is_for_weights_alone(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, w=np.random.default_rng(0).normal(size=(128, 96)).astype(np.float32))
    done = run(cli.app, ["compress", str(path), "--preset", "data-free", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0 and "at most 4 bits" in done.stdout and "not certified: no data" in done.stdout
    written = recipe.read(tmp_path / "out/recipe.toml")
    assert (written.preset, written.bits, written.coder, written.methods) == ("data-free", 4.0, "dense", ["uniform"])
    again = attar.compress(path, recipe=written)
    assert again.data == (tmp_path / "out/w.attar").read_bytes()
    assert attar.compress(path, preset="data-free", bits=3).bits <= 3, "what is given wins"
    close = attar.compress(path, preset="data-free", max_error=0.02)
    assert close.recipe.bits is None and close.worst <= 0.02
    shown = run(cli.app, ["recipe", "show", "--preset", "data-free"])
    assert shown.exit_code == 0 and "bits = 4.0" in shown.stdout
    for words, said in (
        (["compress", str(MODEL), "--preset", "data-free"], "the preset data-free"),
        (["compress", str(path)], "--preset data-free"),
        (["compress", str(path), "--preset", "data-free", "--data", str(DATA)], "no data are taken"),
        (["compress", str(path), "--bits", "4", "--tune", "3"], "tune"),
    ):
        wrong = run(cli.app, [*words, "-o", str(tmp_path / "no")])
        assert wrong.exit_code == 2 and said in wrong.output.replace("\n", " "), wrong.output


@pytest.mark.slow
def test_what_is_written_beside_a_result_makes_it_again(tmp_path: Path) -> None:
    few = {"calibration_examples": 200, "select_examples": 500, "evaluations": 2}
    first = attar.compress(MODEL, DATA, max_drop=3, preset="quick", out=tmp_path, **few)
    written = recipe.read(tmp_path / "recipe.toml")
    assert written == first.recipe and written.preset == "quick" and written.evaluations == 2
    assert attar.compress(MODEL, DATA, recipe=written).data == first.data


@pytest.mark.parametrize(("arguments", "said"), [(["--preset", "fast"], "'quick'"), ([], "Name a file")])
def test_wrong_names_are_told(arguments: list[str], said: str) -> None:
    found = run(cli.app, ["recipe", "show", *arguments])
    assert found.exit_code == 2 and said in found.output


def test_settings_that_are_no_table_are_refused_with_a_preset_too() -> None:
    with pytest.raises(attar.errors.UsageError, match="settings"):
        recipe.make(preset="quick", settings={"uniform": 3})
