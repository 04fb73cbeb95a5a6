"""Batches cut into parts: the same outputs, few examples at a time where inputs are large."""

from __future__ import annotations

import numpy as np
import pytest

from attar.adapters.parts import MOST_VALUES, in_parts, together

LARGE = MOST_VALUES // 5 + 1  # of which four fit


@pytest.mark.parametrize(
    ("shape", "most", "expected"),
    [((256, 28, 28, 1), 256, 256), ((40, LARGE), 256, 4), ((3, 2 * MOST_VALUES), 256, 1), ((0, 5), 256, 256)],
)
def test_large_inputs_are_few_at_a_time(shape: tuple[int, ...], most: int, expected: int) -> None:
    assert together([np.broadcast_to(np.float32(0), shape)], shape[0], most) == expected


def test_several_inputs_count_together() -> None:
    half = np.broadcast_to(np.float32(0), (8, LARGE // 2 + 1))
    assert together([half, half], 8, 256) == 4


def run_in_parts(values: np.ndarray, delta: np.ndarray | None) -> tuple[np.ndarray, list[int]]:
    sizes: list[int] = []

    def run(batch, perturb):
        sizes.append(len(batch["x"]))
        out = batch["x"][:, :3].copy()
        return out if perturb is None else out + perturb["layer"]

    return in_parts(run, {"x": values}, None if delta is None else {"layer": delta}), sizes


@pytest.mark.parametrize("perturbed", [False, True])
def test_parts_give_what_the_whole_gives(perturbed: bool) -> None:
    values = np.zeros((9, LARGE), np.float32)
    values[:, :3] = np.arange(27).reshape(9, 3)
    delta = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32) if perturbed else None
    out, sizes = run_in_parts(values, delta)
    assert sizes == [4, 4, 1]
    np.testing.assert_array_equal(out, values[:, :3] + (0 if delta is None else delta))


def test_small_inputs_and_no_examples_stay_whole() -> None:
    assert run_in_parts(np.zeros((300, 4), np.float32), None)[1] == [300]
    assert run_in_parts(np.zeros((0, 4), np.float32), None)[1] == [0]
