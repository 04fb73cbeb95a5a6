"""Fixed-rate integers: what runtimes can hold, better roundings better, ranges as they say."""

import numpy as np
import pytest

from attar.methods.base import distortion
from attar.methods.fixed import BITS, Fixed, FixedParams, runtime_bits
from attar.methods.ranges import reach
from kits.method_laws import problem

FORM = {"rows": 40, "cols": 130}


def point(**params):
    layer, weight, stats = problem(**FORM)
    return next(iter(Fixed.points(layer, weight, stats, [1e-5], FixedParams(**params))))


@pytest.mark.parametrize("bits", BITS)
def test_codes_fit_the_bits(bits) -> None:
    codes = point(bits=bits).encoded.arrays["codes"]
    top = 2 ** (bits - 1) - 1
    assert codes.dtype == np.int8 and codes.min() >= -top and codes.max() <= top
    assert max(-codes.min(), codes.max()) == top


def test_more_bits_less_loss() -> None:
    losses = [point(bits=bits).distortion for bits in BITS]
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0] / 1000


def test_better_roundings_lose_less() -> None:
    nearest, adaround, gptq, descent = (
        point(bits=3, rounding=one).distortion for one in ("nearest", "adaround", "gptq", "descent")
    )
    assert gptq < 0.8 * nearest and adaround < 0.8 * nearest and descent < 0.95 * gptq


def test_adaround_rounds_up_or_down() -> None:
    layer, weight, stats = problem(**FORM)
    choice = {"bits": 4, "part": 0, "rounding": "adaround", "range": "minmax", "alpha": 0.0}
    encoded = Fixed.encode(layer, weight, stats, choice)
    step = encoded.arrays["scales"].astype(np.float32) * np.float32(encoded.meta["step"])
    off = np.abs(weight.matrix / step - encoded.arrays["codes"])[:, :-1]
    assert off.max() < 1.01 and (off > 0.5).mean() > 0.05


def test_more_scales_lose_less() -> None:
    layer, weight, stats = problem(**FORM)
    whole, parts = Fixed.points(layer, weight, stats, [1e-5], FixedParams(bits=4, part=32))
    assert parts.choice["part"] == 32 and parts.encoded.arrays["scales"].shape == (40, 5)
    assert parts.distortion < whole.distortion and parts.rate_bits > whole.rate_bits


def test_searched_column_scales_help_plain_rounding() -> None:
    plain, scaled = (point(bits=4, rounding="nearest", range="minmax", alpha=alpha).distortion for alpha in (0.0, -1.0))
    assert scaled < 0.9 * plain


def test_runtime_size_is_stated() -> None:
    chosen = point(bits=4).choice
    assert chosen["runtime_bits"] == 4 * 40 * 130 + 16 * 40
    layer = problem(**FORM)[0]
    assert runtime_bits(layer, 3, 64, True) == 3 * 40 * 130 + 16 * (40 * 3 + 130)


def test_ranges() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (4, 4000)).astype(np.float32)
    values[:, 0] = 12
    weights = np.ones_like(values)
    full, mse, kl = (reach(values, weights, 3, rule) for rule in ("minmax", "mse", "kl"))
    np.testing.assert_array_equal(full, np.float32(12))
    assert (mse < 0.5 * full).all() and (kl < 0.7 * full).all()

    def error(far):
        step = far[:, None] / 3
        return np.square(values - np.clip(np.rint(values / step), -3, 3) * step).sum()

    assert error(mse) <= error(kl) < error(full)
    with pytest.raises(ValueError, match="range"):
        reach(values, weights, 3, "guess")


def test_weights_of_errors_count() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (1, 4000)).astype(np.float32)
    values[:, 0] = 12
    weights = np.ones_like(values)
    weights[:, 0] = 1e6
    assert reach(values, weights, 3, "mse") == 12


@pytest.mark.parametrize("wrong", [{"bits": 5}, {"rounding": "dice"}, {"range": "guess"}])
def test_what_there_is_not(wrong) -> None:
    layer, weight, stats = problem(3, 4)
    choice = {"bits": 4, "part": 0, "rounding": "gptq", "range": "mse", "alpha": 0.0, **wrong}
    with pytest.raises(ValueError):
        Fixed.encode(layer, weight, stats, choice)


def test_decoded_is_what_was_priced() -> None:
    layer, weight, stats = problem(12, 18, 3)
    for one in Fixed.points(layer, weight, stats, [1e-4]):
        assert distortion(layer, weight, Fixed.decode(one.encoded), stats) == one.distortion
