"""How much data are held in memory at most."""

from __future__ import annotations

MAX_BYTES = 16 << 30
"""Most bytes of one data set; readers check it before they allocate."""
