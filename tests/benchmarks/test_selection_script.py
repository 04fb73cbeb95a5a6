"""The benchmark of calibration examples: its pools are what it says, and its table is of what was measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from selection import COPIED, NUMBERS, POOL, Bench, chosen, interval, number, said


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = [
        {"model": "lenet5", "own": False, "part": part, "method": method, "k": k, "seed": seed,
         "bytes": 40000.0 - 1000 * (method == "k-center") - k / 10 + 100 * seed, "excess": 0.03, "twice": 0.02}
        for part, method, k in [("chosen", "random", 500), ("chosen", "k-center", 500)]
        + [("number", "random", k) for k in NUMBERS] for seed in (0, 1, 2)
    ]  # fmt: skip
    path = tmp_path_factory.mktemp("rows") / "rows.json"
    path.write_text(json.dumps(made))
    found = Bench("lenet5", path, ["random", "k-center"])
    found.shared = {}
    return found


def test_a_spoilt_pool_has_copies_and_a_class_too_many(bench: Bench) -> None:
    pool, again = bench.pool(1, True), bench.pool(1, True)
    x = pool.inputs[next(iter(pool.inputs))]
    np.testing.assert_array_equal(x, again.inputs[next(iter(again.inputs))])
    assert len(pool) == len(bench.pool(1, False)) == POOL
    assert np.bincount(pool.labels).max() > 1.5 * np.median(np.bincount(pool.labels))
    moves = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    for one in x[-20:]:  # each is one of the first, moved by a pixel at most
        back = [np.roll(one, move, (-2, -1)) for move in moves]
        assert min(np.abs(x[:COPIED] - copy).mean((1, 2, 3)).min() for copy in back) < 0.02


def test_tables_say_what_was_measured(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    chosen(bench, "chosen", 500, 3)
    number(bench, 3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| random | 40,050 ± 248 | - |" and lines[3].startswith(
        "| k-center | 39,050 ± 248 | -2.5 % ± 0.0 |"
    )
    assert lines[6].startswith("| 250 | 40,075 ± 248 | +0.9 % ± 0.0 | +3.0 % ± 0.0 | +2.0 % ± 0.0 | +0.1 % ± 0.0 |")
    assert lines[-1].endswith("| - |")


def test_intervals_are_students() -> None:
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.303 / np.sqrt(3), rel=1e-3)
    assert said([float("nan")] * 3) == "-"
