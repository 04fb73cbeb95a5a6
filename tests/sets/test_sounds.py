"""WAV files: whatever their headers say, every byte comes back; both kernels write the same."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar import _native as native
from attar.coding.layout import Malformed
from attar.data.wav import bytes_from, form_of
from attar.errors import FormatError
from attar.sets import sound, sound_twin


def wav(samples, width=2, *, before=b"", behind=b"", kind=1, stated=None):
    """A WAV file of samples [n, channels], with chunks around them."""
    channels = samples.shape[1]
    data = bytes_from(samples.astype(np.int32), width)
    step = channels * width
    form = struct.pack("<HHIIHH", kind, channels, 16000, 16000 * step, step, 8 * width)
    size = len(data) if stated is None else stated
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + before + b"data" + struct.pack("<I", size) + data + behind
    return b"RIFF" + struct.pack("<I", len(body) & 0xFFFFFFFF) + body


def tone(n, channels=1, width=2, seed=0):
    """Some tones and noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(n)[:, None] + np.arange(channels) * 3
    wave = np.sin(t / 9) + 0.5 * np.sin(t / 3.1 + 1) + 0.005 * rng.normal(size=(n, channels))
    return np.clip(wave / 2 * (1 << (8 * width - 1)), -(1 << (8 * width - 1)), (1 << (8 * width - 1)) - 1).astype(
        np.int32
    )


def comes_back(data):
    arrays = sound.encode(data)
    assert arrays is not None and sound.decode(arrays, len(data), "file 'x'") == data
    return sum(array.size for array in arrays.values())


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 2])
def test_tones_come_back_and_are_small(width, channels):
    data = wav(tone(3000, channels, width), width)
    assert comes_back(data) < 0.72 * len(data)


def test_long_files_are_cut_into_blocks(monkeypatch):
    monkeypatch.setattr(sound, "BLOCK", 500)
    data = wav(tone(1700, 2))
    assert len(json.loads(sound.encode(data)["form"].tobytes())[5]) == 7
    comes_back(data)


def test_channels_that_are_alike_cost_little():
    one = tone(4000)
    noisy = one + np.random.default_rng(1).integers(-900, 900, one.shape)
    noisy = np.clip(noisy, -32768, 32767)
    single, double = comes_back(wav(noisy)), comes_back(wav(np.c_[noisy, noisy // 2]))
    assert double < 1.25 * single


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1, 2, 3]), st.sampled_from([1, 2]), st.integers(1, 40), st.binary(max_size=6),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 0xFFFE]), st.one_of(st.none(), st.integers(0, 2**32 - 1)),
)  # fmt: skip
def test_any_header_and_samples_come_back(width, channels, n, behind, seed, kind, stated):
    most = 1 << (8 * width - 1)
    samples = np.random.default_rng(seed).integers(-most, most, (n, channels))
    before = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    data = wav(samples, width, before=before, behind=behind, kind=kind, stated=stated)
    arrays = sound.encode(data)
    assert arrays is None or sound.decode(arrays, len(data), "x") == data
    assert arrays is not None or (stated is not None and stated < channels * width)
    for stop in (len(data) - 1, 50, 13):
        arrays = sound.encode(data[:stop])
        assert arrays is None or sound.decode(arrays, stop, "x") == data[:stop]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_no_sound(data):
    assert sound.encode(data) is None
    assert sound.encode(b"RIFF1234WAVE" + data) is None or len(data) > 40


def test_other_forms_are_left_alone():
    samples = tone(50)
    for data in (wav(samples, kind=3), wav(samples)[:30], wav(samples).replace(b"RIFF", b"RIFX"), wav(samples[:0])):
        assert form_of(data) is None
    three = wav(np.zeros((8, 1), np.int32)).replace(struct.pack("<HH", 1, 1), struct.pack("<HH", 1, 3), 1)
    assert form_of(three) is None


@pytest.mark.parametrize("channels", [1, 2])
def test_both_kernels_write_the_same(channels):
    rng = np.random.default_rng(0)
    pieces = [tone(330, channels), rng.integers(-(1 << 23), 1 << 23, (40, channels)), np.zeros((40, channels))]
    samples = np.ascontiguousarray(np.concatenate(pieces).astype(np.int32))
    data = native.waves_encode(samples)
    assert sound_twin.waves_encode(samples) == data
    for kernel in (native, sound_twin):
        out = np.ones_like(samples)
        kernel.waves_decode(np.frombuffer(data, np.uint8), out)
        assert np.array_equal(out, samples)


@pytest.mark.parametrize("kernel", [native, sound_twin])
def test_samples_that_cannot_be_are_refused(kernel):
    for samples, rule in ((np.full((3, 1), 1 << 24), "24 bits"), (np.zeros((3, 3)), "channels")):
        with pytest.raises((ValueError, Malformed), match=rule):
            kernel.waves_encode(np.ascontiguousarray(samples.astype(np.int32)))


def test_cut_and_altered_samples_are_refused_or_others():
    samples = tone(300, 2)
    data = np.frombuffer(native.waves_encode(samples), np.uint8)
    altered = np.where(np.eye(data.size, dtype=bool), data ^ 4, data)
    for wrong in (*altered[::3], *(np.ascontiguousarray(data[:stop]) for stop in range(0, data.size, 5))):
        out = np.empty_like(samples)
        try:
            native.waves_decode(wrong, out)
        except ValueError:
            continue
        assert not np.array_equal(out, samples)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 5000),
        (1, 1 << 40),
        (1, 0),
        (2, 3),
        (2, 2),
        (3, 4),
        (3, 1),
        (4, "none"),
        (5, [1, 2]),
        (5, ["x"]),
        (5, [-1]),
        (5, []),
    ],
)
def test_a_form_that_lies_is_refused(place, value):
    data = wav(tone(200), behind=b"tail")
    arrays = dict(sound.encode(data))
    form = json.loads(arrays["form"].tobytes())
    form[place] = value
    arrays["form"] = np.frombuffer(json.dumps(form).encode(), np.uint8)
    with pytest.raises(FormatError, match="Received"):
        sound.decode(arrays, len(data), "file 'x'")


def test_arrays_that_are_missing_are_refused():
    data = wav(tone(200))
    arrays = sound.encode(data)
    for name in arrays:
        with pytest.raises(FormatError, match="Received"):
            sound.decode({k: a for k, a in arrays.items() if k != name}, len(data), "x")
        with pytest.raises(FormatError, match="Received"):
            sound.decode({**arrays, name: arrays[name][:-1]}, len(data), "x")
    with pytest.raises(FormatError, match="JSON"):
        sound.decode({**arrays, "form": np.frombuffer(b"\xff[", np.uint8)}, len(data), "x")


def test_samples_need_bytes_to_stand_for_them():
    """So that a short file cannot ask for hours."""
    assert sound.encode(wav(np.zeros((150_000, 1), np.int32))) is None
    arrays = dict(sound.encode(wav(tone(200))))
    size = arrays["samples"].size
    form = [44, 70_000 + 256 * size, 1, 2, "stored", [size]]
    arrays["form"] = np.frombuffer(json.dumps(form).encode(), np.uint8)
    with pytest.raises(FormatError, match=f"it may have {65536 + 256 * size} samples"):
        sound.decode(arrays, 1 << 20, "file 'x'")
