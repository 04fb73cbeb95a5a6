"""Streaming on the command line: what is printed, exit codes, and what cannot be asked for with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from adapters.transformers_models import folder, loaded
from attar import api, cli
from attar.errors import UsageError
from attar.streaming import settings
from streamed.streamed_cases import compressed, ids


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    (made / "book.txt").write_text(" ".join(f"w{i}" for i in rng.integers(3, 50, 400)))
    (made / "recipe.toml").write_text(
        "[settings.text]\nwindow = 16\n\n[settings.stream]\nwindows = 2\npasses = 1\n\n[settings.uniform]\nsweeps = 0\n"
    )
    return made


def attar(*words: object) -> Any:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def asked(place: Path, *words: object) -> Any:
    return attar(
        "compress", folder("llama"), "--data", place / "book.txt", "--metric", "perplexity", "--recipe",
        place / "recipe.toml", "--force", *words,
    )  # fmt: skip


def test_a_book_is_read_and_the_folder_written(place: Path) -> None:
    done = asked(place, "--stream", "--max-relative-drop", "50%", "--guarantee", "estimate", "-o", place / "out")
    assert done.exit_code == 0, done.output
    assert "streaming: block by block, as asked for" in done.stderr and "ratio" in done.stdout
    assert "bits for each weight" in done.stderr
    plain = attar("expand", place / "out" / "llama.attar", "-o", place / "plain", "--stream")
    assert plain.exit_code == 0 and "tensor by tensor" in plain.stderr
    usual = attar("expand", place / "out" / "llama.attar", "-o", place / "usual")
    assert usual.exit_code == 0
    left, right = loaded(place / "plain").state_dict(), loaded(place / "usual").state_dict()
    assert all(np.array_equal(left[key].numpy(), right[key].numpy()) for key in right)
    for name in ("config.json", "tokenizer.json"):
        assert (place / "plain" / name).read_bytes() == (folder("llama") / name).read_bytes()
    again = attar("expand", place / "out" / "llama.attar", "-o", place / "plain", "--stream")
    assert again.exit_code != 0 or (place / "plain" / "llama").is_dir(), "into a folder, under its name"
    value = api.evaluate(place / "out" / "llama.attar", place / "book.txt", "perplexity",
                         settings={"text": {"window": 16}}).value  # fmt: skip
    assert value == pytest.approx(api.evaluate(place / "plain", place / "book.txt", "perplexity",
                                               settings={"text": {"window": 16}}).value)  # fmt: skip


def test_bits_beyond_the_drop_end_with_three(place: Path) -> None:
    done = asked(place, "--bits", "1", "--metric", "kl", "--max-drop", "1e-6", "--json", "-o", place / "poor")
    assert done.exit_code == 3, done.output
    told = json.loads(done.stdout)
    assert told["within"] is False and told["certificate"]["verdict"] != "certified"
    assert (place / "poor" / "llama.attar").is_file()


def test_it_is_taken_where_memory_would_not_do(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "memory_bytes", lambda: 1000)
    words = ("--max-relative-drop", "50%", "--guarantee", "estimate")
    done = asked(place, *words, "-o", place / "auto")
    assert done.exit_code == 0 and "a run in memory takes" in done.stderr
    whole = asked(place, *words, "--no-stream", "--dry-run", "-o", place / "never")
    assert whole.exit_code == 0 and "streaming" not in whole.stderr


def test_a_dry_run_reads_no_weights(place: Path) -> None:
    done = asked(place, "--stream", "--max-relative-drop", "5%", "--dry-run", "-o", place / "never")
    assert done.exit_code == 0 and not (place / "never").exists(), done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--goal", "latency"], "timed whole"), (["--train", "BOOK"], "recovery runs all of it"),
        (["--remove", "0.2"], "channels go"), (["--scale-moves", "equalise"], "scales move"),
    ],
)  # fmt: skip
def test_what_streaming_cannot_do_is_refused(words: list[str], said: str, place: Path) -> None:
    words = [str(place / "book.txt") if word == "BOOK" else word for word in words]
    done = asked(place, "--stream", "--max-relative-drop", "5%", "-o", place / "no", *words)
    assert done.exit_code in (2, 4) and said in done.stderr, done.output
    assert not (place / "no").exists()


def test_a_choice_of_examples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="chosen by its features"):
        compressed("llama", tmp_path / "out", settings={
            "stream": {"on": "yes"}, "calibration": {"method": "herding"},
        })  # fmt: skip


def test_the_model_s_own_folder_and_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a folder for the outputs"):
        api.compress(folder("llama"), {"input_ids": ids(24)}, metric="perplexity", max_relative_drop=0.5,
                     settings={"stream": {"on": "yes"}})  # fmt: skip


@pytest.mark.slow
def test_killed_by_a_signal_twice_it_ends_with_the_same_bytes(place: Path) -> None:
    """SIGKILL while layers are being written, in processes of their own."""
    words = [
        sys.executable, "-m", "attar", "compress", str(folder("untied")), "--data", str(place / "book.txt"), "--metric",
        "perplexity", "--max-relative-drop", "90%", "--guarantee", "estimate", "--recipe", str(place / "recipe.toml"),
        "--stream", "-o",
    ]  # fmt: skip
    subprocess.run([*words, str(place / "whole")], check=True)
    work = place / "broken" / ".attar-work"
    for layers in (4, 9):
        process = subprocess.Popen([*words, str(place / "broken")])
        while process.poll() is None and len(list(work.glob("section-*"))) < layers:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1]) == -signal.SIGKILL
        assert not (place / "broken" / "untied.attar").exists()
    subprocess.run([*words, str(place / "broken")], check=True)
    assert (place / "broken" / "untied.attar").read_bytes() == (place / "whole" / "untied.attar").read_bytes()


def test_a_certificate_that_nothing_could_have_is_forewarned_of(place: Path) -> None:
    """A few windows cannot bound a drop of accuracy so small: that is said before any work, and the search goes on."""
    words = ("--stream", "--metric", "accuracy", "--max-drop", "0.5", "-o", place / "few")
    done = asked(place, *words)
    assert done.exit_code == 3, done.output
    assert "cannot certify a drop of 0.5 points, even of an unchanged model" in done.stderr
    ledger = [json.loads(line) for line in (place / "few" / "ledger.jsonl").read_text().splitlines()]
    assert any("cannot certify" in warning for warning in ledger[0]["warnings"])
