"""Varints within their bounds, and the adaptive range coder in both directions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.coding import streams
from attar.coding.streams import Decoder, Encoder, Reader
from attar.errors import FormatError

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("bit"), st.sampled_from("abc"), st.integers(0, 1)),
        st.tuples(st.just("even"), st.just(""), st.integers(0, 1)),
        st.tuples(st.just("natural"), st.sampled_from("ab"), st.integers(0, 2**40)),
        st.tuples(st.just("small"), st.sampled_from("ab"), st.integers(0, 20)),
        st.tuples(st.just("integer"), st.sampled_from("ab"), st.integers(-(2**40), 2**40)),
        st.tuples(st.just("low"), st.just("low"), st.integers(-(2**63), 2**63 - 1)),
    ),
    max_size=60,
)


def play(coder, steps, told):
    """Every step through a coder; what it returns."""
    out = []
    for kind, key, value in steps:
        value = value if told else 0
        if kind == "bit":
            out.append(coder.bit(key, value))
        elif kind == "even":
            out.append(coder.bit(None, value))
        elif kind == "natural":
            out.append(coder.natural(key, value))
        elif kind == "small":
            out.append(coder.natural(key, value, 20))
        elif kind == "integer":
            out.append(coder.integer(key, value))
        else:
            out.append(coder.integer(key, value, 1 << 63))
    return out


@settings(deadline=None, max_examples=300)
@given(STEPS, st.data())
def test_both_directions_and_no_other_text(steps, data):
    encoder = Encoder()
    assert play(encoder, steps, True) == [value for _, _, value in steps]
    text = encoder.finish()
    decoder = Decoder(text)
    assert play(decoder, steps, False) == [value for _, _, value in steps]
    decoder.finish()
    other = data.draw(st.one_of(st.binary(max_size=len(text) + 2), st.just(text + b"\1"), st.just(text + b"\0")))
    if other != text:
        decoder = Decoder(other)
        try:
            result = play(decoder, steps, False)
            decoder.finish()
        except FormatError:
            return
        assert result != [value for _, _, value in steps]


@pytest.mark.parametrize("share", [0.001, 0.02, 0.2, 0.5, 0.9])
def test_near_the_entropy(share):
    count = 4000
    ones = (
        set(range(0, count, max(1, round(1 / share)))) if share <= 0.5 else set(range(count)) - set(range(0, count, 10))
    )
    encoder = Encoder()
    for i in range(count):
        encoder.bit("x", int(i in ones))
    p = len(ones) / count
    entropy = -count * (p * math.log2(p) + (1 - p) * math.log2(1 - p)) / 8
    assert len(encoder.finish()) < entropy * 1.03 + 6


def test_carries_run_through():
    for prefix in range(60):
        encoder, bits = Encoder(), [0] * prefix + [0, 1] * 40 + [0] * 80
        for bit in bits:
            encoder.bit(None, bit)
        decoder = Decoder(encoder.finish())
        assert [decoder.bit(None) for _ in bits] == bits
        decoder.finish()


def test_numbers_beyond_their_limit_are_refused():
    encoder = Encoder()
    encoder.natural("x", 500, 500)
    with pytest.raises(FormatError, match="at most 100"):
        Decoder(encoder.finish()).natural("x", 0, 100)


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
