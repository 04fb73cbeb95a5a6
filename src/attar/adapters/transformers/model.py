"""One Hugging Face model as canonical matrices: a PyTorch network whose skeleton is its configuration and tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from attar.adapters.base import Batch
from attar.adapters.torch import files as torch_files
from attar.adapters.torch.forms import memory
from attar.adapters.torch.model import TorchModel
from attar.adapters.torch.source import Source
from attar.adapters.torch.taps import Hook
from attar.adapters.transformers import files as transformers_files
from attar.adapters.transformers import load as transformers_load
from attar.adapters.transformers import priors as transformers_priors
from attar.adapters.transformers import sites as transformers_sites
from attar.adapters.transformers.adapter import CONFIG
from attar.adapters.transformers.batches import by_length, put, unpadded
from attar.adapters.transformers.fisher import Gradients, fisher
from attar.adapters.transformers.pixels import pixels_of
from attar.adapters.transformers.recording import scales_of
from attar.adapters.transformers.run import Running
from attar.adapters.transformers.skeleton import damaged, dumped, parsed
from attar.adapters.transformers.speech import Speech
from attar.adapters.transformers.tasks import Task, specs
from attar.adapters.transformers.text import examples, labelled, tokenizer_of
from attar.errors import FormatError, ModelError, UsageError
from attar.structure.base import Structure
from attar.types import Array, Capture, Dataset, Json, Recordings, Stats, TensorSpec, Texts, Weight

FLOATS = 1 << 25
"""Numbers in the widest activation of a part of a batch."""
FLOAT_KINDS = ("f", "V")


class TransformersModel(TorchModel):
    """One model of a Hugging Face folder; see adapters/base.py for the laws."""

    framework: ClassVar[str] = "transformers"
    shrunk = None  # type: ignore[assignment]  # configurations say how many channels there are: they stay
    _runner: Running

    def __init__(self, source: Source, files: Mapping[str, bytes], dtype: torch.dtype, task: Task | None = None):
        self._task = task or Task.of(source.network, files)
        runner = Running(source, {})
        runner.task = self._task
        made = transformers_sites.example(specs(source.network))
        seen = transformers_sites.find(source.network, lambda: runner.tried(made), dtype)
        if not seen.sites:
            raise ModelError(
                f"model {type(source.network).__name__}: it must have a weight that is a matrix. Received none."
            )
        super().__init__(source, seen.sites, seen.skipped, {})
        self._runner = Running(source, self._sites)
        self._runner.task = self._task
        self._files, self._dtype, self._seen = dict(files), dtype, seen
        self.suffixes = ("",)
        self._beside: list[Path] = []
        self._gradients = Gradients()
        self._pixels = pixels_of(source.network, files)

    @classmethod
    def opened(cls, model: object) -> Self:
        """See TransformersAdapter.open."""
        folder = Path(str(model))
        transformers_files.read_config(folder)
        weights = transformers_files.weight_files(folder)
        dtype, files = transformers_files.stored_dtype(weights), transformers_files.kept_files(folder)
        adapter = cls(transformers_load.source_of(transformers_load.network_of(folder)), files, dtype)
        adapter._beside = [*weights, *(folder / name for name in files)]
        return adapter

    def files_beside(self) -> list[Path]:
        """The files that the model came in."""
        return list(self._beside)

    def observe(self, metric: str) -> None:
        """From now on, outputs are what this metric needs; see tasks.py."""
        self._task = self._runner.task = self._task.observing(metric)

    def lead(self, output: str) -> None:
        """From now on these scores are looked at; raises UsageError where the task decides what is."""
        if self._task.kind != "scores":
            raise UsageError(
                f"output {output!r}: of language models and of encoders the task decides what is looked at. Received "
                "one. Leave it out, or wrap the model in a torch module that returns what counts."
            )
        super().lead(output)

    def read_texts(self, texts: Texts, window: int) -> Dataset:
        """Windows of the model's own tokens; see text.py."""
        if self._task.ids != "input_ids":
            raise ModelError(
                f"model {type(self.network).__name__}: examples must be what it is fed. Received texts. Give .npz with "
                f"{', '.join(spec.name for spec in self.inputs())}."
            )
        return examples(texts, self._files, self._task, window, self.network.config)

    @property
    def hears(self) -> bool:
        """Whether it writes down speech: features of sound in, tokens out."""
        names = {spec.name for spec in self.inputs()}
        return self._task.kind == "next" and {"input_features", "decoder_input_ids"} <= names

    def _speech(self, window: int) -> Speech:
        return Speech(self.network, self._files, tokenizer_of(self._files), window)

    def read_recordings(self, recordings: Recordings, window: int) -> Dataset:
        """Examples of recordings with at most `window` tokens; see speech.py."""
        return self._speech(window).dataset(recordings)

    def transcripts(self, batch: Batch) -> tuple[Array, Array]:
        """What is written down and what is said, as words; see speech.py."""
        return self._speech(batch["decoder_input_ids"].shape[1]).transcripts(batch)

    def words(self) -> Callable[[Array], str] | None:
        """What makes words of token ids [length], for people; None where the folder has no tokenizer."""
        try:
            tokenizer = tokenizer_of(self._files)
        except ModelError:
            return None
        return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True))

    def labelled(self, data: Dataset) -> Dataset:
        """Labels as its outputs are numbered; see text.py."""
        return labelled(data, self._task, self.network.config)

    @property
    def task(self) -> Task:
        """What its output is."""
        return self._task

    @property
    def config(self) -> Json:
        """The configuration as the folder has it."""
        return json.loads(self._files[CONFIG])

    def state(self) -> dict[str, Array]:
        """All tensors as save_pretrained names them, in float32 where they have a point; tied ones once."""
        network = transformers_load.joined(deepcopy(self.network))
        seen: set[tuple[int, ...]] = set()
        found: dict[str, Array] = {}
        for name, tensor in network.state_dict().items():
            if memory(tensor) not in seen:
                found[name] = torch_files.to_array(tensor)
            seen.add(memory(tensor))
        return found

    @property
    def files(self) -> Mapping[str, bytes]:
        """Configuration, tokenizer and other small files by name."""
        return dict(self._files)

    def structure(self) -> Structure:
        """What can be scaled: norms and what reads them, values and outputs of attention, gated layers; no groups."""
        batch = transformers_sites.example(specs(self.network))
        return scales_of(self.network, lambda: self._runner.plain(batch), transformers_sites.EXAMPLES)

    def copied(self) -> Self:
        """A new adapter over a copy of the model."""
        adapter = type(self)(transformers_load.source_of(deepcopy(self.network)), self._files, self._dtype, self._task)
        adapter._beside, adapter._runner.wanted = list(self._beside), self._runner.wanted
        return adapter

    def inputs(self) -> Sequence[TensorSpec]:
        """The model's inputs, batch and length free."""
        return specs(self.network, self._pixels)

    @property
    def _most(self) -> int:
        """Tokens in a part of a batch."""
        config = self.network.config.get_text_config()  # type: ignore[operator,union-attr]
        width = max(int(getattr(config, name, 0) or 0) for name in ("hidden_size", "d_model", "n_embd", "hidden_dim"))
        vocabulary = int(getattr(config, "vocab_size", 0) or 0) if self._task.kind in ("next", "same") else 0
        return max(1, FLOATS // max(4 * width, vocabulary, 1))

    def run(self, batch: Batch, perturb: Mapping[str, Array] | None = None) -> Array:
        """The task's output, float32: [n, t', classes + 1] log-probabilities, [n, width] vectors or scores."""
        for name in perturb or ():
            if not self.can_perturb(name):
                raise KeyError(name)
        whole: Array | None = None
        examples = len(next(iter(batch.values())))
        for rows, part in by_length(batch, self._most):
            if perturb:
                made = self._runner.perturbed(part, {name: delta[rows] for name, delta in perturb.items()})
            else:
                made = self._runner.run(part)
            whole = put(whole, made, rows, (examples, self._wide(batch, made.ndim)))
        assert whole is not None
        return whole

    def _wide(self, batch: Batch, axes: int) -> dict[str, int]:
        """Positions of the output, where it has some."""
        if axes < 3 or self._task.ids not in batch:
            return {}
        return {"positions": batch[self._task.ids].shape[1] - (self._task.kind == "next")}

    def can_perturb(self, name: str) -> bool:
        """All but tables of positions, which see no example alone, and tied weights.

        Nothing where there are experts: which tokens one multiplies at once changes the last digits of all examples.
        """
        return not self._seen.experts and name not in self._seen.positions and super().can_perturb(name)

    def capture(self, batches: Iterable[Batch], only: Sequence[str] | None = None) -> Iterator[Capture]:
        """What each layer saw, without padding."""
        return super().capture(self._parts(batches), only)

    def moments(self, batches: Iterable[Batch], only: Sequence[str] | None = None) -> Mapping[str, Stats]:
        """Input statistics, without padding."""
        return super().moments(self._parts(batches), only)

    @property
    def heads(self) -> frozenset[str]:
        """The head of a language model, by all of its names."""
        network: Any = self.network
        head = network.get_output_embeddings() if self._task.kind in ("next", "same") else None
        if head is None:
            return frozenset()
        place, tensors = memory(head.weight), self._source.tensors
        return frozenset(name for name in self._sites if memory(tensors[name]) == place)

    def _of_words(self, name: str) -> bool:
        """Whether a table is one of words, not of positions or of kinds of segments."""
        return name not in self._seen.positions and self._sites[name].form.cols >= transformers_priors.FEW

    def settled(self, stats: Mapping[str, Stats]) -> Mapping[str, Stats]:
        """Statistics with what is known beforehand of words, positions and experts; see priors.py."""
        tables: dict[str, bool] = {}
        kin: dict[str, list[str]] = {}
        for name, site in self._sites.items():
            if site.form.kind == "embedding":
                tables[name] = not self._of_words(name)
            if isinstance(self.network.get_submodule(name.rpartition(".")[0]), transformers_load.Slices):
                kin.setdefault(name.rpartition(".")[0], []).append(name)
        return transformers_priors.settled(stats, tables, kin.values(), transformers_priors.WOKEN)

    def _parts(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            for _, part in unpadded(batch, self._most):
                yield part

    def fisher(self, batches: Iterable[Batch], seed: int = 0) -> Mapping[str, Array]:
        """Row sensitivities [rows] by gradients, in nats per squared unit; see fisher.py."""
        kept = list(batches)
        vectors = [self.run(batch) for batch in kept] if self._task.kind == "vector" else []
        spread = float(np.concatenate(vectors).var(0).mean()) + 1e-12 if vectors else 1.0
        sites = {name: site.form.rows for name, site in self._sites.items() if site.tied_to is None}

        def forward(batch: Batch, hook: Hook) -> Any:
            return self._runner.tap(batch, list(sites), hook)

        self._runner.raw = True
        try:
            self._gradients = fisher(forward, self._parts(kept), sites, self._task, spread, seed)
        finally:
            self._runner.raw = False
        return self._gradients.rows

    def weighed(self, stats: Mapping[str, Stats]) -> Mapping[str, Stats]:
        """Statistics in which a word counts by what its vector does to the output, as `fisher` has last seen.

        Beside them what it has seen of rows whose errors go together, and what is known beforehand of a head's rows.
        """
        found = dict(stats)
        for name, coupling in self._gradients.coupling.items():
            if name in stats:
                found[name] = replace(stats[name], coupling=coupling)
        for name in self._gradients.words & set(stats):
            rows = transformers_priors.head(self._gradients.rows[name])
            found[name] = replace(found[name], sensitivity=rows)
        for name, (ids, weights) in self._gradients.lookups.items():
            if name in stats and self._of_words(name):
                found[name] = transformers_priors.weighed(found[name], ids, weights)
        return found

    def write(self, name: str, weight: Weight) -> None:
        """The inverse of read, rounded to the dtype that the folder has it in."""
        super().write(
            name, Weight(self._rounded(weight.matrix), None if weight.bias is None else self._rounded(weight.bias))
        )

    def _rounded(self, values: Array) -> Array:
        if self._dtype == torch.float32:
            return values
        return torch.tensor(np.asarray(values, np.float32)).to(self._dtype).float().numpy()

    def remainder(self) -> Mapping[str, Array]:
        """All other parameters and buffers by name, in the dtype of the folder."""
        return {
            name: torch_files.to_array(tensor.to(self._dtype) if tensor.is_floating_point() else tensor)
            for name, tensor in self._rest().items()
        }

    def restore(self, remainder: Mapping[str, Array]) -> None:
        """Put a remainder into the model; raises ModelError where names or shapes differ, before anything changes."""
        super().restore({
            name: np.asarray(value, np.float32) if value.dtype.kind in FLOAT_KINDS else value
            for name, value in remainder.items()
        })  # fmt: skip

    def skeleton(self) -> bytes:
        """Configuration, tokenizer and the other small files of the folder, as JSON."""
        return dumped(self._dtype, self._task, self._files)

    @classmethod
    def rebuilt(cls, skeleton: bytes, remainder: Mapping[str, Array]) -> Self:
        """See TransformersAdapter.rebuild."""
        try:
            dtype, task, files = parsed(skeleton)
            config: Json = json.loads(files[CONFIG])
            network = transformers_load.network_from(config)
            adapter = cls(transformers_load.source_of(network), files, dtype, task)
        except FormatError:
            raise
        except Exception as error:
            raise damaged(error) from error
        adapter.restore(remainder)
        return adapter

    def model(self) -> Any:
        """A model of transformers, in eval mode and in the dtype of the folder."""
        return transformers_load.joined(deepcopy(self.network)).to(self._dtype)

    def packed(self, weight_of: Callable[[str], Weight], names: Sequence[str], keep_bytes: int = 0) -> Any:
        """See TorchModel.packed; in the dtype of the folder, experts apart."""
        return super().packed(weight_of, names, keep_bytes).to(self._dtype)

    def save(self, path: Path) -> None:
        """A folder that from_pretrained loads: safetensors, and the files beside the weights byte for byte."""
        folder = Path(path)
        with transformers_files.quiet():
            self.model().save_pretrained(str(folder))
        transformers_files.write_files(folder, self._files)

    @property
    def sparse_suffixes(self) -> tuple[str, ...]:
        """None: safetensors have no layout for weights with zeros."""
        return ()
