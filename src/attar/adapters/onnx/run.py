"""Execution of an ONNX model: plain runs, perturbed runs, captures and input statistics.

Sessions are built when they are first needed and forgotten when a weight changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from attar.adapters.base import Batch
from attar.adapters.folded import Moments
from attar.adapters.moments import BLOCK, IdCounts, MomentSum, Pace, waiting, with_last
from attar.adapters.onnx.captured import captured
from attar.adapters.onnx.forms import Sample, spread
from attar.adapters.onnx.session import Feed, Session, batch_axes, examples_first, feed_of, fixed_batch, parts
from attar.adapters.onnx.sites import Site
from attar.adapters.onnx.tensors import Store
from attar.adapters.onnx.watch import delta_name, perturbable, uses_by_owner, watching
from attar.adapters.parts import together
from attar.adapters.unfold import PATCHES_PER_EXAMPLE
from attar.errors import DataError
from attar.run.memory import at_once, give_back
from attar.types import Array, Capture, Scaled, TensorSpec

CAPTURE_BYTES = 2**27
"""Bytes of watched tensors that one run may hand back; larger batches are cut."""
PATCHES_PER_BATCH = 16384
"""Patches of a convolution that the first batch should give at least, however few its examples."""
WAITING_BYTES = 2**26
"""Bytes of columns that wait in all layers together, where examples are so large that a block runs in pieces."""

Place = tuple[int, int, int]
"""Of a site's output: its number of axes, its batch axis, its entries for each example."""

Turn = tuple[Mapping[str, list[Site]], int]
"""Layers whose statistics are taken together, and most examples that are run at once for it."""


class Runner:
    """Runs one model; `forget` after every change of a value."""

    def __init__(self, store: Store, sites: Sequence[Site], inputs: list[TensorSpec], outputs: list[TensorSpec]):
        self._store, self._outputs = store, outputs
        self._axes = batch_axes(inputs)
        self.inputs = [examples_first(spec, self._axes.get(spec.name, 0)) if spec.shape else spec for spec in inputs]
        """The inputs as a batch has them: examples first."""
        self._uses = uses_by_owner(sites)
        self._places: dict[str, Place] | None = None
        self._sizes: dict[str, int] = {}
        """Values for each example of the tensors that `places` looked at."""
        self._seen: Feed | None = None
        self._sessions: dict[tuple[str, ...], Session] = {}
        """The last one alone: each holds a copy of all weights, and what its runs took."""

    def forget(self) -> None:
        """Values have changed: no session is valid any more."""
        self._sessions.clear()

    def _session(self, kind: str, names: Sequence[str] = (), sites: Sequence[Site] = ()) -> Session:
        key = (kind, *names)
        if key not in self._sessions:
            self._sessions.clear()
            if kind == "plain":
                self._sessions[key] = Session(self._store)
            elif kind == "perturbed":
                self._sessions[key] = perturbable(self._store, sites)
            else:
                self._sessions[key] = watching(self._store, names, sites)
        return self._sessions[key]

    def _remember(self, feed: Feed) -> None:
        """Keep one example that the model has accepted, for `places`."""
        if self._seen is None:
            self._seen = feed.part(np.arange(min(feed.count, 1)))
            self._places = None

    def run(self, batch: Batch, perturb: Mapping[str, Array] | None) -> Array:
        """The first output, float32; raises KeyError for a layer that cannot be perturbed."""
        feed = feed_of(batch, self.inputs, self._axes)
        for name in perturb or ():
            if not self.can_perturb(name):
                raise KeyError(name)
        size = fixed_batch(self.inputs, feed)
        step = together(feed.examples.values(), feed.count, feed.count)
        if size is None and step >= feed.count:
            return self._run_feed(feed, perturb or {})
        if step >= feed.count:
            return self._in_parts(feed, size, step, perturb or {})
        with at_once():  # what large examples take is little beside their time, and their memory is not
            outputs = self._in_parts(feed, size, step, perturb or {})
            self._sessions.clear()
        return outputs

    def _in_parts(self, feed: Feed, size: int | None, step: int, perturb: Mapping[str, Array]) -> Array:
        """The first output of a feed, cut into parts of a size that the model is made for, or of some examples."""
        results = []
        for part, rows, real in parts(feed, size, lambda _: step):
            deltas = {name: np.asarray(delta)[rows] for name, delta in perturb.items()}
            results.append(self._run_feed(part, deltas)[:real])
        return np.concatenate(results)

    def pieces(self, batch: Batch) -> list[tuple[dict[str, Array], int]]:
        """A batch as the model takes it, cut where its batch size is fixed: (inputs, examples that do not repeat)."""
        feed = feed_of(batch, self.inputs, self._axes)
        size = fixed_batch(self.inputs, feed)
        return [(part.values, real) for part, _, real in parts(feed, size, lambda _: feed.count)]

    def _run_feed(self, feed: Feed, perturb: Mapping[str, Array]) -> Array:
        name = self._outputs[0].name
        if perturb:
            sites = [site for owner in sorted(perturb) for site in self._uses[owner]]
            session = self._session("perturbed", sorted(perturb), sites)
            return _float(session.run([name], {**feed.values, **self._deltas(feed, perturb, sites)})[0])
        output = _float(self._session("plain").run([name], feed.values)[0])
        if output.shape[:1] != (feed.count,):
            raise DataError(
                f"output {name!r}: its first axis must be that of the {feed.count} examples. Received "
                f"{list(output.shape)}. Export the model with its examples first there, or name another output."
            )
        self._remember(feed)
        return output

    def _deltas(self, feed: Feed, perturb: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """A value for every perturbation input."""
        places, deltas = self.places(), {}
        for number, site in enumerate(sites):
            delta = np.asarray(perturb[site.layer.tied_to or site.layer.name], np.float32)
            if delta.shape != (feed.count, site.form.rows):
                raise DataError(
                    f"layer {site.layer.name!r}: a perturbation must be [{feed.count}, {site.form.rows}]. "
                    f"Received {list(delta.shape)}. Give one row for each example."
                )
            ndim, axis, each = places[site.output or ""]
            repeated = np.repeat(delta, each, axis=0) if each > 1 else delta
            axes = site.form.row_axes or ()
            placed = spread(repeated, axes, site.form.row_sizes, ndim, axis)
            deltas[delta_name(number)] = placed.astype(site.chain.dtype)
        return deltas

    def can_perturb(self, name: str) -> bool:
        """Whether every use of the weight hands on its product in a tensor with a known batch axis."""
        uses = self._uses.get(name, [])
        if not uses or not all(site.output and site.form.row_axes for site in uses):
            return False
        places = self.places()
        for site in uses:
            ndim, axis, _ = places.get(site.output or "", (0, 0, 0))
            if not ndim or axis in {row % ndim for row in site.form.row_axes or ()}:
                return False
        return True

    def places(self) -> dict[str, Place]:
        """Where the examples lie in each watched tensor, found by running the model on two and on three examples."""
        if self._places is None:
            sites = [site for uses in self._uses.values() for site in uses]
            names = {site.output for site in sites if site.output} | {name for site in sites for name in site.sources}
            fetched = sorted(names - {spec.name for spec in self.inputs})
            few, more = self._probe(fetched, sites, 2), self._probe(fetched, sites, 3)
            found = {name: _place(few[name], more[name]) for name in fetched if name in few and name in more}
            self._places = {name: place for name, place in found.items() if place is not None}
            self._sizes = {name: math.prod(shape) // 2 for name, shape in few.items()}
            self._sessions.pop(("watching", *fetched), None)
        return self._places

    def _probe(self, names: list[str], sites: Sequence[Site], count: int) -> dict[str, tuple[int, ...]]:
        """Shapes of these tensors for a batch of so many examples; empty where the model cannot run it."""
        if not names:
            return {}
        for feed in [self._seen] if self._seen is not None else self._made_up():
            fixed = [spec.shape[0] for spec in self.inputs if spec.name not in feed.apart and spec.shape]
            size = next((first for first in fixed if first is not None), None)
            batch = feed.part(np.zeros(size or count, np.int64))
            try:
                values = self._session("watching", names, sites).run(names, batch.values)
            except DataError:
                continue
            found = {name: value.shape for name, value in zip(names, values, strict=True)}
            # A model for one batch size: claim that the first axis grows, as it would.
            return found if size is None else {n: (s[0] // size * count, *s[1:]) for n, s in found.items() if s}
        return {}

    def _made_up(self) -> Iterator[Feed]:
        """Feeds of zeros for a model that has not seen data yet, with free axes of several sizes."""
        for free in (16, 64, 224, 1):
            values: dict[str, Array | Scaled] = {}
            for spec in self.inputs:
                shape = [1, *(free if size is None else size for size in spec.shape[1:])] if spec.shape else []
                values[spec.name] = np.zeros(shape, np.dtype(spec.dtype))
            apart = frozenset(spec.name for spec in self.inputs if not spec.shape)
            yield Feed(values, 1, apart, self._axes)

    def captures(self, batches: Iterable[Batch], only: Sequence[str] | None) -> Iterator[Capture]:
        """What each layer saw; several captures of one layer for a large batch or a weight that is used twice."""
        uses = self._wanted(only)
        pace = Pace(CAPTURE_BYTES)
        for batch in batches:
            feed = feed_of(batch, self.inputs, self._axes)
            for tensors, count, _, _ in self._pieces(feed, uses, pace, outputs=True):
                for owner, sites in uses.items():
                    for site in sites:
                        yield from captured(owner, site, tensors, count)

    def moments(self, batches: Iterable[Batch], only: Sequence[str] | None) -> Moments:
        """Statistics of each layer's inputs; convolutions are sampled."""
        uses = self._wanted(only)
        self._sessions.clear()  # what others keep for their next run is not needed meanwhile
        with at_once():
            stats = self._summed(batches, uses)
            self._sessions.clear()
        return stats

    def _summed(self, batches: Iterable[Batch], uses: Mapping[str, list[Site]]) -> Moments:
        """The same of these uses, but for those where no column was seen."""
        sums: dict[str, MomentSum | IdCounts] = {}
        for owner, sites in uses.items():
            form = sites[0].form
            pooled = form.kind in ("conv", "conv_transpose")
            sums[owner] = (
                IdCounts(form.cols) if form.kind == "embedding" else MomentSum(form.groups, form.cols, pooled=pooled)
            )
        found = Moments()
        keep = start = 0
        order = {owner: place for place, owner in enumerate(self._uses)}
        for batch, final in with_last(batches):
            feed = feed_of(batch, self.inputs, self._axes)
            # The same for every example, or a small last batch would weigh as much as a large one.
            keep = keep or max(PATCHES_PER_EXAMPLE, PATCHES_PER_BATCH // feed.count)
            turns = self._turns(uses, feed, keep)
            for some, most in turns:
                if len(turns) > 1:
                    give_back()  # columns that waited were small arrays, which leave holes
                # Of whom each tensor is wanted last: it goes then, and does not stand beside columns of those behind.
                last_of = {name: owner for owner, sites in some.items() for site in sites for name in site.sources}
                pace = Pace(CAPTURE_BYTES if len(turns) == 1 else WAITING_BYTES, most)
                for tensors, count, first, end in self._pieces(feed, some, pace, outputs=False):
                    for owner, sites in some.items():
                        for place, site in enumerate(sites):
                            sample = Sample(order[owner], start + first, keep)
                            self._add(sums[owner], site, tensors, sample, 0 if place else count)
                        for name in [name for name in tensors if last_of.get(name) == owner]:
                            del tensors[name]
                        if final and end:
                            sums[owner].flush()
                for owner in some if final else ():  # what is summed goes before the next turn's sums come
                    if (stats := sums.pop(owner).stats()) is not None:
                        found[owner] = stats
            start += feed.count
        return found

    def _add(
        self, total: MomentSum | IdCounts, site: Site, tensors: Mapping[str, Array], sample: Sample, new: int
    ) -> None:
        """Add what one use of a weight saw in a piece; new: examples that no other use of it has counted."""
        columns = site.form.columns([tensors[name] for name in site.sources], sample)
        if self._by_example(site):
            total.add(columns, new)
        else:
            total.add(columns, 0)
            total.samples += new

    def _turns(self, uses: Mapping[str, list[Site]], feed: Feed, keep: int) -> list[Turn]:
        """The layers in turns, for each of which the model runs over the batch again, and most examples at once.

        One, unless examples are so large that a block of them runs in pieces: columns would wait in all layers at once.
        keep: positions of each example that are looked at.
        """
        few = together(feed.examples.values(), feed.count, BLOCK)
        if self._seen is None or few >= min(BLOCK, feed.count):
            return [(uses, BLOCK)]
        self.places()
        turns: list[tuple[dict[str, list[Site]], int]] = [({}, few)]
        total = 0
        for owner, sites in uses.items():
            form = sites[0].form
            seen = self._sizes.get(sites[0].output or "", keep * form.rows) // form.rows
            numbers = 1 if form.kind == "embedding" else form.groups * form.cols * max(min(seen, keep), 1)
            total += waiting(numbers)
            if total > WAITING_BYTES and turns[-1][0]:
                turns.append(({}, few))
                total = waiting(numbers)
            some, most = turns[-1]
            # Columns are many times as large as what they are made of, and there are three copies at once.
            turns[-1] = {**some, owner: sites}, min(most, max(WAITING_BYTES // (16 * numbers), 1))
        return [*turns]

    def _by_example(self, site: Site) -> bool:
        """Whether a layer's columns come example by example: the batch is the first axis of what it reads."""
        places = self.places()
        return site.form.kind == "recurrent" or all(places.get(name, (0, 0, 1))[1] == 0 for name in site.sources)

    def _wanted(self, only: Sequence[str] | None) -> dict[str, list[Site]]:
        return {owner: uses for owner, uses in self._uses.items() if only is None or owner in only}

    def _pieces(
        self, feed: Feed, uses: Mapping[str, list[Site]], pace: Pace, *, outputs: bool
    ) -> Iterator[tuple[dict[str, Array], int, int, bool]]:
        """Pieces of a batch: (tensors by name, examples, number of the first in the batch, whether it is the last).

        The last piece is told, so that what waits for more examples need not wait in all layers at once.
        """
        sites = [site for found in uses.values() for site in found]
        names = {name for site in sites for name in site.sources}
        if outputs:
            names |= {site.output for site in sites if site.output}
        fetched = sorted(names - {spec.name for spec in self.inputs})
        start = 0
        for part, rows, real in parts(feed, fixed_batch(self.inputs, feed), pace):
            values = self._session("watching", fetched, sites).run(fetched, part.values) if fetched else []
            self._remember(part)
            tensors = {**part.values, **dict(zip(fetched, values, strict=True))}
            pace.learn(sum(value.nbytes for value in tensors.values()), len(rows))
            if real < len(rows):
                tensors = {n: v[:real] if v.ndim and len(v) == len(rows) else v for n, v in tensors.items()}
            del values
            yield tensors, real, start, int(rows[-1]) == feed.count - 1
            tensors.clear()  # or they would be held beside the next ones
            start += real


def _float(value: Any) -> Array:
    return np.asarray(value, np.float32)


def _place(few: tuple[int, ...], more: tuple[int, ...]) -> Place | None:
    """Axis whose size goes with the number of examples (2 and 3), and its entries for each example."""
    if len(few) != len(more):
        return None
    axes = [axis for axis, (a, b) in enumerate(zip(few, more, strict=True)) if a != b]
    if len(axes) != 1 or few[axes[0]] * 3 != more[axes[0]] * 2:
        return None
    return len(few), axes[0], few[axes[0]] // 2
