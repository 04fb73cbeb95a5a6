"""TFLite bytes or files in LiteRT as a user has it: the artefact itself, not attar's view of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from attar.adapters.parts import together
from attar.adapters.tflite.adapter import TfliteAdapter
from attar.adapters.tflite.reader import read_file
from attar.adapters.tflite.session import Feed, Session, feed_of, tried
from attar.types import Array, TensorSpec

PIECE = 128
"""Examples that are run at once."""
ASK = -1


class Runtime:
    """One interpreter on the CPU with so many threads; `run` gives the first output.

    size: how many examples the model takes at once, None for any; asked of the model where it is not given.
    """

    def __init__(self, model: bytes | Path, threads: int = 1, size: int | None = ASK) -> None:
        data = read_file(model) if isinstance(model, Path) else model
        adapter = TfliteAdapter.open(data)
        self._inputs, self._output = adapter.ports, adapter.output
        self._adapter, self._size = adapter, size
        if size == ASK:
            tried(data)
        adapter.trust()
        self._session = Session(data, threads)

    @cached_property
    def size(self) -> int | None:
        """Examples that the model takes at once; None for any number."""
        return self._adapter.size if self._size == ASK else self._size

    @property
    def inputs(self) -> list[TensorSpec]:
        """With the axis of the examples first."""
        return [port.spec for port in self._inputs]

    @property
    def version(self) -> str:
        """The runtime's name and version."""
        return f"LiteRT {version('ai-edge-litert')}"

    def run(self, batch: Mapping[str, Array]) -> Array:
        """The first output [n, ...], float32; raises DataError where the model refuses the batch."""
        feed = feed_of(batch, self._inputs)
        step = self.size or max(min(feed.count, together(feed.values.values(), feed.count, PIECE)), 1)
        found = []
        for piece, _, real in feed.pieces(step) if self.size else _whole(feed, step):
            value = self._session.run(piece.values, [self._output.index])[0]
            found.append(self._output.outward(value)[:real])
        return np.concatenate(found)

    def once(self, batch: Mapping[str, Array]) -> Callable[[], Any]:
        """A call that runs a batch and nothing else, for timing; of the only size that the model takes, one by one."""
        feed = feed_of(batch, self._inputs)
        pieces = [feed] if self.size is None else [piece for piece, _, _ in feed.pieces(self.size)]
        self._session.prepare(pieces[0].values)
        invoke, put = self._session.interpreter.invoke, self._session.interpreter.set_tensor
        if len(pieces) == 1:
            return lambda: invoke()

        def every() -> None:
            for piece in pieces:
                for index, value in piece.values.items():
                    put(index, value)
                invoke()

        return every


def _whole(feed: Feed, step: int) -> list[tuple[Feed, Array, int]]:
    """Pieces of at most so many examples, none of them filled up."""
    every = [np.arange(start, min(start + step, feed.count)) for start in range(0, feed.count, step)]
    return [(feed.part(rows), rows, len(rows)) for rows in every]
