"""`attar compress` of weights alone: as many bits or as small an error as asked for, and no word of a certificate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import attar
from adapters.tensors_cases import MAKERS, arrays, files, llama, safetensors, shards
from attar.adapters.tensors import form as tensors_form
from attar.archive import read_archive
from attar.cli import app
from attar.errors import ModelError, UsageError
from attar.opening import decode


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("name", MAKERS)
def test_every_format_comes_back_smaller(name: str, tmp_path: Path) -> None:
    path = MAKERS[name](tmp_path)
    out = tmp_path / "out"
    code, said, noted = run("compress", path, "--bits", 4, "-o", out)
    assert code == 0, said + noted
    assert "not certified: no data" in said and "4 bits asked for" in said and "nothing is certified" in noted
    stem = path.name.split(".")[0]
    assert run("verify", out / f"{stem}.attar")[0] == 0
    code, place, _ = run("expand", out / f"{stem}.attar", "-o", tmp_path / "back")
    assert code == 0
    native = out / (stem if name == "shards" else path.name)
    expanded = tmp_path / "back" if name == "shards" else Path(place.strip())
    assert files(expanded) == files(native)
    archive = read_archive(out / f"{stem}.attar")
    sections = {s.name: s.nbytes for s in archive.sections if s.kind == "layer"}
    bits = 8 * sum(sections.values()) / sum(layer.size for layer in archive.layers)
    assert 3.9 < bits <= 4
    given = arrays()
    for layer in archive.layers:
        away = decode(archive, layer.name).matrix.reshape(-1) - given.get(layer.name, _other(layer.name)).reshape(-1)
        assert np.linalg.norm(away) < 0.12 * np.linalg.norm(given.get(layer.name, _other(layer.name)))


def _other(name: str) -> np.ndarray:
    """What some formats have beside the others."""
    half = np.random.default_rng(1).normal(size=(64, 128)).astype(np.float32)
    return arrays()["fc.weight"].T if name == "turned" else half


def test_everything_but_matrices_is_as_it_was(tmp_path: Path) -> None:
    path = safetensors(tmp_path)
    result = attar.compress(path, bits=3)
    result.save(tmp_path / "m.attar")
    place = attar.load(tmp_path / "m.attar")
    before, after = load_file(path), {name: np.asarray(array) for name, array in place.items()}
    assert {n: (a.dtype, a.shape) for n, a in before.items()} == {n: (a.dtype, a.shape) for n, a in after.items()}
    for name in ("fc.bias", "ids", "tiny", "empty"):
        assert np.array_equal(before[name], after[name])
    assert list(result.model) == list(after)
    run("expand", tmp_path / "m.attar", "-o", tmp_path / "plain.safetensors")
    head = [p.read_bytes()[:600].split(b"}}")[0] for p in (path, tmp_path / "plain.safetensors")]
    assert head[0] == head[1], "metadata and layout"


@pytest.mark.parametrize("limit", [0.3, 0.02, 0.003])
def test_no_matrix_errs_by_more_than_asked_for(limit: float, tmp_path: Path) -> None:
    path = safetensors(tmp_path)
    result = attar.compress(path, max_error=limit, out=tmp_path / "out")
    assert result.within and 0.8 * limit < result.worst <= limit
    before, after = load_file(path), load_file(tmp_path / "out" / "model.safetensors")
    for name in ("fc.weight", "experts", "conv", "half"):
        w, v = before[name].astype(np.float64), after[name].astype(np.float64)
        assert np.linalg.norm(w - v) <= limit * np.linalg.norm(w) * (1 + 1e-6)


def test_an_error_below_the_dtypes_own_keeps_the_floats(tmp_path: Path) -> None:
    result = attar.compress(safetensors(tmp_path), max_error=1e-7)
    assert result.within and result.worst <= 1e-7
    result = attar.compress(safetensors(tmp_path), max_error=1e-12)
    assert result.within and result.worst == 0 and result.data == result.path.read_bytes()
    assert {row["method"] for row in result.events[-1]["layers"]} == {"keep"}


def test_the_same_bytes_whatever_the_threads_and_pieces_are_bounded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tensors_form, "PIECE", 1 << 12)
    path = safetensors(tmp_path)
    made = [attar.compress(path, bits=2.5, jobs=jobs).data for jobs in (1, 3)]
    assert made[0] == made[1]
    assert max(layer.size for layer in read_archive(made[0]).layers) <= 1 << 12


def test_excluded_matrices_keep_every_bit(tmp_path: Path) -> None:
    path = safetensors(tmp_path)
    code, said, _ = run("compress", path, "--max-error", "10%", "--exclude", "ex*", "-o", tmp_path / "out")
    assert code == 0, said
    assert np.array_equal(load_file(tmp_path / "out" / "model.safetensors")["experts"], arrays()["experts"])
    code, _, said = run("compress", path, "--bits", 3, "--exclude", "nothing*", "-o", tmp_path / "other")
    assert code == 2 and "pattern" in said


def test_the_report_and_the_ledger_say_that_nothing_was_measured(tmp_path: Path) -> None:
    path, out = safetensors(tmp_path), tmp_path / "out"
    code, said, _ = run("compress", path, "--bits", 3, "-o", out, "--json")
    facts = json.loads(said)
    assert code == 0 and facts["certificate"]["verdict"] == "not certified: no data" and facts["within"]
    assert facts["certificate"]["n"] == 0 and facts["certificate"]["upper"] is None
    page = (out / "report.html").read_text()
    assert "Not certified: no data" in page and "nothing is certified" in page
    assert 'class="hero certified"' not in page
    shutil.rmtree(tmp_path / "again", ignore_errors=True)
    assert run("compress", "--recipe", out / "recipe.toml", "-o", tmp_path / "again")[0] == 0
    assert (tmp_path / "again" / "model.attar").read_bytes() == (out / "model.attar").read_bytes()


def test_bits_that_cannot_be_held_are_a_missed_budget(tmp_path: Path) -> None:
    save_file({"w": np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)}, tmp_path / "m.safetensors")
    code, said, _ = run("compress", tmp_path / "m.safetensors", "--bits", 0.001, "-o", tmp_path / "out")
    assert code == 3 and "MISSED" in said
    assert (tmp_path / "out" / "m.attar").is_file()


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    code, said, _ = run("compress", llama(tmp_path), "--bits", 4, "-o", tmp_path / "out", "--dry-run")
    assert code == 0 and "quantised already" in said and "nothing is measured" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "Received neither"),
        (["--bits", 4, "--max-error", "1%"], "Received both"),
        (["--bits", 4, "--data", "x.npz"], "no data are taken"),
        (["--max-drop", 1], "cannot be run"),
        (["--bits", 0], "greater than 0"),
        (["--max-error", "much"], "--max-error: it must be a share"),
        (["--bits", 4, "--goal", "latency"], "cannot be run"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(options: list[object], said: str, tmp_path: Path) -> None:
    code, _, error = run("compress", safetensors(tmp_path), *options, "-o", tmp_path / "out")
    assert code == 2 and said in error
    assert not (tmp_path / "out").exists()


def test_other_models_take_no_bits(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="weights without a network"):
        attar.compress("examples/models/lenet300.onnx", "examples/fashion-mnist", bits=4)


def test_weights_in_memory_or_of_another_format_are_told_where_to_go(tmp_path: Path) -> None:
    tree = {"params": {"kernel": np.ones((64, 128), np.float32)}}
    with pytest.raises(UsageError, match=r"Received a dict.*to such a file"):
        attar.compress(tree, bits=4)
    with pytest.raises(ModelError, match=r"Received a dict.*safetensors"):
        attar.compress(tree, np.ones((30, 64)), max_drop=1)
    with pytest.raises(UsageError, match=r"'net\.msgpack'"):
        attar.compress(tmp_path / "net.msgpack", bits=4)
    np.savez(tmp_path / "half.npz", kernel=tree["params"]["kernel"].view("V2"))  # as numpy writes bfloat16
    with pytest.raises(ModelError, match="bfloat16"):
        attar.compress(tmp_path / "half.npz", bits=4)


def test_models_without_a_matrix_or_with_nan_are_refused(tmp_path: Path) -> None:
    save_file({"b": np.zeros(9, np.float32)}, tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match="attar pack"):
        attar.compress(tmp_path / "b.safetensors", bits=4)
    save_file({"w": np.full((64, 64), np.nan, np.float32)}, tmp_path / "n.safetensors")
    with pytest.raises(ModelError, match="4096 NaN"):
        attar.compress(tmp_path / "n.safetensors", bits=4, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_original_is_never_replaced(tmp_path: Path) -> None:
    path = shards(tmp_path)
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tmp_path.glob("model*.safetensors*"):
        shutil.move(file, folder)
    code, _, said = run("compress", folder, "--bits", 4, "-o", tmp_path, "--force")
    assert code == 1 and "must not replace the original" in said
    code, _, said = run("eval", folder / path.name, "--data", "examples/fashion-mnist")
    assert code == 4 and "without a network" in said
