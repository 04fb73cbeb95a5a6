"""One model under test, and what the laws of adapters compare with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attar.adapters.base import Adapter
from attar.types import Array, Layer

Batch = Mapping[str, Array]


@dataclass(frozen=True)
class Case:
    """One model under test.

    model makes the caller's model anew (an object, or a path to a file); run_original runs such a model by the
    framework alone, and run_saved runs a saved file by the framework's own loader: both return the first output [n,
    ...]. tolerance is relative to the largest output. exact: rebuilding gives the same bits (not so for float64
    weights, which are handed on in float32). perturbed: how many layers law_perturb tries, evenly spaced; all where
    None.
    smooth: differences of float32 outputs tell slopes; not so for deep networks with many kinks. random: answers are
    drawn, by a seed for each call.
    """

    adapter: Any
    model: Callable[[], object]
    batches: Sequence[Batch]
    run_original: Callable[[Any, Batch], Array]
    run_saved: Callable[[Path, Batch], Array]
    tolerance: float = 1e-5
    exact: bool = True
    perturbed: int | None = None
    smooth: bool = True
    random: bool = False

    def open(self) -> Adapter:
        """A fresh adapter over a fresh model."""
        opened: Adapter = self.adapter.open(self.model())
        return opened


def examples(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def outputs(adapter: Adapter, case: Case) -> list[Array]:
    return [adapter.run(batch).copy() for batch in case.batches]


def owners(adapter: Adapter) -> list[Layer]:
    return [layer for layer in adapter.layers() if layer.tied_to is None]


def same(found: Sequence[Array], expected: Sequence[Array], what: str) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=what)


def close(found: Sequence[Array], expected: Sequence[Array], tolerance: float, what: str) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape, f"{what}: shape {a.shape}, not {b.shape}"
        scale = float(np.abs(b).max(initial=1e-30))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=what)


def fingerprint(model: Any) -> list[bytes]:
    """Every bit of a caller's model that an adapter could have changed."""
    if isinstance(model, bytes):
        return [model]
    if isinstance(model, str | Path):
        found = Path(model)
        return [path.read_bytes() for path in sorted(found.rglob("*")) if path.is_file()] or [found.read_bytes()]
    if hasattr(model, "SerializeToString"):
        return [model.SerializeToString()]
    if hasattr(model, "state_dict") and not hasattr(model, "get_weights"):  # Keras on PyTorch has both
        state = {n: np.ascontiguousarray(v.detach().cpu().numpy()) for n, v in model.state_dict().items()}
        mode = [repr(model.training).encode()]
        return [repr((n, v.dtype, v.shape)).encode() + v.tobytes() for n, v in state.items()] + mode
    return [repr((v.dtype, v.shape)).encode() + v.tobytes() for v in model.get_weights()]


def nearly(found: Sequence[Array], expected: Sequence[Array], what: str) -> None:
    close(found, expected, 1e-5, what)
