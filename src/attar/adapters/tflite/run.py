"""Execution of a TFLite model: plain runs, perturbed runs, captures and input statistics.

Many converted models are for one example: a RESHAPE has its size written in. Whether a model takes any number is found
by running it on several examples, together and alone. Interpreters are forgotten when a weight changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from attar.adapters.base import Batch
from attar.adapters.moments import IdCounts, MomentSum
from attar.adapters.parts import together
from attar.adapters.tflite.forms import Convolution, Sample
from attar.adapters.tflite.session import Feed, Port, Session, feed_of, tried
from attar.adapters.tflite.sites import Site
from attar.adapters.tflite.store import Store
from attar.adapters.tflite.watch import ALONE, activation, perturbable, watching
from attar.adapters.unfold import PATCHES_PER_EXAMPLE
from attar.errors import DataError, ModelError
from attar.types import Array, Capture, Stats

CAPTURE_BYTES = 2**27
"""Bytes of watched tensors that one run may hand back, at most 128 examples' at once."""
COLUMN_BYTES = 2**27
"""Bytes of columns in one Capture of a convolution."""
PATCHES_PER_BATCH = 16384
"""Patches of a convolution that the first batch should give at least, however few its examples."""
SMALL_BYTES = 2**26
"""Bytes of values up to which several interpreters are kept, MOST_SESSIONS of a kind."""
MOST_SESSIONS = 8
MOST_EXAMPLES = 128
STATEFUL = ("ASSIGN_VARIABLE",)

Place = tuple[int, int]
"""Of a site's output, whose first axis has the examples: its number of axes, its entries for each example."""


class Runner:
    """Runs one model; `forget` after every change of a value."""

    def __init__(self, store: Store, sites: Sequence[Site], inputs: list[Port], outputs: list[Port]) -> None:
        self._store, self._inputs, self._outputs = store, inputs, outputs
        self._uses: dict[str, list[Site]] = {}
        for site in sites:
            if site.top:
                self._uses.setdefault(site.layer.tied_to or site.layer.name, []).append(site)
        self._sessions: dict[tuple[object, ...], tuple[Session, object]] = {}
        self._tried = False

    def forget(self) -> None:
        """Values have changed: no interpreter is valid any more."""
        self._sessions.clear()

    def _session(self, *key: object) -> tuple[Session, object]:
        """The interpreter of a kind ("plain", "watching", "perturbed") and what its maker says about it."""
        found = self._sessions.pop(key, None)
        if found is None:
            if not self._tried:
                self._try()
            self._make_room(key[0])
            if key[0] == "plain":
                found = Session(self._store.packed()), None
            elif key[0] == "watching":
                data, plain = watching(self._store, *key[1:])  # type: ignore[arg-type]
                found = Session(data), plain
            else:
                data, added = perturbable(self._store, *key[1:])  # type: ignore[arg-type]
                found = Session(data), added
        self._sessions[key] = found  # the last one used stands last
        return found

    def _make_room(self, kind: object) -> None:
        """Each interpreter holds all weights: of a large model there is one, of a small one a few of a kind."""
        if self._store.size_bytes >= SMALL_BYTES:
            self._sessions.clear()
        alike = [key for key in self._sessions if key[0] == kind]
        if len(alike) >= MOST_SESSIONS:
            del self._sessions[alike[0]]

    def trust(self) -> None:
        """The model has been run in a process of its own already."""
        self._tried = True

    def _try(self) -> None:
        codes = {getattr(self._store.schema.BuiltinOperator, name) for name in STATEFUL}
        if any(self._store.code(operator) in codes for operator in self._store.model.subgraphs[0].operators):
            raise ModelError(
                "tflite model: it must answer an example the same whatever came before. Received one that keeps a "
                "state between calls. Convert the model with its states as inputs and outputs."
            )
        tried(self._store.packed())
        self._tried = True

    @cached_property
    def size(self) -> int | None:
        """The number of examples that the model takes at once; None for any."""
        self._try_once()
        own = next((self._first(port) for port in self._inputs if port.spec.shape), 1)
        return None if self._takes_any(own) else own

    def _first(self, port: Port) -> int:
        """The first axis as the file has it."""
        return max(int(self._store.model.subgraphs[0].tensors[port.index].shape[0]), 1)

    def _takes_any(self, own: int) -> bool:
        """Whether several examples together give what each gives alone."""
        feed, fetch = self._made_up(3), [self._outputs[0].index]
        alone = []
        session = Session(self._store.packed())
        try:
            for count in (2, 3):
                rows = np.arange(count)
                together = session.run(feed.part(rows).values, fetch)[0]
                if together.shape[:1] != (count,):
                    return False
            for piece, _, real in feed.pieces(own):
                alone.append(session.run(piece.values, fetch)[0][:real])
        except DataError:
            return False
        one = np.concatenate(alone)
        scale = float(np.nan_to_num(np.abs(np.asarray(one, np.float64))).max(initial=1e-9))
        return one.shape == together.shape and np.allclose(one, together, rtol=0, atol=1e-3 * scale, equal_nan=True)

    def _made_up(self, count: int) -> Feed:
        """Noise, and ids of zero, which every vocabulary has."""
        rng, values, whole = np.random.default_rng(0), {}, set()
        for port in self._inputs:
            shape = [size or 16 for size in port.spec.shape]
            if shape:
                shape[0] = count
            else:
                whole.add(port.index)
            floats = port.dtype.kind == "f" or port.scale
            values[port.index] = port.inward(rng.normal(size=shape) if floats else np.zeros(shape))
        return Feed(values, count, frozenset(whole))

    def run(self, batch: Batch, perturb: Mapping[str, Array] | None) -> Array:
        """The first output, float32; raises KeyError for a layer that cannot be perturbed."""
        feed = feed_of(batch, self._inputs)
        for name in perturb or ():
            if not self.can_perturb(name):
                raise KeyError(name)
        self._try_once()
        most, results = together(feed.values.values(), feed.count, MOST_EXAMPLES), []
        for part, rows, real in feed.pieces(self.size or max(min(feed.count, most), 1)):
            deltas = {name: np.asarray(delta, np.float32)[rows] for name, delta in (perturb or {}).items()}
            results.append(self._run_piece(part, deltas)[:real])
        return np.concatenate(results) if results else np.zeros((0, 1), np.float32)

    def _try_once(self) -> None:
        if not self._tried:
            self._try()

    def _run_piece(self, feed: Feed, perturb: Mapping[str, Array]) -> Array:
        port = self._outputs[0]
        if perturb:
            sites = tuple(site for owner in sorted(perturb) for site in self._uses[owner])
            deltas = [self._delta(site, perturb, feed.count) for site in sites]
            shapes = tuple(delta.shape for delta in deltas)
            session, added = self._session("perturbed", sites, shapes)
            assert isinstance(added, list)
            values = {**feed.values, **dict(zip(added, deltas, strict=True))}
            return port.outward(session.run(values, [port.index])[0])
        output = port.outward(self._session("plain")[0].run(feed.values, [port.index])[0])
        if output.shape[:1] != (feed.count,):
            raise DataError(
                f"output {port.spec.name!r}: its first axis must be that of the {feed.count} examples. Received "
                f"{list(output.shape)}. Convert the model with its examples first there, or name another output."
            )
        return output

    def _delta(self, site: Site, perturb: Mapping[str, Array], count: int) -> Array:
        """What is added to a site's output, in a shape that broadcasts over it."""
        delta = perturb[site.layer.tied_to or site.layer.name]
        if delta.shape != (count, site.form.rows):
            raise DataError(
                f"layer {site.layer.name!r}: a perturbation must be [{count}, {site.form.rows}]. "
                f"Received {list(delta.shape)}. Give one row for each example."
            )
        ndim, each = self.places[site.index]
        repeated = np.repeat(delta, each, axis=0) if each > 1 else delta
        return repeated.reshape(len(repeated), *(1,) * (ndim - 2), site.form.rows)

    def can_perturb(self, name: str) -> bool:
        """Whether every use of the weight hands on its product in a tensor whose first axis has the examples."""
        uses = self._uses.get(name, [])
        return bool(uses) and all(self._shows(site) and site.index in self.places for site in uses)

    def _shows(self, site: Site) -> bool:
        """Whether Y can be seen, or changed, before the operator's own activation."""
        if site.output is None or not site.form.shown:
            return False
        wide = self._store.model.subgraphs[0].tensors[site.output].shape
        kind = activation(self._store, site)
        return len(wide) > 1 and int(wide[-1]) == site.form.rows and (kind == "NONE" or kind in ALONE)

    @cached_property
    def places(self) -> dict[int, Place]:
        """Where the examples lie in each shown output, by the operator: found on two and on three examples."""
        self._try_once()
        sites = [site for uses in self._uses.values() for site in uses if self._shows(site)]
        outputs = tuple(dict.fromkeys(site.output for site in sites if site.output is not None))
        if not outputs:
            return {}
        counts = (2, 3) if self.size is None else (self.size,)
        shapes = []
        for count in counts:
            session, _ = self._session("watching", outputs, ())
            values = session.run(self._made_up(count).values, outputs)
            shapes.append({index: value.shape for index, value in zip(outputs, values, strict=True)})
        found: dict[int, Place] = {}
        for site in sites:
            seen = [shape[site.output] for shape in shapes if site.output is not None]
            each = [shape[0] / count for shape, count in zip(seen, counts, strict=True)]
            if len(set(each)) == 1 and each[0] == int(each[0]) and len({shape[1:] for shape in seen}) == 1:
                found[site.index] = (len(seen[0]), int(each[0]))
        return found

    def captures(self, batches: Iterable[Batch], only: Sequence[str] | None) -> Iterator[Capture]:
        """What each layer saw; several captures of one layer for a large batch or a weight that is used twice."""
        uses = self._wanted(only)
        for tensors, products, count, _, _ in self._watch(batches, uses, outputs=True):
            for owner, sites in uses.items():
                for site in sites:
                    y = products.get(site.index)
                    if y is not None and site.own is not None:
                        y = y - np.asarray(self._store.values(site.own), np.float32)
                    yield from _captured(owner, site, [tensors[index] for index in site.sources], y, count)

    def moments(self, batches: Iterable[Batch], only: Sequence[str] | None) -> dict[str, Stats]:
        """Statistics of each layer's inputs; convolutions are sampled."""
        uses = self._wanted(only)
        sums: dict[str, MomentSum | IdCounts] = {}
        for owner, sites in uses.items():
            form = sites[0].form
            sums[owner] = IdCounts(form.cols) if form.kind == "embedding" else MomentSum(form.groups, form.cols)
        keep = 0
        order = {owner: place for place, owner in enumerate(self._uses)}
        for tensors, _, count, whole, start in self._watch(batches, uses, outputs=False):
            # The same for every example, or a small last batch would weigh as much as a large one.
            keep = keep or max(PATCHES_PER_EXAMPLE, PATCHES_PER_BATCH // whole)
            for owner, sites in uses.items():
                for place, site in enumerate(sites):
                    sample = Sample(order[owner], start, keep)
                    columns = site.form.columns([tensors[index] for index in site.sources], sample)
                    sums[owner].add(columns, 0 if place else count)
        stats = {owner: sums.pop(owner).stats() for owner in list(sums)}
        return {owner: found for owner, found in stats.items() if found is not None}

    def _wanted(self, only: Sequence[str] | None) -> dict[str, list[Site]]:
        return {owner: uses for owner, uses in self._uses.items() if only is None or owner in only}

    def _watch(
        self, batches: Iterable[Batch], uses: Mapping[str, list[Site]], *, outputs: bool
    ) -> Iterator[tuple[dict[int, Array], dict[int, Array], int, int, int]]:
        """(tensors, products by operator, examples, those of the whole batch, number of the first) of each piece."""
        sites = [site for found in uses.values() for site in found]
        given = {port.index for port in self._inputs}
        fetched = tuple(dict.fromkeys(index for site in sites for index in site.sources if index not in given))
        shown = tuple(site for site in sites if outputs and self._shows(site))
        start, step = 0, 8
        for batch in batches:
            feed = feed_of(batch, self._inputs)
            self._try_once()
            done = 0
            while done < feed.count:
                rows = np.minimum(np.arange(done, done + (self.size or min(step, feed.count - done))), feed.count - 1)
                real = min(len(rows), feed.count - done)
                piece = feed.part(rows)
                values, products = self._seen(piece, fetched, shown)
                nbytes = sum(value.nbytes for value in [*values.values(), *products.values()])
                step = int(np.clip(CAPTURE_BYTES // max(nbytes // len(rows), 1), 1, MOST_EXAMPLES))
                tensors = {index: value[: len(value) * real // len(rows)] for index, value in values.items()}
                products = {index: value[: len(value) * real // len(rows)] for index, value in products.items()}
                yield tensors, products, real, feed.count, start
                start += real
                done += real

    def _seen(
        self, piece: Feed, fetched: tuple[int, ...], shown: tuple[Site, ...]
    ) -> tuple[dict[int, Array], dict[int, Array]]:
        """The values of tensors and inputs, and Y plus bias of sites by operator."""
        if not fetched and not shown:
            return dict(piece.values), {}
        session, plain = self._session("watching", fetched, shown)
        assert isinstance(plain, dict)
        values = session.run(piece.values, [*fetched, *plain.values()])
        found = {**piece.values, **dict(zip(fetched, values, strict=False))}
        return found, dict(zip(plain, values[len(fetched) :], strict=True))


def _captured(owner: str, site: Site, sources: list[Array], y: Array | None, count: int) -> Iterator[Capture]:
    """The captures of one use of a weight from one piece of a batch."""
    products = None if y is None else y.reshape(-1, site.form.rows).T
    if site.form.kind == "embedding":
        yield Capture(owner, None, products, site.form.columns(sources, None))
        return
    step = count
    if isinstance(site.form, Convolution) and len(sources[0]) == count:
        each = 4 * site.form.rows * site.form.cols * math.prod(sources[0].shape[1:-1])
        step = max(COLUMN_BYTES // max(each // max(site.form.rows // site.form.groups, 1), 1), 1)
    for start in range(0, count, step):
        if step >= count:
            part, some = sources, products
        else:
            part = [source[start : start + step] for source in sources]
            wide = 0 if products is None else products.shape[1] // count
            some = None if products is None else products[:, start * wide : (start + step) * wide]
        yield Capture(owner, site.form.columns(part, None), some)
