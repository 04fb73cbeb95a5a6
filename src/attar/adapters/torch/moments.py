"""Input statistics of PyTorch layers, summed up call by call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from attar.adapters import unfold
from attar.adapters.base import Batch
from attar.adapters.moments import IdCounts, MomentSum
from attar.adapters.torch.forms import Site
from attar.adapters.torch.products import Product
from attar.adapters.torch.taps import Hook
from attar.types import Stats


def gathered(
    watched: Callable[[Batch, Hook], object], sites: Mapping[str, Site], batches: Iterable[Batch]
) -> Mapping[str, Stats]:
    """Statistics of every layer that a batch reached; watched runs a batch with a hook on the layers wanted."""
    sums: dict[str, MomentSum | IdCounts] = {}
    order = {name: place for place, name in enumerate(sites)}
    start = 0
    for batch in batches:
        reached: set[str] = set()

        def hook(product: Product, start: int = start, reached: set[str] = reached) -> None:
            new = 0 if product.name in reached else product.examples
            reached.add(product.name)
            _accumulate(sums, sites[product.name], product, (order[product.name], start), new)

        watched(batch, hook)
        start += len(next(iter(batch.values())))
    stats = {name: sums.pop(name).stats() for name in sites if name in sums}
    return {name: each for name, each in stats.items() if each is not None}


def _accumulate(
    sums: dict[str, MomentSum | IdCounts], site: Site, product: Product, sample: tuple[int, int], examples: int
) -> None:
    """Add a call's columns to its layer's statistics; sample: the layer's place and the first example's number."""
    ids, form = product.ids(), site.form
    if ids is not None:
        counts = sums.setdefault(site.name, IdCounts(form.cols))
        assert isinstance(counts, IdCounts)
        counts.add(ids, examples)
        return
    positions = product.positions()
    picked = None if positions is None else unfold.pick(product.examples, positions, *sample)
    if site.name not in sums:
        pooled = form.kind in ("conv", "conv_transpose")
        sums[site.name] = MomentSum(form.groups, form.cols, pooled=pooled)
    moments = sums[site.name]
    assert isinstance(moments, MomentSum)
    moments.add(product.columns(picked), examples)
