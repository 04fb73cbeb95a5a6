"""The shapes of a model, from headers and configurations: no weight is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attar import registry
from attar.adapters.tensors.adapter import TensorsAdapter
from attar.errors import ModelError, UsageError
from attar.estimating.kernels import timed
from attar.opening import open_model
from attar.types import Layer

CONFIG = "config.json"
BATCH = 64
"""Examples of zeros that a model which is there is timed on."""


@dataclass(frozen=True)
class Matrix:
    """So many equal matrices W[rows, cols] (cols: of one group), each reached by a share of the positions.

    positions: of an example, None where these are its tokens. stored: bytes of a weight as it is kept.
    """

    name: str
    kind: str
    rows: int
    cols: int
    groups: int = 1
    copies: int = 1
    share: float = 1.0
    positions: float | None = None
    stored: int = 4

    @property
    def size(self) -> int:
        """Weights in all copies."""
        return self.rows * self.cols * self.copies

    @property
    def squares(self) -> int:
        """Numbers in all second moments; none of a table."""
        return 0 if self.kind == "embedding" else self.groups * self.cols**2 * self.copies


@dataclass(frozen=True)
class Shapes:
    """A model: matrices, numbers beside them, hidden width, blocks, and the ways in which it can be compressed.

    ways: "memory" (whole, with data), "blocks" (with data, a block at a time), "weights" (without data). outputs:
    numbers that metrics look at, of a position.
    """

    name: str
    matrices: tuple[Matrix, ...]
    others: int
    ways: tuple[str, ...]
    width: int = 0
    blocks: int = 1
    outputs: int = 1
    gradients: bool = False
    base_bytes: float = 0.2e9
    """Memory of an idle process with the libraries loaded."""
    forward: float | None = None
    moments: float | None = None
    """Seconds of an example through the model, and of its second moments, where the model is there to be run."""

    @property
    def size(self) -> int:
        """Weights of all matrices."""
        return sum(matrix.size for matrix in self.matrices)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the model as it is kept."""
        width = max((matrix.stored for matrix in self.matrices), default=4)
        return sum(matrix.size * matrix.stored for matrix in self.matrices) + width * self.others


def shapes_of(model: str, factory: str | None = None) -> Shapes:
    """The shapes of a config.json or a folder with one, of weights alone, or of any model that attar opens.

    Raises UsageError, ModelError, FormatError.
    """
    path = Path(model)
    if not path.exists():
        raise UsageError(f"model: the path must exist. Received {model!r}. Check the spelling.")
    config = path / CONFIG if path.is_dir() else path
    if config.name.endswith(".json") and not config.name.endswith(".index.json") and config.is_file():
        return _of_config(config)
    if factory is None and TensorsAdapter.accepts(path):
        adapter = TensorsAdapter.open(path)
        found = tuple(_of_layer(layer, None) for layer in adapter.layers())
        return Shapes(path.name, found, 0, ("weights",), base_bytes=0.2e9)
    return _opened(model, path, factory)


def _of_config(config: Path) -> Shapes:
    """A Hugging Face model by its configuration."""
    try:
        rows, facts = registry.get("shapes", "transformers")(config)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers"):
            raise
        raise ModelError(
            f"model {config.name!r}: a configuration needs torch and transformers. Received one, and {error.name} is "
            "not installed. Install them: pip install 'attar[transformers]'."
        ) from error
    matrices = tuple(
        Matrix(name, kind, rows_, cols, copies=count, share=share, stored=facts["stored"])
        for name, kind, rows_, cols, count, share in rows
    )
    name = config.resolve().parent.name if config.name == CONFIG else config.stem
    return Shapes(
        name, matrices, facts["others"], ("memory", "blocks"), facts["width"], max(facts["blocks"], 1),
        256 if facts["generates"] else 1, gradients=True, base_bytes=0.7e9,
    )  # fmt: skip


def _of_layer(layer: Layer, positions: float | None) -> Matrix:
    width = {"float16": 2, "bfloat16": 2, "float64": 8}.get(layer.dtype, 4)
    return Matrix(layer.name, layer.kind, layer.rows, layer.cols, layer.groups, positions=positions, stored=width)


def _opened(model: str, path: Path, factory: str | None) -> Shapes:
    """A model that attar opens: one example of zeros shows at how many positions a layer is used."""
    adapter: Any = open_model(model, factory)
    layers = [layer for layer in adapter.layers() if layer.tied_to is None]
    example = {
        spec.name: np.zeros([1, *(8 if n is None else n for n in spec.shape[1:])], spec.dtype)
        for spec in adapter.inputs() if not spec.optional
    }  # fmt: skip
    seen: dict[str, float] = {}
    for capture in adapter.capture([example]):
        count = capture.ids.size if capture.ids is not None else 0 if capture.x is None else capture.x.shape[2]
        seen[capture.name] = seen.get(capture.name, 0.0) + count
    matrices = tuple(_of_layer(layer, seen.get(layer.name, 1.0)) for layer in layers)
    others = sum(array.size for array in adapter.remainder().values())
    outputs = int(np.prod(np.shape(adapter.run(example))[1:], dtype=int))
    many = {name: np.repeat(array, BATCH, 0) for name, array in example.items()}
    forward = timed(lambda: adapter.run(many)) / BATCH
    moments = max(timed(lambda: adapter.moments([many])) / BATCH - forward, 0.0)
    return Shapes(
        path.name, matrices, others, ("memory",), outputs=outputs, gradients=False, base_bytes=0.6e9, forward=forward,
        moments=moments,
    )  # fmt: skip
