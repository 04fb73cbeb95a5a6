"""Varints within their bounds, and the adaptive range coder in both directions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import _native as native
from attar.coding import streams
from attar.coding.streams import Reader, SideDecoder, SideEncoder
from attar.errors import FormatError

KEYS = st.integers(0, 23)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("bits"), st.integers(1, 60), st.integers(0, 1)),
        st.tuples(st.just("natural"), KEYS, st.integers(0, 2**40)),
        st.tuples(st.just("small"), KEYS, st.integers(0, 20)),
        st.tuples(st.just("integer"), KEYS, st.integers(-(2**40), 2**40)),
        st.tuples(st.just("low"), KEYS, st.integers(-(2**63), 2**63)),
        st.tuples(st.sampled_from(["run0", "run1", "run2"]), KEYS, st.lists(st.integers(-1000, 1000), max_size=9)),
    ),
    max_size=40,
)
BOTH = pytest.mark.parametrize(
    ("encoder", "decoder"),
    [(SideEncoder, SideDecoder), (native.SideEncoder, native.SideDecoder)],
    ids=["twin", "native"],
)


def play(coder, steps, told):
    """Every step through a coder; what it returns."""
    out = []
    for kind, key, value in steps:
        if kind.startswith("run"):
            values = np.array(value if told else [0] * len(value), np.int64)
            coder.run(key, int(kind[3:]), values, 1000)
            out.append(values.tolist())
            continue
        value = value if told else 0
        if kind == "bits":
            out.append(coder.bits(key, value))
        elif kind == "natural":
            out.append(coder.natural(key, value, 1 << 40))
        elif kind == "small":
            out.append(coder.natural(key, value, 20))
        elif kind == "integer":
            out.append(coder.integer(key, value, 1 << 40))
        else:
            out.append(coder.integer(key, value, 1 << 63))
    return out


def outcome(decoder, text, steps):
    """What a text says, or that it is refused."""
    try:
        coder = decoder(text)
        result = play(coder, steps, False)
        coder.finish()
    except ValueError as error:
        return str(error)
    return result


@settings(deadline=None, max_examples=300)
@given(STEPS, st.data())
def test_both_directions_and_no_other_text(steps, data):
    expected = [value for _, _, value in steps]
    texts = []
    for encoder in (SideEncoder(), native.SideEncoder()):
        assert play(encoder, steps, True) == expected
        texts.append(encoder.finish())
    text = texts[0]
    assert texts[1] == text
    other = data.draw(st.one_of(st.binary(max_size=len(text) + 2), st.just(text + b"\1"), st.just(text + b"\0")))
    assert outcome(SideDecoder, text, steps) == outcome(native.SideDecoder, text, steps) == expected
    read = outcome(SideDecoder, other, steps)
    assert read == outcome(native.SideDecoder, other, steps)
    assert other == text or read != expected


@BOTH
@pytest.mark.parametrize("share", [0.001, 0.02, 0.2, 0.5, 0.9])
def test_near_the_entropy(encoder, decoder, share):
    count = 4000
    ones = (
        set(range(0, count, max(1, round(1 / share)))) if share <= 0.5 else set(range(count)) - set(range(0, count, 10))
    )
    coder = encoder()
    for i in range(count):
        coder.natural(3, int(i in ones), 1)
    p = len(ones) / count
    entropy = -count * (p * math.log2(p) + (1 - p) * math.log2(1 - p)) / 8
    text = coder.finish()
    assert len(text) < entropy * 1.03 + 6
    reader = decoder(text)
    assert {i for i in range(count) if reader.natural(3, 0, 1)} == ones


@BOTH
def test_carries_run_through(encoder, decoder):
    for prefix in range(60):
        coder, bits = encoder(), [0] * prefix + [0, 1] * 40 + [0] * 80
        for bit in bits:
            coder.bits(1, bit)
        reader = decoder(coder.finish())
        assert [reader.bits(1, 0) for _ in bits] == bits
        reader.finish()


@BOTH
def test_numbers_beyond_their_limit_are_refused(encoder, decoder):
    coder = encoder()
    coder.natural(1, 500, 500)
    with pytest.raises(ValueError, match="pass its limit"):
        decoder(coder.finish()).natural(1, 0, 100)
    coder = encoder()
    coder.run(0, 2, np.array([0, 90, 180], np.int64), 200)
    with pytest.raises(ValueError, match="pass its limit"):
        decoder(coder.finish()).run(0, 2, np.zeros(3, np.int64), 100)


@pytest.mark.parametrize("key", [-1, 32, 1000])
def test_native_keys_are_checked(key):
    with pytest.raises(ValueError, match="a key must be"):
        native.SideEncoder().natural(key, 0, 5)
    with pytest.raises(ValueError, match="a key must be"):
        native.SideEncoder().run(25, 0, np.zeros(3, np.int64), 5)


@given(st.integers(0, 2**70 - 1), st.integers(-(2**69), 2**69 - 1), st.binary(max_size=300))
def test_varints(natural, number, blob):
    reader = Reader(streams.varint(natural) + streams.signed(number) + streams.sized(blob) + b"rest")
    assert reader.varint() == natural
    assert reader.signed() == number
    assert reader.sized() == blob
    assert reader.rest() == b"rest"
    reader.finish()


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b"", lambda r: r.varint()),
        (b"\x80", lambda r: r.varint()),
        (b"\xff" * 11, lambda r: r.varint()),
        (b"\x05abcd", lambda r: r.sized()),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f", lambda r: r.sized()),
        (b"abc", lambda r: r.take(4)),
        (b"abc", lambda r: r.finish()),
    ],
)
def test_reader_stops_at_the_end(data, read):
    with pytest.raises(FormatError, match="Received"):
        read(Reader(data))
