"""WAV files: where their samples lie, and the samples as integers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attar.errors import FormatError

I32 = NDArray[np.int32]
PCM, EXTENSIBLE = 1, 0xFFFE
WIDTHS = (1, 2, 3)
"""Bytes of a sample."""


@dataclass(frozen=True)
class Form:
    """Where the samples of a file lie: bytes in front of them, frames, channels, bytes of a sample."""

    front: int
    frames: int
    channels: int
    width: int


def form_of(data: bytes) -> Form | None:
    """Where the samples of a WAV file lie; None where it holds none that can be coded as such."""
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    at, found = 12, None
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"fmt " and size >= 16 and at + 24 <= len(data):
            kind, channels, _, _, step, bits = struct.unpack("<HHIIHH", data[at + 8 : at + 24])
            width = bits // 8
            fit = kind in (PCM, EXTENSIBLE) and channels in (1, 2) and bits % 8 == 0 and width in WIDTHS
            found = (channels, width) if fit and step == channels * width else None
        elif name == b"data" and found is not None:
            channels, width = found
            # A stream that was never ended states more than there is.
            frames = min(size, len(data) - at - 8) // (channels * width)
            return Form(at + 8, frames, channels, width) if frames else None
        at += 8 + size + size % 2
    return None


def recording(path: Path) -> tuple[NDArray[np.float32], int]:
    """Samples of a file, the mean of the channels, -1 .. 1, and how many a second; raises FormatError."""
    data = path.read_bytes()
    form = form_of(data)
    if form is None:
        raise FormatError(
            f"recording {path.name!r}: it must be PCM of 8, 16 or 24 bits in one or two channels, with samples. "
            "Received something else. Leave it out, or convert it."
        )
    scaled = samples_of(data, form).astype(np.float32) / np.float32(1 << (8 * form.width - 1))
    return np.asarray(scaled.mean(1, dtype=np.float32)), rate_of(data)


def rate_of(data: bytes) -> int:
    """Samples a second of a file that `form_of` takes."""
    at = 12
    while data[at : at + 4] != b"fmt ":
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return max(int.from_bytes(data[at + 12 : at + 16], "little"), 1)


def samples_of(data: bytes, form: Form) -> I32:
    """Samples [frames, channels]; those of one byte are unsigned."""
    count = form.frames * form.channels
    raw = np.frombuffer(data, np.uint8, count * form.width, form.front).reshape(count, form.width)
    wide = np.zeros((count, 4), np.uint8)
    wide[:, 4 - form.width :] = raw
    values = wide.reshape(-1).view("<i4").astype(np.int32) >> (32 - 8 * form.width)
    if form.width == 1:
        values = np.bitwise_xor(raw[:, 0], 128).view(np.int8).astype(np.int32)
    return np.ascontiguousarray(values.reshape(form.frames, form.channels))


def bytes_from(samples: I32, width: int) -> bytes:
    """Inverse of samples_of."""
    if width == 1:
        return np.bitwise_xor(samples.astype(np.int8).view(np.uint8), 128).tobytes()
    wide = samples.astype("<i4").reshape(-1, 1).view(np.uint8)
    return np.ascontiguousarray(wide[:, :width]).tobytes()
