"""Scale moves: channels made larger by one layer and read smaller by the next, so that the function stays.

Cross-layer equalisation (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
section 4.1), SmoothQuant (Xiao et al. 2023, equation 4), and gains of norms folded into what reads them (as before a
rotation in QuaRot, Ashkboos et al. 2024, section 4), on the groups that `attar.structure.scalable` finds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from attar.structure.base import Index, Member, Scalable, canonical
from attar.structure.importance import Subject
from attar.structure.moments import Scores
from attar.structure.remove import subject_of
from attar.types import Array, Layer, Stats, Weight

if TYPE_CHECKING:
    from attar.adapters.base import Adapter, Traced

MOVES = ("none", "equalise", "smooth", "fold")
LARGEST = 1024.0
"""Factors are held within 1/LARGEST .. LARGEST: a channel that is nearly dead need not become a large one."""
SETTLED = 1e-3
"""Largest change of a factor's logarithm at which passes of equalisation end."""
PRECISE = ("float32", "float64")
COARSE = {"bfloat16": LARGEST, "float16": 16.0}
"""Types of tensors that are scaled; those below by powers of two alone, since any other factor would round them anew.

float16 has few exponents, for weights as for activations: its factors are held within narrower bounds.
"""


@dataclass(frozen=True)
class ScalingSettings:
    """What can be tuned; off unless asked for."""

    moves: str = field(default="none", metadata={"help": "scale moves before compression", "choices": MOVES})
    alpha: float = field(
        default=0.5, metadata={"help": "share of the inputs' range in smooth", "low": 0.0, "high": 1.0}
    )
    passes: int = field(default=40, metadata={"help": "most passes of equalise", "low": 1, "high": 1000})
    powers: bool = field(default=False, metadata={"help": "factors are powers of two: every output bit stays"})


@dataclass(frozen=True, slots=True)
class Moves:
    """What was moved: each group's factors [channels], which its makers were multiplied by, and what was left."""

    factors: Mapping[str, Scores]
    layers: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    """Group -> tensors that make its channels, and layers that read them."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Groups that were not moved, with the reason."""


def move(
    adapter: Traced, stats: Mapping[str, Stats], settings: ScalingSettings, exclude: Collection[str] = ()
) -> tuple[Adapter, Moves]:
    """A new adapter with factors moved, and what was moved; the given one is unchanged.

    Layers in exclude keep every bit. stats are those of the model as it is (`Adapter.moments`); equalise needs none.
    """
    subject = subject_of(adapter, stats)
    left = barred(subject, adapter, exclude)
    groups = [group for group in subject.structure.scalable if group.name not in left]
    own: Adapter = adapter  # type: ignore[assignment]  # an adapter with one more capability
    found = factors_of(subject, groups, settings, own.remainder())
    factors = {name: s for name, s in found.items() if (s != 1).any()}
    layers = {g.name: (_tensors(subject, g.made), _tensors(subject, g.read)) for g in groups if g.name in factors}
    return scaled(adapter, subject, factors), Moves(factors, layers, left)


def scaled(adapter: Traced, subject: Subject, factors: Mapping[str, Scores]) -> Adapter:
    """A new adapter with what makes these groups multiplied by the factors [channels], and what reads them divided."""
    moved = adapter.copied()
    weights, rest = dict(subject.weights), {name: np.array(values) for name, values in moved.remainder().items()}
    for group in subject.structure.scalable:
        if group.name in factors:
            _apply(subject, weights, rest, group, factors[group.name])
    for name, weight in weights.items():
        if weight is not subject.weights[name]:
            moved.write(name, weight)
    moved.restore(rest)
    return moved


def factors_of(
    subject: Subject, groups: list[Scalable], settings: ScalingSettings, rest: Mapping[str, Array]
) -> dict[str, Scores]:
    """What each group's makers are to be multiplied by [channels]; rest: the model's other tensors."""
    if settings.moves == "equalise":
        found = _equalised(subject, groups, settings)
    elif settings.moves == "smooth":
        found = _smoothed(subject, groups, settings)
    elif settings.moves == "fold":
        found = {group.name: _folded(subject, group, rest) for group in groups}
    else:
        found = {group.name: np.ones(group.channels) for group in groups}
    types = {name: str(values.dtype) for name, values in rest.items()}
    for group in groups:
        coarse = _types(subject, group, types).intersection(COARSE)
        if coarse or settings.powers:
            most = min((COARSE[kind] for kind in coarse), default=LARGEST)
            found[group.name] = np.exp2(np.rint(np.log2(np.clip(found[group.name], 1 / most, most))))
    return found


def _folded(subject: Subject, group: Scalable, rest: Mapping[str, Array]) -> Scores:
    """1 / |gain| where a norm alone makes the channels: its gain, which is its first tensor, becomes one."""
    gain, factors = group.made[0], np.ones(group.channels)
    if any(member.tensor in subject.weights for member in group.made) or gain.tensor not in rest:
        return factors
    values = np.abs(np.moveaxis(np.asarray(rest[gain.tensor], np.float64), gain.axis, 0)[gain.index[:, 0]])
    values = values.reshape(group.channels, -1).max(1)
    live = values > 0
    factors[live] = np.clip(1 / values[live], 1 / LARGEST, LARGEST)
    return factors


def _equalised(subject: Subject, groups: list[Scalable], settings: ScalingSettings) -> dict[str, Scores]:
    """sqrt(r2 / r1), the paper's 1 / s, with r1, r2 the largest magnitude that makes and that reads a channel.

    Pair after pair, in passes, until nothing changes; channels that nothing makes or reads stay. Where several layers
    are on a side (a sum of branches, several readers) its range is the largest of theirs.
    """
    total = {group.name: np.ones(group.channels) for group in groups}
    weights = {name: Weight(weight.matrix.astype(np.float64), weight.bias) for name, weight in subject.weights.items()}
    for _ in range(settings.passes):
        change = 0.0
        for group in groups:
            made, read = (_reach(subject, weights, members) for members in (group.made, group.read))
            live = (made > 0) & (read > 0)
            wanted = total[group.name] * np.sqrt(np.divide(read, made, out=np.ones_like(made), where=live))
            held = np.clip(wanted, 1 / LARGEST, LARGEST)
            step, total[group.name] = held / total[group.name], held
            change = max(change, float(np.abs(np.log(step)).max(initial=0)))
            _apply(subject, weights, {}, group, step)
        if change < SETTLED:
            break
    return total


def _smoothed(subject: Subject, groups: list[Scalable], settings: ScalingSettings) -> dict[str, Scores]:
    """1 / s of s = max|X|^alpha / max|W|^(1 - alpha), over all that reads a channel.

    Statistics hold no maximum: X is the root mean square of the channel's inputs, of its largest column.
    """
    found: dict[str, Scores] = {}
    for group in groups:
        seen, weight = _seen(subject, group), _reach(subject, subject.weights, group.read)
        live = (seen > 0) & (weight > 0)
        scale = np.ones(group.channels)
        scale[live] = weight[live] ** (1 - settings.alpha) / seen[live] ** settings.alpha
        found[group.name] = np.clip(scale, 1 / LARGEST, LARGEST)
    return found


def _places(subject: Subject, members: tuple[Member, ...]) -> Iterator[tuple[Layer, Index, bool]]:
    """The members that are layers: rows or columns of the matrix [channels, k], and whether they are columns."""
    for member in members:
        if member.tensor in subject.weights:
            layer, size = subject.layers[member.tensor], subject.structure.products[member.tensor].shape[member.axis]
            index = canonical(layer, size, member.index, member.side)
            yield layer, index.reshape(len(member.index), -1), member.side == "in"


def _reach(subject: Subject, weights: Mapping[str, Weight], members: tuple[Member, ...]) -> Scores:
    """The largest magnitude in each channel's rows or columns [channels]; zeros where no member is a layer."""
    found = np.zeros(len(members[0].index))
    for layer, index, columns in _places(subject, members):
        largest = np.abs(weights[layer.name].matrix).max(0 if columns else 1, initial=0)
        found = np.maximum(found, largest[index].max(1))
    return found


def _seen(subject: Subject, group: Scalable) -> Scores:
    """The root mean square of each channel where layers read it [channels]; zeros where no data reached one."""
    found = np.zeros(group.channels)
    for layer, index, columns in _places(subject, group.read):
        stats = subject.stats.get(layer.name)
        if stats is None or stats.hessian.ndim != 3:
            continue
        square = np.einsum("gcc->gc", stats.hessian) + np.square(stats.mean)
        if not columns:  # depthwise: a group for each input channel, rows in the groups' order
            rows = np.repeat(square.max(1), layer.rows // layer.groups)
            found = np.maximum(found, rows[index].max(1))
        else:
            found = np.maximum(found, square.max(0)[index].max(1))
    return np.sqrt(np.maximum(found, 0))


def _apply(
    subject: Subject, weights: dict[str, Weight], rest: dict[str, Array], group: Scalable, factors: Scores
) -> None:
    """Multiply what makes a group and divide what reads it, in the two mappings."""
    for members, by in ((group.made, factors), (group.read, 1 / factors)):
        for layer, index, columns in _places(subject, members):
            whole = np.ones(layer.cols if columns else layer.rows)
            whole[index] = by[:, None]
            weights[layer.name] = _scaled(weights[layer.name], whole, columns=columns, bias=members is group.made)
        for member in members:
            if member.tensor in rest and member.tensor not in subject.weights:
                array = rest[member.tensor]
                whole = np.ones(array.shape[member.axis])
                whole[member.index] = by[:, None]
                shape = [-1 if axis == member.axis else 1 for axis in range(array.ndim)]
                rest[member.tensor] = (array * whole.reshape(shape)).astype(array.dtype)


def _scaled(weight: Weight, by: Scores, *, columns: bool, bias: bool) -> Weight:
    kind = weight.matrix.dtype
    matrix = (weight.matrix * (by if columns else by[:, None])).astype(kind)
    if weight.bias is None or columns or not bias:
        return Weight(matrix, weight.bias)
    return Weight(matrix, (weight.bias * by).astype(np.float32))


def barred(subject: Subject, adapter: Traced, exclude: Collection[str] = ()) -> dict[str, str]:
    """Groups that cannot be moved, with the reason."""
    own: Adapter = adapter  # type: ignore[assignment]  # an adapter with one more capability
    types = {name: str(values.dtype) for name, values in own.remainder().items()}
    reasons = {group.name: _barred(subject, group, types, exclude) for group in subject.structure.scalable}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _barred(subject: Subject, group: Scalable, rest: Mapping[str, str], exclude: Collection[str]) -> str | None:
    members = {member.tensor for member in (*group.made, *group.read)}
    excluded = sorted(members & set(exclude))
    if excluded:
        return f"{excluded[0]} keeps every bit"
    odd = _types(subject, group, rest) - {*PRECISE, *COARSE}
    if odd:
        return f"held in {min(odd)}"
    # A layer's bias is written with it, and has no name of its own here; anything else must be in the remainder.
    unnamed = [name for name in members if name not in subject.layers and name not in rest]
    made = {layer.name for layer, _, _ in _places(subject, group.made)}
    if len(unnamed) > sum(subject.layers[name].has_bias for name in made):
        return f"{min(unnamed)} cannot be written"
    return None


def _types(subject: Subject, group: Scalable, rest: Mapping[str, str]) -> set[str]:
    """What a group's tensors are held in; rest: the type of each of the model's other tensors."""
    members = {member.tensor for member in (*group.made, *group.read)}
    layers = {subject.layers[name].dtype for name in members if name in subject.layers}
    return layers | {rest[name] for name in members if name in rest}


def _tensors(subject: Subject, members: tuple[Member, ...]) -> tuple[str, ...]:
    """Layers among members; all of them where none is one (a norm's gain and shift)."""
    names = [member.tensor for member in members]
    return tuple(name for name in names if name in subject.weights) or tuple(names)
