"""Training a network for a stack of images until what it loses is what may be lost: one run, with a moving slope."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from attar.latent import codes
from attar.latent.network import I16, U8, Network
from attar.latent.settings import Settings
from attar.run.progress import Progress
from attar.sets.aims import I64, Near, Viewer, Within, torch_part

NOISY, SETTLED, FALLING = 0.15, 0.5, 0.5
"""Shares of the steps at which pictures are made of rounded latents, weights are rounded, the learning rate falls."""
WARM = 200
CHECKS = 30
CHECKED = 256
"""Images that are looked at to move the slope."""
MOST_RATIO = 2.0
"""What is lost over what may be: more, or less than its inverse, moves the slope no faster."""
MARGIN = 0.97
"""Of what may be lost is aimed at: few images are looked at."""
GAIN, FINAL_GAIN = 0.8, 3.0
FIRST = 0.3
"""Bits a pixel for the error that is aimed at, at first."""
REPAIR_COSTS = (1.0, 0.1)
"""What bits and squared errors count in looking for latents with the right answer, in one attempt after the other."""
ROUNDS = 3
"""Further runs, of a fifth of the steps each, where too much is lost."""


class Fitted:
    """A network with the encoder that belongs to it, and what is lost of images that were not trained on."""

    def __init__(self, trainer: Any, viewer: Viewer | None, weight: float) -> None:
        """With a viewer, images of which it says something else are coded again."""
        self.network: Network = trainer.network()
        self.ratio = math.inf
        self._trainer, self._viewer, self._weight = trainer, viewer, weight

    def encode(self, images: U8) -> I16:
        """Latents [n, h, w, c] of images [n, height, width, channels]."""
        latents: I16 = self._trainer.encode(images)
        if self._viewer is not None:
            made = codes.pixels(self.network, latents, *images.shape[1:3])
            other = np.flatnonzero(self._viewer.answers(images) != self._viewer.answers(made))
            if other.size:
                latents[other] = self._trainer.repaired(images[other], latents[other], self._viewer.sight, self._weight)
        return latents

    def made(self, images: U8) -> U8:
        """Images as they come back."""
        return codes.pixels(self.network, self.encode(images), *images.shape[1:3])


def fit(
    images: U8,
    rows: tuple[I64, I64],
    near: Near,
    within: Within | None,
    settings: Settings,
    progress: Progress,
) -> Fitted:
    """A network for images [n, height, width, channels]: trained on the first rows, measured on the second.

    Needs PyTorch; raises UsageError without it.
    """
    train, held = rows
    trainer = torch_part("trainer")(images[train], settings)
    run = _Run(trainer, images, held, near, within, progress, FIRST / near.most**2)
    run.main(settings.steps)
    found = run.measured()
    for _ in range(ROUNDS):
        if found.ratio <= 1:
            break
        run.weight *= max(found.ratio, 1.05) ** FINAL_GAIN
        run.more(-(-settings.steps // 5))
        found = run.measured()
    return found


@dataclass
class _Run:
    """One training; weight is the slope: bits a pixel for a squared error of 1."""

    trainer: Any
    images: U8
    held: I64
    near: Near
    within: Within | None
    progress: Progress
    weight: float

    def main(self, steps: int) -> None:
        """All phases."""
        every, settled = max(steps // CHECKS, 1), int(SETTLED * steps)
        self.progress.stage("training", steps)
        for step in range(steps):
            share = step / steps
            if step == settled:
                self.trainer.settle()
            pace = min(1.0, (step + 1) / min(WARM, steps))
            if share > FALLING:
                pace *= 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (share - FALLING) / (1 - FALLING)))
            self.trainer.step(self.weight, pace, noisy=share < NOISY)
            self.progress.step()
            if (step + 1) % every == 0 and share > NOISY:
                self.weight *= self._check() ** GAIN

    def more(self, steps: int) -> None:
        """Another run at a falling pace."""
        self.progress.stage("training on", steps)
        for step in range(steps):
            self.trainer.step(self.weight, 0.2 * (1 - step / steps) + 0.002, noisy=False)
            self.progress.step()

    def _check(self) -> float:
        """What is lost now, of a few images, within reason."""
        rows = self.held[:CHECKED]
        some = self.images[rows]
        latents = self.trainer.encode(some)
        made = self.trainer.pictures(latents, *some.shape[1:3])
        ratio = self.near.ratio(rows, made)
        if self.within is not None and ratio < MOST_RATIO:
            viewer = self.within.viewer
            other = np.flatnonzero(viewer.before(rows) != viewer.answers(made))
            if other.size:
                again = self.trainer.repaired(some[other], latents[other], viewer.sight, self.weight)
                made[other] = self.trainer.pictures(again, *some.shape[1:3])
            ratio = self.within.ratio(rows, made)
        return min(max(ratio / MARGIN, 1 / MOST_RATIO), MOST_RATIO)

    def measured(self) -> Fitted:
        """The network as the file will have it, and what it loses of all images that are held out."""
        found = Fitted(self.trainer, self.within.viewer if self.within is not None else None, self.weight)
        found.ratio = (self.within or self.near).ratio(self.held, found.made(self.images[self.held]))
        return found
