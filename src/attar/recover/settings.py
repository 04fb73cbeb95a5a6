"""What recovery is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from attar.recover.augment import NAMES
from attar.recover.penalties import PENALTIES

PATTERNS = ("", "2:4", "4:8")
STEPS = ("kept", "learned")
PARTS = ("all", "norms")
"""What is trained: everything, or biases and the scales of norms alone."""


@dataclass(frozen=True)
class RecoverySettings:
    """What can be tuned; defaults are those that did best on the example models."""

    epochs: int = field(
        default=10, metadata={"help": "passes over the training set for a candidate", "low": 1, "high": 10000}
    )
    candidates: int = field(default=4, metadata={"help": "most candidates that are trained", "low": 1, "high": 32})
    rate: float = field(
        default=0.01, metadata={"help": "first step of Adam, in steps of the grid", "low": 1e-5, "high": 1.0}
    )
    distill: float = field(
        default=0.9, metadata={"help": "weight of the original's answers beside labels", "low": 0.0, "high": 1.0}
    )
    temperature: float = field(
        default=1.0, metadata={"help": "softening of the original's answers", "low": 0.1, "high": 100.0}
    )
    penalty: str = field(
        default="entropy", metadata={"help": "what pulls weights together while they move", "choices": tuple(PENALTIES)}
    )
    pressure: float = field(
        default=4.0, metadata={"help": "slope of the penalty over that of the grid", "low": 1.0, "high": 1000.0}
    )
    batch: int = field(default=128, metadata={"help": "examples of a step", "low": 1, "high": 65536})
    augment: tuple[str, ...] = field(
        default=(), metadata={"help": "label-preserving changes of images", "choices": NAMES}
    )
    train: str = field(
        default="all", metadata={"help": "everything, or biases and the scales of norms alone", "choices": PARTS}
    )
    steps: str = field(
        default="kept", metadata={"help": "the grid's steps as planned, or trained too", "choices": STEPS}
    )
    sparsity: float = field(
        default=0.0, metadata={"help": "share of zeros at the end; 0: as it comes", "low": 0.0, "high": 0.999}
    )
    pattern: str = field(
        default="", metadata={"help": "most weights of so many that are not zero", "choices": PATTERNS}
    )
    cycles: int = field(
        default=0, metadata={"help": "leaps in which sparsity grows; 0: smoothly", "low": 0, "high": 1000}
    )
