"""Block formats: what is packed is what gguf's own reader gives, and searched scales and fed back codes cost less."""

import gguf
import numpy as np
import pytest
from gguf import quants
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attar.exports.gguf.blocks import FORMATS, format_for
from attar.exports.gguf.rounding import nearest, packed, rounded
from attar.types import Layer, Stats, Weight

TYPES = {name: gguf.GGMLQuantizationType[name] for name in FORMATS}


def matrix(rows=6, cols=512, seed=0):
    generator = np.random.default_rng(seed)
    return (generator.standard_t(4, (rows, cols)) * generator.uniform(0.01, 1, (rows, 1))).astype(np.float32)


def stats_of(cols, seed=1, n=4000):
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(cols, cols)) * 0.05 + np.diag(generator.uniform(0.2, 3, cols))
    x = mixing @ generator.normal(size=(cols, n))
    return Stats((x @ x.T / n)[None], x.mean(1)[None], n, n)


@pytest.mark.parametrize("name", FORMATS)
def test_bytes_read_back_as_what_was_meant(name):
    form, weights = FORMATS[name], matrix()
    data, meant = packed(form, *nearest(form, weights), weights.shape)
    assert data.shape == (6, 512 // form.size * form.nbytes) and data.dtype == np.uint8
    np.testing.assert_array_equal(quants.dequantize(data, TYPES[name]), meant)


@pytest.mark.parametrize("name", FORMATS)
def test_sizes_are_those_of_the_format(name):
    assert gguf.GGML_QUANT_SIZES[TYPES[name]] == (FORMATS[name].size, FORMATS[name].nbytes)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.integers(0, 2**31), st.floats(1e-2, 1e3), st.floats(-3, 3))
@example("Q4_0", 903, 1.0, -1.09375)
def test_any_values_stay_within_a_step(name, seed, width, shift):
    form = FORMATS[name]
    values = (np.random.default_rng(seed).uniform(-1, 1, (1, 256)) * width + shift * width).astype(np.float32)
    data, meant = packed(form, *nearest(form, values), values.shape)
    np.testing.assert_array_equal(quants.dequantize(data, TYPES[name]), meant)
    reach, error = np.ptp(np.append(values, 0)), np.abs(meant - values)
    step = reach / (form.high - form.low)
    # Scales are best in the mean, for which a block's extreme may be cut off.
    assert np.sqrt(np.square(error).mean()) < 0.65 * step
    assert error.max() < 2 * step + 0.02 * reach


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("values", [np.zeros((1, 256)), np.full((1, 256), 2.5), np.full((1, 256), -1e-30)])
def test_flat_blocks(name, values):
    form = FORMATS[name]
    data, meant = packed(form, *nearest(form, values.astype(np.float32)), values.shape)
    np.testing.assert_array_equal(quants.dequantize(data, TYPES[name]), meant)
    assert np.isfinite(meant).all() and np.abs(meant - values).max() <= 0.01 * np.abs(values).max() + 1e-8


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_searched_scales_are_better_than_stock_ones(name):
    weights = matrix()
    stock = quants.dequantize(quants.quantize(weights, TYPES[name]), TYPES[name])
    _, ours = packed(FORMATS[name], *nearest(FORMATS[name], weights), weights.shape)
    assert np.square(ours - weights).sum() < np.square(stock - weights).sum()


@pytest.mark.parametrize("name", FORMATS)
def test_feedback_costs_less_than_nearest(name):
    weights, stats = matrix(8, 256), stats_of(256)
    layer = Layer("w", "dense", 8, 256, (8, 256), 1, "float32", False, None)
    form = FORMATS[name]
    data, ours = rounded(form, layer, Weight(weights, None), stats)
    _, plain = packed(form, *nearest(form, weights, np.diag(stats.hessian[0])), weights.shape)
    h = stats.hessian[0]

    def cost(error):
        return float(np.einsum("rc,cd,rd->", error, h, error))

    assert cost(ours - weights) < 0.9 * cost(plain - weights)
    np.testing.assert_array_equal(quants.dequantize(data, TYPES[name]), ours)


def test_inputs_without_correlations_get_the_nearest():
    weights = matrix(4, 64)
    layer = Layer("w", "dense", 4, 64, (4, 64), 1, "float32", False, None)
    stats = Stats(np.ones((1, 64)), np.zeros((1, 64)), 100, 100)
    _, ours = rounded(FORMATS["Q4_0"], layer, Weight(weights, None), stats)
    _, plain = packed(FORMATS["Q4_0"], *nearest(FORMATS["Q4_0"], weights), weights.shape)
    np.testing.assert_array_equal(ours, plain)


def test_narrow_rows_get_llama_cpps_other_format():
    assert format_for("Q4_K", 512).name == "Q4_K"
    assert [format_for(name, 576).name for name in ("Q3_K", "Q4_K", "Q5_K", "Q6_K")] == ["Q4_0", "Q5_0", "Q5_1", "Q8_0"]
    assert format_for("Q4_0", 33) is None
