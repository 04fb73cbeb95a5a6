"""Streamed runs from a folder to a certified file: alike in memory and on disk, killed anywhere and gone on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.transformers_models import folder
from attar import stored
from attar.adapters.transformers.adapter import TransformersAdapter
from attar.adapters.transformers.stream import StreamedModel
from attar.archive import read_archive
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.methods.uniform import Uniform
from attar.opening import decode, from_archive
from attar.search.sensitivity import by_gradients
from attar.streaming import run
from attar.streaming.candidates import Candidates, played
from attar.types import Dataset, Json, Stats
from streamed.streamed_cases import QUICK, compressed, ids


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return compressed("llama", tmp_path_factory.mktemp("llama") / "out")


class Killed(BaseException):
    """Ends a run as a signal would: nothing on the way expects it."""


def killed(opened: int, call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a run ends with, or None where it was killed when it came to open so many parts and one more."""
    left, whole = [opened], StreamedModel.part

    def part(model: Any, number: int, **fields: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return whole(model, number, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(StreamedModel, "part", part)
        try:
            return call()
        except Killed:
            return None


# What comes out


def test_the_file_is_one_that_everything_reads(llama: Any) -> None:
    names = sorted(path.name for path in llama.path.parent.iterdir())
    assert names == ["ledger.jsonl", "llama.attar", "recipe.toml", "report.html"], "nothing hidden is left"
    assert llama.bytes_after == llama.path.stat().st_size and llama.ratio > 1
    read_archive(llama.path).verify()
    assert {row["method"] for row in stored.inspect(llama.path)} <= {"uniform", "keep"}
    assert type(stored.load(llama.path)).__name__ == "LlamaForCausalLM"
    events = [json.loads(line)["event"] for line in (llama.path.parent / "ledger.jsonl").read_text().splitlines()]
    assert events == ["run", "data", "layers", "sensitivity", "candidate", "result"]
    assert "Certified" in (llama.path.parent / "report.html").read_text() or llama.certificate.verdict != "certified"


@pytest.mark.parametrize("name", ["llama", "mixtral", "half"])
def test_the_certificate_is_that_of_the_file_in_memory(name: str, llama: Any, tmp_path: Path) -> None:
    result = llama if name == "llama" else compressed(name, tmp_path / "out")
    certify = np.asarray(ids(24))
    adapter, original_model = from_archive(read_archive(result.path)), TransformersAdapter.open(folder(name))
    rows = [row for row in range(24) if _is(certify[row], result.after.labels)] or range(24)
    assert result.certificate.n == result.before.n and len(rows) >= result.certificate.n
    for model, seen in ((adapter, result.after), (original_model, result.before)):
        outputs = model.run({"input_ids": certify})
        nearest = [np.abs(outputs - one).max((1, 2)).min() for one in seen.outputs]
        assert max(nearest) < 1e-3, "every window of the certify split is answered as the file in memory does"
    assert result.certificate.after == pytest.approx(result.after.value)


def _is(window: Any, labels: Any) -> bool:
    return labels is not None and bool((labels == window[1:]).all(-1).any())


def test_the_drop_is_looked_for_in_a_few_passes(tmp_path: Path) -> None:
    result = compressed("llama", tmp_path / "out", passes=3, max_relative_drop=0.3)
    tried = [e for e in result.events if e["event"] == "candidate"]
    assert 1 <= len({e["slope"] for e in tried}) <= 3 and {e["split"] for e in tried} == {"select", "certify"}
    assert result.within and result.certificate.drop <= result.certificate.max_drop
    chosen = [e for e in tried if e["bytes"] == result.bytes_after and e["split"] == "certify"]
    assert chosen[-1]["drop"] == pytest.approx(result.certificate.drop)


@pytest.mark.parametrize("bits", [3.0, 6.0])
def test_bits_are_landed_on_in_one_pass(bits: float, tmp_path: Path) -> None:
    result = compressed("untied", tmp_path / "out", bits=bits)
    weights = sum(layer.size for layer in read_archive(result.path).layers)
    predicted = next(e for e in result.events if e["event"] == "candidate")["predicted"]["bytes"]
    assert 8 * predicted / weights == pytest.approx(bits, abs=0.15)


def test_a_missed_drop_is_told(tmp_path: Path) -> None:
    drop = {"metric": "kl", "max_drop": 1e-6, "max_relative_drop": None}
    result = compressed("llama", tmp_path / "out", bits=1.0, **drop)
    assert not result.within and result.certificate.verdict != "certified" and result.path.is_file()


def test_layers_keep_their_weights_where_asked(tmp_path: Path) -> None:
    result = compressed("untied", tmp_path / "out", exclude=["lm_head.weight"])
    archive, whole = read_archive(result.path), TransformersAdapter.open(folder("untied"))
    np.testing.assert_array_equal(decode(archive, "lm_head.weight").matrix, whole.read("lm_head.weight").matrix)
    name = "model.layers.0.mlp.up_proj.weight"
    assert not np.array_equal(decode(archive, name).matrix, whole.read(name).matrix)


# The same as in memory


@pytest.mark.parametrize("name", ["untied", "gpt2"])
def test_it_is_the_algorithm_run_in_memory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block by the inputs that the rounded blocks before it give, the whole network in memory all the time."""
    seen: dict[str, Any] = {}
    whole = Candidates.__post_init__

    def noted(self: Candidates) -> None:
        seen.update(known=self.known, stream=self.stream)
        whole(self)

    monkeypatch.setattr(Candidates, "__post_init__", noted)
    result = compressed(name, tmp_path / "out")
    known, stream = seen["known"], seen["stream"]
    slope = next(e for e in result.events if e["event"] == "candidate")["slope"]
    adapter, archive, model = TransformersAdapter.open(folder(name)), read_archive(result.path), stream.model
    tokens = {"input_ids": stream.ids("calibrate")}
    head = adapter.moments([tokens])
    for number in range(model.parts):
        layers = model.layers_of(number)
        stats: dict[str, Stats] = {x.name: s for x in layers if (s := adapter.moments([tokens]).get(x.name))}
        stats |= {model.head(): head[model.head()]} if number == 0 and model.head() else {}
        stats = model.weighed(model.settled(number, stats), known.lookups)
        rows = {key: value / known.tokens for key, value in known.rows.items()}
        stats = by_gradients(layers, {x.name: adapter.read(x.name) for x in layers}, stats, rows)
        for layer in layers:
            choice: dict[str, Json] = {"method": "uniform", "slope": slope, **QUICK}
            made = Uniform.decode(Uniform.encode(layer, adapter.read(layer.name), stats[layer.name], choice))
            step = np.abs(made.matrix).max() + 1e-9
            off = np.abs(made.matrix - decode(archive, layer.name).matrix) > 1e-3 * step
            assert off.mean() < 0.02, (layer.name, off.mean())
        for layer in layers:
            adapter.write(layer.name, decode(archive, layer.name))


def test_on_disk_and_in_memory_give_the_same_bytes(llama: Any, tmp_path: Path) -> None:
    spilled = compressed("llama", tmp_path / "out", hold=0)
    assert spilled.path.read_bytes() == llama.path.read_bytes()
    assert not (tmp_path / "out" / run.STATES).exists()


# Killed


@pytest.mark.parametrize("name", ["llama", "untied"])
def test_killed_after_every_part_it_goes_on_and_ends_alike(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On disk each run gets a part further than the one before it: what is done is not done again."""
    whole = compressed(name, tmp_path / "whole", hold=0)
    result, lives = None, 0
    while result is None:
        result = killed(2, lambda: compressed(name, tmp_path / "broken", hold=0), monkeypatch)
        lives += 1
        assert lives < 60, "each run does more than the last"
    assert lives > 8 and result.path.read_bytes() == whole.path.read_bytes()
    assert result.certificate == whole.certificate


@pytest.mark.parametrize("steps", [2, 6, 11, 14, 17])
def test_killed_in_memory_it_goes_on_from_what_was_written(
    steps: int, llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert killed(steps, lambda: compressed("llama", tmp_path / "out"), monkeypatch) is None
    before = set((tmp_path / "out" / ".attar-work").glob("section-*"))
    times = {path.name: path.stat().st_mtime_ns for path in before}
    again = compressed("llama", tmp_path / "out", work=None)
    assert again.path.read_bytes() == llama.path.read_bytes()
    assert times or steps < 14


def test_what_is_kept_is_not_rounded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    first = compressed("llama", tmp_path / "first", work=work)
    monkeypatch.setattr(Uniform, "points", None)
    again = compressed("llama", tmp_path / "again", work=work)
    assert again.path.read_bytes() == first.path.read_bytes()
    sections = list(work.glob("section-*"))
    sections[0].write_bytes(sections[0].read_bytes()[:-1])
    with pytest.raises(TypeError, match="NoneType"):
        compressed("llama", tmp_path / "damaged", work=work)


def test_other_data_are_not_taken_for_the_same(tmp_path: Path) -> None:
    work = tmp_path / "work"
    first = compressed("llama", tmp_path / "first", work=work)
    other = compressed("llama", tmp_path / "other", work=work, data={"input_ids": ids(24, seed=7)})
    assert other.path.read_bytes() != first.path.read_bytes()


def test_asked_to_end_it_keeps_what_is_done(tmp_path: Path, llama: Any) -> None:
    calls = iter([False] * 9)
    with pytest.raises(KeyboardInterrupt):
        compressed("llama", tmp_path / "out", interrupted=lambda: next(calls, True))
    assert list((tmp_path / "out" / ".attar-work").iterdir())
    assert compressed("llama", tmp_path / "out").path.read_bytes() == llama.path.read_bytes()


def test_scores_of_outputs_that_are_there_already(llama: Any) -> None:
    data, outputs = Dataset({"input_ids": ids(3)}, np.zeros((3, 15), np.int64)), llama.before.outputs[:3]
    again = score(played(outputs), data, resolve_metric("perplexity"), batch_size=2)
    np.testing.assert_array_equal(again.outputs, outputs)
