"""Sparse weights in PyTorch state dicts: compressed rows (CSR) with 32-bit indices, in plain .pt files.

`torch.load(path, weights_only=True)` reads them. A module takes them by `load_state_dict(state, assign=True)`, or as
they were after `to_dense()`.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from attar.adapters.torch.forms import memory
from attar.adapters.torch.source import Source
from attar.errors import OutputError

SUFFIXES = (".pt", ".pth")
INDEX = torch.int32


def save_sparse(source: Source, path: Path, dense: Collection[str]) -> dict[str, tuple[int, int]]:
    """Write a state dict in which these 2-d weights are CSR where that is smaller; their bytes before and after.

    Raises OutputError for an ending whose format has no sparse layout.
    """
    if path.suffix not in SUFFIXES or source.kind == "script":
        raise OutputError(
            f"{path}: sparse weights are written into state dicts, as {' or '.join(SUFFIXES)}. Received "
            f"{path.suffix!r} for a {source.kind}. Rename the output, or leave --sparse out."
        )
    state = source.network.state_dict()
    owners = {memory(state[name]) for name in dense if name in state}
    made: dict[tuple[int, ...], Tensor] = {}  # tied weights stay one object
    changed: dict[str, tuple[int, int]] = {}
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.ndim != 2 or memory(tensor) not in owners:
            continue
        sparse = made.get(memory(tensor)) if memory(tensor) in made else _rows(tensor)
        if sparse is not None:
            made[memory(tensor)] = sparse
            changed[name] = tensor.nbytes, _nbytes(sparse)
            state[name] = sparse
    torch.save(state, path)
    return changed


def densified(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with plain tensors for sparse ones."""
    return {name: value if value.layout == torch.strided else value.to_dense() for name, value in state.items()}


def _rows(tensor: Tensor) -> Tensor | None:
    """The weight as compressed rows; None where that is no smaller."""
    found = tensor.detach().cpu()
    mask = found != 0
    counts = mask.sum(1)
    index = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    columns = mask.nonzero()[:, 1]
    if int(index[-1]) > torch.iinfo(INDEX).max:
        return None
    with warnings.catch_warnings():  # that the layout is in beta
        warnings.simplefilter("ignore", UserWarning)
        parts = index.to(INDEX), columns.to(INDEX), found[mask]
        sparse = torch.sparse_csr_tensor(*parts, found.shape, check_invariants=True)
    return sparse if _nbytes(sparse) < found.nbytes else None


def _nbytes(sparse: Tensor) -> int:
    return sum(part.nbytes for part in (sparse.crow_indices(), sparse.col_indices(), sparse.values()))
