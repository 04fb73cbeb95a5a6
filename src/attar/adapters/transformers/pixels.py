"""Images as a folder's own image processor makes them: resized, cropped, and scaled to what the model takes.

The library's processor does all of it. What it does to sizes and what it does to values are told apart, so that
pictures stay bytes until it is known which of them are used: values are scaled alike wherever they stand, and three
plain images tell how.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray

from attar.adapters.transformers.files import quiet, write_files
from attar.adapters.transformers.speech import PREPROCESSOR
from attar.errors import ModelError
from attar.types import Array

PIXELS = "pixel_values"
MOST_SIDE = 2048
"""Pixels of a side that a folder may ask for; more is not believed."""
PROBE = (96, 64)
NEAR = 1e-4
"""Of the range of values: how far from a straight line rounding may take them."""


class ImageProcessor:
    """What preprocessor_config.json says, as `attar.types.Pixels`; loaded when first needed, by Pillow and numpy."""

    def __init__(self, files: Mapping[str, bytes], channels: int) -> None:
        self._files, self._channels = files, channels

    @cached_property
    def _processor(self) -> Any:
        """The library's processor of the folder; raises ModelError."""
        try:
            _check_sides(json.loads(self._files[PREPROCESSOR]))
            with TemporaryDirectory() as folder, quiet():
                write_files(Path(folder), self._files)
                return transformers.AutoImageProcessor.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False, use_fast=False
                )
        except ModelError:
            raise
        except Exception as error:
            raise _unknown((str(error).strip().splitlines() or [type(error).__name__])[0][:200]) from error

    def _made(self, image: Array) -> Array:
        """What the processor makes of an image [h, w, channels]: floats [channels, height, width]."""
        try:
            with quiet(), np.errstate(all="ignore"):  # what is not finite is found by whoever looks at it
                made = self._processor(image, return_tensors="np", input_data_format="channels_last")[PIXELS]
        except ModelError:
            raise
        except Exception as error:
            raise _unknown((str(error).strip().splitlines() or [type(error).__name__])[0][:200]) from error
        if made.ndim != 4 or made.shape[:2] != (1, self._channels):
            raise _unknown(f"arrays {list(made.shape)} for one image of {self._channels} channels")
        return np.asarray(made[0], np.float64)

    @cached_property
    def _scales(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `scales`; raises ModelError where values are not scaled alike everywhere."""
        low, middle, high = (self._plain(value) for value in (0, 100, 255))
        with np.errstate(invalid="ignore"):
            rise = high - low
        if not np.all((rise > 0) & np.isfinite(rise)) or np.any(
            np.abs(low + rise * (100 / 255) - middle) > NEAR * rise
        ):
            raise _unknown("values that are not scaled by one factor")
        std = 255 / rise
        return -low * std, std

    def _plain(self, value: int) -> NDArray[np.float64]:
        """What becomes of this value, [channels]: in the middle, for a crop may be larger than the image."""
        made = self._made(np.full((*PROBE, self._channels), value, np.uint8))
        return np.asarray(made[:, made.shape[1] // 2, made.shape[2] // 2])

    @cached_property
    def size(self) -> tuple[int, int] | None:
        """See `attar.types.Pixels`."""
        tall, wide = (self._made(np.zeros((*s, self._channels), np.uint8)).shape[1:] for s in (PROBE, PROBE[::-1]))
        return (int(tall[0]), int(tall[1])) if tall == wide else None

    def framed(self, image: Array) -> Array:
        """See `attar.types.Pixels`; raises ModelError."""
        mean, std = self._scales
        values = np.rint(self._made(image) * std[:, None, None] + mean[:, None, None])
        if values.min() < 0 or values.max() > 255:
            raise _unknown("values that are not scaled by one factor")
        return np.ascontiguousarray(values.astype(np.uint8).transpose(1, 2, 0))

    def scales(self) -> tuple[Array, Array]:
        """See `attar.types.Pixels`; raises ModelError."""
        return self._scales


def pixels_of(network: Any, files: Mapping[str, bytes]) -> ImageProcessor | None:
    """Of a model that takes images and came with a processor."""
    if network.main_input_name != PIXELS or PREPROCESSOR not in files:
        return None
    return ImageProcessor(files, int(getattr(network.config, "num_channels", 3)))


def _check_sides(told: Any) -> None:
    """That no size is beyond reason; raises ModelError."""
    for name in ("size", "crop_size", "pad_size"):
        wanted = told.get(name) if isinstance(told, dict) else None
        for side in wanted.values() if isinstance(wanted, dict) else [wanted]:
            if isinstance(side, int | float) and not 0 < side <= MOST_SIDE:
                raise _unknown(f"{name} {side:g}, where 1 to {MOST_SIDE} are allowed")


def _unknown(received: str) -> ModelError:
    """The error for a processor that cannot be followed."""
    return ModelError(
        f"model {PREPROCESSOR}: it must say how images are resized, cropped and scaled. Received {received}. Give "
        f".npz with {PIXELS}, as the model is fed."
    )
