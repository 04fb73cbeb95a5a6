"""WAV files without loss: what stands before and behind the samples as it is, the samples by native/waves.cpp."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from attar.archive.base import broken, strict_json
from attar.archive.records import row
from attar.coding import kernel
from attar.coding.kernel import over_chunks
from attar.data.wav import WIDTHS, Form, bytes_from, form_of, samples_of
from attar.errors import FormatError
from attar.sets import mixed
from attar.types import Array

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
BLOCK = 1 << 20
"""Samples that are coded in one go, of all channels together; part of the file format."""


def waves_kernel() -> ModuleType:
    """The native code, or its twin."""
    found = kernel.kernel()
    return found if hasattr(found, "waves_encode") else import_module("attar.sets.sound_twin")


def encode(data: bytes) -> dict[str, Array] | None:
    """The arrays of a WAV file's part; None for what is none of PCM with 8, 16 or 24 bits in one or two channels, and
    for silence.
    """
    form = form_of(data)
    if form is None:
        return None
    samples = samples_of(data, form)
    codec, around = mixed.code_bytes(data[: form.front] + data[form.front + form.frames * form.channels * form.width :])
    parts = over_chunks(waves_kernel().waves_encode, np.split(samples, _cuts(form)))
    if samples.size > mixed.allowed(sum(map(len, parts))):
        return None
    head = json.dumps([form.front, form.frames, form.channels, form.width, codec, [len(part) for part in parts]])
    arrays = {"form": head.encode(), "around": around.tobytes(), "samples": b"".join(parts)}
    return {name: np.frombuffer(part, np.uint8) for name, part in arrays.items()}


def _cuts(form: Form) -> list[int]:
    """Where blocks end, but for the last."""
    return list(range(BLOCK // form.channels, form.frames, BLOCK // form.channels))


def decode(arrays: Mapping[str, Array], length: int, place: str) -> bytes:
    """The file of `length` bytes, which has been held against the archive's size; raises FormatError."""
    if set(arrays) != {"form", "around", "samples"} or any(a.dtype != np.uint8 or a.ndim != 1 for a in arrays.values()):
        raise broken(place, "it must have form, around and samples, of bytes", repr(sorted(arrays))[:200])
    form, codec, sizes = _form_from(arrays["form"].tobytes(), length, place)
    allowed = mixed.allowed(arrays["samples"].size)
    if form.frames * form.channels > allowed:
        raise broken(place, f"it may have {allowed} samples", str(form.frames * form.channels))
    held = form.frames * form.channels * form.width
    around = mixed.bytes_of(codec, arrays["around"], length - held)
    samples = np.empty((form.frames, form.channels), np.int32)
    blocks = np.split(samples, _cuts(form))
    if len(sizes) != len(blocks) or min(sizes) < 0 or sum(sizes) != arrays["samples"].size:
        raise broken(place, f"there must be {len(blocks)} blocks of samples", repr(sizes)[:200])
    parts = np.split(np.ascontiguousarray(arrays["samples"]), np.cumsum(sizes)[:-1])

    def one(pair: tuple[U8, I32]) -> None:
        with kernel.refused(f"{pair[1].size} samples", pair[0].size):
            waves_kernel().waves_decode(*pair)

    over_chunks(one, list(zip(parts, blocks, strict=True)))
    most = 1 << (8 * form.width - 1)
    if int(samples.max()) >= most or int(samples.min()) < -most:
        raise broken(place, f"samples must have {8 * form.width} bits", f"{samples.min()} to {samples.max()}")
    return around[: form.front] + bytes_from(samples, form.width) + around[form.front :]


def _form_from(text: bytes, length: int, place: str) -> tuple[Form, str, list[int]]:
    """Form, codec of what stands around, bytes of each block; every field checked."""
    try:
        fields = strict_json(text.decode())
    except (ValueError, RecursionError) as error:
        raise broken(place, "its form must be JSON", str(error)[:200]) from error
    front, frames, channels, width, codec, sizes = row(fields, (int, int, int, int, str, list), place)
    if (
        channels not in (1, 2)
        or width not in WIDTHS
        or front < 0
        or frames < 1
        or any(type(s) is not int for s in sizes)
    ):
        raise broken(place, "samples must be of a known form", f"{[front, frames, channels, width]}"[:200])
    if front + frames * channels * width > length:
        raise FormatError(
            f"{place}: the samples must lie in its {length} bytes. Received {frames} of {channels * width} bytes "
            f"behind {front}. Fetch the file again."
        )
    return Form(front, frames, channels, width), codec, sizes
