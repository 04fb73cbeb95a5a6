"""Speech for encoder-decoders that read features of sound (Whisper): examples from recordings, and greedy transcripts.

Features come from the folder's own preprocessor. Tokens are: what the decoder starts with (its forced tokens; that no
times are written), the text, the end. A transcript is the likeliest token after token; other tokens than words and the
end are not taken. Words are compared in lower case and without punctuation (transformers' BasicTextNormalizer).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers

from attar.adapters.base import Batch
from attar.adapters.transformers.files import quiet, write_files
from attar.errors import DataError, ModelError
from attar.types import Array, Dataset, Recordings

PREPROCESSOR = "preprocessor_config.json"
FEATURES = "input_features"
NONE = -1
"""What fills up rows of words."""
TOGETHER = 8
"""Recordings that are written down at once."""


class Speech:
    """What turns recordings into a model's inputs, and its tokens into words."""

    def __init__(self, network: Any, files: Mapping[str, bytes], tokenizer: Any, window: int = 1 << 20) -> None:
        self.most = min(window, int(getattr(network.config, "max_target_positions", 0) or 448))
        self.network, self._files, self.tokenizer = network, files, tokenizer
        self.end = int(_first(network.config.eos_token_id))
        self.others = sorted(set(tokenizer.get_added_vocab().values()) - {self.end})
        self.prompt = self._prompt()

    def _prompt(self) -> list[int]:
        """What the decoder starts with."""
        told = {}
        for name in ("config.json", "generation_config.json"):
            told |= json.loads(self._files.get(name, b"{}"))
        forced = [int(token) for _, token in told.get("forced_decoder_ids") or [] if token is not None]
        start = [int(self.network.config.decoder_start_token_id), *forced]
        silent = self.tokenizer.get_vocab().get("<|notimestamps|>")
        return start if silent is None or silent in start else [*start, int(silent)]

    def dataset(self, recordings: Recordings) -> Dataset:
        """Features [n, bins, frames], token ids and their mask; without texts, the model's own transcripts."""
        features = self._features(recordings)
        if recordings.texts is None:
            rows = self.written({FEATURES: features})
        else:
            encoded = (self.tokenizer(" " + text, add_special_tokens=False)["input_ids"] for text in recordings.texts)
            rows = [list(ids) for ids in encoded]
        rows = [[*self.prompt, *row, self.end] for row in rows]
        if max(map(len, rows)) > self.most:
            raise DataError(
                f"data {recordings.origin!r}: what is said must take {self.most} tokens at most. Received "
                f"{max(map(len, rows))}. Cut the recording, or set a larger window in [settings.text]."
            )
        ids = np.full((len(rows), self.most), self.end, np.int64)
        mask = np.zeros((len(rows), self.most), np.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)], mask[number, : len(row)] = row, 1
        inputs = {FEATURES: features, "decoder_input_ids": ids, "decoder_attention_mask": mask}
        return Dataset(inputs, None, recordings.origin)

    def _features(self, recordings: Recordings) -> Array:
        """What the encoder reads; raises ModelError without a preprocessor, DataError for long recordings."""
        extractor = _extractor(self._files)
        rate, longest = int(extractor.sampling_rate), float(getattr(extractor, "chunk_length", 0) or np.inf)
        found = []
        for samples, own in zip(recordings.samples, recordings.rates, strict=True):
            if len(samples) > longest * own:
                raise DataError(
                    f"data {recordings.origin!r}: a recording must take {longest:g} seconds at most. Received "
                    f"{len(samples) / own:.1f}. Cut it."
                )
            made = extractor(resampled(samples, own, rate), sampling_rate=rate, return_tensors="np")
            found.append(made[FEATURES][0].astype(np.float32))
        return np.stack(found)

    def written(self, batch: Batch) -> list[list[int]]:
        """Token ids that the model writes down of each example, without start and end."""
        features = np.asarray(batch[FEATURES], np.float32)
        rows: list[list[int]] = []
        for start in range(0, len(features), TOGETHER):
            rows += self._greedy(torch.from_numpy(features[start : start + TOGETHER]))
        return rows

    def _greedy(self, features: torch.Tensor) -> list[list[int]]:
        """The likeliest token after token, until all examples have ended."""
        count = len(features)
        rows: list[list[int]] = [[] for _ in range(count)]
        open_ = np.ones(count, bool)
        ids, past = torch.tensor([self.prompt] * count), None
        with torch.no_grad():
            encoded = self.network.get_encoder()(features)
            for _ in range(self.most - len(self.prompt) - 1):
                made = self.network(
                    encoder_outputs=encoded, decoder_input_ids=ids, past_key_values=past, use_cache=True
                )
                scores, past = made.logits[:, -1], made.past_key_values
                scores[:, self.others] = -torch.inf
                ids = scores.argmax(-1, keepdim=True)
                for number, token in enumerate(ids[:, 0].tolist()):
                    if open_[number] and token != self.end:
                        rows[number].append(token)
                    open_[number] &= token != self.end
                if not open_.any():
                    break
        return rows

    def transcripts(self, batch: Batch) -> tuple[Array, Array]:
        """Words as numbers, [n, words] each, filled up with NONE: what the model writes down, and what is said."""
        said = [ids[mask != 0].tolist() for ids, mask in zip(
            batch["decoder_input_ids"], batch.get("decoder_attention_mask", np.ones_like(batch["decoder_input_ids"])),
            strict=True)]  # fmt: skip
        return _rows([self.words(row) for row in self.written(batch)]), _rows([self.words(row) for row in said])

    def words(self, ids: Sequence[int]) -> list[int]:
        """The words of tokens, each as a number that equal words share."""
        left_out = {*self.others, self.end}
        text = self.tokenizer.decode([token for token in ids if token not in left_out])
        return [zlib.crc32(word.encode()) for word in _normaliser()(text).split()]


@lru_cache(maxsize=1)
def _normaliser() -> Any:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    return BasicTextNormalizer()


def _rows(words: Sequence[Sequence[int]]) -> Array:
    """Rows of one length."""
    found = np.full((len(words), max(map(len, words), default=0)), NONE, np.int64)
    for number, row in enumerate(words):
        found[number, : len(row)] = row
    return found


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def resampled(samples: Array, own: int, rate: int) -> Array:
    """Samples at another rate (polyphase filter)."""
    if own == rate:
        return samples
    from scipy.signal import resample_poly

    divisor = int(np.gcd(own, rate))
    return np.asarray(resample_poly(samples, rate // divisor, own // divisor), np.float32)


def _extractor(files: Mapping[str, bytes]) -> Any:
    """The feature extractor of a folder's files."""
    with TemporaryDirectory() as folder, quiet():
        write_files(Path(folder), files)
        try:
            return transformers.AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise ModelError(
                f"model: recordings need its preprocessor. Received a folder with none that transformers loads "
                f"({first}). Put {PREPROCESSOR} beside config.json, or give .npz with {FEATURES} and decoder_input_ids."
            ) from error
