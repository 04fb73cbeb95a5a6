"""The user's own functions, named on the command line as package.module:function; never named by a file's content."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from attar.errors import UsageError

_SPEC = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_spec(text: str) -> bool:
    """Whether a text reads as package.module:function."""
    return _SPEC.fullmatch(text) is not None


def user_function(spec: str, place: str) -> Any:
    """The object of package.module:function, looked for in the working folder first; raises UsageError.

    An error inside the user's module is not caught: its traceback is what they need.
    """
    if not is_spec(spec):
        raise UsageError(f"{place}: it must read package.module:function. Received {spec!r}.")
    name, attribute = spec.split(":")
    folder = str(Path.cwd())
    known = folder in sys.path
    if not known:
        sys.path.insert(0, folder)
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise UsageError(
            f"{place}: the module must be importable. Received {spec!r}, and there is no module {error.name!r}. "
            "Run in its folder or install it."
        ) from None
    finally:
        if not known and folder in sys.path:
            sys.path.remove(folder)
    if not hasattr(module, attribute):
        raise UsageError(f"{place}: the module must have the function. Received {spec!r}; {name} has no {attribute!r}.")
    return getattr(module, attribute)
