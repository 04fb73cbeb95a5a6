"""Factors, residuals and rotations: the algebra holds, and each does what it is for."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.methods.base import bounded, declined, distortion
from attar.methods.lowrank import Lowrank, LowrankParams, product, spectrum, whitened
from attar.methods.residual import Residual, ResidualParams
from attar.methods.rotated import Rotated, blocks, hadamard, turned
from attar.methods.uniform import Uniform
from attar.types import Encoded, Weight
from kits.method_laws import problem


def thin(rows=60, cols=80, rank=4, noise=0.0, **form):
    """A layer whose matrix is of low rank, but for noise."""
    layer, weight, stats = problem(rows, cols, **form)
    rng = np.random.default_rng(3)
    matrix = rng.normal(0, 0.1, (rows, rank)) @ rng.normal(0, 1, (rank, cols)) + rng.normal(0, noise, (rows, cols))
    return layer, Weight(matrix.astype(np.float32), weight.bias), stats


def objective(method, given, slope):
    return min(p.distortion + slope * p.rate_bits for p in method.points(*given, [slope]))


def test_singular_vectors_are_the_best_for_the_distortion() -> None:
    """Truncated, they lose what their singular values say: half the sum of squares (Eckart and Young)."""
    layer, weight, stats = problem(30, 40, bias=False)
    stats = replace(stats, mean=np.zeros_like(stats.mean))
    parts = whitened(layer, weight, stats, 0.0)
    for rank in (3, 12):
        matrix = (parts.left[0, :, :rank] * parts.values[0, :rank]) @ parts.right[0, :rank]
        lost = distortion(layer, weight, Weight(matrix.astype(np.float32)), stats)
        np.testing.assert_allclose(lost, 0.5 * np.square(parts.values[0, rank:]).sum(), rtol=0.02)
        plain = np.linalg.svd(weight.matrix.astype(np.float64), full_matrices=False)
        unweighed = (plain[0][:, :rank] * plain[1][:rank]) @ plain[2][:rank]
        assert lost < 0.8 * distortion(layer, weight, Weight(unweighed.astype(np.float32)), stats)


def test_low_rank_wins_where_the_matrix_is_of_low_rank_and_loses_where_it_is_not() -> None:
    slope = 1e-4
    assert objective(Lowrank, thin(), slope) < 0.4 * objective(Uniform, thin(), slope)
    assert objective(Lowrank, problem(60, 80), slope) > objective(Uniform, problem(60, 80), slope)


@pytest.mark.parametrize("form", [(30, 50), (50, 30), (24, 8, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_spectrum_is_that_of_the_vectors(form: tuple[int, ...], bias: bool) -> None:
    given = problem(*form, bias=bias)
    np.testing.assert_allclose(spectrum(*given, 0.2), whitened(*given, 0.2).values, rtol=1e-6, atol=1e-9)
    layer, weight, stats = given
    seldom = replace(stats, hessian=np.diagonal(stats.hessian, axis1=1, axis2=2).copy())
    np.testing.assert_allclose(
        spectrum(layer, weight, seldom, 0.2), whitened(layer, weight, seldom, 0.2).values, rtol=1e-6, atol=1e-9
    )


def test_slopes_at_which_low_rank_is_worth_a_look() -> None:
    params = LowrankParams()
    assert list(Lowrank.worth(*thin(), [1e-2, 1e-4], params)) == [1e-2, 1e-4]
    assert list(Lowrank.worth(*problem(60, 80), [1e-4, 1e-6], params)) == []
    assert list(Lowrank.worth(*problem(60, 80), [1e-6], LowrankParams(rank=40))) == [1e-6]


def test_residual_wins_where_both_are_needed() -> None:
    slope, given = 1e-6, thin(noise=0.02)
    both = objective(Residual, given, slope)
    assert both < 0.95 * objective(Uniform, given, slope)


def test_the_rank_follows_the_slope() -> None:
    layer, weight, stats = thin(noise=0.01)
    ranks = [next(iter(Lowrank.points(layer, weight, stats, [slope]))).choice["rank"] for slope in (1e-2, 1e-4, 1e-7)]
    assert ranks == sorted(ranks) and ranks[0] <= 4 < ranks[-1]


def test_the_left_factor_makes_up_for_the_right_one() -> None:
    """With the right factor as decoded, no other left factor is better but for its own rounding."""
    layer, weight, stats = problem(40, 50)
    (point,) = Lowrank.points(layer, weight, stats, [1e-5], LowrankParams(rank=12))
    decoded = Lowrank.decode(point.encoded)
    parts = whitened(layer, weight, stats, 0.2)
    truncated = (parts.left[0, :, :12] * parts.values[0, :12]) @ parts.right[0, :12]
    lost = distortion(layer, weight, Weight(truncated.astype(np.float32), decoded.bias), stats)
    assert point.distortion < 1.5 * lost


@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_product_by_groups(groups, rows, rank, cols) -> None:
    rng = np.random.default_rng(0)
    left = rng.normal(0, 1, (groups * rows, rank)).astype(np.float32)
    right = rng.normal(0, 1, (groups * rank, cols)).astype(np.float32)
    found = product(Encoded("lowrank", {"left": left, "right": right}), left, right)
    for g in range(groups):
        expected = left[g * rows : (g + 1) * rows] @ right[g * rank : (g + 1) * rank]
        np.testing.assert_allclose(found[g * rows : (g + 1) * rows], expected, rtol=1e-4, atol=1e-5)


def test_products_that_are_none() -> None:
    ones = Encoded("lowrank", {"left": np.ones(3), "right": np.ones(3)})
    for left, right in (((4, 3), (4, 5)), ((4, 0), (0, 5)), ((3, 2), (4, 5)), ((1 << 15, 1), (1, 1 << 15))):
        with pytest.raises(ValueError):
            product(ones, np.ones(left, np.float32), np.ones(right, np.float32))
    with pytest.raises(ValueError):
        bounded(ones, 1 << 20, 1 << 20)


def test_why_layers_are_declined() -> None:
    depthwise = problem(48, 9, 48)
    assert "rank 1" in declined(Lowrank, depthwise[0], depthwise[2])
    assert declined(Residual, depthwise[0], depthwise[2]) == declined(Lowrank, depthwise[0], depthwise[2])
    layer, _, stats = problem(6, 8)
    table = replace(stats, hessian=np.ones((1, 8)))
    assert "embedding" in declined(Rotated, layer, table)
    assert declined(Rotated, *problem(3, 1)[::2]) and declined(Uniform, layer, stats) is None


def test_residual_orders() -> None:
    layer, weight, stats = thin(noise=0.01)
    for first in ("factors", "codes"):
        (point,) = Residual.points(layer, weight, stats, [1e-5], ResidualParams(rank=4, first=first))
        names = set(point.encoded.arrays)
        assert {"codes", "rows", "cols", "left.codes", "right.codes"} <= names
        assert len({"bias", "left.bias"} & names) == 1
    with pytest.raises(ValueError, match="first"):
        Residual.encode(layer, weight, stats, {**point.choice, "first": "neither"})


@pytest.mark.parametrize("cols", [1, 2, 9, 27, 100, 784])
def test_the_rotation_is_orthogonal(cols) -> None:
    matrix = turned(np.eye(cols), 5)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(cols), atol=1e-12)
    np.testing.assert_allclose(turned(turned(np.eye(cols), 5), 5, back=True), np.eye(cols), atol=1e-12)
    sizes = [block.stop - block.start for block in blocks(cols)]
    assert sum(sizes) == cols and all(size & (size - 1) == 0 for size in sizes)
    assert cols < 8 or not np.array_equal(matrix, turned(np.eye(cols), 6))


def test_hadamard_is_sylvesters() -> None:
    expected = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    np.testing.assert_allclose(hadamard(np.eye(4)), expected)


def test_a_rotation_flattens_outliers() -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(0, 0.1, (20, 64)).astype(np.float32)
    w[:, 5] = 10
    assert np.abs(turned(w, 0)).max() < 0.3 * np.abs(w).max()


def test_rotated_is_uniform_in_the_turned_layer() -> None:
    layer, weight, stats = problem(20, 24)
    encoded = Rotated.encode(layer, weight, stats, {"slope": 1e-6, "step": 1.5, "shrink": 0.2, "seed": 3})
    hessian = turned(turned(stats.hessian, 3).transpose(0, 2, 1), 3)
    moved = replace(stats, hessian=hessian, mean=turned(stats.mean, 3))
    turned_loss = distortion(layer, Weight(turned(weight.matrix, 3), weight.bias), Uniform.decode(encoded), moved)
    np.testing.assert_allclose(turned_loss, distortion(layer, weight, Rotated.decode(encoded), stats), rtol=1e-3)
