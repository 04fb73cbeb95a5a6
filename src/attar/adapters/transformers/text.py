"""Texts as windows of tokens, by the tokenizer of the model's own folder; windows never overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray

from attar.adapters.transformers.files import quiet, write_files
from attar.adapters.transformers.tasks import Task
from attar.errors import DataError, ModelError
from attar.types import Array, Dataset, Json, Texts

Ids = NDArray[np.int64]
IGNORED = -100


def tokenizer_of(files: Mapping[str, bytes]) -> Any:
    """The tokenizer among a folder's files; raises ModelError where there is none."""
    with TemporaryDirectory() as folder, quiet():
        write_files(Path(folder), files)
        try:
            return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ModelError(
                "model: texts need its tokenizer. Received a folder with none that transformers loads "
                f"({first}). Put tokenizer.json beside config.json, or give .npz with input_ids."
            ) from error


def examples(texts: Texts, files: Mapping[str, bytes], task: Task, window: int, config: Any) -> Dataset:
    """Windows of a model's own tokens, no longer than the model takes; raises DataError, ModelError."""
    most = getattr(config, "max_position_embeddings", None) or window
    return windows(texts, tokenizer_of(files), task, min(window, int(most)), config)


def labelled(data: Dataset, task: Task, config: Any) -> Dataset:
    """Of a language model: the token that comes next is class 0 of its outputs, padding does not count.

    Of a classifier: folders named like the configuration's classes have their numbers; raises DataError where only
    some are.
    """
    if task.kind == "scores":
        return numbered(data, {str(name): int(n) for name, n in (getattr(config, "label2id", None) or {}).items()})
    if task.kind not in ("next", "same"):
        return data
    after = int(task.kind == "next")
    labels = np.zeros_like(data.inputs[task.ids])[:, after:]
    if task.mask in data.inputs:
        labels = np.where(data.inputs[task.mask][:, after:] != 0, labels, IGNORED)
    return replace(data, labels=labels)


def numbered(data: Dataset, numbers: Mapping[str, int]) -> Dataset:
    """Labels [n] by the model's own numbers of their classes, where it has these classes."""
    unknown = [name for name in data.class_names if name not in numbers]
    if data.labels is None or len(unknown) == len(data.class_names):
        return data
    if unknown:
        raise DataError(
            f"data {data.origin!r}: its classes must be classes of the model. Received {unknown[0]!r}, which "
            f"config.json has not among its {len(numbers)} ({next(iter(numbers))!r}, ...). Rename it."
        )
    table = np.array([numbers[name] for name in data.class_names], np.int64)
    names = {number: name for name, number in numbers.items()}
    ordered = tuple(names.get(number, str(number)) for number in range(max(names) + 1))
    return replace(data, labels=table[data.labels], class_names=ordered)


def windows(texts: Texts, tokenizer: Any, task: Task, window: int, config: Any) -> Dataset:
    """Examples of at most `window` tokens.

    Causal language models: all texts one behind the other, an end of text between them, in windows without gaps or
    padding. Others: lines are an example each, cut at the window; longer texts give several examples. Raises DataError.
    """
    if task.kind == "next" and task.ids == "input_ids":
        ids = _stream(texts.texts, tokenizer)
        length = min(window, max(len(ids), 2))
        count = len(ids) // length
        data = {"input_ids": ids[: count * length].reshape(count, length)}
        return Dataset({**data, "attention_mask": np.ones_like(data["input_ids"])}, None, texts.origin)
    pieces = _pieces(texts, tokenizer, window)
    if not pieces:
        raise DataError(f"data {texts.origin!r}: there must be words in the texts. Received none.")
    inputs = padded(pieces, int(getattr(tokenizer, "pad_token_id", None) or 0), window)
    labels = None if texts.labels is None else classes(texts.labels, config, texts.origin)
    return Dataset(inputs, labels, texts.origin)


def _stream(texts: Sequence[str], tokenizer: Any) -> Ids:
    """Token ids of all texts, [n], with the end of text between two."""
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    parts: list[int] = []
    for number, text in enumerate(texts):
        parts += (end if number else []) + plain(tokenizer, text)
    return np.asarray(parts, np.int64)


def plain(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text without special tokens."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _pieces(texts: Texts, tokenizer: Any, window: int) -> list[list[int]]:
    """Token ids of each example with the special tokens that the model wants."""
    found: list[list[int]] = []
    for text in texts.texts:
        cut = {"truncation": True, "max_length": window, "verbose": False}
        if texts.whole:
            found.append(list(tokenizer(text, **cut)["input_ids"]))
        else:
            found += tokenizer(text, stride=0, return_overflowing_tokens=True, **cut)["input_ids"]
    return found


def padded(pieces: Sequence[Sequence[int]], filling: int, length: int) -> dict[str, Array]:
    """input_ids and attention_mask [n, length], filled up at the end; padding is never computed."""
    ids, mask = np.full((len(pieces), length), filling, np.int64), np.zeros((len(pieces), length), np.int64)
    for row, piece in enumerate(pieces):
        ids[row, : len(piece)] = piece
        mask[row, : len(piece)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def classes(labels: Sequence[Json], config: Any, origin: str) -> Ids:
    """Class numbers [n]: as given, or by the names that the configuration or the alphabet numbers."""
    if all(isinstance(label, int) for label in labels):
        return np.asarray(labels, np.int64)
    named = {str(name): int(n) for name, n in (getattr(config, "label2id", None) or {}).items()}
    words = [str(label) for label in labels]
    if not set(words) <= set(named):
        named = {word: n for n, word in enumerate(sorted(set(words)))}
    if len(named) < 2:
        raise DataError(f"data {origin!r}: labels must be of two classes at least. Received {words[0]!r} only.")
    return np.asarray([named[word] for word in words], np.int64)
