"""What training is told: its steps, and the sizes of the networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Steps, latents at a place, width of the decoder, width of the encoder, images in a step, learning rate, seed."""

    steps: int = 6000
    latents: int = 8
    width: int = 24
    encoder: int = 32
    batch: int = 64
    rate: float = 2e-3
    seed: int = 0
