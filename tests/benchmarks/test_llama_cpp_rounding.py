"""llama.cpp's rounding as the benchmark has it: bytes that gguf reads, errors of the size that its types have."""

import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import quants

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from attar.exports.gguf.blocks import FORMATS
from attar.exports.gguf.rounding import nearest, packed
from llama_cpp import stock


@pytest.mark.parametrize("name", FORMATS)
def test_stock_rounding_is_near_and_ours_is_nearer(name):
    matrix = np.random.default_rng(0).normal(size=(8, 512)).astype(np.float32)
    read = quants.dequantize(stock(name, matrix), gguf.GGMLQuantizationType[name])
    form = FORMATS[name]
    theirs = np.square(read - matrix).mean()
    ours = np.square(packed(form, *nearest(form, matrix), matrix.shape)[1] - matrix).mean()
    assert theirs < 4 * (4.0 / (form.high - form.low)) ** 2 / 12
    assert ours < theirs


@pytest.mark.parametrize("name", FORMATS)
def test_blocks_of_one_value(name):
    for value in (0.0, 1.0, -2.0):
        matrix = np.full((1, 256), value, np.float32)
        read = quants.dequantize(stock(name, matrix), gguf.GGMLQuantizationType[name])
        assert np.abs(read - matrix).max() < 0.02
