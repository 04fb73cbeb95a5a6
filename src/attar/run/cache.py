"""The user's folder for what programs can make again."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Where this system keeps what programs can make again: XDG_CACHE_HOME, LOCALAPPDATA, or their defaults."""
    named = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    if named and Path(named).is_absolute():
        return Path(named) / "attar"
    usual = "Library/Caches" if sys.platform == "darwin" else ".cache"
    try:
        return Path.home() / usual / "attar"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / "attar"
