"""ONNX's LSTM, GRU and RNN in PyTorch, step by step, with the gates in ONNX's order."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from attar.adapters.onnx.torch_spec import Function, Spec, no_gradient

State = tuple[Tensor, ...]
Cell = Callable[[Tensor, Tensor, Tensor, State], State]
"""(products of the inputs, with all their biases [n, gates * hidden]; R; biases of R; the state) -> the next state."""

DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


def recurrent(kind: str) -> Callable[[Spec], Function]:
    """The maker of one of the three; its outputs are all states, the last one, and the last cell."""

    def make(spec: Spec) -> Function:
        direction = spec.get("direction", "forward")
        wanted = DEFAULTS[kind] * (2 if direction == "bidirectional" else 1)
        given = tuple(name.capitalize() for name in spec.get("activations", wanted))
        if given != wanted and not (kind == "RNN" and set(given) == {"Relu"}):
            raise no_gradient(spec.label, f"activations={list(given)}")
        for name, value in (("clip", 0.0), ("input_forget", 0)):
            spec.refuse(name, value)
        cell = _cell(kind, given[0], bool(spec.get("linear_before_reset", 0)))
        return _runner(spec, kind, cell, direction)

    return make


def _runner(spec: Spec, kind: str, cell: Cell, direction: str) -> Function:
    batch_first = bool(spec.get("layout", 0))

    def run(x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> tuple[Tensor, ...]:
        bias, lengths, first, memory, peephole = (*rest, *[None] * (5 - len(rest)))
        if lengths is not None or peephole is not None:
            raise no_gradient(spec.label, "sequence lengths or peepholes")
        x = x.transpose(0, 1) if batch_first else x
        hidden, outputs, lasts = r.shape[-1], [], []
        for d in range(w.shape[0]):
            starts = [_start(s, d, x, hidden, batch_first) for s in ((first, memory) if kind == "LSTM" else (first,))]
            inner, outer = (None, None) if bias is None else bias[d].chunk(2)
            backwards = direction == "reverse" or d == 1
            states, last = _walk(cell, F.linear(x, w[d], inner), r[d], outer, tuple(starts), backwards)
            outputs.append(states)
            lasts.append(last)
        sequence = torch.stack(outputs, 1)
        ends = [torch.stack(parts) for parts in zip(*lasts, strict=True)]
        if batch_first:
            return (sequence.permute(2, 0, 1, 3), *(end.transpose(0, 1) for end in ends))
        return (sequence, *ends)

    return run


def _start(state: Tensor | None, d: int, x: Tensor, hidden: int, batch_first: bool) -> Tensor:
    if state is None:
        return x.new_zeros(x.shape[1], hidden)
    return state[:, d] if batch_first else state[d]


def _walk(
    cell: Cell, products: Tensor, r: Tensor, outer: Tensor | None, state: State, backwards: bool
) -> tuple[Tensor, State]:
    """All states [T, n, hidden] of one direction, in the order of the inputs, and the last."""
    bias = r.new_zeros(r.shape[0]) if outer is None else outer
    states = []
    for t in reversed(range(len(products))) if backwards else range(len(products)):
        state = cell(products[t], r, bias, state)
        states.append(state[0])
    return torch.stack(states[::-1] if backwards else states), state


def _cell(kind: str, activation: str, linear_before_reset: bool) -> Cell:
    if kind == "LSTM":
        return _lstm
    if kind == "GRU":
        return _gru_linear if linear_before_reset else _gru
    squash = torch.tanh if activation == "Tanh" else torch.relu
    return lambda x, r, bias, state: (squash(x + F.linear(state[0], r, bias)),)


def _lstm(x: Tensor, r: Tensor, bias: Tensor, state: State) -> State:
    i, o, f, c = (x + F.linear(state[0], r, bias)).chunk(4, -1)
    memory = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(c)
    return torch.sigmoid(o) * torch.tanh(memory), memory


def _gru(x: Tensor, r: Tensor, bias: Tensor, state: State) -> State:
    """The reset gate before the product of the candidate."""
    size = r.shape[-1]
    z, g = torch.sigmoid(x[:, : 2 * size] + F.linear(state[0], r[: 2 * size], bias[: 2 * size])).chunk(2, -1)
    h = torch.tanh(x[:, 2 * size :] + F.linear(g * state[0], r[2 * size :], bias[2 * size :]))
    return ((1 - z) * h + z * state[0],)


def _gru_linear(x: Tensor, r: Tensor, bias: Tensor, state: State) -> State:
    """The reset gate behind it."""
    xz, xr, xh = x.chunk(3, -1)
    rz, rr, rh = F.linear(state[0], r, bias).chunk(3, -1)
    z, g = torch.sigmoid(xz + rz), torch.sigmoid(xr + rr)
    return ((1 - z) * torch.tanh(xh + g * rh) + z * state[0],)
