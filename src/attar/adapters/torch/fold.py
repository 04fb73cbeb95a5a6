"""Fold batch norms into the layers before them; each stays in place as an identity with a shift.

Mean 0, variance 1 - epsilon, weight 1, bias the folded shift, which becomes the layer's bias; the layer's own bias
becomes zero and stays in the remainder. Only float32 and float64 are folded: 16 bits cannot hold 1 - epsilon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from attar.adapters.torch.forms import Bias, Site
from attar.adapters.torch.graph import Norm

WIDE = (torch.float32, torch.float64)


def fold(
    norms: Sequence[Norm], sites: Sequence[Site], tensors: Mapping[str, Tensor]
) -> tuple[list[Site], dict[str, float]]:
    """Fold in place; the sites with their new biases, and the value of every tensor that is now one constant."""
    by_name = {site.name: site for site in sites}
    constants: dict[str, float] = {}
    for norm in norms:
        site = by_name.get(norm.layer)
        if site is not None and _fits(norm, site, tensors):
            _fold_one(norm, site, tensors)
            by_name[norm.layer] = replace(site, bias=Bias(norm.bias))
            constants |= {norm.weight: 1.0, norm.mean: 0.0, norm.variance: 1 - norm.epsilon}
            if norm.layer_bias is not None:
                constants[norm.layer_bias] = 0.0
    return [by_name[site.name] for site in sites], constants


def _fits(norm: Norm, site: Site, tensors: Mapping[str, Tensor]) -> bool:
    """Whether there is one entry for each row, no tie, and precision enough."""
    names = [norm.layer, norm.weight, norm.bias, norm.mean, norm.variance]
    own = [tensors.get(name) for name in [*names, *([norm.layer_bias] if norm.layer_bias else [])]]
    shaped = [t is not None and t.dtype in WIDE for t in own]
    return all(shaped) and all(t is not None and t.shape == (site.form.rows,) for t in own[1:])


@torch.no_grad()
def _fold_one(norm: Norm, site: Site, tensors: Mapping[str, Tensor]) -> None:
    """W' = diag(weight / sqrt(var + eps)) W, bias' = bias + (own bias - mean) weight / sqrt(var + eps), in float64."""
    # Epsilon as other frameworks' files hold it: the same weights then fold to the same bits.
    epsilon = float(np.float32(norm.epsilon))
    scale = tensors[norm.weight].double() / torch.sqrt(tensors[norm.variance].double() + epsilon)
    own = tensors[norm.layer_bias].double() if norm.layer_bias is not None else 0.0
    shift = tensors[norm.bias].double() + (own - tensors[norm.mean].double()) * scale
    weight = tensors[norm.layer]
    folded = site.form.tensor(site.form.matrix(weight.double()) * scale[:, None], weight.shape)
    weight.copy_(folded)
    tensors[norm.bias].copy_(shift)
    tensors[norm.weight].fill_(1.0)
    tensors[norm.mean].zero_()
    tensors[norm.variance].fill_(1 - norm.epsilon)
    if norm.layer_bias is not None:
        tensors[norm.layer_bias].zero_()
