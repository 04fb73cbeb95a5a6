"""Operators that move elements in the PyTorch interpreter, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adapters.test_onnx_torch import FEW, agree, ints, normal


@pytest.mark.parametrize("target", [(2, 12), (-1, 3), (0, -1), (4, 0, 2), (24,)])
def test_reshape(target):
    agree("Reshape", normal(2, 3, 4) if target != (4, 0, 2) else normal(4, 3, 2), ints(*target))


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
def test_flatten(axis):
    agree("Flatten", normal(2, 3, 4), axis=axis)


@given(st.permutations(range(4)))
@FEW
def test_transpose(order):
    agree("Transpose", normal(2, 3, 4, 5), perm=list(order))
    agree("Transpose", normal(2, 3, 4, 5))


def test_axes_of_one():
    """Axes as an attribute and as an input."""
    agree("Squeeze", normal(1, 3, 1), ints(0, -1))
    agree("Squeeze", normal(1, 3, 1))
    agree("Squeeze", normal(1, 3, 1), opset=11, axes=[0])
    agree("Unsqueeze", normal(3, 4), ints(-1, 0))
    agree("Unsqueeze", normal(3, 4), opset=11, axes=[1, 3])


def test_joining_and_parting():
    agree("Concat", normal(2, 3), normal(2, 4), axis=-1)
    agree("Split", normal(2, 7), ints(3, 4), outputs=2, axis=1)
    agree("Split", normal(2, 6), outputs=3, axis=-1)
    agree("Split", normal(2, 6), opset=11, outputs=2, axis=1, split=[2, 4])
    agree("Split", normal(2, 7), opset=18, outputs=3, axis=1, num_outputs=3)
    agree("Expand", normal(3, 1), ints(2, 1, 4))
    agree("Tile", normal(2, 3), ints(2, 3))


@given(
    st.integers(-8, 8), st.integers(-8, 8) | st.sampled_from([2**62, -(2**62)]),
    st.sampled_from([1, 2, 3, -1, -2]), st.integers(-2, 1),
)  # fmt: skip
@FEW
def test_slice(start, end, step, axis):
    agree("Slice", normal(5, 6), ints(start), ints(end), ints(axis), ints(step))


def test_slice_of_old():
    agree("Slice", normal(5, 6), opset=9, starts=[1, -3], ends=[4, 100], axes=[1, 0])
    agree("Slice", normal(5, 6), ints(1), ints(-1))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(axis):
    agree("Gather", normal(5, 4, 6), np.array([[0, -1], [3, 2]]), axis=axis)
    agree("Gather", normal(5, 4, 6), np.array(2), axis=axis)
    agree("GatherElements", normal(5, 4), np.array([[0, -1, 2, 3], [3, 1, 1, 0]]), axis=axis if axis > -2 else 0)


@given(st.sampled_from(["constant", "reflect", "edge"]), st.lists(st.integers(0, 2), min_size=6, max_size=6))
@FEW
def test_pad(mode, pads):
    agree("Pad", normal(3, 4, 5), ints(*pads), mode=mode)


def test_pad_with_a_value_and_by_axes():
    agree("Pad", normal(3, 4), ints(1, 0, -1, 2), np.float32(1.5))
    agree("Pad", normal(3, 4), ints(1, 2), None, ints(-1), opset=18)
    agree("Pad", normal(3, 4), opset=2, pads=[1, 0, 2, 1], value=0.5)


def test_blocks():
    for mode in ("DCR", "CRD"):
        agree("DepthToSpace", normal(2, 8, 3, 4), blocksize=2, mode=mode)
    agree("SpaceToDepth", normal(2, 3, 4, 6), blocksize=2)


@given(
    st.sampled_from(["nearest", "linear"]),
    st.sampled_from(["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"]),
    st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    st.lists(st.integers(1, 11), min_size=2, max_size=2),
    st.booleans(),
)
@FEW
def test_resize(mode, coordinates, nearest, sizes, by_scale):
    """To sizes, and by scales that reach them."""
    x = normal(2, 3, 4, 6)
    assume(mode == "nearest" or nearest == "floor")
    common = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    if by_scale:
        scales = np.array([1, 1, sizes[0] / 4, sizes[1] / 6], np.float32)
        agree("Resize", x, None, scales, atol=1e-4, **common)
    else:
        agree("Resize", x, None, None, ints(2, 3, *sizes), atol=1e-4, **common)


def test_resize_of_old():
    scales = np.array([1, 1, 2, 1.5], np.float32)
    agree("Resize", normal(2, 3, 4, 6), scales, opset=10, mode="nearest")
    agree("Upsample", normal(2, 3, 4, 6), scales, opset=9, mode="nearest")
    agree("Upsample", normal(2, 3, 4, 6), opset=7, mode="linear", scales=[1.0, 1.0, 2.0, 2.0])
