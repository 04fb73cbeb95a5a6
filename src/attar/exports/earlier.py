"""What an earlier export chose for speed, so that another run need not measure it again and writes the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

from attar.errors import FormatError, UsageError
from attar.types import Json

MOST = 1 << 24
"""Bytes of a record that are read."""
DECIDED: dict[str, type] = {
    "route": str, "in_float": str, "float_for_speed": list, "integer_operators": list, "kept_float": bool,
    "dynamic": list, "weights": str, "float_sums": bool,
}  # fmt: skip
"""What exporters choose for speed, by its name among the facts."""


def earlier(path: Path, to: str) -> dict[str, Json]:
    """The choices in the JSON file beside an artefact of the same format; raises UsageError, FormatError."""
    if not path.is_file():
        raise UsageError(f"like {str(path)!r}: it must be a file. Received none. Pass the JSON file of an export.")
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(MOST))
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"like {path.name!r}: it must be the JSON file of an export. Received what is no JSON. Export without it."
        ) from error
    found = record.get("format") if isinstance(record, dict) else type(record).__name__
    if found != to:
        raise UsageError(f"like {path.name!r}: it must be of the format {to}. Received {found!r}. Pass another file.")
    for name, kind in DECIDED.items():
        value: Json = record.get(name, kind())
        names = list(value) if isinstance(value, list) else []
        if not isinstance(value, kind) or not all(isinstance(one, str) for one in names):
            kinds = "a list of names" if kind is list else f"a {kind.__name__}"
            raise FormatError(f"like {path.name!r}: {name!r} must be {kinds}. Received {value!r:.60}. Export anew.")
    return {name: record[name] for name in DECIDED if name in record}
