"""The laws of adapters/base.py's Grouped as checks on any model of any adapter: `check_structure(case)`.

Channels are made to have no influence by way of the adapter's own read, write, remainder and restore, so that the kit
knows no framework.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attar.adapters.base import Grouped
from attar.errors import UsageError
from attar.structure import scaling
from attar.structure.base import Group, canonical
from attar.structure.importance import Subject
from attar.structure.remove import subject_of
from attar.types import Array, Weight
from kits.adapter_laws import close, columns_of, examples, fingerprint, same

Batch = Mapping[str, Array]


@dataclass(frozen=True)
class Case:
    """One model under test.

    model makes the caller's model anew; run_plain runs, by the framework alone, the file that an adapter saved (its
    path) or the object that its model() gave, whichever it takes: it is handed both. silent: a channel of zeros stays
    one until it is read (no sigmoid on the way). exact: rebuilding gives the same bits.
    """

    adapter: Any
    model: Callable[[], object]
    batches: Sequence[Batch]
    run_plain: Callable[[Path, Any, Batch], Array]
    tolerance: float = 1e-5
    silent: bool = True
    least: int = 1
    """Groups that the model has at least."""
    scalable: int = 0
    """Groups of channels that can be scaled, exactly."""

    def open(self) -> Any:
        """An adapter over a fresh model that has run one batch (PyTorch knows its sizes only then)."""
        adapter = self.adapter.open(self.model())
        adapter.run(self.batches[0])
        return adapter


def outputs(adapter: Any, case: Case) -> list[Array]:
    return [adapter.run(batch).copy() for batch in case.batches]


def some(groups: Sequence[Group], seed: int = 0) -> dict[str, Array]:
    """About half of every group's channels, at random."""
    rng = np.random.default_rng(seed)
    return {g.name: np.sort(rng.permutation(g.channels)[: max(g.channels // 2, 1)]) for g in groups}


def lost(group: Group, keep: Mapping[str, Array]) -> Array:
    return np.setdiff1d(np.arange(group.channels), keep[group.name])


def unread(adapter: Any, keep: Mapping[str, Array]) -> None:
    """Set to zero what reads the channels that go."""
    layers = {layer.name: layer for layer in adapter.layers()}
    for group in adapter.structure().groups:
        for member in group.of("in"):
            layer, size = layers[member.tensor], axis_size(adapter, member.tensor, member.axis)
            weight = adapter.read(layer.name)
            weight.matrix[:, canonical(layer, size, member.index[lost(group, keep)], "in").ravel()] = 0
            adapter.write(layer.name, weight)


def silenced(adapter: Any, keep: Mapping[str, Array]) -> None:
    """Set to zero what makes the channels that go, and what goes along with them."""
    layers = {layer.name: layer for layer in adapter.layers() if layer.tied_to is None}
    rest = {name: np.array(values) for name, values in adapter.remainder().items()}
    for group in adapter.structure().groups:
        for member in [*group.of("out"), *group.of("with")]:
            index = member.index[lost(group, keep)]
            if member.tensor in layers:
                layer = layers[member.tensor]
                weight = adapter.read(layer.name)
                rows = canonical(layer, axis_size(adapter, member.tensor, member.axis), index, member.side).ravel()
                weight.matrix[rows] = 0
                if weight.bias is not None:
                    weight.bias[rows] = 0
                adapter.write(layer.name, weight)
            elif member.tensor in rest:
                np.moveaxis(rest[member.tensor], member.axis, 0)[index.ravel()] = 0
    adapter.restore(rest)


def axis_size(adapter: Any, tensor: str, axis: int) -> int:
    return adapter.structure().products[tensor].shape[axis]


def law_groups(case: Case) -> None:
    """Groups are well formed: names differ, every position of an axis is in one channel at most, reasons are given."""
    adapter = case.open()
    assert isinstance(adapter, Grouped)
    structure = adapter.structure()
    assert len(structure.groups) >= case.least
    names = [group.name for group in structure.groups]
    assert len(set(names)) == len(names)
    seen: dict[tuple[str, int], set[int]] = {}
    for group in structure.groups:
        assert group.channels > 1, group.name
        assert group.of("out"), group.name
        assert group.of("in"), group.name
        for member in group.members:
            assert member.index.shape[0] == group.channels, (group.name, member.tensor)
            flat = member.index.ravel().tolist()
            taken = seen.setdefault((member.tensor, member.axis), set())
            assert len(set(flat)) == len(flat), (group.name, member.tensor)
            assert not taken & set(flat), (group.name, member.tensor)
            taken |= set(flat)
    assert all(isinstance(reason, str) and reason for reason in structure.fixed.values())
    assert structure.macs > 0


def law_keep_all(case: Case) -> None:
    """Keeping all, named or not, changes no bit."""
    adapter = case.open()
    before = outputs(adapter, case)
    same(outputs(adapter.shrunk({}), case), before, "nothing removed")
    everything = {group.name: np.arange(group.channels) for group in adapter.structure().groups}
    same(outputs(adapter.shrunk(everything), case), before, "all kept")


def law_unread(case: Case) -> None:
    """Channels that nothing reads can go."""
    adapter = case.open()
    keep = some(adapter.structure().groups)
    unread(adapter, keep)
    close(outputs(adapter.shrunk(keep), case), outputs(adapter, case), case.tolerance, "unread channels removed")


def law_silent(case: Case) -> None:
    """Channels that are constantly zero can go."""
    adapter = case.open()
    keep = some(adapter.structure().groups, 1)
    silenced(adapter, keep)
    if case.silent:
        close(outputs(adapter.shrunk(keep), case), outputs(adapter, case), case.tolerance, "silent channels removed")


def law_one_group(case: Case) -> None:
    """Any group can be reduced alone, to one channel as well."""
    for number in range(len(case.open().structure().groups)):
        adapter = case.open()
        group = adapter.structure().groups[number]
        keep = {g.name: np.arange(g.channels) for g in adapter.structure().groups} | {group.name: np.array([1])}
        unread(adapter, keep)
        smaller = adapter.shrunk({group.name: np.array([1])})
        close(outputs(smaller, case), outputs(adapter, case), case.tolerance, f"{group.name}: one channel left")


def law_smaller(case: Case) -> None:
    """Layers keep their names and order, what is counted is smaller, and the new adapter keeps the adapters' laws."""
    adapter = case.open()
    before = {layer.name: layer for layer in adapter.layers()}
    smaller = adapter.shrunk(some(adapter.structure().groups))
    outputs(smaller, case)
    after = {layer.name: layer for layer in smaller.layers()}
    assert list(after) == [name for name in before if name in after]
    assert all(before[name].size < 64 for name in before if name not in after), "only what is tiny may drop out"
    assert sum(layer.size for layer in after.values()) < sum(layer.size for layer in before.values())
    assert smaller.structure().macs < adapter.structure().macs
    columns_of(smaller, smaller.capture(case.batches[:1]))
    assert set(smaller.moments(case.batches[:1])) == set(adapter.moments(case.batches[:1])) & set(after)
    for name, layer in after.items():
        if layer.tied_to is None and smaller.can_perturb(name):
            zero = np.zeros((examples(case.batches[0]), layer.rows), np.float32)
            close([smaller.run(case.batches[0], {name: zero})], outputs(smaller, case)[:1], case.tolerance, name)
            break


def law_untouched(case: Case) -> None:
    """The adapter that a smaller one was made from, and the caller's model, are as before."""
    model = case.model()
    print_before = fingerprint(model)
    adapter = case.adapter.open(model)
    before = outputs(adapter, case)
    smaller = adapter.shrunk(some(adapter.structure().groups))
    for layer in smaller.layers():
        if layer.tied_to is None:
            weight = smaller.read(layer.name)
            bias = None if weight.bias is None else weight.bias + 1
            smaller.write(layer.name, Weight(weight.matrix * 0.5, bias))
    outputs(smaller, case)
    same(outputs(adapter, case), before, "the first adapter")
    assert fingerprint(model) == print_before


def law_plain(case: Case) -> None:
    """The smaller model runs by its framework alone."""
    adapter = case.open()
    smaller = adapter.shrunk(some(adapter.structure().groups))
    expected = outputs(smaller, case)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{smaller.suffixes[0]}"
        smaller.save(path)
        found = [np.asarray(case.run_plain(path, smaller.model(), batch), np.float32) for batch in case.batches]
    close(found, expected, case.tolerance, "run by the framework alone")


def law_rebuild(case: Case) -> None:
    """The smaller model's skeleton, weights and remainder make it again: it can be compressed like any other."""
    adapter = case.open()
    smaller = adapter.shrunk(some(adapter.structure().groups))
    expected = outputs(smaller, case)
    twin = case.adapter.rebuild(smaller.skeleton(), {k: np.array(v) for k, v in smaller.remainder().items()})
    for layer in smaller.layers():
        if layer.tied_to is None:
            twin.write(layer.name, smaller.read(layer.name))
    close(outputs(twin, case), expected, case.tolerance, "rebuilt")


def law_again(case: Case) -> None:
    """A smaller model can be made smaller still."""
    adapter = case.open()
    once = adapter.shrunk(some(adapter.structure().groups))
    outputs(once, case)
    assert {g.name for g in once.structure().groups} <= {g.name for g in adapter.structure().groups}
    twice = once.shrunk(some(once.structure().groups, 3))
    assert outputs(twice, case)[0].shape == outputs(adapter, case)[0].shape


def law_refused(case: Case) -> None:
    """Groups and channels that are not there are refused."""
    adapter = case.open()
    group = adapter.structure().groups[0]
    for keep in ({"no such group": [0]}, {group.name: []}, {group.name: [group.channels]}, {group.name: [0, 0]}):
        with pytest.raises(UsageError, match="group"):
            adapter.shrunk(keep)


def factors_for(adapter: Any, draw: Callable[[int], Array]) -> tuple[Subject, dict[str, Array]]:
    """Factors for every group that can be scaled; the subject has no statistics."""
    subject = subject_of(adapter, {})
    left = scaling.barred(subject, adapter)
    return subject, {g.name: draw(g.channels) for g in subject.structure.scalable if g.name not in left}


def law_scalable(case: Case) -> None:
    """Groups to scale are those that the model is known to have, all can be written, no position is in two."""
    adapter = case.open()
    groups = adapter.structure().scalable
    assert len(groups) == case.scalable, [group.name for group in groups]
    assert scaling.barred(subject_of(adapter, {}), adapter) == {}
    seen: set[tuple[str, int, bool, int]] = set()
    for group in groups:
        assert group.made, group.name
        assert group.read, group.name
        for read, members in ((False, group.made), (True, group.read)):
            for member in members:
                assert len(member.index) == group.channels > 1, (group.name, member.tensor)
                places = {(member.tensor, member.axis, read, int(i)) for i in member.index.ravel()}
                assert len(places) == member.index.size and not places & seen, (group.name, member.tensor)
                seen |= places


def law_powers_of_two(case: Case) -> None:
    """Factors that are powers of two change no bit of the outputs, and nothing of the adapter they were made from."""
    adapter, rng = case.open(), np.random.default_rng(0)
    before = outputs(adapter, case)
    subject, factors = factors_for(adapter, lambda n: np.exp2(rng.integers(-4, 5, n)))
    moved = scaling.scaled(adapter, subject, factors)
    same(outputs(moved, case), before, "scaled by powers of two")
    same(outputs(adapter, case), before, "the first adapter")
    changed = [n for n in subject.weights if not np.array_equal(subject.weights[n].matrix, moved.read(n).matrix)]
    assert bool(changed) == bool(factors)


def law_scaled(case: Case) -> None:
    """Any factors change the outputs by rounding only, in the saved file as well."""
    adapter, rng = case.open(), np.random.default_rng(1)
    before = outputs(adapter, case)
    moved = scaling.scaled(adapter, *factors_for(adapter, lambda n: np.exp(rng.uniform(-2, 2, n))))
    close(outputs(moved, case), before, case.tolerance, "scaled")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{moved.suffixes[0]}"
        moved.save(path)
        found = [np.asarray(case.run_plain(path, moved.model(), batch), np.float32) for batch in case.batches]
    close(found, before, case.tolerance, "run by the framework alone")


def law_moves(case: Case) -> None:
    """Each kind of move changes the outputs by rounding only; equalised channels are made as they are read."""
    adapter = case.open()
    before, stats = outputs(adapter, case), adapter.moments(case.batches)
    for name in ("equalise", "smooth", "fold"):
        moved, report = scaling.move(adapter, stats, scaling.ScalingSettings(moves=name))
        close(outputs(moved, case), before, case.tolerance, name)
        assert set(report.factors) <= {g.name for g in adapter.structure().scalable} - set(report.left)
    again = scaling.move(scaling.move(adapter, {}, EQUALISE)[0], {}, EQUALISE)[1]
    assert all(np.abs(np.log(s)).max() < 0.05 for s in again.factors.values()), "equalised twice"


EQUALISE = scaling.ScalingSettings(moves="equalise", passes=200)
SCALING = (law_scalable, law_powers_of_two, law_scaled, law_moves)
"""Those of an adapter that is Traced, and no more."""
LAWS: tuple[Callable[[Case], None], ...] = (
    law_groups,
    law_keep_all,
    law_unread,
    law_silent,
    law_one_group,
    law_smaller,
    law_untouched,
    law_plain,
    law_rebuild,
    law_again,
    law_refused,
    *SCALING,
)


def check_structure(case: Case) -> None:
    """Every law on one model."""
    for law in LAWS:
        law(case)
