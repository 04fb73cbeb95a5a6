"""What one use of a weight saw in a piece of a batch, as captures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from attar.adapters.onnx.forms import Convolution, Lookup, spread
from attar.adapters.onnx.sites import Site
from attar.types import Array, Capture

COLUMN_BYTES = 2**27
"""Bytes of columns in one Capture of a convolution."""


def captured(owner: str, site: Site, tensors: Mapping[str, Array], count: int) -> Iterator[Capture]:
    """The captures of one use of a weight from one piece of a batch."""
    sources = [tensors[name] for name in site.sources]
    y = None if site.output is None else _product_of(site, tensors[site.output])
    if isinstance(site.form, Lookup):
        products = None if y is None else site.form.products(sources, y)
        yield Capture(owner, None, products, site.form.columns(sources, None))
        return
    step = count
    if isinstance(site.form, Convolution) and len(sources[0]) == count:
        window = site.form.attributes.window(site.form.shape[2:], sources[0].shape[2:])
        each = 4 * site.form.groups * site.form.cols * math.prod(window.positions(sources[0].shape[2:]))
        step = max(COLUMN_BYTES // max(each, 1), 1)
    for start in range(0, count, step):
        some = sources if step >= count else [sources[0][start : start + step]]
        columns = site.form.columns(some, None)
        if y is None:
            yield Capture(owner, columns, None)
        else:
            part = y if step >= count else y[start : start + step]
            yield Capture(owner, columns, site.form.products(some, part))


def _product_of(site: Site, y: Array) -> Array:
    """An operator's output without what the operator itself adds."""
    if site.own is None:
        return y
    constant = spread(site.own.read(), site.form.row_axes or (), site.form.row_sizes, y.ndim)
    return np.asarray(y - (site.own_scale * constant).astype(y.dtype))
