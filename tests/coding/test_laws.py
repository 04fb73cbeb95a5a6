"""Every registered coder keeps the laws; a broken one is caught by each of them."""

from __future__ import annotations

import numpy as np
import pytest

from attar import registry
from attar.coding import encode_array
from attar.coding.raw import Raw
from attar.errors import FormatError
from kits import coder_laws

CODERS = list(registry.names("coder"))


@pytest.mark.parametrize("law", coder_laws.LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", CODERS)
def test_law(name, law):
    coder = registry.get("coder", name)
    cases = coder_laws.arrays_for(coder)
    assert len(cases) > 50
    for array in cases if law is coder_laws.round_trip else cases[::7]:
        law(coder, array)


class Forgetful(Raw):
    """Drops the last byte of longer arrays, and takes what is short for zeros."""

    @staticmethod
    def encode(array):
        return Raw.encode(array)[: max(array.nbytes - 1, 3)]

    @staticmethod
    def decode(data, dtype, shape):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return Raw.decode(bytes(data)[:size].ljust(size, b"\0"), dtype, shape)


class Shapeless(Raw):
    @staticmethod
    def decode(data, dtype, shape):
        return Raw.decode(data, dtype, shape).ravel()


@pytest.mark.parametrize(
    ("coder", "law"),
    [
        (Forgetful, coder_laws.round_trip),
        (Forgetful, coder_laws.truncated),
        (Shapeless, coder_laws.altered),
    ],
)
def test_laws_can_fail(coder, law):
    with pytest.raises(AssertionError):
        law(coder, np.arange(1, 41, dtype=np.int16).reshape(8, 5) | 0x0101)


@pytest.mark.parametrize("array", coder_laws.arrays_for(Raw)[::19], ids=lambda a: f"{a.dtype}{list(a.shape)}")
@pytest.mark.parametrize("effort", ["fast", "dense"])
def test_encode_array_takes_the_smallest(array, effort):
    name, data = encode_array(array, effort)
    coders = {other: registry.get("coder", other) for other in CODERS}
    sizes = {
        other: len(coder.encode(array))
        for other, coder in coders.items()
        if coder.accepts(array) and not (coder.slow and effort == "fast")
    }
    assert len(data) == sizes[name] == min(sizes.values())
    assert name == next(other for other in CODERS if sizes.get(other) == len(data))


def test_raw_refuses_odd_booleans():
    with pytest.raises(FormatError, match="booleans"):
        Raw.decode(b"\2", "bool", (1,))
