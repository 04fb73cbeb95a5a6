"""Which of a model's outputs is looked at, where a user names another than the first."""

from __future__ import annotations

from collections.abc import Sequence

from attar.errors import UsageError


def place_of(wanted: str, names: Sequence[str]) -> int:
    """The place of an output among a model's, by its name or, where none is called so, by a number from 0.

    Raises UsageError that lists the names.

    >>> place_of("boxes", ["scores", "boxes"]), place_of("0", ["scores", "boxes"])
    (1, 0)
    """
    if wanted in names:
        return list(names).index(wanted)
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    raise UsageError(
        f"output {wanted!r}: the model must have it. Received one that gives {', '.join(map(repr, names)) or 'none'}. "
        "Name one of these, or its place from 0."
    )
