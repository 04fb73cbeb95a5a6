"""The files of a Hugging Face folder: what is read, what goes into an archive, and the way back."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers.utils import logging

from attar.adapters.transformers.adapter import CONFIG
from attar.errors import FormatError, ModelError
from attar.types import Json

KEPT = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*\.(?:json|txt|jinja|model|md|tiktoken)")
"""Names of the files beside the weights that an archive keeps: settings and vocabularies, never code."""
INDEX = ".safetensors.index.json"
MOST_BYTES = 64 << 20
"""Of the files beside the weights together."""
LARGEST = 1 << 40
"""Bytes that a model's tensors may take: a configuration that asks for more is not believed."""
DTYPES = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float32,
}  # fmt: skip
"""What a model is stored in, by the name that safetensors have for it; float64 is held in float32."""


def weight_files(folder: Path) -> list[Path]:
    """The safetensors of a folder, by its index where there is one; raises ModelError, FormatError."""
    index = sorted(folder.glob("*" + INDEX))
    if not index:
        found = sorted(folder.glob("*.safetensors"))
        if found:
            return found
        others = [p.name for p in sorted(folder.iterdir()) if p.suffix in (".bin", ".pt", ".pth", ".h5", ".msgpack")]
        received = f"only {', '.join(others[:3])}" if others else "none"
        raise ModelError(
            f"model {str(folder)!r}: its weights must be safetensors. Received {received}. Save it by "
            "model.save_pretrained(folder), which writes them."
        )
    try:
        names = set(json.loads(index[0].read_text(encoding="utf-8"))["weight_map"].values())
        paths = [folder / str(name) for name in sorted(names)]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise FormatError(
            f"model {index[0].name!r}: it must be an index with a weight_map. Received {error}. Fetch it again."
        ) from error
    missing = [path.name for path in paths if path.parent != folder or not path.is_file()]
    if missing:
        raise FormatError(
            f"model {str(folder)!r}: every shard of the index must be there. Received none called {missing[0]!r}. "
            "Fetch the folder again."
        )
    return paths


def stored_dtype(paths: list[Path]) -> torch.dtype:
    """What most tensors are stored in; raises FormatError for damaged files and for anything but numbers with a point.

    Only the headers are read.
    """
    counts: Counter[str] = Counter()
    for path in paths:
        try:
            with safe_open(path, "np") as file:
                for name in file.keys():  # noqa: SIM118
                    counts[file.get_slice(name).get_dtype()] += 1
        except (SafetensorError, OSError) as error:
            raise FormatError(
                f"model {path.name!r}: it must be a whole safetensors file. Received a damaged one ({error}). Fetch it "
                "again."
            ) from error
    floats = [name for name, _ in counts.most_common() if name in DTYPES]
    if not floats or any(name.startswith("F8") for name in counts):
        raise ModelError(
            f"model {paths[0].parent.name!r}: its weights must be float32, float16 or bfloat16. Received "
            f"{', '.join(sorted(counts)) or 'no tensor'}. Take the model as it was before quantisation."
        )
    return DTYPES[floats[0]]


def read_config(folder: Path) -> Json:
    """The configuration; raises FormatError, and ModelError where it needs code of the folder or is quantised."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"model {CONFIG!r}: it must be JSON. Received {error}. Fetch it again.") from error
    checked_config(config)
    return config


def checked_config(config: Json) -> type[Any]:
    """The class that a configuration names; raises ModelError."""
    if not isinstance(config, dict) or config.get("quantization_config"):
        raise ModelError(
            "model config.json: it must describe a model of plain weights. Received one that is quantised already. "
            "Take the model as it was before."
        )
    named = [str(name) for name in config.get("architectures") or []]
    kind = str(config.get("model_type"))
    for name in named:
        found = getattr(transformers, name, None) if name.isidentifier() else None
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    if named or kind not in transformers.CONFIG_MAPPING:
        raise ModelError(
            f"model config.json: transformers {transformers.__version__} must have its class. Received "
            f"{', '.join(named) or kind!r}. Upgrade transformers; code that comes with a model is never run."
        )
    return transformers.AutoModel  # type: ignore[return-value]


def described(config: Json) -> tuple[type[Any], Any]:
    """The class that a configuration names, and the configuration as transformers has it; raises ModelError."""
    made = checked_config(config)
    plain = {name: value for name, value in config.items() if name not in ("auto_map", "dtype", "torch_dtype")}
    plain = json.loads(json.dumps(plain), object_hook=_number)
    found = transformers.CONFIG_MAPPING[str(config["model_type"])].from_dict(plain)
    return transformers.MODEL_MAPPING[type(found)] if made is transformers.AutoModel else made, found


def _number(entries: Json) -> Json:
    """What transformers write for numbers that JSON lacks, {"__float__": "Infinity"}, as a number."""
    return float(entries["__float__"]) if set(entries) == {"__float__"} else entries


def kept_files(folder: Path) -> dict[str, bytes]:
    """The files beside the weights by their names in the folder; raises ModelError where they are too large."""
    found: dict[str, bytes] = {}
    for path in sorted([*folder.iterdir(), *(p for sub in folder.iterdir() if sub.is_dir() for p in sub.iterdir())]):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and KEPT.fullmatch(name) and not name.endswith(INDEX):
            found[name] = path.read_bytes()
    size = sum(map(len, found.values()))
    if size > MOST_BYTES:
        raise ModelError(
            f"model {str(folder)!r}: files beside the weights must take {MOST_BYTES} bytes at most. Received {size}. "
            "Move what is no part of the model elsewhere."
        )
    return found


def coded(files: Mapping[str, bytes]) -> Json:
    """Files for a skeleton: text as it is, anything else in base64."""
    result: dict[str, Json] = {}
    for name, data in files.items():
        try:
            result[name] = data.decode()
        except UnicodeDecodeError:
            result[name] = [base64.b64encode(data).decode()]
    return result


def uncoded(entries: Json) -> dict[str, bytes]:
    """The inverse of coded; raises ValueError for names that are not those of settings in a folder."""
    files: dict[str, bytes] = {}
    for name, text in entries.items():
        if not KEPT.fullmatch(name) or ".." in PurePosixPath(name).parts:
            raise ValueError(f"a file called {name!r}")
        files[name] = text.encode() if isinstance(text, str) else base64.b64decode(text[0], validate=True)
    return files


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put them into a folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@contextmanager
def quiet() -> Iterator[None]:
    """Within, transformers shows no bars and no warnings."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
