"""Options that several commands share, and what turns them into values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from attar import registry
from attar.errors import UsageError

MODELS = (
    "Model file: .onnx, .pt2, TorchScript, .keras, .h5, .tflite, .attar, a Hugging Face folder, a state dict with "
    "--factory, or weights alone with --bits: .safetensors, .gguf, .npz."
)
ModelArg = Annotated[str, typer.Argument(help=MODELS)]
Data = Annotated[
    str | None,
    typer.Option(help=".npz with x and y, folder of idx files, folder of images by class, or package.module:function."),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing results.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show tracebacks and the library's log.")]
Factory = Annotated[
    str | None,
    typer.Option(help="package.module:function that makes the PyTorch module, where the file holds weights alone."),
]
Scale = Annotated[float | None, typer.Option(help="Factor for the inputs; uint8 without it: 1/255.")]
MetricName = Annotated[
    str | None,
    typer.Option(
        help=f"{', '.join(registry.names('metric'))} (default: accuracy), or package.module:function."
    ),
]  # fmt: skip
OutputName = Annotated[
    str | None,
    typer.Option(help="The model's output that the metric looks at, by name or place from 0 (default: 0)."),
]
Preset = Annotated[
    str | None,
    typer.Option(help="quick, balanced, smallest, fastest or data-free: settings for what is not given otherwise."),
]


def share(text: str | None, option: str = "--max-relative-drop") -> float | None:
    """'2%' or '0.02' as 0.02."""
    if text is None:
        return None
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise UsageError(f"{option}: it must be a share. Received {text!r}. Write it as 2% or 0.02.") from None


def reach(*values: object) -> None:
    """Let modules be found in the working folder, but only where a function of the user's is named, and last.

    A folder of a stranger's may hold an onnx.py.
    """
    from attar.user_code import is_spec

    if any(isinstance(value, str) and is_spec(value) for value in values):
        sys.path.append(str(Path.cwd()))
