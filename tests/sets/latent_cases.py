"""Networks of random integers for the tests."""

from __future__ import annotations

import numpy as np

from attar.latent.network import MOST_LATENT, Layer, Network


def network(seed=0, latents=5, channels=1, kernels=(3, 1, 5), ups=(2, 1, 2), largest=60):
    """Layers whose values fill the range between them."""
    rng = np.random.default_rng(seed)
    layers, inputs = [], latents
    for k, (kernel, up) in enumerate(zip(kernels, ups, strict=True)):
        outputs = (channels if k == len(kernels) - 1 else int(rng.integers(2, 7))) * up**2
        weight = rng.integers(-largest, largest + 1, (outputs, kernel**2 * inputs)).astype(np.int16)
        bias = rng.integers(-5000, 30000, outputs).astype(np.int32)
        layers.append(Layer(kernel, up, int(rng.integers(4, 9)), weight, bias))
        inputs = outputs // up**2
    return Network(tuple(layers))


def latents(n, height, width, number, seed=0, most=MOST_LATENT):
    return np.random.default_rng(seed).integers(-most, most + 1, (n, height, width, number)).astype(np.int16)
