"""PyTorch models as canonical matrices: the entry, which does not import torch; the adapter is in model.py."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from attar.errors import ModelError
from attar.types import Array

if TYPE_CHECKING:
    from attar.adapters.torch.model import TorchModel

READABLE = (".pt2", ".pt", ".pth", ".ts", ".jit", ".torchscript")


@dataclass(frozen=True, slots=True)
class FactorySpec:
    """A function without arguments that makes the module, as "package.module:name", and a state dict to load into it.

    state is a .pt, .pth or .safetensors file, or None where the factory loads the weights itself.
    """

    factory: str
    state: Path | str | None = None


class TorchAdapter:
    """Opens PyTorch models: modules, exported programs (.pt2), TorchScript, and factories with a state dict."""

    framework: ClassVar[str] = "torch"
    suffixes: tuple[str, ...] = READABLE
    """Of the class: the endings that `open` takes. Of an adapter: those that its `save` takes."""

    @classmethod
    def accepts(cls, model: object) -> bool:
        """A module, an exported program, a factory, or a path to a file; torch is not imported."""
        if isinstance(model, str | Path):
            return Path(model).suffix in READABLE and Path(model).is_file()
        if isinstance(model, FactorySpec):
            return True
        keras = sys.modules.get("keras")
        if keras is not None and isinstance(model, getattr(keras, "Model", ())):
            return False  # with Keras' torch backend its models are modules too
        torch = sys.modules.get("torch")
        return torch is not None and isinstance(model, (torch.nn.Module, torch.export.ExportedProgram))

    @classmethod
    def open(cls, model: object) -> TorchModel:
        """A private, folded copy; parametrised weights (weight norm, ...) are replaced by their value.

        Raises ModelError for a state dict without its class and for modules that cannot be copied, FormatError for
        files that are damaged or could only be read by running code from them.
        """
        return _implementation().opened(model)

    @classmethod
    def rebuild(cls, skeleton: bytes, remainder: Mapping[str, Array]) -> TorchModel:
        """An adapter over an exported program; FormatError for a skeleton of anything but registered operators."""
        return _implementation().rebuilt(skeleton, remainder)


def _implementation() -> type[TorchModel]:
    """The adapter itself; raises ModelError where torch is not installed."""
    try:
        from attar.adapters.torch.model import TorchModel
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModelError(
            "model: a PyTorch model needs torch. Received one, and torch is not installed. "
            "Install it: pip install 'attar[torch]'."
        ) from error
    return TorchModel
