"""Causal language models larger than memory: a folder or an archive whose parts are opened one after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from attar.adapters.torch.forms import Site
from attar.adapters.transformers import files as transformers_files
from attar.adapters.transformers import priors as transformers_priors
from attar.adapters.transformers import sites as transformers_sites
from attar.adapters.transformers.adapter import CONFIG
from attar.adapters.transformers.batches import PAIRS
from attar.adapters.transformers.decoder import Decoder
from attar.adapters.transformers.load import Slices
from attar.adapters.transformers.meta import Shards, blocks_of, empty_network
from attar.adapters.transformers.part import Part
from attar.adapters.transformers.sites import EXAMPLES, TOKENS
from attar.adapters.transformers.skeleton import damaged, dumped, parsed
from attar.adapters.transformers.tasks import Task, specs
from attar.adapters.transformers.text import examples, labelled
from attar.errors import DataError, FormatError, ModelError
from attar.types import Array, Dataset, Json, Layer, Stats, TensorSpec, Texts


class StreamedModel:
    """Parts: 0 is what comes before the blocks, then each block, then what comes behind them.

    A matrix that is tied (embeddings and head) belongs to the first part that has it.
    """

    framework: ClassVar[str] = "transformers"
    suffixes: ClassVar[tuple[str, ...]] = ("",)

    def __init__(self, decoder: Decoder, files: Mapping[str, bytes], dtype: torch.dtype, task: Task | None = None):
        self._decoder, self._files, self._dtype = decoder, dict(files), dtype
        self._task = task or Task.of(decoder.network, files)
        self._shards: Shards | None = None
        self._beside: list[Path] = []
        if self._task.kind != "next" or self._task.ids != "input_ids":
            raise ModelError(
                f"model {type(decoder.network).__name__}: streaming is for causal language models, read token by "
                "token. Received another kind. Leave --stream out."
            )
        self._survey()

    @classmethod
    def opened(cls, model: object) -> Self:
        """The model of a folder, no weight of which is read yet; raises ModelError, FormatError."""
        folder = Path(str(model))
        config = transformers_files.read_config(folder)
        paths = transformers_files.weight_files(folder)
        dtype, files = transformers_files.stored_dtype(paths), transformers_files.kept_files(folder)
        network = empty_network(config)
        shards = Shards(network, paths, blocks_of(network))
        made = cls(Decoder(network), files, dtype)
        made._shards = shards
        made._beside = [*paths, *(folder / name for name in files)]
        return made

    @classmethod
    def rebuilt(cls, skeleton: bytes) -> Self:
        """The model of an archive, without any weights; raises FormatError."""
        try:
            dtype, task, files = parsed(skeleton)
            return cls(Decoder(empty_network(json.loads(files[CONFIG]))), files, dtype, task)
        except (FormatError, ModelError):
            raise
        except Exception as error:
            raise damaged(error) from error

    def _survey(self) -> None:
        """Find the matrices of every part, by a run on a few tokens in memory that holds nothing."""
        decoder = self._decoder
        decoder.learn()
        ids = torch.arange(EXAMPLES * TOKENS).reshape(EXAMPLES, TOKENS) % 7 + 2
        with decoder.ends():
            entrance, states = self._entered(ids)
            seen = transformers_sites.find(decoder.network, lambda: decoder.whole(ids), self._dtype)
        self._positions, self._skipped = set(seen.positions), dict(seen.skipped)
        self.entrance = frozenset(entrance)
        inner = [site for site in seen.sites if site.name in entrance]
        outer = [site for site in seen.sites if site.name not in entrance]
        self._sites: list[list[Site]] = [inner]
        self._kin: list[list[list[str]]] = [[]]
        states, self.width = torch.zeros_like(states), int(states.shape[-1])
        for number in range(len(decoder.blocks)):
            prefix = f"{decoder.place}.{number}."
            with decoder.block(number) as block:
                found = transformers_sites.find(block, partial(decoder.step, number, block, states), self._dtype)
                lists = {name: m for name, m in block.named_modules() if isinstance(m, Slices)}
            self._skipped |= {prefix + name: reason for name, reason in found.skipped.items()}
            self._sites.append([_within(site, prefix) for site in found.sites])
            self._kin.append([[f"{prefix}{name}.{n}" for n in range(len(m))] for name, m in lists.items()])
        self._sites.append(outer)
        self._kin.append([])
        odd = sorted({s.form.kind for part in self._sites for s in part} - {"dense", "embedding"})
        if odd:
            raise ModelError(
                f"model {type(decoder.network).__name__}: streaming knows matrices and tables of words. Received "
                f"weights that are {', '.join(odd)}. Leave --stream out."
            )

    def _entered(self, ids: Tensor) -> tuple[set[str], Tensor]:
        """Names of the parameters of modules that run before the blocks, and the states that they make."""
        network, ran = self._decoder.network, set()
        hooks = [
            module.register_forward_pre_hook(lambda *_, name=name: ran.add(name))
            for name, module in network.named_modules()
            if not list(module.children())
        ]
        try:
            with torch.no_grad():
                states = self._decoder.enter(ids)
        finally:
            for hook in hooks:
                hook.remove()
        names = {n for n, _ in network.named_parameters(remove_duplicate=False)}
        return {name for name in names if name.rpartition(".")[0] in ran}, states

    @property
    def parts(self) -> int:
        """Their number."""
        return len(self._sites)

    def layers_of(self, number: int) -> list[Layer]:
        """The matrices that belong to a part."""
        return [site.layer() for site in self._sites[number] if site.tied_to is None]

    def layers(self) -> list[Layer]:
        """All matrices in the order of the parts, tied ones under each name."""
        return [site.layer() for part in self._sites for site in part]

    def skipped(self) -> Mapping[str, str]:
        """Tensors of two or more axes that are left as they are, with the reason."""
        return dict(self._skipped)

    def inputs(self) -> Sequence[TensorSpec]:
        """Ids, batch and length free; a mask may say that there is no padding."""
        return specs(self._decoder.network)

    def files_beside(self) -> list[Path]:
        """The files that the model came in."""
        return list(self._beside)

    def observe(self, metric: str) -> None:
        """From now on, outputs are what this metric needs; see tasks.py."""
        self._task = self._task.observing(metric)

    def read_texts(self, texts: Texts, window: int) -> Dataset:
        """Windows of the model's own tokens; see text.py."""
        return examples(texts, self._files, self._task, window, self._decoder.network.config)

    def labelled(self, data: Dataset) -> Dataset:
        """The token that comes next is class 0 of the outputs. Raises DataError for padding, which is not streamed."""
        for ids, mask in PAIRS[:1]:
            if ids not in data.inputs or (mask in data.inputs and not np.all(data.inputs[mask])):
                raise DataError(
                    f"data {data.origin!r}: streaming reads {ids} of one length without padding. Received others. "
                    "Give a long text (.txt), or windows of equal length."
                )
        return labelled(data, self._task, self._decoder.network.config)

    def skeleton(self) -> bytes:
        """As that of a model in memory."""
        return dumped(self._dtype, self._task, self._files)

    @property
    def dtype(self) -> str:
        """What the folder's weights are stored in."""
        return str(self._dtype).removeprefix("torch.")

    @property
    def files(self) -> Mapping[str, bytes]:
        """Configuration, tokenizer and other small files by name."""
        return dict(self._files)

    @property
    def config(self) -> Json:
        """The configuration as the folder has it."""
        return json.loads(self._files[CONFIG])

    def stored(self, number: int) -> list[tuple[str, str]]:
        """The matrices of a part, and under which name each is stored: a tied one under its owner's."""
        return [(site.name, site.tied_to or site.name) for site in self._sites[number]]

    def head(self) -> str | None:
        """The matrix of the first part that is multiplied by behind the last block (tied embeddings), or None."""
        tied = {site.tied_to for site in self._sites[-1] if site.tied_to is not None}
        return next((site.name for site in self._sites[0] if site.name in tied), None)

    @contextmanager
    def part(self, number: int, *, blank: bool = False) -> Iterator[Part]:
        """A part with the folder's weights, or with room for others; raises ModelError, FormatError.

        The last part shows the tied matrix of the first as its own, for statistics.
        """
        decoder = self._decoder
        fill = None if blank or self._shards is None else self._shards.fill
        if 0 < number < self.parts - 1:
            prefix = f"{decoder.place}.{number - 1}."
            with decoder.block(number - 1, fill) as block:
                named = [*block.named_parameters(), *_saved_buffers(block)]
                tensors = {prefix + name: tensor for name, tensor in named}
                run = partial(decoder.step, number - 1, block)
                yield Part(tensors, self._sites[number], self._dtype, lambda states, _: run(states))
            return
        names = {n for n, _ in decoder.network.named_parameters(remove_duplicate=False)}
        last = number > 0
        wanted = frozenset(names - self.entrance if last else self.entrance)
        with decoder.ends(fill, wanted) as found:
            tensors = {name: tensor for name, tensor in found.items() if name in wanted}
            if not last:
                tensors |= dict(_saved_buffers(decoder.network))
                yield Part(tensors, self._sites[0], self._dtype, lambda _, ids: decoder.enter(ids))
                return
            sites = [replace(site, tied_to=None) for site in self._sites[-1]]
            leave: Any = decoder.leave
            yield Part(tensors, sites, self._dtype, leave, partial(_finished, self._task))

    @property
    def network(self) -> Any:
        """The network, its blocks ways through."""
        return self._decoder.network

    def outline(self, number: int) -> dict[str, Tensor]:
        """The tensors of a part as transformers have them, without values, in the dtype of the folder."""
        if 0 < number < self.parts - 1:
            prefix = f"{self._decoder.place}.{number - 1}."
            named = self._decoder.blocks[number - 1].state_dict().items()
            found = {prefix + name: tensor for name, tensor in named}
        else:
            first = {names[0] for names in self._decoder.outer}
            outer = self.network.state_dict()
            mine = [name for name in outer if (name in self.entrance or name not in first) == (number == 0)]
            found = {name: outer[name] for name in mine if name in first or name in self._decoder.buffers}
        return {name: self._as_stored(tensor).to("meta") for name, tensor in found.items()}

    def dense(self, number: int, part: Part) -> dict[str, Tensor]:
        """The same with values; the experts of a layer in one tensor."""
        found = {}
        for name, outline in self.outline(number).items():
            tensor = part.tensors.get(name)
            if tensor is None:
                tensor = torch.stack([part.tensors[f"{name}.{n}"] for n in range(len(outline))])
            found[name] = self._as_stored(tensor)
        return found

    def _as_stored(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor

    def settled(self, number: int, stats: Mapping[str, Stats]) -> dict[str, Stats]:
        """Statistics of a part with what is known beforehand of words, positions and experts."""
        tables = {
            site.name: site.name in self._positions or site.form.cols < transformers_priors.FEW
            for site in self._sites[number]
            if site.form.kind == "embedding"
        }
        return transformers_priors.settled(stats, tables, self._kin[number], transformers_priors.WOKEN)

    def weighed(self, stats: Mapping[str, Stats], lookups: Mapping[str, tuple[Array, Array]]) -> dict[str, Stats]:
        """Statistics in which a word counts by what its vector does to the output; see priors.py."""
        found = dict(stats)
        for name, (ids, weights) in lookups.items():
            words = name in found and found[name].hessian.ndim == 2 and name not in self._positions
            if words and found[name].hessian.shape[1] >= transformers_priors.FEW:
                found[name] = transformers_priors.weighed(found[name], ids, weights)
        return found


def _finished(task: Task, scores: Tensor, ids: Tensor) -> Tensor:
    return task.output((scores,), {task.ids: ids})


def _within(site: Site, prefix: str) -> Site:
    """A site of a block under its name in the network."""
    bias = None if site.bias is None else replace(site.bias, name=prefix + site.bias.name)
    tied = None if site.tied_to is None else prefix + site.tied_to
    return replace(site, name=prefix + site.name, bias=bias, tied_to=tied)


def _saved_buffers(module: torch.nn.Module) -> list[tuple[str, Tensor]]:
    """Buffers that a folder holds."""
    saved = module.state_dict().keys()
    return [(name, buffer) for name, buffer in module.named_buffers() if name in saved]
