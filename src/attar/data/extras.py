"""Libraries of the extra `data`, imported when a verb needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from attar.errors import UsageError


def extra(module: str, need: str) -> Any:
    """The module; raises UsageError with what installs it where it is missing."""
    try:
        return import_module(module)
    except ImportError:
        raise UsageError(
            f"data: {need} need{'' if need.endswith('s') else 's'} {module}. It is not installed. "
            "Run: pip install 'attar[data]'."
        ) from None
