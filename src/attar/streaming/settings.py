"""What a recipe may say of streaming, and whether a run is to stream."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attar import registry
from attar.errors import UsageError
from attar.search.params import CALIBRATION, SCALING, STREAM, checked

COPIES = 2
"""A run in memory holds the model in float32, and its weights once more."""
REFUSED = {
    "train": "recovery runs all of it", "remove": "channels go from all layers at once", "goal": "it is timed whole",
    "tune": "trials compress all of it",
    "scale-moves": "scales move between layers", "settings.calibration": "examples are chosen by its features",
}  # fmt: skip
GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class StreamSettings:
    """How a model is streamed."""

    on: str = field(
        default="auto",
        metadata={"help": "auto: where the run would not fit into memory", "choices": ("auto", "yes", "no")},
    )
    passes: int = field(default=3, metadata={"help": "most passes that look for the drop", "low": 1, "high": 8})
    windows: int = field(
        default=8, metadata={"help": "examples whose gradients tell sensitivities", "low": 1, "high": 4096}
    )
    hold: int = field(
        default=256,
        metadata={"help": "MiB of activations held in memory; more go to disk, 0: all", "low": 0, "high": 1 << 20},
    )
    recovery: int = field(
        default=0, metadata={"help": "steps that train a rounded block's norms and scales", "low": 0, "high": 10000}
    )


def wanted(model: object, told: Mapping[str, Any]) -> str | None:
    """Why a run of these recipe fields is to stream, as a line for a person; None where it is not. Raises UsageError.

    Folders with a factory, which makes the caller's own module, are never streamed.
    """
    chosen = checked(StreamSettings, STREAM, told.get("settings", {}))
    folder = isinstance(model, str | os.PathLike) and registry.get("adapter", "transformers").accepts(Path(model))
    folder = folder and told.get("factory") is None
    if chosen.on == "yes" and not folder:
        raise UsageError(
            "--stream: the model must be a Hugging Face folder (config.json, safetensors). Received something else. "
            "Leave the option out."
        )
    if folder and (chosen.on == "yes" or (told.get("bits") is not None and chosen.on != "no")):
        return "streaming: block by block, as asked for"
    if chosen.on == "no" or not folder:
        return None
    assert isinstance(model, str | os.PathLike)
    needed, there = COPIES * float_bytes(Path(model)), memory_bytes()
    if needed <= there:
        return None
    return (
        f"streaming: a run in memory takes {needed / 2**30:.1f} GiB and there are {there / 2**30:.1f}; block by block "
        "(--no-stream to try all the same)"
    )


def check(told: Mapping[str, Any]) -> None:
    """That a recipe's fields ask for nothing that a streamed run cannot do; raises UsageError."""
    tables = told.get("settings", {})
    asked = {
        "train": told.get("train"), "remove": told.get("remove"), "goal": told.get("goal", "size") != "size",
        "tune": told.get("tune"),
        "scale-moves": tables.get(SCALING, {}).get("moves", "none") != "none",
        "settings.calibration": tables.get(CALIBRATION, {}).get("method", "random") != "random",
    }  # fmt: skip
    for name, given in asked.items():
        if given:
            raise UsageError(
                f"--stream: {name} needs the whole model in memory ({REFUSED[name]}). Received it for a streamed run. "
                "Leave it out, or pass --no-stream."
            )


def float_bytes(folder: Path) -> int:
    """What the weights of a folder take as float32, by the sizes of its files."""
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")]
    with suppress(OSError):
        text = (folder / "config.json").read_text(encoding="utf-8")
        return sum(sizes) * (2 if "float16" in text else 1)
    return sum(sizes)


def memory_bytes() -> int:
    """Memory of this machine, or of the group that this process is in."""
    found = 1 << 62
    with suppress(OSError, ValueError, AttributeError):
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        found = min(found, int(GROUP_LIMIT.read_text()))
    return found
