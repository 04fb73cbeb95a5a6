"""Rows that are coupled make up for one another's errors."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from attar import registry
from attar.methods import coupled, feedback, grid
from attar.methods.base import distortion
from attar.methods.uniform import Uniform, rate_of, solve
from attar.types import Layer, Stats, Weight
from kits.method_laws import check_method, problem

SLOPES = (1e-6, 1e-4, 1e-2)


def correlation(rows: int, seed: int = 3) -> np.ndarray:
    """Gradients of a few directions beside independent ones."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(0, 1, (rows, max(rows // 4, 1)))
    moment = mix @ mix.T + 0.3 * rows / 4 * np.eye(rows)
    root = np.sqrt(np.diagonal(moment))
    return (moment / root[:, None] / root).astype(np.float32)


def coupled_problem(rows: int, cols: int, *, bias: bool = True) -> tuple[Layer, Weight, Stats]:
    layer, weight, stats = problem(rows, cols, bias=bias)
    return layer, weight, replace(stats, coupling=correlation(rows))


def table(rows: int = 24, tokens: int = 300) -> tuple[Layer, Weight, Stats]:
    rng = np.random.default_rng(1)
    layer = Layer("table", "embedding", rows, tokens, (tokens, rows))
    weight = Weight(rng.normal(0, 1, (rows, tokens)).astype(np.float32))
    frequency = rng.dirichlet(np.full(tokens, 0.3))[None]
    stats = Stats(frequency, np.zeros((1, tokens)), 5000, 500, rng.uniform(0.5, 2, rows), None, correlation(rows))
    return layer, weight, stats


@pytest.mark.parametrize("name", registry.names("method"))
@pytest.mark.parametrize("bias", [True, False])
def test_laws(name: str, bias: bool) -> None:
    check_method(name, *coupled_problem(40, 70, bias=bias), SLOPES)


@pytest.mark.parametrize("name", registry.names("method"))
def test_laws_of_a_table(name: str) -> None:
    check_method(name, *table(), SLOPES)


@pytest.mark.parametrize("name", ["lowrank", "residual"])
@pytest.mark.parametrize("made", [coupled_problem(40, 70), table()], ids=["dense", "table"])
def test_laws_of_thin_factors(name: str, made: tuple[Layer, Weight, Stats]) -> None:
    """Fewer ranks than rows: a coupling is of the layer's rows, and the right factor has others."""
    layer, weight, stats = made
    rng = np.random.default_rng(5)
    thin = rng.normal(0, 1, (layer.rows, 3)) @ rng.normal(0, 1, (3, layer.cols))
    check_method(name, layer, Weight(thin.astype(np.float32), weight.bias), stats, (1e-3, 1e-2))


def test_a_table_of_two_words() -> None:
    check_method("uniform", *table(tokens=2), SLOPES)


def test_distortion_is_the_formula() -> None:
    layer, weight, stats = coupled_problem(9, 14)
    rng = np.random.default_rng(0)
    decoded = Weight(
        weight.matrix + rng.normal(0, 0.1, weight.matrix.shape).astype(np.float32), weight.bias + np.float32(0.2)
    )
    assert stats.sensitivity is not None and stats.coupling is not None and weight.bias is not None
    root = np.sqrt(stats.sensitivity)
    second = stats.coupling * root[:, None] * root
    error = weight.matrix.astype(np.float64) - decoded.matrix
    offset = error @ stats.mean[0] + (weight.bias - decoded.bias)
    expected = 0.5 * (np.trace(second @ error @ stats.hessian[0] @ error.T) + offset @ second @ offset)
    assert distortion(layer, weight, decoded, stats) == pytest.approx(expected, rel=1e-6)


def test_what_is_not_coupled_costs_as_before() -> None:
    layer, weight, stats = problem(20, 30)
    decoded = Uniform.decode(Uniform.encode(layer, weight, stats, {"method": "uniform", "slope": 1e-3}))
    alone = replace(stats, coupling=np.eye(20, dtype=np.float32))
    assert distortion(layer, weight, decoded, alone) == pytest.approx(distortion(layer, weight, decoded, stats))


def test_factors_make_up_for_errors() -> None:
    """An error in the first block, followed by what it takes away from the others, costs what its pivots say."""
    rows, sensitivity = 3 * coupled.BLOCK, np.random.default_rng(0).uniform(0.5, 2, 3 * coupled.BLOCK)
    found = coupled.rows_of(correlation(rows), sensitivity)
    second = correlation(rows)[found.order][:, found.order].astype(np.float64)
    second *= np.sqrt(sensitivity[found.order])[:, None] * np.sqrt(sensitivity[found.order])
    np.testing.assert_allclose(found.matrix, second, rtol=1e-5)
    error = np.zeros(rows)
    error[2] = 1.0
    error[coupled.BLOCK :] = found.ahead[2, coupled.BLOCK :]
    # The last two blocks as the first left them: the least that any values there reach.
    least = second[2, 2] - second[2, coupled.BLOCK :] @ np.linalg.solve(
        second[coupled.BLOCK :, coupled.BLOCK :], second[coupled.BLOCK :, 2]
    )
    assert error @ second @ error == pytest.approx(least, rel=1e-5)
    assert found.pivots[found.order[2]] == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize("made", [lambda: coupled_problem(96, 80), lambda: coupled_problem(96, 80, bias=False), table])
def test_coupling_pays(made) -> None:
    """Less distortion and rate, as the coupled distortion has it, than without looking at it."""
    layer, weight, stats = made()
    slope = 1e-5 if made is not table else 1e-4

    def cost(known: Stats) -> float:
        (point,) = Uniform.points(layer, weight, known, [slope])
        assert point.encoded is not None
        return distortion(layer, weight, Uniform.decode(point.encoded), stats) + slope * point.rate_bits

    blind, seen = cost(replace(stats, coupling=None)), cost(stats)
    assert seen < 0.97 * blind


def test_numpy_and_native_agree(monkeypatch) -> None:
    layer, weight, stats = coupled_problem(40, 70)
    choice = {"method": "uniform", "slope": 1e-4}
    native = Uniform.encode(layer, weight, stats, choice).arrays["codes"]
    monkeypatch.setattr(feedback, "kernel", lambda: None)
    assert np.mean(native != Uniform.encode(layer, weight, stats, choice).arrays["codes"]) < 0.01


def posed(rows: int, cols: int, slope: float) -> tuple[grid.Problem, feedback.Codes, feedback.Rate]:
    """A problem whose rows are coupled, codes that no sweep has seen, and what codes cost."""
    layer, weight, stats = coupled_problem(rows, cols)
    frame = grid.framed(layer, weight, stats, 0.2)
    found = grid.posed(layer, weight, stats, grid.optimal_step(slope, 1.5), frame, together=True)
    codes = solve(found, slope, sweeps=0)
    return found, codes, rate_of(codes, slope)


def objective(found: grid.Problem, codes: feedback.Codes, rate: feedback.Rate) -> float:
    """tr(G E H E^T) + price, in float64."""
    rows = found.coupling
    assert rows is not None
    error = (found.scaled[0] - codes[0]).T[rows.order].astype(np.float64)
    price = sum(float(rate.of(codes[:, j].astype(np.float32), j).sum()) for j in range(codes.shape[1]))
    return float(np.sum((rows.matrix @ error @ found.hessian[0].astype(np.float64)) * error)) + price


@pytest.mark.parametrize("rows", [coupled.SWEPT - 1, coupled.SWEPT, 2 * coupled.SWEPT + 3])
def test_a_sweep_leaves_no_single_code_that_would_be_better_moved_at_the_end_of_it(rows: int) -> None:
    """Sweeps until nothing moves; then neither neighbour nor zero is better anywhere, whole or across its blocks."""
    found, codes, rate = posed(rows, 30, 1e-3)
    costs = [objective(found, codes, rate)]
    for _ in range(60):
        after = coupled.descend(found.scaled, codes, found.hessian, rate, found.coupling)
        costs.append(objective(found, after, rate))
        if np.array_equal(after, codes):
            break
        codes = after
    assert np.array_equal(after, codes) and len(costs) > 2
    assert all(late <= early * (1 + 1e-6) for early, late in pairwise(costs))
    for row, column in np.random.default_rng(0).integers(0, (rows, 30), (60, 2)):
        for other in {codes[0, column, row] - 1, codes[0, column, row] + 1, 0}:
            moved = codes.copy()
            moved[0, column, row] = other
            assert objective(found, moved, rate) >= costs[-1] * (1 - 1e-6)


def test_numpy_and_native_sweep_alike(monkeypatch) -> None:
    found, codes, rate = posed(coupled.SWEPT + 9, 25, 1e-3)
    native = coupled.descend(found.scaled, codes, found.hessian, rate, found.coupling)
    assert not np.array_equal(native, codes)
    monkeypatch.setattr(feedback, "kernel", lambda: None)
    np.testing.assert_array_equal(coupled.descend(found.scaled, codes, found.hessian, rate, found.coupling), native)


@pytest.mark.parametrize("wrong", ["pull", "error", "offset", "matrix", "hessian", "price"])
def test_the_kernel_refuses_what_does_not_fit(wrong: str) -> None:
    shapes = {"pull": (4, 6), "error": (4, 6), "codes": (4, 6), "matrix": (4, 4), "hessian": (6, 6), "offset": (4, 6)}
    kinds = {"codes": np.int32, "offset": np.int32}
    arrays = {name: np.zeros(shape, kinds.get(name, np.float32)) for name, shape in shapes.items()}
    arrays["price"] = np.zeros(3, np.float32)
    arrays[wrong] = arrays[wrong][:0] if wrong == "price" else np.zeros((3, 5), arrays[wrong].dtype)
    with pytest.raises(ValueError, match="feedback"):
        feedback.kernel().descend_rows(**arrays, radius=1, slope=0.0)


@pytest.mark.parametrize("largest", [0.0, 1e-30])
def test_a_layer_of_next_to_nothing(largest: float) -> None:
    """Its steps are so small that stiffness is none in single floats; codes stay codes."""
    layer, weight, stats = coupled_problem(24, 30, bias=False)
    small = weight.matrix * np.float32(largest / np.abs(weight.matrix).max())
    encoded = Uniform.encode(layer, Weight(small), stats, {"method": "uniform", "slope": 1e-2})
    assert np.abs(encoded.arrays["codes"]).max() <= 1 << 16
    assert np.abs(Uniform.decode(encoded).matrix).max() <= 2 * largest
