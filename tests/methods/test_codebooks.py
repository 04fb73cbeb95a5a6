"""Shared values, vectors and buckets: fitted where errors matter, and what the formulas say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.methods import grid
from attar.methods.codebook import Codebook, CodebookParams
from attar.methods.hashed import Hashed, HashedParams, hashed
from attar.methods.mixing import mixed, signs
from attar.methods.shared_values import kmeans, least_squares
from attar.methods.vector import Vector, VectorParams, _metrics, _posed
from kits.method_laws import problem


def test_kmeans_beats_an_even_grid_of_as_many_values() -> None:
    rng = np.random.default_rng(0)
    x = rng.laplace(0, 1, 20000).astype(np.float32)
    ones = np.ones_like(x)

    def loss(values):
        return np.square(x[:, None] - values).min(1).mean()

    for size in (4, 8, 16):
        grids = [np.linspace(-far, far, size) for far in np.linspace(1, 9, 60)]
        assert loss(kmeans(x, ones, size)) < 0.97 * min(map(loss, grids))


def test_kmeans_looks_at_the_weights() -> None:
    x = np.array([0, 1, 10, 11], np.float32)
    np.testing.assert_allclose(kmeans(x, np.array([3, 1, 1, 3], np.float32), 2), [0.25, 10.75], rtol=1e-6)


def test_kmeans_pins_zero_and_drops_what_does_not_pay() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0.3, 1, 5000).astype(np.float32)
    assert 0.0 in kmeans(x, np.ones_like(x), 8, zero=True)
    assert kmeans(x, np.ones_like(x), 32, price=1.0).size < 12
    np.testing.assert_allclose(kmeans(np.full(9, 2.5, np.float32), np.ones(9, np.float32), 4), [2.5])


@given(st.integers(1, 40), st.integers(1, 16), st.integers(0, 1000), st.floats(0, 10), st.booleans())
@settings(max_examples=50, deadline=None)
def test_kmeans_of_anything(count, size, seed, price, zero) -> None:
    rng = np.random.default_rng(seed)
    values = kmeans(
        rng.normal(0, 1, count).astype(np.float32), rng.random(count).astype(np.float32), size, price, zero=zero
    )
    assert 1 <= values.size <= size and np.isfinite(values).all() and (np.diff(values) >= 0).all()
    assert not zero or 0.0 in values


def test_least_squares_is_the_least() -> None:
    """Against the normal equations, written out."""
    layer, weight, stats = problem(12, 20)
    posed = grid.pose(layer, weight, stats, 0.05, 0.2)
    rng = np.random.default_rng(0)
    index = rng.integers(0, 5, posed.scaled.shape)
    sign = rng.choice([-1.0, 1.0], posed.scaled.shape).astype(np.float32)
    found = least_squares(posed, np.zeros(5), index, sign=sign, steps=50)
    design = np.stack([sign[0] * (index[0] == k) for k in range(5)], axis=2)
    hessian, rows = posed.hessian[0].astype(np.float64), posed.stiffness[0].astype(np.float64)
    normal = np.einsum("crk,cd,drl,r->kl", design, hessian, design, rows)
    wanted = np.einsum("crk,cd,dr,r->k", design, hessian, posed.scaled[0], rows)
    np.testing.assert_allclose(found, np.linalg.solve(normal, wanted), rtol=1e-3)


def test_each_ingredient_of_the_codebook_pays() -> None:
    layer, weight, stats = problem(200, 90)
    slope = 3e-3

    def objective(**params):
        points = Codebook.points(layer, weight, stats, [slope], CodebookParams(**params))
        return min(point.distortion + slope * point.rate_bits for point in points)

    assert objective() < 0.95 * objective(rate=False)
    assert objective() < objective(passes=1)


def test_the_codebook_has_its_size_and_its_zero() -> None:
    layer, weight, stats = problem(60, 90)
    for size in (2, 4, 8):
        choice = {"slope": 1e-6, "size": size, "rate": False}
        encoded = Codebook.encode(layer, weight, stats, choice)
        values, codes = encoded.arrays["values"], encoded.arrays["codes"]
        assert values.size <= size and len(np.unique(codes)) == values.size
        assert (np.diff(values) > 0).all() and 0 in values
        assert (Codebook.decode(encoded).matrix[codes == 0] == 0).all()


def test_the_metric_of_a_vector_is_the_schur_complement() -> None:
    layer, weight, stats = problem(10, 12)
    posed = _posed(layer, weight, stats, 1e-5, 4)
    hessian = posed.hessian[0].astype(np.float64)
    for block in range(3):
        own, later = slice(4 * block, 4 * block + 4), slice(4 * block + 4, 12)
        expected = hessian[own, own] - hessian[own, later] @ np.linalg.solve(hessian[later, later], hessian[later, own])
        np.testing.assert_allclose(_metrics(posed, 4)[0, block], expected, rtol=2e-3, atol=1e-4 * expected.max())


def test_more_vectors_lose_less() -> None:
    layer, weight, stats = problem(80, 64)
    for width in (2, 4, 8):
        few, many = (
            next(iter(Vector.points(layer, weight, stats, [1e-7], VectorParams(width=width, size=size))))
            for size in (16, 128)
        )
        assert many.distortion < 0.8 * few.distortion
        assert many.encoded.arrays["codes"].shape == (80, 64 // width)
        assert many.encoded.arrays["vectors"].shape[1] == width


def test_two_inputs_at_once_beat_one_at_the_same_number_of_symbols() -> None:
    """Space filling and shape: 256 pairs against 16 by 16 values, neither with priced symbols."""
    layer, weight, stats = problem(400, 60)
    pair = next(iter(Vector.points(layer, weight, stats, [1e-9], VectorParams(width=2, size=256))))
    params = CodebookParams(size=16, rate=False)
    single = next(iter(Codebook.points(layer, weight, stats, [1e-9], params)))
    assert pair.distortion < single.distortion


def test_the_hash_is_splitmix64() -> None:
    """Vectors of the reference implementation for the seed 1234567 (Vigna's splitmix64.c)."""
    assert mixed(1234567, 0, 3).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert mixed(1234567, 2, 1)[0] == 9817491932198370423
    assert signs(8, 0).tolist() == [(-1 if int(h) & 1 else 1) for h in mixed(0, 0, 8)]


PLACES = [3, 2, 3, 1, 7, 2, 9, 1]
SIGNS = [-1, 1, 1, -1, 1, -1, 1, 1]


def test_places_and_signs_are_for_ever() -> None:
    places, sign = hashed(2, 4, 10, 7)
    words = [int(h) for h in mixed(7, 0, 8)]
    assert places.ravel().tolist() == [(h >> 1) % 10 for h in words] == PLACES
    assert sign.ravel().tolist() == [-1 if h & 1 else 1 for h in words] == SIGNS


def test_fewer_buckets_are_smaller_and_worse() -> None:
    layer, weight, stats = problem(60, 90)
    points = [
        next(iter(Hashed.points(layer, weight, stats, [1e-7], HashedParams(share=share)))) for share in (2, 8, 32)
    ]
    assert [p.rate_bits for p in points] == sorted((p.rate_bits for p in points), reverse=True)
    assert [p.distortion for p in points] == sorted(p.distortion for p in points)
    assert points[0].encoded.arrays["buckets"].size == 2700


@pytest.mark.parametrize("method", [Codebook, Vector, Hashed])
def test_small_bombs_are_refused(method) -> None:
    """Shapes that would ask for more memory than the arrays can stand for, and numbers beyond the codebook."""
    layer, weight, stats = problem(16, 20)
    encoded = next(iter(method.points(layer, weight, stats, [1e-4]))).encoded
    for key, array in encoded.arrays.items():
        for wrong in (array[:0], array[:1], np.concatenate([array, array]), np.full_like(array, 120), array[..., None]):
            broken = type(encoded)(encoded.method, {**encoded.arrays, key: wrong}, encoded.meta)
            try:
                assert method.decode(broken).matrix.size <= 4 * layer.size
            except (ArithmeticError, LookupError, TypeError, ValueError):
                continue
    with pytest.raises((ValueError, LookupError)):
        huge = {"width": 1 << 40, "cols": -1, "center": 1 << 20}
        method.decode(type(encoded)(encoded.method, encoded.arrays, {**encoded.meta, **huge}))
