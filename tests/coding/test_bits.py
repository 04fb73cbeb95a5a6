"""Numbers packed bit by bit: the kernel equals its twin, and both refuse what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import _native as native
from attar.coding import symbols, twin
from attar.coding.symbols import Alphabet

MODULES = pytest.mark.parametrize("module", [native, twin], ids=["native", "twin"])


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.integers(1, 64))
def test_unpack(numbers, width):
    numbers = [number >> (64 - width) for number in numbers]
    text = "".join(f"{number:0{width}b}" for number in numbers)
    data = bytes(int(text[k : k + 8].ljust(8, "0"), 2) for k in range(0, len(text), 8))
    for module in (native, twin):
        out = np.zeros(len(numbers), np.uint64)
        module.unpack(memoryview(data), width, out)
        assert out.tolist() == numbers


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-300, 300), min_size=1, max_size=40),
    st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9), st.integers(1, 255),
)  # fmt: skip
def test_escapes_come_back(values, low, width):
    array = np.array(values, np.int64)
    alphabet = Alphabet(low, width, True)
    data, shift = alphabet.bytes(array)
    assert shift == 0
    escaped = alphabet.distances(array[data == width])
    lengths = symbols.lengths_of(escaped)
    for module in (native, twin):
        out = np.zeros(escaped.size, np.uint64)
        module.read_escapes(memoryview(symbols.mantissas(escaped, lengths)), lengths, low, width, out)
        assert (out.view(np.int64) == array[data == width]).all()


@MODULES
def test_refusals(module):
    out = np.zeros(3, np.uint64)
    for width, size in ((0, 0), (65, 25), (8, 2), (8, 4), (3, 1)):
        with pytest.raises(ValueError, match="pack"):
            module.unpack(memoryview(bytes(size)), width, out)
    for lengths, size in (([3, 3, 3], 0), ([3, 3, 3], 2), ([1, 0, 1], 1), ([65, 1, 1], 8), ([255, 255, 255], 96)):
        with pytest.raises(ValueError, match="bits"):
            module.read_escapes(memoryview(bytes(size)), np.array(lengths, np.uint8), 0, 5, out)
