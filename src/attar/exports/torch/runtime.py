"""Exported PyTorch programs (.pt2) as a user runs them: torch alone, the weights packed once after loading."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attar.adapters.parts import together
from attar.adapters.torch import programs as torch_programs
from attar.adapters.torch.graph import described
from attar.adapters.torch.inputs import Signature, first_tensor, to_tensor
from attar.adapters.torch.source import from_program
from attar.errors import UsageError
from attar.types import Array, TensorSpec

PIECE = 256
"""Examples that are run at once."""


class Runtime:
    """One program on the CPU with so many threads; `run` gives the first output. Raises FormatError, ModelError."""

    def __init__(self, model: bytes | Path, threads: int = 1) -> None:
        data = model.read_bytes() if isinstance(model, Path) else model
        program = torch_programs.read(data, model.name if isinstance(model, Path) else "artefact")
        self._inputs = list(described(program).values())
        self._network: Any = from_program(program).network
        packed_once(self._network)
        self._signature = Signature.of(self._network)
        self._threads = threads

    @property
    def inputs(self) -> list[TensorSpec]:
        """With the axis of the examples first."""
        return self._inputs

    @property
    def version(self) -> str:
        """The runtime's name and version."""
        return f"torch {torch.__version__}"

    def run(self, batch: Mapping[str, Array]) -> Array:
        """The first output [n, ...], float32."""
        count = len(next(iter(batch.values())))
        found, step = [], together(batch.values(), count, PIECE)
        for start in range(0, count, step):
            call = self._call({name: values[start : start + step] for name, values in batch.items()})
            with set_threads(self._threads):
                found.append(np.array(first_tensor(call()).float().numpy()))
        return np.concatenate(found)

    def once(self, batch: Mapping[str, Array]) -> Callable[[], Any]:
        """A call that runs a batch and nothing else, for timing."""
        call, threads = self._call(batch), self._threads

        def timed() -> Any:
            with set_threads(threads):
                return call()

        return timed

    def _call(self, batch: Mapping[str, Array]) -> Callable[[], Any]:
        arrays = self._signature.arguments(batch)
        kinds = {spec.name: np.dtype(spec.dtype) for spec in self._inputs}
        tensors = {
            n: to_tensor(a.astype(kinds.get(n, a.dtype)), torch.float32, torch.device("cpu")) for n, a in arrays.items()
        }
        args, kwargs = self._signature.split(tensors)

        def call() -> Any:
            with torch.no_grad():
                return self._network(*args, **kwargs)

        return call


def packed_once(network: Any) -> None:
    """Fold, in place, what depends on weights alone: else they are packed for the processor in every call."""
    from torch._inductor.constant_folding import constant_fold

    constant_fold(network)


@contextmanager
def set_threads(count: int) -> Iterator[None]:
    """Within, torch computes with so many threads."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def runtime_of(path: Path, threads: int) -> Runtime:
    """A .pt2 file in torch; raises UsageError, FormatError."""
    if not path.is_file():
        raise UsageError(f"model {str(path)!r}: the file must exist. Received none. Check the path.")
    return Runtime(path, threads)
