"""Images of a set that may differ: which, how much, and the parts of the archive that they become."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from attar.adapters.base import Adapter
from attar.archive import blobs
from attar.archive.base import SectionInfo
from attar.archive.parts import PART
from attar.errors import UsageError
from attar.latent import codes
from attar.latent.network import U8
from attar.latent.settings import Settings
from attar.run.progress import Progress
from attar.sets import images
from attar.sets.aims import I64, Near, Viewer, Within
from attar.sets.contents import Source, stack_pixels
from attar.sets.fitting import Fitted, fit
from attar.sets.images import MOST_SITES
from attar.sets.labels import labels_of
from attar.sets.tiles import Stack
from attar.types import Array, Certificate

FEWEST = 256
"""Images (or tiles) of one size: a network for fewer is not worth its bytes."""
HELD, MOST_HELD = 10, 2000
"""One image of so many measures what is lost, so many at most."""
CERTIFIED, MOST_CERTIFIED = 3, 10_000
"""One of so many, so many at most, is kept for the certificate."""
LEAST_QUALITY = 0.7
"""Of images for a model, where none is asked for."""
LEAST_ERROR = 0.5
"""Grey levels: rounding alone makes as many."""
Coded = tuple[SectionInfo, bytes]


@dataclass(frozen=True)
class Loss:
    """What may be lost: see `pack`. With `exact` it is what the network alone may lose, and the rest is coded too."""

    quality: float | None = None
    max_drop: float | None = None
    adapter: Adapter | None = field(default=None, repr=False)
    confidence: float = 0.95
    settings: Settings = field(default_factory=Settings)
    exact: bool = False

    @property
    def least(self) -> float:
        """The quality that images have at least."""
        return LEAST_QUALITY if self.quality is None else self.quality


@dataclass(frozen=True)
class Lost:
    """What was lost: of images that were not trained on, measured on what was decoded.

    held: their number; error: root mean square in grey levels, of all images that may differ; quality: 1 less its share
    of the pixels' standard deviation, of held ones; agreement: share of them of which the model says the same;
    reached: whether that is what was asked for; exact: this is of what the network makes, and the rest is there too.
    """

    held: int
    error: float
    quality: float
    agreement: float | None
    reached: bool
    certificate: Certificate | None = None
    exact: bool = False


@dataclass
class Share:
    """Images of one number of channels: where they are, which rows are trained on, held out and certified."""

    pixels: U8
    train: I64
    held: I64
    certified: I64
    fitted: Fitted
    viewer: Viewer | None


class Lossy:
    """Trained networks, and what becomes of each stack."""

    def __init__(self, loss: Loss, place: Path, work: tuple[Source, Sequence[Stack]], told: Progress) -> None:
        """Trains; raises UsageError, DataError."""
        source, stacks = work
        self.loss, self._source = loss, source
        self.error = self.pixels = 0
        self.shares: dict[int, Share] = {}
        self._first: dict[int, int] = {}
        for k, stack in enumerate(stacks):
            channels = stack.shape[2]
            known = self._first.get(channels)
            if len(stack) >= FEWEST and (known is None or len(stack) > len(stacks[known])):
                self._first[channels] = k
        cut = any(y or x for stack in stacks for _, y, x in stack)
        if loss.adapter is not None and (len({stack.shape for stack in stacks}) != 1 or not self._first or cut):
            raise UsageError(
                f"for: the images must be of one size, {MOST_SITES} bytes at most, {FEWEST} at least. Received "
                f"{len(stacks)} stacks of {sorted({stack.shape for stack in stacks})[:5]}. Leave out --for."
            )
        for channels, k in sorted(self._first.items()):
            self.shares[channels] = self._trained(stack_pixels(source, stacks[k]), place, told)

    def _trained(self, pixels: U8, place: Path, told: Progress) -> Share:
        loss = self.loss
        rows = np.random.default_rng(loss.settings.seed).permutation(len(pixels))
        held = min(len(pixels) // HELD, MOST_HELD)
        kept = min(len(pixels) // CERTIFIED, MOST_CERTIFIED) if loss.max_drop is not None else 0
        parts = np.sort(rows[held + kept :]), np.sort(rows[:held]), np.sort(rows[held : held + kept])
        viewer = None
        if loss.adapter is not None:
            viewer = Viewer(loss.adapter, pixels, labels_of(place, self._source)[: len(pixels)])
        spread = float(np.std(pixels[parts[0]], dtype=np.float64))
        most = max((1 - loss.least) * spread, LEAST_ERROR)
        near, within = Near(pixels, most), None
        if viewer is not None and loss.max_drop is not None:
            within = Within(near, viewer, loss.max_drop, loss.confidence, kept)
        fitted = fit(pixels, parts[:2], near, within, loss.settings, told)
        return Share(pixels, *parts, fitted, viewer)

    def takes(self, stack: Stack) -> bool:
        """Whether its images may differ."""
        return stack.shape[2] in self.shares

    def alters(self, channels: int) -> bool:
        """Whether images of so many channels come back altered."""
        return channels in self.shares and not self.loss.exact

    def networks(self) -> Iterator[Coded]:
        """The part of each network."""
        for channels, share in self.shares.items():
            yield blobs.code_arrays(f"network {channels}", PART, share.fitted.network.arrays(), "dense")

    def parts(self, k: int, pixels: U8) -> Iterator[Coded]:
        """The latents of a stack [n, height, width, channels]."""
        fitted = self.shares[pixels.shape[3]].fitted
        latents = fitted.encode(pixels)
        made = codes.pixels(fitted.network, latents, *pixels.shape[1:3])
        self.error += squares(pixels, made)
        self.pixels += pixels.size
        for j, matrix in enumerate(codes.matrices(latents)):
            yield blobs.code_arrays(f"stack {k} latents {j}", PART, {"latents": matrix}, "dense")
        if self.loss.exact:
            yield from images.coded(k, images.rest(pixels, made))

    def wanted(self) -> set[int]:
        """Numbers of the images that `lost` needs as they were read back: those of a certificate."""
        return {int(row) for share in self.shares.values() for row in share.certified}

    def lost(self, back: dict[int, Array]) -> Lost | None:
        """What was lost; `back` are the wanted images, decoded from the file. None where no image may differ."""
        if not self.shares:
            return None
        held, certificate, ratio, agreement = 0, None, 0.0, None
        worst = 1.0
        for share in self.shares.values():
            made = share.fitted.made(share.pixels[share.held])
            spread = max(float(np.std(share.pixels[share.train], dtype=np.float64)), 1e-6)
            error = float(np.sqrt(squares(share.pixels[share.held], made) / made.size))
            held, ratio, worst = held + len(made), max(ratio, share.fitted.ratio), min(worst, 1 - error / spread)
            if share.viewer is not None:
                agreement = float(np.mean(share.viewer.before(share.held) == share.viewer.answers(made)))
            if share.viewer is not None and self.loss.max_drop is not None:
                read = np.stack([back[int(row)] for row in share.certified])
                certificate = share.viewer.certificate(share.certified, read, self.loss.max_drop, self.loss.confidence)
        reached = ratio <= 1 if certificate is None else certificate.verdict == "certified"
        error = float(np.sqrt(self.error / max(self.pixels, 1)))
        return Lost(held, error, worst, agreement, reached or self.loss.exact, certificate, self.loss.exact)


def squares(before: Array, made: Array) -> int:
    """Sum of squared errors, exact."""
    away = before.astype(np.int32) - made
    return int(np.sum(away * away, dtype=np.int64))
