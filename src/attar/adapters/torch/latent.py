"""Trains an encoder and a decoder of images; the decoder comes out in integers, for attar.latent.network.

Latents have a logistic distribution each (Balle, Laparra and Simoncelli 2017); rounding is noise for the rate and is
passed over by gradients for the picture (Minnen and Singh 2020). In the second half of training weights and values
between layers are rounded as the file has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attar.latent.network import MOST_LATENT, MOST_SHIFT, TOP, Layer, Network
from attar.latent.settings import Settings
from attar.types import Array

CROP = 32
"""Rows and columns of an image that a step looks at; larger images are cut at random."""
UNIT = 256
"""What 1.0 between layers is in the file."""
FINE = 8
"""Steps of the weights' grid in a standard deviation of a layer's weights."""
COARSE = 8.0
"""Latents for a value of 1."""
FASTER = 1, 10
"""Learning rates of the networks, and of the latents' centres and scales, which have further to go."""
CLIP = 50.0
"""Length of a gradient at most."""
REPAIRS, REPAIR_STEP, NATS = 30, 0.4, 1.0
"""Steps that look for latents with the right answer; how far a latent goes in one; bits a pixel for a nat of KL."""
Sight = Callable[[Tensor], Tensor]
"""From pixels [n, channels, height, width] in 0 .. 255 to a model's scores [n, ...]."""


class Rounded(nn.Conv2d):
    """A convolution whose weights can be rounded to the file's grid: steps of a power of two."""

    exponent: int | None = None

    def settle(self, least: int) -> None:
        """Fix the grid: FINE steps in a standard deviation, and at least 2**least steps in 1."""
        wish = math.ceil(math.log2(FINE / max(float(self.weight.detach().std(unbiased=False)), 1e-6)))
        top = math.floor(math.log2(32767 / max(float(self.weight.detach().abs().max()), 1e-6))) - 1
        self.exponent = min(max(wish, least), top, least + MOST_SHIFT)

    def forward(self, x: Tensor) -> Tensor:
        """As a convolution."""
        if self.exponent is None:
            return super().forward(x)
        return F.conv2d(x, _rounded(self.weight, 2.0**self.exponent), self.bias, padding=self.padding)  # type: ignore[arg-type]


class Decoder(nn.Module):
    """Four convolutions; places double after the first and the last.

    Most of them are at twice the latents' places: that takes fewer weights for as many products, and weights are bytes.
    """

    def __init__(self, channels: int, settings: Settings) -> None:
        super().__init__()
        width = settings.width
        sizes = [(settings.latents, 4 * width), (width, width), (width, width), (width, 4 * channels)]
        self.layers = nn.ModuleList(Rounded(a, b, 3, padding=1) for a, b in sizes)
        self.up = (2, 1, 1, 2)
        first, last = self.layers[0], self.layers[-1]
        assert isinstance(first, Rounded) and isinstance(last, Rounded) and last.bias is not None
        nn.init.constant_(last.bias, 0.3)
        with torch.no_grad():
            first.weight /= COARSE

    def settle(self) -> None:
        """From here on, what is trained is what the file will hold."""
        for k, layer in enumerate(self.layers):
            assert isinstance(layer, Rounded)
            layer.settle(8 if k == 0 else 0)

    def forward(self, latents: Tensor) -> Tensor:
        """Images [n, channels, h, w] in 0 .. 255 of latents, which are integers or nearly so."""
        x = latents
        for layer, up in zip(self.layers, self.up, strict=True):
            x = layer(x)
            if layer is not self.layers[-1]:
                x = x.clamp(0, TOP / UNIT)
                x = x if layer.exponent is None else _rounded(x, UNIT)
            x = F.pixel_shuffle(x, up) if up > 1 else x
        return x * UNIT

    def network(self) -> Network:
        """As integers; `settle` has been called."""
        layers = []
        for k, (layer, up) in enumerate(zip(self.layers, self.up, strict=True)):
            assert isinstance(layer, Rounded) and layer.exponent is not None and layer.bias is not None
            weight = torch.round(layer.weight.detach() * 2.0**layer.exponent).to(torch.int64).numpy()
            bits = layer.exponent + (0 if k == 0 else 8)  # of the sum behind the point
            bias = torch.round(layer.bias.detach().double() * 2.0**bits).to(torch.int64).numpy()
            shift = bits - 8
            bias = np.clip(bias + (1 << shift >> 1), -(2**31), 2**31 - 1)
            weight = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
            order = _shuffle_order(len(weight), up)
            layers.append(Layer(3, up, shift, weight[order].astype(np.int16), bias[order].astype(np.int32)))
        return Network(tuple(layers))


def _shuffle_order(outputs: int, up: int) -> Array:
    """Outputs by (row, column, channel), which PyTorch has by (channel, row, column)."""
    return np.arange(outputs).reshape(-1, up, up).transpose(1, 2, 0).reshape(-1)


def _rounded(x: Tensor, steps: float) -> Tensor:
    """To a grid of so many steps in 1; gradients pass."""
    return x + (torch.round(x * steps) / steps - x).detach()


class Rate(nn.Module):
    """Bits of latents: logistic, by row, column and channel. What latents say of each other is left to the coder."""

    def __init__(self, latents: int, places: tuple[int, int]) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(latents, *places))
        self.log_scale = nn.Parameter(torch.full((latents, *places), 1.0))

    def forward(self, noisy: Tensor) -> Tensor:
        """Bits of each image."""
        away, scale = (noisy - self.centre).abs(), torch.exp(-self.log_scale)
        share = torch.sigmoid((0.5 - away) * scale) - torch.sigmoid((-0.5 - away) * scale)
        return -torch.log2(share.clamp_min(1e-9)).sum((1, 2, 3))


class Trainer:
    """Encoder, decoder and rate, and the images that they learn from."""

    def __init__(self, images: Array, settings: Settings) -> None:
        """images [n, height, width, channels] uint8."""
        _, height, width, channels = images.shape
        self._settings = settings
        self._images = _planes(images)
        self._random = torch.Generator().manual_seed(settings.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            wide = settings.encoder
            self._encoder = nn.Sequential(
                nn.Conv2d(channels, wide, 5, 2, 2), nn.LeakyReLU(0.1), nn.Conv2d(wide, 2 * wide, 5, 2, 2),
                nn.LeakyReLU(0.1), nn.Conv2d(2 * wide, settings.latents, 3, 1, 1),
            )  # fmt: skip
            self._decoder = Decoder(channels, settings)
        self._whole = max(height, width) <= CROP
        seen = (height, width) if self._whole else (min(height, CROP), min(width, CROP))
        self._seen = seen
        places = (-(-seen[0] // 4), -(-seen[1] // 4)) if self._whole else (1, 1)
        self._rate = Rate(settings.latents, places)
        parts = (self._encoder, self._decoder, self._rate)
        self._parameters = [one for part in parts for one in part.parameters()]
        groups = [{"params": [one for part in parts[:2] for one in part.parameters()]}]
        groups.append({"params": list(self._rate.parameters())})
        self._adam = torch.optim.Adam(groups, settings.rate)

    def step(self, weight: float, pace: float, *, noisy: bool) -> tuple[float, float]:
        """One step at `pace` times the learning rate: bits a pixel, and the squared error, which weighs `weight`."""
        for group, factor in zip(self._adam.param_groups, FASTER, strict=True):
            group["lr"] = pace * factor * self._settings.rate
        images = self._drawn()
        latents = self._latents(images)
        noise = torch.rand(latents.shape, generator=self._random) - 0.5
        bits = self._rate(latents + noise).sum() / images[:, 0].numel()
        made = self._cut(self._decoder(latents + noise if noisy else _rounded(latents, 1)), images)
        square = ((made - images) ** 2).mean()
        self._adam.zero_grad()
        (bits + weight * square).backward()
        nn.utils.clip_grad_norm_(self._parameters, CLIP)
        self._adam.step()
        return float(bits.detach()), float(square.detach())

    def settle(self) -> None:
        """Round weights and values as the file will have them, from now on."""
        self._decoder.settle()

    def network(self) -> Network:
        """The decoder; `settle` has been called."""
        return self._decoder.network()

    def encode(self, images: Array) -> Array:
        """Latents [n, h, w, latents] int16 of images [n, height, width, channels], a few at a time."""
        parts = []
        with torch.no_grad():
            for start in range(0, len(images), 256):
                some = _planes(images[start : start + 256]).float()
                latents = torch.round(self._latents(some)).clamp(-MOST_LATENT, MOST_LATENT)
                parts.append(latents.permute(0, 2, 3, 1).to(torch.int16).numpy())
        return np.concatenate(parts)

    def pictures(self, latents: Array, height: int, width: int) -> Array:
        """Images [n, height, width, channels] of latents, as the file's network makes them but for a few roundings."""
        with torch.no_grad():
            parts = [self._decoder(_planes(some).float()) for some in np.array_split(latents, -(-len(latents) // 256))]
        pixels = torch.round(torch.cat(parts)).clamp(0, TOP).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return np.ascontiguousarray(pixels[:, :height, :width])

    def repaired(self, images: Array, latents: Array, sight: Sight, weight: float, share: float = 1.0) -> Array:
        """Latents near the given ones of whose pictures a model says what it says of the images [n, ...], where found.

        They are moved along the gradient of `share` of bits and squared error (as in `step`) and of the KL of the
        answers, rounded at each step; of those with the right answer the cheapest are kept. What finds none comes back
        as it was.
        """
        parts = [
            self._repaired(some, _planes(given).float(), sight, (weight, share))
            for some, given in zip(*(np.array_split(x, -(-len(x) // 64)) for x in (images, latents)), strict=True)
        ]
        return np.concatenate(parts)

    def _repaired(self, images: Array, start: Tensor, sight: Sight, weights: tuple[float, float]) -> Array:
        wanted = _planes(images).float()
        pixels = wanted[0, 0].numel()
        with torch.no_grad():
            before = torch.log_softmax(sight(wanted).flatten(1), 1)
        place = start.clone().requires_grad_()
        best, least = start.clone(), torch.full((len(start),), math.inf)
        for _ in range(REPAIRS):
            latents = _rounded(place, 1)
            made = self._cut(self._decoder(latents), wanted).clamp(0, TOP)
            after = torch.log_softmax(sight(made).flatten(1), 1)
            cost = self._rate(latents) / pixels + weights[0] * ((made - wanted) ** 2).mean((1, 2, 3))
            nats = (before.exp() * (before - after)).sum(1)
            with torch.no_grad():
                right = (before.argmax(1) == after.argmax(1)) & (cost < least)
                best[right], least[right] = latents.detach()[right], cost.detach()[right]
            (slope,) = torch.autograd.grad((weights[1] * cost + NATS * nats).sum(), [place])
            with torch.no_grad():
                # The latent that matters most goes furthest: a step for all alike would change every one of them.
                place -= REPAIR_STEP * slope / slope.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
        found = torch.round(best).clamp(-MOST_LATENT, MOST_LATENT)
        return found.permute(0, 2, 3, 1).to(torch.int16).numpy()

    def _cut(self, made: Tensor, images: Tensor) -> Tensor:
        """Without the rows and columns that fill up whole places."""
        return made[..., : images.shape[2], : images.shape[3]]

    def _latents(self, images: Tensor) -> Tensor:
        """Of images in 0 .. 255; rows and columns are filled up to whole places."""
        below, right = -images.shape[2] % 4, -images.shape[3] % 4
        filled = F.pad(images / UNIT, (0, right, 0, below), mode="replicate") if below or right else images / UNIT
        return torch.as_tensor(self._encoder(filled) * COARSE)

    def _drawn(self) -> Tensor:
        """Images of a step, cut where they are large."""
        number, _, height, width = self._images.shape
        rows = torch.randint(number, (self._settings.batch,), generator=self._random)
        y, x = (
            int(torch.randint(size - seen + 1, (1,), generator=self._random))
            for size, seen in zip((height, width), self._seen, strict=True)
        )
        return self._images[rows, :, y : y + self._seen[0], x : x + self._seen[1]].float()


def _planes(images: Array) -> Tensor:
    """[n, height, width, channels] with channels first."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
