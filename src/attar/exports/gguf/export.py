"""Language models as GGUF in llama.cpp's types, rounded by ours: searched scales, error feedback on their grids.

`gguf` takes the smallest of TYPES that stays within the drop; `gguf-q4_k` and its kin are that type alone. As in
llama.cpp, the matrix that makes logits is Q6_K in the types of fewer bits, rows that are no multiple of 256 get a type
of smaller blocks, and vectors stay in float32.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import gguf
import numpy as np

from attar.adapters.base import Adapter
from attar.adapters.transformers.model import TransformersModel
from attar.errors import ModelError
from attar.exports.base import Artefact, Task
from attar.exports.gguf.blocks import format_for
from attar.exports.gguf.llama import checked, describe, gguf_names, order
from attar.exports.gguf.reading import Runtime
from attar.exports.gguf.rounding import nearest, packed, rounded
from attar.run.engines import one_blas_thread
from attar.run.executor import map_in_order
from attar.types import Array, Dataset, Json, Layer, Stats, Weight

TYPES = {
    "q3_k": ("Q3_K", "Q6_K", gguf.LlamaFileType.MOSTLY_Q3_K_S),
    "q4_0": ("Q4_0", "Q6_K", gguf.LlamaFileType.MOSTLY_Q4_0),
    "q4_k": ("Q4_K", "Q6_K", gguf.LlamaFileType.MOSTLY_Q4_K_S),
    "q4_1": ("Q4_1", "Q6_K", gguf.LlamaFileType.MOSTLY_Q4_1),
    "q5_k": ("Q5_K", "Q6_K", gguf.LlamaFileType.MOSTLY_Q5_K_S),
    "q6_k": ("Q6_K", "Q6_K", gguf.LlamaFileType.MOSTLY_Q6_K),
    "q8_0": ("Q8_0", "Q8_0", gguf.LlamaFileType.MOSTLY_Q8_0),
    "f16": ("F16", "F16", gguf.LlamaFileType.MOSTLY_F16),
}
"""Types of files, small ones first: of matrices, of the one that makes logits, and the number that GGUF has for it."""
CHOSEN = ("q3_k", "q4_0", "q4_k", "q5_k", "q6_k", "q8_0", "f16")
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SEQUENCES = 4
"""Calibration sequences at a time."""


class Tensors:
    """A model's tensors in GGUF's types, each rounded once for each format."""

    def __init__(self, adapter: TransformersModel, stats: Mapping[str, Stats]) -> None:
        self.state, self.stats = adapter.state(), stats
        self.layers: dict[str, Layer] = {layer.name: layer for layer in adapter.layers() if layer.tied_to is None}
        self._made: dict[tuple[str, str], tuple[Array, str]] = {}

    def coded(self, name: str, wanted: str) -> tuple[Array, str]:
        """The bytes [rows, bytes of a row] or plain values, and the type they are in."""
        if (name, wanted) not in self._made:
            self._made[name, wanted] = self._coded(name, wanted)
        return self._made[name, wanted]

    def _coded(self, name: str, wanted: str) -> tuple[Array, str]:
        tensor = np.asarray(self.state[name], np.float32)
        form = None if wanted == "F16" else format_for(wanted, tensor.shape[-1])
        if tensor.ndim < 2:
            return tensor, "F32"
        if form is None:
            return tensor.astype(np.float16), "F16"
        layer, stats = self.layers.get(name), self.stats.get(name)
        if layer is None or stats is None or layer.kind != "dense" or layer.rows != len(tensor):
            return packed(form, *nearest(form, tensor), tensor.shape)[0], form.name
        return rounded(form, layer, Weight(tensor, None), stats)[0], form.name


def second_moments(adapter: TransformersModel, data: Dataset, names: Sequence[str]) -> dict[str, Stats]:
    """What layers' inputs are like, without what rounding does not look at: they take most of the memory."""
    found = adapter.moments(data.batches(SEQUENCES), names)
    return {name: replace(stats, pooled=None) for name, stats in found.items()}


def file_of(adapter: TransformersModel, tensors: Tensors, kind: str) -> tuple[bytes, list[str], Counter[str]]:
    """The bytes of a GGUF file, notes, and how many tensors are in which type."""
    config = adapter.config
    usual, logits, number = TYPES[kind]
    makes_logits = HEAD if HEAD in tensors.state else EMBEDDING
    used: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, one_blas_thread():
        place = Path(folder, "model.gguf")
        writer = gguf.GGUFWriter(place, checked(config, "gguf"))
        writer.add_type("model")
        writer.add_file_type(number)
        notes = describe(writer, config, adapter.files)
        names = gguf_names(list(tensors.state), config)
        made = map_in_order(lambda name: tensors.coded(name, logits if name == makes_logits else usual), names)
        for (name, known), (data, form) in zip(names.items(), made, strict=True):
            rows = order(name, config)
            whole = np.ascontiguousarray(data if rows is None else data[rows])
            writer.add_tensor(known, whole, raw_dtype=gguf.GGMLQuantizationType[form])
            used[form] += 1
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return place.read_bytes(), notes, used


class Gguf:
    """See the module's docstring."""

    name: ClassVar[str] = "gguf"
    suffix: ClassVar[str] = ".gguf"
    help: ClassVar[str] = "language models for llama.cpp, in the smallest type that stays within the drop"
    kinds: ClassVar[tuple[str, ...]] = CHOSEN

    @classmethod
    def check(cls, adapter: Adapter) -> None:
        """A Hugging Face folder of a Llama or its kin; raises ModelError."""
        model = language_model(adapter, cls.name)
        checked(model.config, cls.name)
        gguf_names(list(model.state()), model.config)

    @classmethod
    def make(cls, task: Task) -> Artefact:
        """The smallest type that is within the drop, found by halving; the largest, untested, where none is.

        A larger type is taken to lose less, so that three of seven types are made whatever the model is.
        """
        adapter = language_model(task.adapter, cls.name)
        dense = [layer.name for layer in adapter.layers() if layer.tied_to is None and layer.kind == "dense"]
        tensors = Tensors(adapter, second_moments(adapter, task.calibrate, dense))
        low, high, best = 0, len(cls.kinds) - 1, None
        while low < high:
            middle = (low + high) // 2
            made = file_of(adapter, tensors, cls.kinds[middle])
            task.step()
            if task.acceptable(made[0]):
                high, best = middle, made
            else:
                low = middle + 1
        kind = cls.kinds[high]
        data, notes, used = best or file_of(adapter, tensors, kind)
        facts: dict[str, Json] = {"type": kind, "tensors": dict(used)}
        told = ", ".join(f"{count} in {form}" for form, count in used.most_common())
        return Artefact(data, (f"{kind}: tensors {told}", *notes), facts)

    @staticmethod
    def runtime(model: bytes | Path, threads: int) -> Runtime:
        """The file read by the gguf package, in torch."""
        return Runtime(model, threads)


class GgufQ40(Gguf):
    """Q4_0 alone."""

    name, kinds = "gguf-q4_0", ("q4_0",)


class GgufQ3K(Gguf):
    """Q3_K alone."""

    name, kinds = "gguf-q3_k", ("q3_k",)


class GgufQ4K(Gguf):
    """Q4_K alone."""

    name, kinds = "gguf-q4_k", ("q4_k",)


class GgufQ5K(Gguf):
    """Q5_K alone."""

    name, kinds = "gguf-q5_k", ("q5_k",)


class GgufQ6K(Gguf):
    """Q6_K alone."""

    name, kinds = "gguf-q6_k", ("q6_k",)


class GgufQ80(Gguf):
    """Q8_0 alone."""

    name, kinds = "gguf-q8_0", ("q8_0",)


def language_model(adapter: Adapter, goal: str) -> TransformersModel:
    """The adapter itself where it is of a Hugging Face folder; raises ModelError for others."""
    if isinstance(adapter, TransformersModel):
        return adapter
    raise ModelError(
        f"{goal}: it is made of a Hugging Face folder, or of a .attar file of one. Received a {adapter.framework} "
        "model. Save it by save_pretrained."
    )
