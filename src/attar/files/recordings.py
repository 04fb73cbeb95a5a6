"""WAV files one at a time: what they hold, how loud they are, their transcripts, and a picture of their spectrum."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attar.data.wav import form_of, samples_of
from attar.files.pictures import part_and_label

SUFFIXES = (".wav",)
TRANSCRIPTS = (".txt", ".lab", ".trans")
"""Endings of what a recording says, in a file of its name beside it."""
SIDE = 32
"""Rows (bands) and columns (times) of the picture of a spectrum."""
BANDS = (100.0, 4000.0)
"""Hertz of the lowest and the highest band, which all usual rates hold."""
RANGE = 50.0
"""Decibels below the loudest place that the picture shows."""
FULL = 0.999
RUN = 3
"""So many samples in a row at full scale are clipped: one may be so by chance."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A WAV file: where it lies, and what is in it; `error` says why it cannot be read, "" where it can.

    `peak` and `level` (root of the mean square) are shares of full scale, `clipped` the share of samples in runs at
    full scale, `transcript` what it says (None: no file), `digest` is of form and samples.
    """

    path: str
    part: str
    label: str
    rate: int = 0
    channels: int = 0
    bits: int = 0
    seconds: float = 0.0
    peak: float = 0.0
    level: float = 0.0
    clipped: float = 0.0
    transcript: str | None = None
    digest: str = ""
    error: str = ""


def listen(folder: Path, paths: Sequence[str]) -> Iterator[tuple[Recording, NDArray[np.float32] | None]]:
    """Each recording with its samples [n], the mean of its channels in -1 .. 1; None where it cannot be read."""
    for path in paths:
        part, label = part_and_label(path)
        said = transcript_of(folder / path)
        try:
            data = (folder / path).read_bytes()
            form = form_of(data)
        except OSError as error:
            yield Recording(path, part, label, transcript=said, error=str(error.strerror)), None
            continue
        if form is None:
            told = "no samples in PCM of 8, 16 or 24 bits in one or two channels"
            yield Recording(path, part, label, transcript=said, error=told), None
            continue
        (stated,) = struct.unpack_from("<I", data, form.front - 4)
        held = form.frames * form.channels * form.width
        if stated > len(data) - form.front:
            told = f"{held:,} of {stated:,} bytes of samples are there"
            yield Recording(path, part, label, transcript=said, error=told), None
            continue
        samples = samples_of(data, form)
        (rate,) = struct.unpack_from("<I", data, data.index(b"fmt ") + 12)
        scaled = samples.astype(np.float32) / np.float32(1 << (8 * form.width - 1))
        mark = f"{rate} {form.channels} {form.width}".encode()
        yield Recording(
            path, part, label, rate, form.channels, 8 * form.width, form.frames / max(rate, 1),
            float(np.abs(scaled).max()), float(np.sqrt(np.mean(scaled.astype(np.float64) ** 2))), _clipped(scaled),
            said,
            hashlib.blake2b(mark + samples.tobytes(), digest_size=16).hexdigest(),
        ), scaled.mean(1)  # fmt: skip


def transcript_of(path: Path) -> str | None:
    """What stands in the file beside a recording; None where there is none."""
    for ending in TRANSCRIPTS:
        beside = path.with_suffix(ending)
        if beside.is_file():
            return beside.read_text("utf-8", errors="replace").strip()
    return None


def _clipped(samples: NDArray[np.float32]) -> float:
    """The share of samples [n, channels] at full scale with others beside them."""
    full = np.abs(samples) >= FULL
    if len(full) < RUN:
        return 0.0
    runs = np.lib.stride_tricks.sliding_window_view(full, RUN, axis=0).all(-1)
    return float(runs.sum()) / full.size


def spectrum(samples: NDArray[np.float32], rate: int) -> NDArray[np.uint8]:
    """A picture uint8 [SIDE, SIDE] of bands by time: decibels below the loudest place; the same for louder copies."""
    size = 1 << max(int(rate / 25), 64).bit_length()
    padded = np.pad(samples, (0, max(0, 2 * size - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 2]
    edges = np.geomspace(*BANDS, SIDE + 1) * size / max(rate, 1)
    first = np.minimum(edges[:-1].astype(int), size // 2)
    last = np.maximum(np.minimum(edges[1:].astype(int), size // 2) + 1, first + 1)
    energy = np.zeros((SIDE, SIDE))
    window = np.hanning(size).astype(np.float32)
    for column, some in enumerate(np.array_split(np.arange(len(frames)), SIDE)):
        chosen = some if len(some) else np.array([min(column * len(frames) // SIDE, len(frames) - 1)])
        power = (np.abs(np.fft.rfft(frames[chosen] * window)) ** 2).mean(0)
        sums = np.concatenate([[0.0], np.cumsum(power)])
        energy[:, column] = (sums[last] - sums[first]) / (last - first)
    loudest = energy.max()
    if not loudest > 0:
        return np.zeros((SIDE, SIDE), np.uint8)
    decibels = 10 * np.log10(np.maximum(energy / loudest, 10 ** (-RANGE / 10)))
    return np.rint(255 * (1 + decibels / RANGE)).astype(np.uint8)
