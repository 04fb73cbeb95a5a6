"""The benchmark scripts run on small inputs, and the tables say what was measured."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from importlib import reload
from pathlib import Path
from time import sleep

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

import inputs  # noqa: E402
import rivals  # noqa: E402
import timing  # noqa: E402
from acceptance import Line, markdown, number, table  # noqa: E402
from attar import registry  # noqa: E402
from attar.search.subject import Subject  # noqa: E402
from contenders import choose, measure  # noqa: E402
from kits.method_laws import problem  # noqa: E402
from timing import medians  # noqa: E402


def run(script: str, results: Path) -> tuple[str, dict]:
    command = [sys.executable, str(FOLDER / script), "--tiny", "--repeats", "1", "--json", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(results.read_text())


def test_the_coder_script_prints_its_targets_and_all_paths_write_the_same_bytes(tmp_path):
    printed, parts = run("coder.py", tmp_path / "coder.json")
    assert "fast size / NNCodec" in printed and "dense over order-0 entropy" in printed
    assert parts["scalar"]["path"] == "native scalar" and parts["twin"]["path"] == "numpy"
    assert len({part["digest"] for part in parts.values() if "digest" in part}) == 1
    for rate in parts["every"]["rates"]:
        coder = rate["coders"]["rans"]
        assert coder["decode"] > 0 and 0.9 < coder["bytes"] / rate["entropy"] < 1.1


def test_the_lossless_script_compares_every_precision(tmp_path):
    printed, cases = run("lossless.py", tmp_path / "lossless.json")
    assert list(cases) == ["made up float32", "made up float16", "made up bfloat16"]
    assert "attar's bytes / zstd -19's" in printed
    assert all(case["attar"]["bytes"] < case["raw"] for case in cases.values())


@pytest.mark.parametrize("bits", [0.5, 2.0, 6.0])
def test_codes_have_the_entropy_that_was_asked_for(bits):
    rng = np.random.default_rng(1)
    weights = [rng.laplace(0, scale, (300, 200)).astype(np.float32) for scale in (1e-3, 1.0)]
    for codes in inputs.quantised(weights, bits):
        assert codes.dtype == np.int8
        assert abs(8 * inputs.order0_bytes(codes) / codes.size - bits) < 0.01 * bits


def test_a_rival_that_does_not_give_codes_back_is_no_figure():
    found, missing = choose(["rans"])
    assert not missing
    found["rans"].decode = lambda data, shape: np.zeros(shape, np.int8)
    with pytest.raises(SystemExit, match="does not give the codes back"):
        measure(found, [np.ones((40, 50), np.int8)], 1)


def test_what_is_missing_is_said_with_its_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.delitem(sys.modules, "rivals.zstd", raising=False)
    assert "zstd is not measured" in rivals.load("zstd")


@pytest.mark.parametrize("name", rivals.CODERS)
def test_rivals_give_codes_back(name):
    rival = rivals.load(name)
    if isinstance(rival, str) and name == "rans32x16":
        pytest.xfail(rival)  # a library of Debian's, which other systems lack
    assert not isinstance(rival, str), rival
    codes = np.random.default_rng(2).integers(-3, 4, (30, 70)).astype(np.int8)
    assert np.array_equal(rival.decode(rival.encode(codes), codes.shape), codes)


def test_huff0_takes_blocks_that_do_not_compress_or_repeat():
    rival = rivals.load("huff0")
    assert not isinstance(rival, str), rival
    noise = np.random.default_rng(3).integers(-128, 128, (1, 140_000)).astype(np.int8)
    for codes in (noise, np.zeros((2, 200_000), np.int8), np.ones((1, 1), np.int8)):
        assert np.array_equal(rival.decode(rival.encode(codes), codes.shape), codes)


def test_verdicts_name_the_columns_that_miss():
    columns = ["1", "2", "3"]
    assert Line("speed", 2, [2, 3, None]).verdict(columns) == "met"
    assert Line("speed", 2, [1, 3, None]).verdict(columns) == "missed at 1"
    assert Line("size", 2, [3, 3, None], at_most=True).verdict(columns) == "missed"
    assert Line("size", 2, [None] * 3).verdict(columns) == "not measured"
    assert "| >= 2.00x | missed at 1 |" in table("targets", columns, [Line("speed", 2, [1, 3, None], unit="x")])


def test_numbers_and_tables_are_even():
    assert [number(value, "") for value in (1234.6, 12.34, 0.01234)] == ["1235", "12.3", "0.0123"]
    assert number(-4.016, "%") == "-4.02 %"
    assert len(set(map(len, markdown(["a", "b"], [["long", "1"], ["x", "22"]]).splitlines()))) == 1


def test_the_clock_may_be_the_process_own(monkeypatch):
    monkeypatch.setenv("ATTAR_CLOCK", "cpu")
    assert reload(timing).timed(lambda: sleep(0.05)) < 0.04
    monkeypatch.delenv("ATTAR_CLOCK")
    assert reload(timing).timed(lambda: sleep(0.05)) >= 0.04


def test_actions_take_turns():
    order: list[str] = []
    medians({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b"] * 3


def test_what_takes_long_runs_once_and_counts(monkeypatch):
    clock = iter([9.0, 0.5, 0.4, 0.2])
    monkeypatch.setattr(timing, "timed", lambda action: action() or next(clock))
    order: list[str] = []
    found = timing.medians({"long": lambda: order.append("long"), "short": lambda: order.append("short")}, 2)
    assert order == ["long", "short", "short", "short"] and found == {"long": 9.0, "short": pytest.approx(0.3)}


def test_the_methods_script_has_a_line_for_every_method_and_slope(capsys):
    layer, weight, stats = problem(10, 18)
    subject = Subject(None, [layer], {"layer": weight}, {"layer": stats}, {}, None, {})
    spec = importlib.util.spec_from_file_location("benchmark_of_methods", FOLDER / "methods.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.compare("made up", module.Case(subject, None, None), layers=True)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    slopes, layers = lines[::2], lines[1::2]
    assert [line[3] for line in slopes] == len(module.KLS) * list(registry.names("method"))
    assert len(layers) == len(slopes) and all(line[0] == "layer" for line in layers)
    uniform = [line for line in slopes if line[3] == "uniform"]
    assert all(line[7:9] == ["1.000", "0/1"] for line in uniform)


def test_the_script_on_removal_compares_measures_and_times(tmp_path):
    results = tmp_path / "structure.json"
    options = "--models lenet300 --shares 40 --parts ours latency --repeats 1 --calibration 100"
    command = [sys.executable, str(FOLDER / "structure.py"), *options.split(), "--json", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "multiply-adds removed %" in done.stdout
    own = json.loads(results.read_text())["lenet300"]
    assert {row["measure"] for row in own["ours"]} == {"l1", "l2", "activation", "taylor", "distortion", "refitted"}
    assert all(row["removed"] >= 40 and row["refitted"] > row["plain"] - 5 for row in own["ours"])
    assert len(own["latency"]) == 4


def test_deep_compression_prunes_shares_and_counts_every_bit():
    import torch

    from attar.types import Dataset
    from deep_compression import KEEP, _huffman, deep_compression

    assert _huffman(np.array([0, 0, 0, 0, 1, 1, 2, 3])) == 4 + 2 * 2 + 3 + 3
    assert _huffman(np.array([5, 5, 5])) == 3
    rng = np.random.default_rng(0)
    train = Dataset({"x": rng.random((256, 784), np.float32)}, rng.integers(0, 10, 256))
    torch.manual_seed(0)
    model = torch.nn.Sequential()
    for name, width, outputs in (("fc1", 784, 30), ("fc2", 30, 20), ("fc3", 20, 10)):
        model.add_module(name, torch.nn.Linear(width, outputs))
    before = model.fc1.weight.detach().clone()
    small, size = deep_compression(model, KEEP["lenet300"], train, epochs=1)
    assert torch.equal(model.fc1.weight, before), "the model given is not changed"
    for name, share in KEEP["lenet300"].items():
        weight = small.get_submodule(name).weight.detach()
        assert (weight != 0).float().mean() <= share + 1e-3
        assert len(weight.unique()) <= 2**5 + 1
    weights = sum(p.numel() for p in model.parameters() if p.ndim == 2)
    assert 0.05 * weights * 4 / 8 < size < weights * 4 / 8
