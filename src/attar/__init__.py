"""attar: compress trained models within a certified drop."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "bench": "attar.benching",
    "compress": "attar.api",
    "evaluate": "attar.api",
    "export": "attar.exporting",
    "inspect": "attar.stored",
    "load": "attar.stored",
    "open": "attar.packing.checkpoint",
    "pack": "attar.packing.pack",
    "save": "attar.stored",
    "unpack": "attar.packing.unpack",
    "verify": "attar.stored",
    "Result": "attar.api",
    "Budget": "attar.evaluate.budget",
    "Recipe": "attar.recipe",
}
__all__ = [
    "Budget", "Recipe", "Result", "__version__", "bench", "compress", "evaluate", "export", "inspect", "load", "pack",
    "save", "unpack", "verify",
]  # fmt: skip
"""Without `open`, which a star import must not put in the place of Python's own."""


def __getattr__(name: str) -> Any:
    """Public names, each imported when first used."""
    if name not in _PLACES:
        raise AttributeError(f"module 'attar' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "open"])
