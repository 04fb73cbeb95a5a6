"""The inputs of recurrent kernels: run a recurrent call again layer by layer, and read x_t, h_{t-1} off it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from attar.adapters.torch.calls import Call


@dataclass(frozen=True, slots=True)
class _Loop:
    """The arguments of torch.lstm and its kin; batch_sizes where the data are a packed sequence."""

    data: Tensor
    batch_sizes: Tensor | None
    states: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    has_biases: bool
    layers: int
    directions: int
    batch_first: bool

    @classmethod
    def of(cls, args: Sequence[Any], kwargs: dict[str, Any]) -> _Loop:
        """From (input, hx, weights, ...) or (data, batch_sizes, hx, weights, ...)."""
        args = [*args, *kwargs.values()]
        packed = isinstance(args[3], list | tuple)
        sizes = args[1] if packed else None
        data, hx, weights, biases, layers, _dropout, _train, bidirectional, *rest = [
            args[0],
            *args[2 if packed else 1 :],
        ]
        states = tuple(hx) if isinstance(hx, list | tuple) else (hx,)
        first = bool(rest[0]) if rest else False
        return cls(data, sizes, states, tuple(weights), bool(biases), layers, 2 if bidirectional else 1, first)

    def layer(self, function: Any, number: int, data: Tensor) -> Tensor:
        """The outputs of one layer, both directions side by side."""
        per = len(self.weights) // self.layers
        weights = list(self.weights[number * per : (number + 1) * per])
        states = [s[number * self.directions : (number + 1) * self.directions] for s in self.states]
        hx = states if len(states) > 1 else states[0]
        flags = (self.has_biases, 1, 0.0, False, self.directions == 2)
        if self.batch_sizes is not None:
            return function(data, self.batch_sizes, hx, weights, *flags)[0]  # type: ignore[no-any-return]
        return function(data, hx, weights, *flags, self.batch_first)[0]  # type: ignore[no-any-return]

    def before(self, output: Tensor, start: Tensor, backward: bool) -> Tensor:
        """h_{t-1} [steps, units] of every step that ran, given one direction's outputs, first state [n, units]."""
        if self.batch_sizes is None:
            steps = output.transpose(0, 1) if self.batch_first and output.ndim == 3 else output
            if steps.ndim == 2:  # one sequence without a batch axis
                steps, start = steps[:, None], start.reshape(1, -1)
            moved = torch.cat([steps[1:], start[None]]) if backward else torch.cat([start[None], steps[:-1]])
            return moved.reshape(-1, moved.shape[-1])
        steps, lengths = pad_packed_sequence(PackedSequence(output, self.batch_sizes))
        time, lengths = torch.arange(len(steps), device=steps.device)[:, None], lengths.to(steps.device)
        if not backward:
            return torch.cat([start[None], steps[:-1]])[time < lengths]
        moved = torch.cat([steps[1:], torch.zeros_like(start)[None]])
        moved = torch.where((time == lengths - 1)[:, :, None], start[None], moved)
        return moved[time < lengths]


def unroll(function: Any, args: Sequence[Any], kwargs: dict[str, Any], calls: Sequence[Call]) -> Iterator[Call]:
    """A call with its x for each of the given weights of one recurrent network; geometry is the weight's place."""
    loop = _Loop.of(args, kwargs)
    wanted = {call.geometry[0]: call for call in calls}
    per = len(loop.weights) // loop.layers // loop.directions
    data = loop.data
    for number in range(loop.layers):
        output = loop.layer(function, number, data)
        width = output.shape[-1] // loop.directions
        for direction in range(loop.directions):
            cell = number * loop.directions + direction
            own = output[..., direction * width : (direction + 1) * width]
            states = loop.before(own, loop.states[0][cell], direction == 1)
            for place, x in ((cell * per, data), (cell * per + 1, states)):
                if place in wanted:
                    yield replace(wanted[place], op="states", x=x)
        data = output
