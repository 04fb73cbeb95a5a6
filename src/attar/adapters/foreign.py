"""Models of frameworks that no adapter opens, known by their names alone, and how their weights go in all the same."""

from __future__ import annotations

from pathlib import Path

from attar.errors import ModelError

JAX = ("flax", "haiku", "equinox", "jax")
ORBAX = ("_METADATA", "_CHECKPOINT_METADATA", "manifest.ocdbt", "checkpoint.msgpack")
"""What lies in folders of checkpoints of JAX."""


def refusal(model: object) -> ModelError | None:
    """Why a module of a JAX library, or a checkpoint that Orbax or Flax wrote, is not taken; None for anything else."""
    if isinstance(model, Path):
        known, name = model.suffix == ".msgpack" or any((model / entry).exists() for entry in ORBAX), model.name
    else:
        known = any(cls.__module__.split(".")[0] in JAX for cls in type(model).__mro__)
        name = type(model).__name__
    if not known:
        return None
    return ModelError(
        f"model: it must be an ONNX, PyTorch, Keras or TFLite model. Received one of JAX ({name}). Write the leaves of "
        "its parameters to an .npz or .safetensors file and give --bits, without data: docs/weights.md shows it."
    )
