"""What an archive holds of a Hugging Face folder beside its weights: configuration, tokenizer, dtype, task, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch

from attar.adapters.transformers import files as transformers_files
from attar.adapters.transformers.tasks import Task
from attar.errors import FormatError

VERSION = 1
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def dumped(dtype: torch.dtype, task: Task, files: Mapping[str, bytes]) -> bytes:
    """The skeleton; files are the small ones of the folder by name."""
    content = {
        "version": VERSION, "dtype": str(dtype).removeprefix("torch."), "task": task.to_json(),
        "files": transformers_files.coded(files),
    }  # fmt: skip
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


def parsed(skeleton: bytes) -> tuple[torch.dtype, Task, dict[str, bytes]]:
    """The inverse; raises FormatError, and what JSON and its lookups raise, for anything else."""
    content = json.loads(skeleton)
    if content["version"] != VERSION:
        raise ValueError(f"version {content['version']!r}")
    files, task = transformers_files.uncoded(content["files"]), Task.from_json(content["task"])
    return DTYPES[content["dtype"]], task, files


def damaged(error: Exception) -> FormatError:
    """The error for a skeleton that describes no model."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return FormatError(
        f"skeleton: it must describe a model of transformers. Received a damaged one ({first}). Compress the model "
        "again, or upgrade transformers."
    )
