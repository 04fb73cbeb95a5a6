"""Deep Compression done again on the same data, as a rival: prune, tune, share weights by k-means, tune, Huffman.

Han, Mao and Dally 2016, with its own keep rates for LeNet-300-100 and LeNet-5 (tables 2 and 3: 8 %, 9 % and 26 %; 66 %,
12 %, 8 % and 19 %), 5 bits for dense layers and 8 for convolutions, relative positions of 5 and 8 bits. `scale` scales
the keep rates. The size is that of the Huffman codes of values and positions, their code books, and float32 biases.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn
from torch.nn import functional as F

from attar.types import Array, Dataset

KEEP = {
    "lenet300": {"fc1": 0.08, "fc2": 0.09, "fc3": 0.26},
    "lenet5": {"conv1": 0.66, "conv2": 0.12, "fc1": 0.08, "fc2": 0.19},
}


@dataclass
class Shared:
    """A layer's shared values, the place of each weight among them [rows, cols] (-1: pruned)."""

    values: Tensor
    place: Tensor

    def weight(self) -> Tensor:
        """The layer's weights."""
        padded = torch.cat([self.values, self.values.new_zeros(1)])
        return padded[self.place]


def deep_compression(
    model: nn.Module, keep: dict[str, float], train: Dataset, *, epochs: int, scale: float = 1.0, seed: int = 0
) -> tuple[nn.Module, int]:
    """The compressed model and its bytes; the model given is not changed. epochs after pruning, half after sharing."""
    torch.manual_seed(seed)
    network = deepcopy(model)
    layers = {name: network.get_submodule(name) for name in keep}
    masks = {}
    for name, share in keep.items():
        weight = layers[name].weight.detach()
        count = max(int(share * scale * weight.numel()), 1)
        masks[name] = weight.abs() >= weight.abs().flatten().topk(count).values[-1]
    for _ in _steps(network, train, epochs, 1e-3):
        with torch.no_grad():
            for name, mask in masks.items():
                layers[name].weight.mul_(mask)
    shared = {name: _share(layers[name].weight.detach(), masks[name], _bits(layers[name])) for name in keep}
    _tune_shared(network, layers, shared, train, max(epochs // 2, 1))
    size = sum(_bytes(one, _bits(layers[name])) for name, one in shared.items())
    biases = sum(p.numel() for n, p in network.named_parameters() if n.endswith("bias"))
    return network.eval(), size + 4 * biases


def _steps(network: nn.Module, train: Dataset, epochs: int, rate: float) -> Iterator[None]:
    """Adam with a cosine; yields after every step."""
    x, y = (torch.from_numpy(np.asarray(a)) for a in (next(iter(train.inputs.values())), train.labels))
    optimiser = torch.optim.Adam(network.parameters(), rate)
    total = epochs * -(-len(x) // 128)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, total)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(128):
            loss = F.cross_entropy(network(x[rows]), y[rows].long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            yield


def _bits(layer: nn.Module) -> int:
    """Bits of a shared value's number."""
    return 8 if isinstance(layer, nn.Conv2d) else 5


def _share(weight: Tensor, mask: Tensor, bits: int) -> Shared:
    """k-means of the kept weights, begun at even distances (the paper's best start)."""
    kept = weight[mask].numpy()
    start = np.linspace(kept.min(), kept.max(), min(2**bits, len(kept)))
    values, number = kmeans2(kept.astype(np.float64), start, minit="matrix")
    place = torch.full(weight.shape, -1, dtype=torch.long)
    place[mask] = torch.from_numpy(number.astype(np.int64))
    return Shared(torch.from_numpy(values.astype(np.float32)), place)


def _tune_shared(
    network: nn.Module, layers: dict[str, nn.Module], shared: dict[str, Shared], train: Dataset, epochs: int
) -> None:
    """Centroids move by the summed gradients of their weights."""
    x, y = (torch.from_numpy(np.asarray(a)) for a in (next(iter(train.inputs.values())), train.labels))
    moments = {name: torch.zeros_like(one.values) for name, one in shared.items()}
    total, done = epochs * -(-len(x) // 128), 0
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(128):
            for name, one in shared.items():
                layers[name].weight.data.copy_(one.weight())
            network.zero_grad()
            F.cross_entropy(network(x[rows]), y[rows].long()).backward()
            rate = 1e-4 * (1 - done / total)
            done += 1
            for name, one in shared.items():
                gradient = layers[name].weight.grad
                held = one.place >= 0
                pull = torch.zeros_like(one.values).index_add_(0, one.place[held], gradient[held])
                moments[name].mul_(0.9).add_(pull)
                one.values -= rate * moments[name]
    for name, one in shared.items():
        layers[name].weight.data.copy_(one.weight())


def _bytes(one: Shared, bits: int) -> int:
    """Huffman codes of values and gaps with their code lengths, and the code book in float32."""
    flat = one.place.flatten().numpy()
    limit = 2 ** (8 if bits == 8 else 5)
    values: list[int] = []
    gaps: list[int] = []
    last = -1
    for index in np.flatnonzero(flat >= 0).tolist():
        gap = index - last
        while gap > limit:  # a filler zero, as in the paper's figure 2
            gaps.append(limit - 1)
            values.append(len(one.values))
            gap -= limit
        gaps.append(gap - 1)
        values.append(int(flat[index]))
        last = index
    tables = len(one.values) + 1 + limit
    return -(-(_huffman(np.array(values)) + _huffman(np.array(gaps)) + 5 * tables) // 8) + 4 * len(one.values)


def _huffman(symbols: Array) -> int:
    """Bits of all symbols in the best prefix code."""
    counts = [int(c) for c in np.bincount(symbols) if c]
    if len(counts) < 2:
        return len(symbols)
    heapq.heapify(counts)
    bits = 0
    while len(counts) > 1:
        joined = heapq.heappop(counts) + heapq.heappop(counts)
        bits += joined
        heapq.heappush(counts, joined)
    return bits
