"""Zeros by order while a layer is trained: a share of its weights that grows, or N of every M.

Sources: gradual magnitude pruning (Zhu and Gupta 2017, section 3: a cubic schedule; masked weights stay as they are and
come back where others become smaller) and SR-STE, the sparse-refined straight-through estimator (Zhou et al. 2021: N:M
from the beginning; gradients pass the mask, and masked weights are drawn to zero). Magnitudes are in steps, which are
short where an error matters: that makes the weights of all layers comparable, so that the share is one of all of them
together (Zhu and Gupta take it of each layer).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from attar import registry
from attar.errors import UsageError
from attar.methods import masks
from attar.methods.base import Tunable
from attar.methods.grid import FEW_ROWS
from attar.recover.base import F32, Form, Latent
from attar.recover.penalties import Penalty, penalty
from attar.recover.settings import RecoverySettings
from attar.types import Layer

FREEZE = 0.75
"""Share of the training after which masks stay: the schedule ends there, and what is left makes up for it."""
LOOKS = 40
"""Masks are drawn at least so many times, however short a training is."""


def asked(settings: RecoverySettings) -> bool:
    """Whether there are to be zeros by order."""
    return settings.sparsity > 0 or bool(settings.pattern)


def allows(layer: Layer, pattern: str) -> bool:
    """Whether a layer can have N:M zeros: its columns make whole runs, and it is not depthwise."""
    depthwise = layer.groups > 1 and layer.rows // layer.groups < FEW_ROWS
    return bool(pattern) and not depthwise and layer.cols % masks.parse(pattern)[1] == 0


def check(settings: RecoverySettings, methods: Sequence[str], trains: bool) -> None:
    """That the zeros asked for can be had of these methods, with or without a training set; raises UsageError."""
    wanted = f"pattern {settings.pattern!r}" if settings.pattern else f"sparsity {settings.sparsity:g}"
    if not asked(settings):
        return
    if not trains:
        raise UsageError(
            f"settings.recovery: zeros by order are made in training. Received {wanted} and no training set. "
            "Pass --train, or leave it out and use the method 'pruned'."
        )
    if not any(holds(name) for name in methods):
        raise UsageError(
            f"settings.recovery: zeros by order need a method that stores weights one by one. Received {wanted} and "
            f"the methods {', '.join(methods)}. Add 'uniform'."
        )


def holds(name: str) -> bool:
    """Whether a method stores weights one by one and training moves these: a zero there is one in the file."""
    return isinstance(registry.get("method", name), Tunable)


def share_at(done: float, settings: RecoverySettings) -> float:
    """The share of zeros after this share of the training: s (1 - (1 - t)^3), t = 1 at FREEZE.

    cycles: t goes up in so many equal leaps, the first at once.
    """
    reached = min(1.0, done / FREEZE)
    if settings.cycles:
        reached = min(1.0, (np.floor(reached * settings.cycles) + 1) / settings.cycles)
    return float(settings.sparsity * (1 - (1 - reached) ** 3))


def interval(settings: RecoverySettings, steps: int, usual: int) -> int:
    """Steps of the optimiser between two looks."""
    return max(1, min(usual, steps // LOOKS)) if asked(settings) else usual


class Common:
    """What the masks of all layers share: the magnitude up to which weights are zero, found once for each look."""

    def __init__(self, latents: Sequence[Latent], settings: RecoverySettings, looks: int) -> None:
        """looks: how often masks may be drawn in the whole training; a look after the last has the final share."""
        self.latents, self.settings, self.looks = latents, settings, looks
        self._look, self._bound = -1, -np.inf

    def masks(self, latent: Latent, look: int) -> tuple[masks.Mask, masks.Mask]:
        """True where zeros shall be [rows, cols]: all of them, and those that are zero for their magnitude alone."""
        if look != self._look:
            self._look, self._bound = look, self._found(share_at(look / self.looks, self.settings))
        size = self._sizes(latent)
        zeros = np.less_equal(size, self._bound)
        return zeros, zeros & (size >= 0)

    def _sizes(self, latent: Latent) -> F32:
        """Magnitudes in steps, -inf where the pattern has its zeros: they come first."""
        size = np.abs(latent.values)
        if allows(latent.layer, self.settings.pattern):
            size[masks.in_runs(size.T[None], *masks.parse(self.settings.pattern))[0].T] = -np.inf
        return size

    def _found(self, share: float) -> float:
        """The magnitude that this share of all weights does not exceed."""
        sizes = np.concatenate([self._sizes(latent).ravel() for latent in self.latents])
        count = int(np.ceil(share * sizes.size))
        return float(np.partition(sizes, count - 1)[count - 1]) if count else -np.inf


class Pruning(Penalty):
    """A mask over another penalty. Until it is frozen it is drawn anew at every look, so that weights may come back."""

    name: ClassVar[str] = "pruning"

    def __init__(self, inner: Penalty, common: Common) -> None:
        self.inner, self._common = inner, common
        self._looked = 0
        self._frozen = False
        self._held = np.zeros((1, 1), np.bool_)

    def refresh(self, latent: Latent) -> None:
        """Draw the mask; then the penalty sees the codes that are left."""
        if not self._frozen:
            self._frozen = self._looked >= FREEZE * self._common.looks
            latent.zeros, self._held = self._common.masks(latent, self._looked)
        self._looked += 1
        self.inner.refresh(latent)

    def noise(self, latent: Latent, rng: np.random.Generator) -> F32 | None:
        """The penalty's own, none where zeros are."""
        drawn = self.inner.noise(latent, rng)
        if drawn is None or latent.zeros is None:
            return drawn
        return np.where(latent.zeros, np.float32(0), drawn)

    def gradient(self, latent: Latent, loss: F32, slope: float) -> F32 | float:
        """The penalty's own; besides, a bit for half a squared step in the pattern's zeros; nothing moves the others.

        The bit is in place of SR-STE's weight decay, whose size belongs to its own optimiser and units. If the loss
        moved what is zero for its size, weights would crowd below the bound and change places at each look.
        """
        pull = self.inner.gradient(latent, loss, slope)
        if latent.zeros is None or self._frozen:
            return pull
        decayed = pull + np.float32(slope) * latent.values * latent.zeros
        return np.where(self._held, -loss, decayed)

    def finish(self, latent: Latent) -> None:
        """Masked weights become zero; in a training too short to have come to its last mask, by that one."""
        self.inner.finish(latent)
        if not self._frozen:
            latent.zeros, _ = self._common.masks(latent, self._common.looks)
        assert latent.zeros is not None
        latent.values[latent.zeros] = 0


def penalties_of(forms: Sequence[Form], settings: RecoverySettings, looks: int) -> dict[str, Penalty]:
    """A new penalty for each latent by its name, masked where zeros are asked for and are zeros of the layer."""
    latents = [latent for form in forms for latent in form.latents.values()]
    found = {one.layer.name: penalty(settings.penalty if one.priced else "none") for one in latents}
    if asked(settings):
        masked = [form.latents[""] for form in forms if "" in form.latents and holds(form.encoded.method)]
        common = Common(masked, settings, looks)
        found |= {one.layer.name: Pruning(found[one.layer.name], common) for one in masked}
    return found
