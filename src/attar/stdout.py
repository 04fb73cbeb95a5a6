"""Results on stdout; progress and notes are on stderr (show.say)."""

from __future__ import annotations

import json

import typer

from attar.errors import OutputError


def json_line(value: object) -> str:
    """The value as one line of JSON that every parser takes: what is not finite is null."""
    from attar.run.ledger import plain

    return json.dumps(plain(value), allow_nan=False)


def tell(text: str) -> None:
    """A result on stdout; raises OutputError where it cannot be written. A closed pipe is the reader's choice."""
    try:
        typer.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"stdout: it must take the results. Received {error.strerror}. What was to be written to files is there."
        ) from None
