"""A run's ledger in the tools that teams watch runs with: after it, or while it goes on."""

from attar.watchers.base import Watch, watch
from attar.watchers.replay import log

__all__ = ["Watch", "log", "watch"]
