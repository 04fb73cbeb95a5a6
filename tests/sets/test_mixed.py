"""Bytes under mixed contexts: both kernels write the same, and what is no such text is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import _native as native
from attar.archive import blobs
from attar.coding.layout import Malformed
from attar.errors import FormatError
from attar.sets import mixed, mixed_twin, parents

WORDS = b"From: someone at example.org; subject again, and \xc3\xa9 \xff the end of it all\nwas near: here".split(b" ")
TEXT = b" ".join(WORDS[k] for k in np.random.default_rng(0).integers(0, len(WORDS), 300)) + bytes(range(256))


def plan(columns, seed=0):
    """Contexts at random distances, and bits."""
    rng = np.random.default_rng(seed)
    distances = rng.integers(-1, 9, (columns, 6, 6)).astype(np.int32)
    return distances, rng.integers(1, 9, columns).astype(np.uint8)


def symbols_for(bits, rows, seed=0):
    most = np.resize(1 << bits.astype(int), rows * len(bits))
    return np.random.default_rng(seed).integers(0, most).astype(np.uint8)


@pytest.mark.parametrize(
    ("distances", "bits", "symbols"),
    [
        (mixed.ORDERS, mixed.TEXT_BITS, np.frombuffer(TEXT, np.uint8)),
        (mixed.ORDERS, mixed.TEXT_BITS, np.zeros(0, np.uint8)),
        (mixed.ORDERS, mixed.TEXT_BITS, np.zeros(700, np.uint8)),
        (*plan(3), symbols_for(plan(3)[1], 120)),
        (*plan(1, 5), symbols_for(plan(1, 5)[1], 1)),
    ],
)
def test_both_kernels_write_the_same(distances, bits, symbols):
    data = native.mixed_encode(distances, bits, 127, symbols)
    assert mixed_twin.mixed_encode(distances, bits, 127, symbols) == data
    for kernel in (native, mixed_twin):
        out = np.ones_like(symbols)
        kernel.mixed_decode(distances, bits, 127, np.frombuffer(data, np.uint8), out)
        assert np.array_equal(out, symbols)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=2000), st.integers(1, 20))
def test_any_bytes_come_back(data, times):
    codec, coded = mixed.code_bytes(data * times)
    assert mixed.bytes_of(codec, coded, len(data * times)) == data * times


def test_text_is_smaller_than_under_other_codecs():
    codec, coded = mixed.code_bytes(TEXT)
    assert codec == "mixed" and coded.size < 0.95 * len(blobs.code_skeleton(TEXT)[2])
    noise = np.random.default_rng(0).bytes(5000)
    assert mixed.code_bytes(noise)[0] == "stored"


@pytest.mark.parametrize("kernel", [native, mixed_twin])
@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"bits": np.array([8, 8], np.uint8)}, "six contexts"), ({"bits": np.array([9], np.uint8)}, "1 to 8 bits"),
        ({"bits": np.array([0], np.uint8)}, "1 to 8 bits"), ({"limit": 0}, "count up"), ({"limit": 1024}, "count up"),
        ({"distances": mixed.ORDERS - 3}, "lie behind"), ({"distances": mixed.ORDERS[:, :5].copy()}, "six contexts"),
        ({"bits": np.array([2], np.uint8)}, "column's bits"),
        ({"distances": np.zeros((3, 6, 6), np.int32), "bits": np.full(3, 8, np.uint8)}, "whole rows"),
    ],
)  # fmt: skip
def test_plans_that_cannot_be_are_refused(kernel, change, rule):
    parts = {"distances": mixed.ORDERS, "bits": mixed.TEXT_BITS, "limit": 127, **change}
    with pytest.raises((ValueError, Malformed), match=rule):
        kernel.mixed_encode(parts["distances"], parts["bits"], parts["limit"], np.full(10, 200, np.uint8))


def test_cut_and_altered_bytes_are_refused_or_other_text():
    _, coded = mixed.code_bytes(TEXT)
    altered = np.where(np.eye(coded.size, dtype=bool), coded ^ 16, coded)
    for wrong in (*altered, *(coded[:stop] for stop in range(coded.size))):
        try:
            assert mixed.bytes_of("mixed", wrong, len(TEXT)) != TEXT
        except FormatError as error:
            assert "Received" in str(error)
    with pytest.raises(FormatError, match="in a run"):
        mixed.bytes_of("mixed", coded, (1 << 24) + 1)
    with pytest.raises(FormatError, match="one array"):
        mixed.only({"a": coded, "b": coded}, "part")


def test_parents_are_the_columns_that_say_most():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 8, (4000, 5)).astype(np.uint8)
    codes[:, 4] = codes[:, 1] + codes[:, 3]
    codes[:, 0] = (codes[0, 0] + np.arange(4000)) % 8
    distances, bits = parents.contexts_for(codes)
    assert {1, 3} in [set(context[context != 0].tolist()) for context in distances[4]]
    assert [5] in [context[context != 0].tolist() for context in distances[0]]
    assert bits[4] < 700 and bits[0] < 500 and 11900 < bits[2] < 12200


def test_text_needs_bytes_to_stand_for_it():
    """So that a short file cannot ask for hours: mixed contexts would take no byte for this, and 5 s to read it."""
    ones = b"\xff" * (1 << 17)
    assert mixed.encode(np.frombuffer(ones, np.uint8), mixed.ORDERS, mixed.TEXT_BITS, mixed.HASTY) == b""
    codec, coded = mixed.code_bytes(ones)
    assert codec != "mixed" and mixed.bytes_of(codec, coded, len(ones)) == ones
    for size, most in ((0, 1 << 16), (100, (1 << 16) + 25600)):
        with pytest.raises(FormatError, match=f"{most} in a run of {size} bytes"):
            mixed.bytes_of("mixed", np.zeros(size, np.uint8), most + 1)


@pytest.mark.parametrize("kernel", [native, mixed_twin])
def test_there_are_4096_columns_at_most(kernel):
    for number, right in ((4096, True), (4097, False)):
        args = np.zeros((number, 6, 6), np.int32), np.ones(number, np.uint8), 127, np.zeros(number, np.uint8)
        if right:
            assert len(kernel.mixed_encode(*args)) > 0
        else:
            with pytest.raises((ValueError, Malformed), match="4096 columns"):
                kernel.mixed_encode(*args)


@pytest.mark.parametrize("kernel", [native, mixed_twin])
def test_a_code_beyond_the_first_interval_is_refused(kernel):
    """It runs into the same symbols as that of a coder, so that two texts would stand for them."""
    right, wrong = (np.frombuffer(bytes.fromhex(f"fffffff{end}e6f1c26b30f90e"), np.uint8) for end in "ef")
    out = np.zeros(15, np.uint8)
    kernel.mixed_decode(mixed.ORDERS, mixed.TEXT_BITS, 127, right, out)
    assert kernel.mixed_encode(mixed.ORDERS, mixed.TEXT_BITS, 127, out) == right.tobytes()
    with pytest.raises((ValueError, Malformed), match="end with their bytes"):
        kernel.mixed_decode(mixed.ORDERS, mixed.TEXT_BITS, 127, wrong, out)
