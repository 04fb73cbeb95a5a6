"""The main job end to end on a network in numpy: what is promised, and what happens to bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import attar
from attar import show
from attar.archive import read_archive
from attar.errors import DataError, ModelError, OutputError, UsageError
from attar.opening import from_archive
from attar.report import render
from attar.report.ledger import read_ledger
from attar.run.progress import Silent
from fakes import NumpyNet, trained

pytestmark = pytest.mark.usefixtures("numpy_adapter")


@pytest.fixture(scope="module")
def net_and_data() -> tuple:
    net, data = trained()
    return net, (data.inputs["x"], data.labels)


def test_result_keeps_its_promises(net_and_data, tmp_path: Path) -> None:
    net, (x, y) = net_and_data
    before = {name: value.copy() for name, value in net.weights.items()}
    result = attar.compress(net, (x, y), max_drop=2.0, out=tmp_path / "out")
    for name, value in net.weights.items():
        np.testing.assert_array_equal(value, before[name], err_msg="the caller's model is untouched")
    assert result.certified and result.within
    assert result.certificate.n >= len(x) / 2
    assert result.ratio > 4
    files = sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_file())
    assert files == ["NumpyNet.attar", "NumpyNet.npz", "ledger.jsonl", "recipe.toml", "report.html"]
    assert (tmp_path / "out" / "NumpyNet.attar").read_bytes() == result.data
    candidates = [e for e in result.events if e["event"] == "candidate"]
    assert len(candidates) <= 8 and candidates[-1]["evaluation"] <= 8
    assert read_ledger(tmp_path / "out" / "ledger.jsonl") == json.loads(json.dumps(result.events))


def test_the_certificate_is_that_of_the_file(net_and_data) -> None:
    """Accuracy counted by hand on the decoded file, on the certify examples given apart, is the certificate's."""
    net, (x, y) = net_and_data
    result = attar.compress(
        net, calibrate=x[:1000], select=(x[1000:1800], y[1000:1800]), certify=(x[1800:], y[1800:]), max_drop=3.0
    )
    model = from_archive(read_archive(result.data))
    right = 100 * np.mean(model.run({"x": x[1800:]}).argmax(1) == y[1800:])
    assert right == pytest.approx(result.certificate.after)
    original = 100 * np.mean(net.run({"x": x[1800:]}).argmax(1) == y[1800:])
    assert original == pytest.approx(result.certificate.before)
    assert result.certificate.drop == pytest.approx(original - right)


def test_same_seed_same_bytes_whatever_the_workers(net_and_data) -> None:
    net, data = net_and_data
    one = attar.compress(net, data, max_drop=2.0, jobs=1)
    two = attar.compress(net, data, max_drop=2.0, jobs=2)
    assert one.data == two.data


def test_the_recipe_runs_it_again(net_and_data, tmp_path: Path) -> None:
    from attar import recipe as recipes

    net, data = net_and_data
    one = attar.compress(net, data, max_drop=2.0, seed=3, out=tmp_path / "a")
    again = attar.compress(net, data, recipe=recipes.read(tmp_path / "a" / "recipe.toml"))
    assert again.data == one.data


def test_labels_are_never_needed_for_agreement(net_and_data) -> None:
    net, (x, _) = net_and_data
    result = attar.compress(net, x, metric="agreement", max_drop=3.0)
    assert result.certificate.metric == "agreement" and result.certificate.before == 100


def test_a_budget_of_nothing_is_not_met(net_and_data) -> None:
    net, data = net_and_data
    result = attar.compress(net, data, max_drop=0.0)
    assert not result.within and result.certificate.verdict != "certified"


def test_too_few_samples_are_said_so(net_and_data) -> None:
    net, (x, y) = net_and_data
    result = attar.compress(net, (x[:300], y[:300]), max_drop=0.5)
    assert result.certificate.verdict == "not certifiable"
    assert result.certificate.needed > 150
    assert any("cannot certify" in w for w in result.events[0]["warnings"])
    # What no candidate can have is not sought: the file is that of an estimate.
    seen = attar.compress(net, (x[:300], y[:300]), max_drop=0.5, guarantee="estimate")
    assert (result.within, seen.within) == (False, True) and result.bytes_after == seen.bytes_after


def test_labels_that_are_numbered_otherwise_are_doubted(net_and_data) -> None:
    net, (x, y) = net_and_data

    class Notes(Silent):
        def note(self, text: str) -> None:
            said.append(text)

    for labels, doubted in ((y, False), ((y + 1) % 4, True)):
        said: list[str] = []
        result = attar.compress(net, (x, labels), max_drop=50.0, evaluations=2, progress=Notes())
        closing = show.closing_lines(result, Path("report.html"))
        for told in (said, result.warnings, closing, [render(result.events)], [result._repr_html_()]):
            assert any("numbered as its outputs" in text for text in told) == doubted


@pytest.mark.parametrize(
    ("metric", "limit", "hopeless"), [("cosine", 0.02, True), ("cosine", 0.2, False), ("kl", 0.01, False)]
)
def test_bounded_values_are_forewarned_of_too(net_and_data, metric: str, limit: float, hopeless: bool) -> None:
    net, (x, _) = net_and_data
    asked = {"metric": metric, "max_drop": limit, "evaluations": 4}
    result = attar.compress(net, x[:400], **asked)
    assert any("cannot certify" in w for w in result.events[0]["warnings"]) == hopeless
    assert (result.certificate.verdict == "not certifiable") == hopeless
    seen = attar.compress(net, x[:400], guarantee="estimate", **asked)
    assert (result.bytes_after == seen.bytes_after) == hopeless


def test_load_and_save(net_and_data, tmp_path: Path) -> None:
    net, (x, y) = net_and_data
    result = attar.compress(net, (x, y), max_drop=2.0)
    result.save(tmp_path / "small.attar")
    loaded = attar.load(tmp_path / "small.attar")
    np.testing.assert_array_equal(loaded.run({"x": x}), result.adapter.run({"x": x}))
    into = attar.load(tmp_path / "small.attar", into=net)
    np.testing.assert_array_equal(into.run({"x": x}), loaded.run({"x": x}))
    with pytest.raises(OutputError, match=r"small\.attar"):
        result.save(tmp_path / "small.attar")
    with pytest.raises(UsageError, match="ending"):
        result.save(tmp_path / "small.gguf")
    other = NumpyNet({"w1": np.ones((3, 24)), "b1": np.ones(3), "w2": np.ones((4, 3)), "b2": np.ones(4)})
    with pytest.raises(ModelError, match=r"'w1'.*64 x 24.*3 x 24"):
        attar.load(tmp_path / "small.attar", into=other)


def nan_weights(net: NumpyNet) -> NumpyNet:
    broken = NumpyNet(net.weights)
    broken.weights["w1"][3, 4] = np.nan
    return broken


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda n, x, y: (nan_weights(n), (x, y), {}), ModelError, "'w1'.*finite.*1 NaN"),
        (lambda n, x, y: (n, (x, y + 7), {}), DataError, "label"),
        (lambda n, x, y: (n, (x[:, :5], y), {}), DataError, "shape|fit|5"),
        (lambda n, x, y: (n, (x.astype(str), y), {}), DataError, "dtype|<U|str"),
        (lambda n, x, y: (n, (x[:0], y[:0]), {}), DataError, "empty|none|0"),
        (lambda n, x, y: (n, (x, np.zeros_like(y)), {}), DataError, "class"),
        (lambda n, x, y: (n, (x, y), {"max_drop": -1.0}), UsageError, "max_drop.*zero or more.*-1"),
        (lambda n, x, y: (n, (x, y), {"metric": "beauty"}), UsageError, "beauty"),
        (lambda n, x, y: (n, (x, y), {"colour": "red"}), UsageError, "colour"),
        (lambda n, x, y: (n, None, {}), UsageError, "examples are needed"),
        (lambda n, x, y: (object(), (x, y), {}), ModelError, "object"),
        (lambda n, x, y: ("nowhere.onnx", (x, y), {}), UsageError, "nowhere.onnx"),
    ],
)
def test_bad_input_is_a_clear_error(net_and_data, tmp_path: Path, change, error, words) -> None:
    net, (x, y) = net_and_data
    model, data, fields = change(net, x, y)
    with pytest.raises(error, match=f"(?s){words}") as caught:
        attar.compress(model, data, out=tmp_path / "out", **{"max_drop": 1.0, **fields})
    assert "Received" in str(caught.value)
    assert not (tmp_path / "out").exists() or not [p for p in (tmp_path / "out").iterdir() if p.is_file()]


def test_outputs_are_never_overwritten(net_and_data, tmp_path: Path) -> None:
    net, data = net_and_data
    (tmp_path / "NumpyNet.attar").write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        attar.compress(net, data, max_drop=2.0, out=tmp_path)
    assert (tmp_path / "NumpyNet.attar").read_text() == "mine"
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="folder"):
        attar.compress(net, data, max_drop=2.0, out=tmp_path / "file")


def test_a_full_disk_changes_nothing(net_and_data, tmp_path: Path, monkeypatch) -> None:
    net, data = net_and_data
    (tmp_path / "NumpyNet.attar").write_text("mine")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        attar.compress(net, data, max_drop=2.0, out=tmp_path, force=True)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["NumpyNet.attar"]
    assert (tmp_path / "NumpyNet.attar").read_text() == "mine"


def test_killed_in_the_middle_the_previous_output_stands(tmp_path: Path) -> None:
    """SIGKILL at several moments: what was there is untouched, and the next run clears the remains."""
    script = (
        "from fakes import trained; from attar import registry; import attar, sys\n"
        "registry.REGISTRY['adapter']['numpy'] = 'fakes:NumpyNet'\n"
        "net, data = trained()\n"
        "print('go', flush=True)\n"
        "attar.compress(net, (data.inputs['x'], data.labels), max_drop=2.0, out=sys.argv[1], force=True)\n"
    )
    (tmp_path / "NumpyNet.attar").write_text("mine")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    for delay in (0.1, 0.5):
        run = subprocess.Popen([sys.executable, "-c", script, tmp_path], env=environment, stdout=subprocess.PIPE)
        assert run.stdout is not None and run.stdout.readline() == b"go\n"
        time.sleep(delay)
        run.send_signal(signal.SIGKILL)
        run.wait()
        names = [p.name for p in tmp_path.iterdir() if not p.name.startswith(".attar-")]
        if "report.html" not in names:
            assert (tmp_path / "NumpyNet.attar").read_text() == "mine"
            assert names == ["NumpyNet.attar"]
    net, data = trained()
    attar.compress(net, (data.inputs["x"], data.labels), max_drop=2.0, out=tmp_path, force=True)
    assert not list(tmp_path.glob(".attar-run-*"))


def test_interrupted_it_hands_back_the_best_so_far(net_and_data) -> None:
    net, data = net_and_data
    result = attar.compress(net, data, max_drop=2.0, interrupted=lambda: True)
    assert len([e for e in result.events if e["event"] == "candidate"]) == 2
    assert result.certificate.n > 0


def test_a_model_without_layers(net_and_data, monkeypatch) -> None:
    net, data = net_and_data
    monkeypatch.setattr(NumpyNet, "layers", lambda self: [])
    with pytest.raises(ModelError, match="at least one layer"):
        attar.compress(net, data, max_drop=1.0)


def test_a_file_that_decodes_wrongly_is_noticed(net_and_data, monkeypatch) -> None:
    net, data = net_and_data
    rebuild = NumpyNet.rebuild.__func__

    def wrong(cls, skeleton, remainder):
        made = rebuild(cls, skeleton, remainder)
        made.write = lambda name, weight: NumpyNet.write(made, name, replace(weight, matrix=weight.matrix + 1))
        return made

    monkeypatch.setattr(NumpyNet, "rebuild", classmethod(wrong))
    with pytest.raises(attar.errors.AttarError, match="must answer like"):
        attar.compress(net, data, max_drop=2.0)


def test_evaluate_stays_the_verb_whatever_is_imported(monkeypatch) -> None:
    import attar.evaluate.metrics as metrics

    seen = []
    monkeypatch.setattr("attar.api.evaluate", lambda *args, **kwargs: seen.append((args, kwargs)))
    attar.evaluate("model", "data", metric="kl")
    assert seen == [(("model", "data"), {"metric": "kl"})]
    assert attar.evaluate.metrics is metrics
