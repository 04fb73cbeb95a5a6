"""Hugging Face folders as canonical matrices: the entry, which imports neither torch nor transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from attar.errors import ModelError
from attar.types import Array

if TYPE_CHECKING:
    from attar.adapters.transformers.model import TransformersModel

CONFIG = "config.json"


class TransformersAdapter:
    """Opens folders with a config.json and safetensors that the transformers package has a class for.

    Nothing is fetched and no code of a folder is run; weights in pickles are refused.
    """

    framework: ClassVar[str] = "transformers"
    suffixes: tuple[str, ...] = ("",)
    """A folder, which has no ending."""

    @classmethod
    def accepts(cls, model: object) -> bool:
        """A path to a folder whose config.json names a model."""
        if not isinstance(model, str | Path) or not (Path(model) / CONFIG).is_file():
            return False
        try:
            config = json.loads((Path(model) / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(config, dict) and bool(config.get("model_type") or config.get("architectures"))

    @classmethod
    def open(cls, model: object) -> TransformersModel:
        """The model of a folder, in float32 whatever it is stored in; written weights are rounded to how it is stored.

        Raises ModelError where transformers has no class for it, weights are missing or are quantised already,
        FormatError for damaged files.
        """
        return _implementation().opened(model)

    @classmethod
    def rebuild(cls, skeleton: bytes, remainder: Mapping[str, Array]) -> TransformersModel:
        """An adapter over a new model of the archive's configuration; raises FormatError."""
        return _implementation().rebuilt(skeleton, remainder)


def _implementation() -> type[TransformersModel]:
    """The adapter itself; raises ModelError where transformers is not installed."""
    try:
        from attar.adapters.transformers.model import TransformersModel
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers"):
            raise
        raise ModelError(
            f"model: a Hugging Face folder needs torch and transformers. Received one, and {error.name} is not "
            "installed. Install them: pip install 'attar[transformers]'."
        ) from error
    return TransformersModel
