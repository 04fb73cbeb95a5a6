"""A layer on the per-channel int8 grid that runtimes have."""

from __future__ import annotations

import numpy as np

from attar.methods.fixed import Fixed
from attar.types import Array, Layer, Stats, Weight

CHOICE = {"bits": 8, "part": 0, "rounding": "descent", "range": "mse", "alpha": 0.0}


def on_grid(layer: Layer, weight: Weight, stats: Stats) -> tuple[Weight, Array]:
    """The weight as codes times scales [rows], and the scales.

    The reach of a row has the least squared error; codes are rounded with error feedback and coordinate descent on the
    inputs' second moments (methods/fixed.py), with the mean error taken off the bias.
    """
    encoded = Fixed.encode(layer, weight, stats, CHOICE)
    units, _ = Fixed.units(encoded)
    return Fixed.decode(encoded), np.maximum(np.asarray(units[:, 0], np.float32), np.float32(1e-30))
