"""Running a causal decoder part by part: what goes in before the blocks, one block, what comes out behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attar.adapters.torch.inputs import first_tensor
from attar.adapters.transformers.files import quiet
from attar.adapters.transformers.load import prepared
from attar.adapters.transformers.meta import Reached, Through, blocks_of, check_filled, part_of, same_tensors

Called = tuple[bool, tuple[Any, ...], dict[str, Any]]
"""Whether states come by position, and the other arguments of a block."""
Fill = Callable[[Any, str], None]
"""Gives values to a part of the network, by its name."""


class Decoder:
    """A network whose parameters are on the meta device but for those of the part at work."""

    def __init__(self, network: Any) -> None:
        """Takes the network over; raises ModelError where its blocks cannot be told."""
        self.network = network
        self.place = blocks_of(network)
        self._list: Any = network.get_submodule(self.place)
        self.blocks: list[nn.Module] = list(self._list)
        for number, block in enumerate(self.blocks):
            self._list[number] = Through(block, partial(self._passed, number))
        self.outer = same_tensors(network)
        self.buffers = [name for name in network.state_dict() if name in dict(network.named_buffers())]
        self.tuples = False
        self._stop = -1
        self._given: Tensor | None = None
        self._noted: list[Called] | None = None
        self._contexts: dict[tuple[int, int], list[Called]] = {}

    def _passed(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What stands for a block gives back: its input, at the end the states given, if there are some."""
        by_position, rest = bool(args), dict(kwargs)
        states: Tensor = args[0] if by_position else rest.pop("hidden_states")
        if self._noted is not None:
            self._noted.append((by_position, args[1:], rest))
        if number == self._stop:
            raise Reached(states)
        if self._given is not None and number == len(self.blocks) - 1:
            states = self._given
        return (states,) if self.tuples else states

    @contextmanager
    def ends(self, fill: Fill | None = None, wanted: frozenset[str] = frozenset()) -> Iterator[dict[str, Tensor]]:
        """Within, parameters outside the blocks have values: those wanted what `fill` gives, the others any.

        Memory that nobody writes is none. Gives the parameters by name, tied ones under each.
        """
        empty = dict(self.network.named_parameters(remove_duplicate=False))
        try:
            for names in self.outer:
                if fill is not None and wanted.intersection(names):
                    for name in names:
                        fill(self.network, part_of(name, self.place))
                made = [self.network.get_parameter(name) for name in names]
                real = next((one for one in made if not one.is_meta), None)
                if real is None:
                    real = nn.Parameter(torch.empty(made[0].shape), requires_grad=False)
                for name in names:
                    _put(self.network, name, real)
            for name in self.buffers if fill is not None else ():
                fill(self.network, part_of(name, self.place))
            tensors = dict(self.network.named_parameters(remove_duplicate=False))
            yield tensors
        finally:
            for name, parameter in empty.items():
                _put(self.network, name, parameter)

    @contextmanager
    def block(self, number: int, fill: Fill | None = None) -> Iterator[nn.Module]:
        """A block with the values that `fill` gives, or with any, its experts apart; raises ModelError."""
        block, through = deepcopy(self.blocks[number]), self._list[number]
        if fill is not None:
            self._list[number] = block
            try:
                fill(self.network, str(number))
            finally:
                self._list[number] = through
            check_filled({f"{self.place}.{number}.{name}": p for name, p in block.named_parameters()})
        prepared(block)
        if fill is None:
            for name, parameter in list(block.named_parameters()):
                _put(block, name, nn.Parameter(torch.empty(parameter.shape), requires_grad=False))
        yield block

    def enter(self, ids: Tensor) -> Tensor:
        """States [n, t, d] before the first block, of ids [n, t]."""
        self._stop = 0
        try:
            self._forward(ids)
        except Reached as reached:
            return reached.states
        finally:
            self._stop = -1
        raise AssertionError("the network has not called its first block")

    def leave(self, states: Tensor, ids: Tensor) -> Tensor:
        """Scores [n, t, vocabulary], of states behind the last block."""
        self._given = states
        try:
            return self._forward(ids)
        finally:
            self._given = None

    def whole(self, ids: Tensor) -> Tensor:
        """Scores of the network without its blocks."""
        return self._forward(ids)

    def _forward(self, ids: Tensor) -> Tensor:
        with quiet():
            return first_tensor(self.network(input_ids=ids, use_cache=False))

    def step(self, number: int, block: nn.Module, states: Tensor) -> Tensor:
        """States behind a block."""
        by_position, args, kwargs = self.context(len(states), states.shape[1])[number]
        made = block(states, *args, **kwargs) if by_position else block(hidden_states=states, **kwargs)
        return made[0] if isinstance(made, tuple) else made

    @torch.no_grad()
    def context(self, examples: int, length: int) -> list[Called]:
        """What each block is called with beside its states, for sequences of one length without padding."""
        key = (examples, length)
        if key not in self._contexts:
            self._noted, self._given = [], None
            self._stop = len(self.blocks) - 1
            try:
                with self.ends():
                    self._forward(torch.zeros(examples, length, dtype=torch.int64))
            except Reached:
                pass
            finally:
                noted, self._noted, self._stop = self._noted, None, -1
            self._contexts = {**dict(list(self._contexts.items())[-3:]), key: noted}
        return self._contexts[key]

    def learn(self) -> None:
        """Whether blocks give tuples, which the network unpacks: told by the first one, run on nothing."""
        ids = torch.zeros(1, 2, dtype=torch.int64)
        self._noted = []
        with torch.no_grad(), self.ends(), self.block(0) as block:
            states = torch.zeros_like(self.enter(ids))
            by_position, args, kwargs = self._noted[0]
            self._noted = None
            made = block(states, *args, **kwargs) if by_position else block(hidden_states=states, **kwargs)
        self.tuples = isinstance(made, tuple)


def _put(network: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """A parameter under its name."""
    place, _, leaf = name.rpartition(".")
    network.get_submodule(place)._parameters[leaf] = parameter
