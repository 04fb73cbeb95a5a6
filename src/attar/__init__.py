"""attar: compress trained models within a certified drop."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "compress": "attar.api",
    "evaluate": "attar.api",
    "inspect": "attar.api",
    "load": "attar.api",
    "open": "attar.packing.checkpoint",
    "pack": "attar.packing.pack",
    "save": "attar.api",
    "unpack": "attar.packing.unpack",
    "verify": "attar.api",
    "Result": "attar.api",
    "Budget": "attar.evaluate.budget",
    "Recipe": "attar.recipe",
}
__all__ = [
    "Budget", "Recipe", "Result", "__version__", "compress", "evaluate", "inspect", "load", "pack", "save", "unpack",
    "verify",
]  # fmt: skip
"""Without `open`, which a star import must not put in the place of Python's own."""


def __getattr__(name: str) -> Any:
    """Public names, each imported when first used."""
    if name not in _PLACES:
        raise AttributeError(f"module 'attar' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "open"])


class _Attar(ModuleType):
    """Keeps the verb `evaluate` where the import system would put the package of that name."""

    @property
    def evaluate(self) -> Any:
        """The verb; modules of the package are imported by their own names."""
        return __getattr__("evaluate")

    @evaluate.setter
    def evaluate(self, package: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Attar
