"""Whole arrays of `rans` and `planes`: the kernel reads what its twin reads, and refuses what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import _native as native
from attar.coding import decode_arrays, known_dtype, order, twin, values
from attar.coding.cutting import BLOCK
from attar.coding.planes import CONSTANT, CUT, Planes
from attar.coding.rans import Rans, static_code
from attar.coding.streams import signed, sized, varint
from attar.errors import FormatError

KINDS = st.sampled_from(["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3)
FORMS = ["constant", "packed", "adaptive", "static", "escapes", "sorted"]


def outcome(decode, data, out, *args):
    """The bytes of what is read, or that it is refused."""
    try:
        decode(data, out, *args)
    except (ValueError, FormatError):
        return "refused"
    return out.tobytes()


def integers(form, seed):
    """A matrix that takes the form."""
    rng = np.random.default_rng(seed)
    if form == "constant":
        return np.full((3, 4), rng.integers(-9, 9))
    if form in ("packed", "adaptive"):
        return rng.integers(0, 2, (9, 11)) if form == "packed" else np.rint(rng.laplace(0, 4, (30, 40))).astype(int)
    spread = np.exp(rng.normal(0, 1, (90, 1))) if form == "sorted" else 1
    found = np.rint(rng.laplace(0, 3, (90, 70)) * spread).astype(int)
    if form == "escapes":
        found.ravel()[rng.integers(0, found.size, 5)] = rng.integers(-30_000, 30_000, 5)
    return found


def altered(data, changes):
    """The bytes with some of them changed; those at the front, which say most, more often."""
    wrong = bytearray(data)
    for place, value in changes:
        wrong[int(place**3 * (len(wrong) - 1))] = value
    return bytes(wrong)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 9), st.sampled_from(FORMS), KINDS, CHANGES, st.integers(-1, 1))
def test_values_native_equals_twin(seed, form, name, changes, length):
    codes = integers(form, seed)
    data = altered(Rans.encode(codes), changes)
    data = data[:-1] if length < 0 else data + bytes(length)
    kind = np.dtype(name)
    results = [
        outcome(module.decode_values, data, np.zeros(codes.shape, kind), *codes.shape, kind.itemsize,
                *values.bounds(kind), 2)
        for module in (native, twin)
    ]  # fmt: skip
    assert results[0] == results[1]
    if not changes and not length and (codes == codes.astype(kind)).all() and (codes.min() >= 0 or name != "uint64"):
        assert results[0] == codes.astype(kind).tobytes()


def words(seed, count, width, case):
    """Words whose top byte, when rotated, is like an exponent."""
    rng = np.random.default_rng(seed)
    if case == "constant":
        return np.full(count, rng.integers(0, 1 << (8 * width), dtype=np.uint64).astype(f"u{width}"))
    top = np.clip(np.rint(rng.laplace(120, 20 if case == "wide" else 3, count)), 0, 255).astype(np.uint64)
    top[rng.random(count) < (0.001 if case == "escapes" else 0)] = 3
    low = rng.integers(0, 1 << (8 * width - 8), count, dtype=np.uint64) if width > 1 else np.uint64(0)
    rotated = (top << np.uint64(8 * width - 8) | low).astype(f"u{width}")
    return rotated >> 1 | rotated << (8 * width - 1)


@settings(deadline=None, max_examples=200)
@given(
    st.integers(0, 9), st.sampled_from([1, 40, 900, 9000, 20_000]), st.sampled_from([1, 2, 4, 8]),
    st.sampled_from(["constant", "narrow", "wide", "escapes"]), CHANGES,
)  # fmt: skip
def test_planes_native_equals_twin(seed, count, width, case, changes):
    given_words = words(seed, count, width, case)
    data = altered(Planes.encode(given_words.view(f"f{width}" if width > 1 else "u1")), changes)
    results = [outcome(m.decode_planes, data, np.zeros(count, f"u{width}"), width, 2) for m in (native, twin)]
    assert results[0] == results[1] and (changes or results[0] == given_words.tobytes())


def test_planes_in_several_chunks_with_escapes_in_each():
    floats = words(1, 2 * order.CHUNK + 777, 4, "escapes").view(np.float32)
    data = Planes.encode(floats)
    for threads in (1, 3):
        out = np.zeros(floats.size, np.uint32)
        native.decode_planes(data, out, 4, threads)
        assert out.tobytes() == floats.tobytes()


def sections(seed):
    """Words whose bytes change their kind twice: constant, few bits, noise."""
    noise = words(seed, 3 * BLOCK + 500, 2, "wide")
    noise[:BLOCK] = 7
    noise[BLOCK : 2 * BLOCK] &= 0x0FF0
    return noise


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2), CHANGES, st.integers(1, 3))
def test_cut_arrays_native_equals_twin(seed, changes, threads):
    given_words = sections(seed)
    whole = Planes.encode(given_words.view(np.float16))
    assert whole[:3] == bytes([CUT, 1, CONSTANT])
    data = altered(whole, changes)
    results = [
        outcome(m.decode_planes, data, np.zeros(given_words.size, np.uint16), 2, threads) for m in (native, twin)
    ]
    assert results[0] == results[1] and (changes or results[0] == given_words.tobytes())


@pytest.mark.parametrize("blocks", [0, 2, 5, 2**40])
@pytest.mark.parametrize("module", [native, twin])
def test_a_section_lies_in_the_array(module, blocks):
    one = b"\0\1\2"
    right = bytes([CUT]) + varint(1) + one + varint(1) + one
    module.decode_planes(right, out := np.zeros(BLOCK + 9, np.uint16), 2, 1)
    assert (out == 0x0201).all()
    for wrong in (bytes([CUT]) + varint(1) + one + varint(blocks) + one, right + one, right[:-1], right[:5]):
        with pytest.raises((ValueError, FormatError)):
            module.decode_planes(wrong, out, 2, 1)
    with pytest.raises((ValueError, FormatError), match="form"):
        module.decode_planes(bytes([CUT]) + varint(2) + right, out, 2, 1)


def test_many_arrays_at_once():
    rng = np.random.default_rng(0)
    shapes = [(3,), (0, 4), (), (500, 3), (1 << 20, 3), (7, 7)]
    kinds = ["float32", "float64", "bfloat16", "float16", "float16", "float32"]
    arrays = [
        np.asarray(rng.normal(0, 1, shape)).astype(known_dtype(k)) for shape, k in zip(shapes, kinds, strict=True)
    ]
    coded = [("planes", Planes.encode(a), a.dtype.name, a.shape) for a in arrays]
    whole = np.arange(9, dtype=np.int16)
    coded.insert(2, ("rans", Rans.encode(whole), "int16", (9,)))
    found = decode_arrays(coded)
    arrays.insert(2, whole)
    for one, expected in zip(found, arrays, strict=True):
        assert (one.dtype, one.shape, one.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
        assert one.flags.c_contiguous and one.flags.writeable
    coded[4] = ("planes", coded[4][1][:-1], *coded[4][2:])
    with pytest.raises(FormatError, match="planes: the bytes must be"):
        decode_arrays(coded)
    assert decode_arrays([]) == []


@pytest.mark.parametrize("threads", ["1", "2"])
def test_many_arrays_of_all_sizes_two_by_two(threads, monkeypatch):
    monkeypatch.setenv("ATTAR_THREADS", threads)
    rng = np.random.default_rng(1)
    arrays = []
    for size in (1, 100, 8191, 8192, 8193, 20_000, 20_001, 70_000, 130_000, 130_128, (1 << 19) + 5, (1 << 20) + 300):
        for name in ("float16", "bfloat16", "float32", "float16"):
            values = rng.normal(0, 0.02, size)
            values[:: max(size // 3, 1)] *= 1e4 if name == "float16" else 1e-30
            arrays.append(values.astype(known_dtype(name)))
    coded = [("planes", Planes.encode(a), a.dtype.name, a.shape) for a in arrays]
    for one, expected in zip(decode_arrays(coded), arrays, strict=True):
        assert one.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("starts", "sizes", "widths", "message"),
    [([0, 9], [8], [1], "a start"), ([9], [8], [1], "hold"), ([0], [8], [3], "bytes"), ([1], [8], [2], "aligned")],
)
def test_the_kernel_checks_the_places_of_many(starts, sizes, widths, message):
    with pytest.raises(ValueError, match=message):
        native.decode_planes_of_many([b"\0\2\2\2"], np.zeros(16, np.uint8), starts, sizes, widths, 1)


def test_escapes_nest_only_so_deep():
    text = Rans.encode(np.full(1, 3, np.uint8))
    # Side information and chunk of one value that is an escape: its length is an array of one value, too.
    alphabet, code = static_code(np.array([[0] * 50 + [9000]]))
    side, chunks = code.side, code.join(b"")
    assert alphabet.escape and text[0] == values.CONSTANT
    data = bytes([values.CONSTANT]) + signed(2)
    for _ in range(200):
        data = bytes([values.STATIC]) + sized(side) + varint(1) + sized(data) + b"\0" * 9 + chunks
    for module in (native, twin):
        with pytest.raises((ValueError, FormatError), match="nested"):
            module.decode_values(data, np.zeros((1, 51), np.int64), 1, 51, 8, *values.bounds(np.dtype(np.int64)), 1)


@pytest.mark.parametrize("kind", ["int64", "uint64"])
def test_numbers_beyond_64_bits_are_refused(kind):
    for data in (b"\0" + varint(1 << 65), b"\0" + b"\xff" * 10, b"\2" + signed(2**63 - 1) + b"\x2f\xff\xff"):
        results = {
            outcome(m.decode_values, data, np.zeros((2, 2), kind), 2, 2, 8, *values.bounds(np.dtype(kind)), 1)
            for m in (native, twin)
        }
        assert results == {"refused"}


@pytest.mark.parametrize(
    ("out", "args", "message"),
    [
        (np.zeros(6, np.uint8), (2, 4, 1, 0, 255, 1), "hold the numbers"),
        (np.zeros(8, np.uint8), (2, 4, 3, 0, 255, 1), "1, 2, 4 or 8 bytes"),
        (np.zeros(17, np.uint8)[1:], (2, 4, 2, 0, 255, 1), "aligned"),
        (np.zeros(0, np.uint8), (0, 4, 1, 0, 255, 1), "hold the numbers"),
        (np.zeros(8, np.uint8), (2**31, 2, 1, 0, 255, 1), "below 2\\^31"),
    ],
)
def test_the_kernel_checks_sizes(out, args, message):
    with pytest.raises(ValueError, match=message):
        native.decode_values(b"\0\2", out, *args)


@pytest.mark.parametrize(("size", "width"), [(0, 1), (8, 0), (8, 3), (7, 2)])
def test_the_kernel_checks_words(size, width):
    with pytest.raises(ValueError, match=r"bytes|hold"):
        native.decode_planes(b"\0\2", np.zeros(size, np.uint8), width, 1)


def test_only_buffers_that_may_be_written():
    out = np.zeros(8, np.uint8)
    out.flags.writeable = False
    with pytest.raises((BufferError, ValueError)):
        native.decode_values(b"\0\2", out, 2, 4, 1, 0, 255, 1)
    with pytest.raises(TypeError):
        native.decode_planes("text", np.zeros(8, np.uint8), 1, 1)
