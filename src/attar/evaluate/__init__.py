"""Metrics, per-example scores and the certificate; called, it is the verb of that name (attar/api.py)."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Verb(ModuleType):
    """Python puts this package where `attar.evaluate` is looked for as soon as any of its modules is imported."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return import_module("attar.api").evaluate(*args, **kwargs)


sys.modules[__name__].__class__ = _Verb
