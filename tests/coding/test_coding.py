"""encode_array and decode_array: what they refuse, and byte order."""

from __future__ import annotations

import numpy as np
import pytest

from attar.coding import decode_array, encode_array, known_dtype
from attar.errors import FormatError, UsageError
from kits.coder_laws import same


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.array([1], "M8[s]"), np.zeros(2, "i4,f4")])
def test_encode_refuses(array):
    with pytest.raises(UsageError, match="dtype must be one of"):
        encode_array(array)


@pytest.mark.parametrize("dtype", ["object", "str", "float128", "void", ""])
def test_decode_refuses_dtypes(dtype):
    with pytest.raises(FormatError, match="dtype must be one of"):
        known_dtype(dtype)


def test_decode_refuses_unknown_coder():
    with pytest.raises(FormatError, match=r"coder must be one of .*pip install --upgrade attar"):
        decode_array("zpaq", b"", "int8", (0,))


def test_decode_refuses_a_coder_for_another_dtype():
    with pytest.raises(FormatError, match="rans does not code float32"):
        decode_array("rans", b"\0\0", "float32", (2,))


@pytest.mark.parametrize("dtype", ["i2", "i4", "f4", "f8", "c8"])
def test_byte_order_does_not_matter(dtype):
    little = np.random.default_rng(0).normal(0, 9, 300).astype("<" + dtype)
    big = little.astype(">" + dtype)
    assert encode_array(little) == encode_array(big)
    name, data = encode_array(big)
    assert same(decode_array(name, data, big.dtype.name, big.shape), little.astype("=" + dtype))


def test_every_nan_keeps_its_payload():
    values = np.array([0x7FC00000, 0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000], np.uint32).view(np.float32)
    name, data = encode_array(values)
    assert same(decode_array(name, data, "float32", (5,)), values)


def test_exponents_of_bfloat16_are_coded():
    import ml_dtypes

    values = np.random.default_rng(0).normal(0, 0.05, 100_000).astype(ml_dtypes.bfloat16)
    name, data = encode_array(values)
    assert name == "planes"
    assert len(data) < 0.68 * values.nbytes
