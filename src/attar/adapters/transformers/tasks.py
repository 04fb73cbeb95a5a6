"""What a transformer's output is for attar: sentence vectors, scores, or how a language model sees the next token.

Of a language model's distribution over tens of thousands of tokens at every position, a coarse one is kept: the
probability of the token that really comes next, and of CLASSES classes of all the others, dealt out at random once for
ever. The likelihood of the text is exact; KL between two such distributions is never more than that between the whole
ones (data processing inequality; Cover and Thomas, Elements of Information Theory, 2.8) and moves with it.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from attar.adapters.torch.inputs import first_tensor
from attar.errors import FormatError
from attar.types import Json, Pixels, TensorSpec

CLASSES = 255
"""Most classes of the tokens that do not come next."""
Kind = Literal["next", "same", "vector", "scores"]
POOLINGS = ("mean", "cls", "max")


@dataclass(frozen=True, slots=True)
class Task:
    """kind: of a language model "next" (causal) or "same" (masked: the token itself), "vector", or "scores" of classes.

    ids, mask: names of the token ids and of their mask, ids "" for models without. pooling: of vectors. best: classes
    of tokens have the score of their best one, so that the greatest score is the model's own answer (for accuracy).
    """

    kind: Kind
    ids: str
    mask: str
    pooling: str = "mean"
    best: bool = False

    @classmethod
    def of(cls, network: Any, files: Mapping[str, bytes]) -> Task:
        """From the network's class, and what sentence-transformers wrote beside it."""
        main = str(network.main_input_name)
        both = bool(getattr(network.config, "is_encoder_decoder", False))
        ids = "decoder_input_ids" if both else main if main == "input_ids" else ""
        mask = "decoder_attention_mask" if both else "attention_mask"
        name = type(network).__name__
        if ids and network.get_output_embeddings() is not None:
            masked = "MaskedLM" in name or "PreTraining" in name
            return cls("same" if masked else "next", ids, mask)
        if "For" in name:
            return cls("scores", ids, mask)
        return cls("vector", ids, mask, _pooling(files))

    def observing(self, metric: str) -> Task:
        """The task whose outputs a metric needs."""
        return replace(self, best=metric in ("accuracy", "agreement", "top5") and self.kind in ("next", "same"))

    def output(self, made: Any, arguments: Mapping[str, Any], wanted: str | None = None) -> Tensor:
        """What metrics look at, float32: [n, t', classes + 1] log-probabilities, [n, width] vectors or scores.

        Even scores stand at padding. wanted: which scores, if not the first.
        """
        if self.kind == "vector":
            return _pooled(made, arguments.get(self.mask), self.pooling)
        logits, mask = first_tensor(made, wanted), arguments.get(self.mask)
        if self.kind != "scores":
            ids = arguments[self.ids]
            if self.kind == "next":
                logits, ids = logits[:, :-1], ids[:, 1:]
                mask = None if mask is None else mask[:, 1:]
            logits = coarse(logits, ids, best=self.best)
        if mask is None or logits.ndim != 3 or mask.shape != logits.shape[:2]:
            return logits
        return torch.where(mask[..., None] != 0, logits, -math.log(logits.shape[-1]))

    def to_json(self) -> Json:
        """For a skeleton."""
        return [self.kind, self.ids, self.mask, self.pooling, self.best]

    @classmethod
    def from_json(cls, data: Json) -> Task:
        """The inverse of to_json; raises FormatError."""
        kind, ids, mask, pooling, best = data
        if kind not in ("next", "same", "vector", "scores") or pooling not in POOLINGS:
            raise FormatError(f"skeleton: its task must be a known one. Received {data!r}. Upgrade attar.")
        return cls(kind, str(ids), str(mask), pooling, bool(best))


def _pooling(files: Mapping[str, bytes]) -> str:
    """How sentence-transformers make one vector of many; the mean where nothing says."""
    for name, data in files.items():
        if name.endswith("_Pooling/config.json"):
            told = json.loads(data)
            for mode in POOLINGS:
                if told.get(f"pooling_mode_{mode}_token" if mode == "cls" else f"pooling_mode_{mode}_tokens"):
                    return mode
    return "mean"


def _pooled(made: Any, mask: Tensor | None, pooling: str) -> Tensor:
    """Vectors [n, width] of length one, of the last states [n, t, width] where the mask is 1."""
    states = getattr(made, "last_hidden_state", None)
    if states is None:
        states = first_tensor(made)
    if states.ndim == 4:  # convolutional: channels first
        states = states.flatten(2).transpose(1, 2)
    if states.ndim < 3:
        return nn.functional.normalize(states, dim=-1)
    if pooling == "cls":
        return nn.functional.normalize(states[:, 0], dim=-1)
    counted = torch.ones(states.shape[:2]) if mask is None or mask.shape != states.shape[:2] else mask
    weight = counted.to(states.dtype)[..., None]
    if pooling == "max":
        return nn.functional.normalize(states.masked_fill(weight == 0, -torch.inf).amax(1), dim=-1)
    return nn.functional.normalize((states * weight).sum(1) / weight.sum(1).clamp(min=1), dim=-1)


def classes_of(vocabulary: int) -> int:
    """Number of classes for tokens that do not come next; four tokens or more in each."""
    return max(1, min(CLASSES, vocabulary // 4))


@lru_cache(maxsize=4)
def deal(vocabulary: int) -> tuple[Tensor, int]:
    """Tokens class by class, [classes * size], `vocabulary` in the places that are left over; and the classes."""
    classes = classes_of(vocabulary)
    size = -(-vocabulary // classes)
    # Dealt like cards, so that no class has more than one place that is left over.
    cards = np.full((size, classes), vocabulary)
    cards.reshape(-1)[:vocabulary] = np.random.default_rng(0).permutation(vocabulary)
    return torch.from_numpy(np.ascontiguousarray(cards.T).reshape(-1)), classes


def coarse(logits: Tensor, ids: Tensor, *, best: bool = False) -> Tensor:
    """[n, t, 1 + classes] of logits [n, t, vocabulary]: log p of the id at each place, then of the classes without it.

    best: their highest logits instead, in the same order; the id's own comes first where it is among the best.
    """
    vocabulary = logits.shape[-1]
    order, classes = deal(vocabulary)
    logits = logits.float()
    own = logits.gather(-1, ids[..., None])
    others = logits.scatter(-1, ids[..., None], -torch.inf)
    others = nn.functional.pad(others, (0, 1), value=-torch.inf)
    dealt = others[..., order].unflatten(-1, (classes, -1))
    if best:
        return torch.cat([own, dealt.amax(-1)], -1)
    return torch.log_softmax(torch.cat([own, dealt.logsumexp(-1)], -1), -1)


def specs(network: Any, pixels: Pixels | None = None) -> list[TensorSpec]:
    """What the model takes, the batch and the length free; pixels is its own way with images."""
    config, main = network.config, str(network.main_input_name)
    found = [replace(_main(config, main), pixels=pixels)]
    if main == "input_ids":
        found.append(TensorSpec("attention_mask", "int64", (None, None), optional=True))
    if "decoder_input_ids" in inspect.signature(network.forward).parameters:
        made = main == "input_ids" and network.get_output_embeddings() is None and "For" in type(network).__name__
        found.append(TensorSpec("decoder_input_ids", "int64", (None, None), optional=made))  # else made of input_ids
        found.append(TensorSpec("decoder_attention_mask", "int64", (None, None), optional=True))
    return found


def _main(config: Any, name: str) -> TensorSpec:
    """The first input: ids, images [n, c, h, w], a sound, or what a speech model's feature extractor makes."""
    bins = getattr(config, "num_mel_bins", None)
    if name == "pixel_values":
        seen = getattr(config, "vision_config", config)
        size = getattr(seen, "image_size", None)
        sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
        return TensorSpec(name, "float32", (None, getattr(seen, "num_channels", 3), *sides))
    if name == "input_features":
        length = getattr(config, "max_source_positions", None)
        return TensorSpec(name, "float32", (None, bins, None if length is None else 2 * length))
    if name == "input_values":
        return TensorSpec(name, "float32", (None, None) if bins is None else (None, config.max_length, bins))
    return TensorSpec(name, "int64", (None, None))
