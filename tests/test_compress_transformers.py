"""From a Hugging Face folder and texts to an archive and back, by the library and the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import attar
from adapters.transformers_models import folder, loaded
from attar import api, cli, stored
from attar.errors import OutputError

RECIPE = "[settings.text]\nwindow = 12\n\n[settings.uniform]\nsweeps = 0\n"


def texts(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{i}" for i in rng.integers(3, 50, rng.integers(4, 14))) for _ in range(count)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run")
    (place / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts(120, 0)))
    (place / "recipe.toml").write_text(RECIPE)
    result = CliRunner().invoke(
        cli.app,
        ["compress", str(folder("bert")), "--data", str(place / "texts.jsonl"), "--metric", "cosine", "--max-drop",
         "0.05", "--guarantee", "estimate", "--recipe", str(place / "recipe.toml"), "-o", str(place / "out")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return place


def test_the_outputs_are_an_archive_and_a_folder(run: Path) -> None:
    names = sorted(path.name for path in (run / "out").iterdir() if path.name[0] != ".")
    assert names == ["bert", "bert.attar", "ledger.jsonl", "recipe.toml", "report.html"]
    ledger = [json.loads(line) for line in (run / "out" / "ledger.jsonl").read_text().splitlines()]
    assert next(e for e in ledger if e["event"] == "sensitivity")["method"] == "fisher"
    assert loaded(run / "out" / "bert").config.hidden_size == 16


def test_expand_gives_the_folder_back(run: Path) -> None:
    done = CliRunner().invoke(cli.app, ["expand", str(run / "out" / "bert.attar"), "-o", str(run / "plain")])
    assert done.exit_code == 0, done.output
    for path in (run / "plain").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (run / "out" / "bert" / path.relative_to(run / "plain")).read_bytes()
    again = CliRunner().invoke(cli.app, ["expand", str(run / "out" / "bert.attar"), "-o", str(run / "out")])
    assert again.exit_code != 0 and "not overwritten" in again.output
    forced = CliRunner().invoke(cli.app, ["expand", str(run / "out" / "bert.attar"), "-o", str(run / "out"), "--force"])
    assert forced.exit_code == 0, forced.output


def test_a_command_says_nothing_of_libraries(run: Path) -> None:
    """torchao, which transformers imports, warns of its kernels: no news to somebody who asked for a score."""
    words = ["eval", str(run / "out" / "bert.attar"), "--data", str(run / "texts.jsonl"), "--metric", "cosine",
             "--against", str(run / "out" / "bert")]  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "attar", *words], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cosine 1.0000 on 120") and not done.stderr


def test_archive_and_folder_answer_alike(run: Path) -> None:
    values = []
    for model in ("bert.attar", "bert"):
        words = ["eval", str(run / "out" / model), "--data", str(run / "texts.jsonl"), "--metric", "cosine", "--json"]
        done = CliRunner().invoke(cli.app, [*words, "--against", str(folder("bert"))])
        assert done.exit_code == 0, done.output
        values.append(json.loads(done.stdout)["value"])
    assert values[0] == values[1] and 0.9 < values[0] < 1


def test_layers_and_sections_are_listed(run: Path) -> None:
    rows = attar.inspect(run / "out" / "bert.attar")
    assert any(row["name"] == "embeddings.word_embeddings.weight" for row in rows)
    assert len(attar.inspect(folder("bert"))) > 10
    assert all(row["error"] is None for row in stored.verify(run / "out" / "bert.attar"))


def test_the_original_is_never_replaced(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="must not replace the original"):
        api.compress(folder("bert"), texts(80, 1), metric="cosine", max_drop=0.5, out=folder("bert").parent, force=True)


def test_a_language_model_within_two_per_cent(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text(" ".join(texts(300, 2)))
    result = api.compress(
        folder("llama"), book, metric="perplexity", max_relative_drop=0.05, guarantee="estimate",
        settings={"text": {"window": 16}, "uniform": {"sweeps": 0}},
    )  # fmt: skip
    assert result.within and result.ratio > 1
    assert abs(result.after.value / result.before.value - 1) < 0.05
    assert api.evaluate(folder("llama"), book, "accuracy", settings={"text": {"window": 16}}).value < 50
    result.save(tmp_path / "small")
    assert loaded(tmp_path / "small").config.vocab_size == 50


def test_a_language_model_with_its_norms_folded(tmp_path: Path) -> None:
    """The drop is from the model as it came; the folder that comes back has gains of one and answers as the file."""
    book = tmp_path / "book.txt"
    book.write_text(" ".join(texts(200, 2)))
    settings = {"text": {"window": 16}, "uniform": {"sweeps": 0}, "scaling": {"moves": "fold"}}
    result = api.compress(
        folder("llama"), book, metric="perplexity", max_relative_drop=0.2, guarantee="estimate", evaluations=2,
        settings=settings,
    )  # fmt: skip
    (event,) = (event for event in result.events if event["event"] == "scaling")
    assert event["moves"] == "fold" and len(event["groups"]) == 4
    result.save(tmp_path / "small")
    norm = loaded(tmp_path / "small").model.layers[1].input_layernorm.weight.detach().numpy()
    np.testing.assert_allclose(np.abs(norm), 1, rtol=1e-3)
    told = {"text": {"window": 16}}
    assert result.before.value == pytest.approx(
        api.evaluate(folder("llama"), book, "perplexity", settings=told).value, 0.1
    )
