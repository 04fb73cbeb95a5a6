"""Patches against torch's own unfold, and the products against its convolutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attar.adapters.unfold import Window, channels_to_columns, fold, pick, rows_first, same_padding, unfold

RNG = np.random.default_rng(0)

CASES = [
    # spatial, C, O, groups, kernel, strides, dilations, pads
    ((9,), 4, 6, 1, (3,), (1,), (1,), (0,)),
    ((11,), 4, 6, 2, (3,), (2,), (2,), (1,)),
    ((8, 7), 3, 5, 1, (3, 2), (1, 1), (1, 1), (0, 0)),
    ((8, 9), 6, 6, 6, (3, 3), (2, 1), (1, 2), (1, 2)),
    ((6, 7), 4, 8, 2, (1, 1), (1, 1), (1, 1), (0, 0)),
    ((5, 6, 4), 2, 4, 2, (2, 3, 2), (1, 2, 1), (1, 1, 1), (1, 0, 1)),
]


def conv(x, w, groups, strides, dilations, pads, transposed=False):
    name = f"conv{'_transpose' if transposed else ''}{x.ndim - 2}d"
    function = getattr(torch.nn.functional, name)
    out = function(torch.tensor(x), torch.tensor(w), stride=strides, dilation=dilations, padding=pads, groups=groups)
    return out.numpy()


@pytest.mark.parametrize(("spatial", "c", "o", "groups", "kernel", "strides", "dilations", "pads"), CASES)
def test_product_is_the_convolution(spatial, c, o, groups, kernel, strides, dilations, pads):
    x = RNG.normal(size=(3, c, *spatial))
    w = RNG.normal(size=(o, c // groups, *kernel))
    expected = conv(x, w, groups, strides, dilations, pads)
    window = Window(kernel, strides, dilations, pads, pads, groups)
    columns = unfold(x, window)
    product = (w.reshape(groups, o // groups, -1) @ columns).reshape(o, -1)
    assert window.positions(spatial) == expected.shape[2:]
    np.testing.assert_allclose(product, rows_first(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("spatial", "c", "o", "groups", "kernel", "strides", "dilations", "pads"), CASES)
def test_picked_patches_are_some_of_all(spatial, c, o, groups, kernel, strides, dilations, pads):
    x = RNG.normal(size=(3, c, *spatial))
    window = Window(kernel, strides, dilations, pads, pads, groups)
    positions = int(np.prod(window.positions(spatial)))
    picked = pick(3, positions, 1, 2, keep=3)
    whole = unfold(x, window).reshape(groups, -1, 3, positions)
    expected = np.take_along_axis(whole, picked[None, None], axis=3).reshape(groups, -1, 9)
    np.testing.assert_array_equal(unfold(x, window, picked), expected)


@pytest.mark.parametrize(("spatial", "c", "o", "groups", "kernel", "strides", "dilations", "pads"), CASES)
def test_transposed_convolution_is_scattered_products(spatial, c, o, groups, kernel, strides, dilations, pads):
    x = RNG.normal(size=(3, c, *spatial))
    w = RNG.normal(size=(c, o // groups, *kernel))
    expected = conv(x, w, groups, strides, dilations, pads, transposed=True)
    matrix = w.reshape(groups, c // groups, -1).transpose(0, 2, 1)
    product = matrix @ channels_to_columns(x, groups)
    window = Window(kernel, strides, dilations, pads, pads, groups)
    scattered = fold(product.reshape(-1, product.shape[2]), window, 3, spatial)
    np.testing.assert_allclose(scattered, expected, rtol=1e-12, atol=1e-12)


def test_pick_covers_evenly_and_repeats():
    picked = pick(500, 100, 7, 0, keep=10)
    assert picked.shape == (500, 10)
    assert all(len(set(row)) == 10 for row in picked.tolist())
    counts = np.bincount(picked.ravel(), minlength=100)
    assert len(counts) == 100
    assert counts.min() > 20  # 50 expected of each
    np.testing.assert_array_equal(picked, pick(500, 100, 7, 0, keep=10))
    assert not np.array_equal(picked, pick(500, 100, 8, 0, keep=10))
    np.testing.assert_array_equal(picked[200:300], pick(100, 100, 7, 200, keep=10))
    assert pick(5, 10, 0, 0, keep=10) is None


@pytest.mark.parametrize("lower", [False, True])
def test_same_padding_keeps_the_size(lower):
    for size in range(1, 12):
        for kernel, stride, dilation in [(3, 1, 1), (2, 1, 1), (5, 2, 1), (3, 3, 2), (1, 2, 1)]:
            before, after = same_padding((size,), (kernel,), (stride,), (dilation,), lower=lower)
            window = Window((kernel,), (stride,), (dilation,), before, after)
            assert window.positions((size,)) == (-(-size // stride),)
            assert (before >= after) if lower else (after >= before)
