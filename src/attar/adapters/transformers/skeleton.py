"""What an archive holds of a Hugging Face folder beside its weights: configuration, tokenizer, dtype, task, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch

from attar.adapters.transformers import files as transformers_files
from attar.adapters.transformers import words
from attar.adapters.transformers.tasks import Task
from attar.errors import FormatError

VERSION = 1
LISTED = 2
"""The version of one whose files have lists of words taken out; see words.py."""
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def dumped(dtype: torch.dtype, task: Task, files: Mapping[str, bytes]) -> bytes:
    """The skeleton; files are the small ones of the folder by name."""
    lists, parts = words.taken_out(transformers_files.coded(files))
    content = {
        "version": LISTED if lists else VERSION, "dtype": str(dtype).removeprefix("torch."), "task": task.to_json(),
        **({"words": lists} if lists else {}), "files": parts,
    }  # fmt: skip
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


def parsed(skeleton: bytes) -> tuple[torch.dtype, Task, dict[str, bytes]]:
    """The inverse; raises FormatError, and what JSON and its lookups raise, for anything else."""
    content = json.loads(skeleton)
    entries = content["files"]
    if content["version"] == LISTED:
        entries = words.put_back(content["words"], entries, transformers_files.MOST_BYTES)
    elif content["version"] != VERSION:
        raise ValueError(f"version {content['version']!r}")
    files, task = transformers_files.uncoded(entries), Task.from_json(content["task"])
    return DTYPES[content["dtype"]], task, files


def damaged(error: Exception) -> FormatError:
    """The error for a skeleton that describes no model."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return FormatError(
        f"skeleton: it must describe a model of transformers. Received a damaged one ({first}). Compress the model "
        "again, or upgrade transformers."
    )
