"""`attar estimate`: shapes are those of the model, sums are those of its parts, and headers alone suffice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open
from typer.testing import CliRunner

from adapters.tensors_cases import arrays, llama, safetensors, shards
from adapters.transformers_models import folder
from attar.adapters.transformers.adapter import TransformersAdapter
from attar.cli import app
from attar.cli_estimate import duration, size
from attar.errors import ModelError, UsageError
from attar.estimating import kernels
from attar.estimating.kernels import Kernels, seconds_of_rounding
from attar.estimating.phases import Estimate, Load, estimates
from attar.estimating.shapes import Shapes, shapes_of

CONFIGS = Path(__file__).parents[1] / "examples" / "configs"
SPEEDS = Kernels(1e-11, 1e-11, 1e-10, 2e-10, 3e-7, 4e-7, 5e-9, 2e-7, 3e-10, 2, 16e9)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(kernels, "measure", lambda: SPEEDS)
    yield


@pytest.mark.parametrize("name", ["bert", "llama", "mixtral", "gpt2", "whisper"])
def test_the_shapes_of_a_configuration_are_those_of_the_model(name: str) -> None:
    found = shapes_of(str(folder(name) / "config.json"))
    opened = TransformersAdapter.open(folder(name))
    weights = sum(layer.size for layer in opened.layers() if layer.tied_to is None)
    counted = sum(tensor.size for tensor in opened.state().values())
    assert found.size + found.others == pytest.approx(counted, rel=0.02)
    assert found.size == pytest.approx(weights, rel=0.1)
    assert found.ways == ("memory", "blocks")


@pytest.mark.parametrize(
    ("name", "billions", "active"), [("dense-8b", 8.03, 7.5), ("dense-70b", 70.55, 69.5), ("experts-1t", 1026.4, 32)]
)
def test_public_shapes_are_counted_right(name: str, billions: float, active: float) -> None:
    found = shapes_of(str(CONFIGS / f"{name}.json"))
    assert (found.size + found.others) / 1e9 == pytest.approx(billions, rel=0.005)
    used = sum(m.size * m.share for m in found.matrices if m.kind != "embedding")
    assert used / 1e9 == pytest.approx(active, rel=0.05)
    assert found.stored_bytes == pytest.approx(2e9 * billions, rel=0.005)


def test_headers_suffice(tmp_path: Path) -> None:
    path = safetensors(tmp_path)
    found = shapes_of(str(path))
    assert found.ways == ("weights",) and found.size == 160 * 96 + 3 * 64 * 64 + 32 * 16 * 9 + 64 * 128
    with safe_open(path, "np") as file:
        assert {m.name for m in found.matrices} < set(file.keys())
    assert shapes_of(str(shards(tmp_path))).size == found.size - 64 * 128
    assert shapes_of(str(llama(tmp_path))).size == sum(arrays()[name].size for name in ("fc.weight", "experts"))


def test_a_network_is_run_on_zeros_to_see_its_positions() -> None:
    found = shapes_of(str(CONFIGS.parent / "models" / "lenet5.onnx"))
    positions = [matrix.positions for matrix in found.matrices]
    assert positions[-1] == 1 and max(positions) > 50  # type: ignore[type-var]
    assert found.forward and found.forward > 0 and found.ways == ("memory",)


LOAD = Load()


def made(load: Load = LOAD, speeds: Kernels = SPEEDS, name: str = "dense-8b") -> dict[str, Estimate]:
    return {one.way: one for one in estimates(_shapes(name), speeds, load)}


_known: dict[str, Shapes] = {}


def _shapes(name: str) -> Shapes:
    if name not in _known:
        _known[name] = shapes_of(str(CONFIGS / f"{name}.json"))
    return _known[name]


def test_more_work_takes_longer_and_more_machines_less() -> None:
    for way, one in made().items():
        more = made(Load(calibrate=512, select=512, certify=512))[way]
        assert one.seconds() < more.seconds() <= 2 * one.seconds()
        slow = made(speeds=replace(SPEEDS, decide=2 * SPEEDS.decide))[way]
        assert slow.seconds() > one.seconds() and slow.memory == one.memory
        many = made(Load(workers=8))[way]
        shared = sum(phase.seconds for phase in many.phases) / 8
        assert many.seconds(8) == pytest.approx(shared + many.received / 1.25e9)
        assert many.seconds(1) == pytest.approx(sum(phase.seconds for phase in many.phases))
    assert made()["block by block"].memory < made()["in memory"].memory / 4


def test_rounding_is_that_of_its_matrices() -> None:
    total = sum(
        m.copies * seconds_of_rounding(SPEEDS, m.rows, m.cols) if m.kind != "embedding" else SPEEDS.blind * m.size
        for m in _shapes("dense-8b").matrices
    )
    phases = {phase.name: phase.seconds for phase in made()["in memory"].phases}
    assert phases["rounding"] == pytest.approx(7 * total)
    blocks = {phase.name: phase.seconds for phase in made()["block by block"].phases}
    assert blocks["rounding"] == pytest.approx(3 * total)


def test_few_tokens_visit_an_expert() -> None:
    dense, experts = made()["block by block"], made(name="experts-1t")["block by block"]
    forward = [next(p.seconds for p in one.phases if p.name == "evaluations") for one in (dense, experts)]
    assert 2 < forward[1] / forward[0] < 8, "32 of 1,026 billion weights are used for a token, beside 7.5 of 8"
    rounding = [next(p.seconds for p in one.phases if p.name == "rounding") for one in (dense, experts)]
    assert rounding[1] / rounding[0] > 50


def test_kernels_are_kept_and_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def measure() -> Kernels:
        calls.append(1)
        return replace(SPEEDS, product=len(calls) * 1e-11)

    monkeypatch.setattr(kernels, "measure", measure)
    first = kernels.measured(tmp_path)
    assert kernels.measured(tmp_path) == first and len(calls) == 1
    assert kernels.measured(tmp_path, again=True).product == 2e-11
    (tmp_path / "kernels.json").write_text("{]")
    kernels.measured(tmp_path)
    monkeypatch.setattr(kernels, "_mark", lambda: ["another machine"])
    kernels.measured(tmp_path)
    assert len(calls) == 4


def test_two_sizes_tell_what_rounding_takes() -> None:
    times = [seconds_of_rounding(SPEEDS, 256, 768), seconds_of_rounding(SPEEDS, 1536, 192)]
    assert kernels._two(times, SPEEDS.factor) == pytest.approx((SPEEDS.feedback, SPEEDS.decide))


def test_the_command_prints_one_row_for_each_way(quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = CliRunner().invoke(app, ["estimate", str(CONFIGS / "dense-8b.json"), "--workers", "4"])
    assert result.exit_code == 0, result.stderr
    assert "dense-8b: 8,030.0 M weights" in result.stdout and "on 4 machines" in result.stdout
    assert [line.split("  ")[0] for line in result.stdout.splitlines()[3:]] == ["in memory", "block by block"]
    said = CliRunner().invoke(app, ["estimate", str(safetensors(tmp_path)), "--json", "--examples", "9,8,7"])
    facts = json.loads(said.stdout)
    assert facts["ways"][0]["way"] == "weights alone" and facts["kernels"]["product"] == SPEEDS.product
    assert facts["ways"][0]["seconds"] == pytest.approx(sum(facts["ways"][0]["stages"].values()))


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--examples", "many"], "one number or three"), (["--examples", "1,2"], "one number or three")],
)
def test_odd_wishes_are_refused(quick: None, options: list[str], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["estimate", str(safetensors(tmp_path)), *options])
    assert result.exit_code == 2 and said in result.stderr


def test_odd_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must exist"):
        shapes_of(str(tmp_path / "none"))
    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": -4}')
    with pytest.raises(ModelError, match="Received"):
        shapes_of(str(tmp_path))


def test_two_digits_and_a_unit() -> None:
    assert [duration(x) for x in (0.44, 42, 600, 9000, 4e5)] == ["0.44 s", "42 s", "10 min", "2.5 h", "4.6 d"]
    assert [size(x) for x in (900, 5.3e6, 1.62e10, 2.1e12)] == ["900 B", "5.3 MB", "16 GB", "2.1 TB"]


def test_speeds_of_another_machine(tmp_path: Path) -> None:
    told = tmp_path / "other.json"
    told.write_text(json.dumps({"kernels": {name: getattr(SPEEDS, name) for name in Kernels.__dataclass_fields__}}))
    assert kernels.read(told) == SPEEDS
    words = ["estimate", str(CONFIGS / "dense-70b.json"), "--speeds", str(told)]
    assert "2 TB (does not fit" in CliRunner().invoke(app, words).stdout
    told.write_text('{"kernels": {"product": "fast"}}')
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2 and "--speeds" in result.stderr


@pytest.mark.slow
def test_every_kernel_takes_less_than_two_seconds_and_is_a_speed() -> None:
    found = kernels.measure()
    assert 1e-13 < found.product < 1e-9 and found.encode < found.dense
