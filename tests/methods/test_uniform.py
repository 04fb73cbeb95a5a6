"""The base method does what its formulas say."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.methods import feedback
from attar.methods.base import distortion
from attar.methods.uniform import Uniform, UniformParams, rate_bits
from kits.method_laws import problem


def objective(slope: float, params: UniformParams, **form: int) -> float:
    layer, weight, stats = problem(**form)
    (point,) = Uniform.points(layer, weight, stats, [slope], params)
    return point.distortion + slope * point.rate_bits


def test_more_slope_is_smaller_and_worse() -> None:
    layer, weight, stats = problem(60, 90)
    points = list(Uniform.points(layer, weight, stats, [1e-6, 1e-5, 1e-4, 1e-3]))
    rates = [p.rate_bits for p in points]
    losses = [p.distortion for p in points]
    assert rates == sorted(rates, reverse=True)
    assert losses == sorted(losses)


def test_slopes_together_are_each_alone() -> None:
    """The second moment is factored once for all slopes; none of them leaves a trace in what the others see."""
    for form in ({"bias": False}, {"groups": 3}, {}):
        layer, weight, stats = problem(60, 90, **form)
        slopes = [1e-3, 1e-6, 1e-4]
        for slope, point in zip(slopes, Uniform.points(layer, weight, stats, slopes), strict=True):
            alone = Uniform.encode(layer, weight, stats, {**point.choice, "slope": slope})
            assert point.encoded is not None and point.encoded.meta == alone.meta
            for name, array in alone.arrays.items():
                np.testing.assert_array_equal(point.encoded.arrays[name], array)


def test_statistics_are_left_as_they_are() -> None:
    layer, weight, stats = problem(20, 30, bias=False)
    before = stats.hessian.copy()
    Uniform.encode(layer, weight, stats, {"method": "uniform", "slope": 1e-4})
    np.testing.assert_array_equal(stats.hessian, before)


def test_high_rate_distortion_is_the_theory() -> None:
    """At high rate D = n slope / (2 ln 2) (Gish and Pierce 1968), times the square of the step factor."""
    layer, weight, stats = problem(60, 90, bias=False)
    slope = 1e-9
    (point,) = Uniform.points(layer, weight, stats, [slope], UniformParams(step=1.0, shrink=0.0))
    expected = layer.size * slope / (2 * np.log(2))
    assert 0.8 * expected < point.distortion < 1.25 * expected


def test_each_ingredient_pays() -> None:
    """Feedback with sweeps, column steps and the rate term each lower distortion + slope * rate."""
    form = {"rows": 80, "cols": 120}
    best = objective(3e-4, UniformParams(), **form)
    assert best < objective(3e-4, UniformParams(columns=False), **form)
    assert best < 0.97 * objective(3e-4, UniformParams(sweeps=0), **form)


def test_feedback_beats_rounding() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(0, 1, (1, 40, 40))
    hessian = mix.transpose(0, 2, 1) @ mix + np.eye(40)
    weight = rng.normal(0, 3, (1, 40, 30)).astype(np.float32)
    factor = feedback.upper_factor(hessian)
    np.testing.assert_allclose(factor @ factor.transpose(0, 2, 1), hessian, rtol=1e-9)
    codes = feedback.quantise(weight, feedback.feedback_rows(factor), np.ones_like(weight), None)

    def loss(q: np.ndarray) -> float:
        error = weight[0] - q
        return float(np.einsum("cr,cd,dr->", error, hessian[0], error))

    assert loss(codes[0]) < 0.7 * loss(np.rint(weight[0]))


def test_blocks_do_not_change_the_result(monkeypatch) -> None:
    layer, weight, stats = problem(20, 100)
    choice = {"method": "uniform", "slope": 1e-4}
    one = Uniform.encode(layer, weight, stats, choice)
    monkeypatch.setattr(feedback, "BLOCK", 7)
    other = Uniform.encode(layer, weight, stats, choice)
    differing = np.mean(one.arrays["codes"] != other.arrays["codes"])
    assert differing < 0.01, "only float rounding at ties may differ"


def test_the_bias_takes_up_the_mean() -> None:
    layer, weight, stats = problem(30, 50)
    stats = replace(stats, mean=stats.mean + 3)
    decoded = Uniform.decode(Uniform.encode(layer, weight, stats, {"method": "uniform", "slope": 1e-4}))
    kept = replace(decoded, bias=weight.bias)
    assert distortion(layer, weight, decoded, stats) < 0.1 * distortion(layer, weight, kept, stats)


def test_dead_inputs_get_zero() -> None:
    layer, weight, stats = problem(10, 20)
    encoded = Uniform.encode(layer, weight, stats, {"method": "uniform", "slope": 1e-7})
    assert not encoded.arrays["codes"][:, -1].any()
    assert encoded.arrays["codes"][:, :-1].any()


def test_no_largest_code() -> None:
    """A single huge weight is coded exactly enough; nothing saturates."""
    layer, weight, stats = problem(4, 6)
    weight.matrix[2, 1] = 1e4
    decoded = Uniform.decode(Uniform.encode(layer, weight, stats, {"method": "uniform", "slope": 1e-8}))
    assert abs(decoded.matrix[2, 1] - 1e4) < 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6), st.floats(1e-9, 1e-1))
def test_any_shape(rows: int, cols: int, seed: int, slope: float) -> None:
    layer, weight, stats = problem(rows, cols, seed=seed)
    encoded = Uniform.encode(layer, weight, stats, {"method": "uniform", "slope": slope})
    decoded = Uniform.decode(encoded)
    assert np.isfinite(decoded.matrix).all() and np.isfinite(decoded.bias).all()
    assert rate_bits(encoded) >= 0


def test_native_and_numpy_make_the_same_codes(monkeypatch) -> None:
    assert feedback.kernel() is not None, "the extension must be built for the tests"
    for form in ({"rows": 40, "cols": 150}, {"rows": 32, "cols": 9, "groups": 32}):
        layer, weight, stats = problem(**form)
        weight.matrix[0, 0] = 1e3
        choice = {"method": "uniform", "slope": 1e-4}
        native = Uniform.encode(layer, weight, stats, choice).arrays["codes"]
        monkeypatch.setattr(feedback, "kernel", lambda: None)
        np.testing.assert_array_equal(native, Uniform.encode(layer, weight, stats, choice).arrays["codes"])
        monkeypatch.undo()
