"""One pass: each part in turn is rounded for the inputs that the rounded parts before it give, and written down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attar import registry
from attar.archive import blobs, manifest
from attar.archive.base import LayerInfo, SectionInfo
from attar.archive.streamed import Coded, coded
from attar.coding import effort_of, known_dtype
from attar.methods.base import Scaled
from attar.run.kept import key_of
from attar.run.memory import give_back
from attar.search.sensitivity import by_gradients
from attar.search.subject import blind_stats
from attar.streaming.base import Ids, Part, Stream, flow
from attar.streaming.original import Known
from attar.streaming.sliced import rounded
from attar.types import Array, Encoded, Layer, Stats, Weight


@dataclass(frozen=True)
class Section:
    """A layer as the file has it; its bytes are kept under a key."""

    info: LayerInfo
    section: SectionInfo
    key: str
    rate_bits: float
    distortion: float


class Weights(Mapping[str, Weight]):
    """A part's layers, read when they are asked for."""

    def __init__(self, part: Part, names: Sequence[str]) -> None:
        self._part, self._names = part, names

    def __getitem__(self, name: str) -> Weight:
        return self._part.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Pass:
    """All layers at one slope; what an interrupted run has kept is read back."""

    def __init__(self, stream: Stream, known: Known, slope: float) -> None:
        self.stream, self.known, self.slope = stream, known, slope
        self.sections: dict[str, Section] = {}
        self.remainder: dict[str, Array] = {}
        self._rests: set[int] = set()
        self._ids: Ids = stream.ids("calibrate")
        self._name = f"pass-{slope.hex()}"
        self._effort = effort_of(stream.job.recipe.coder, sum(layer.size for layer in stream.layers()))

    def run(self) -> None:
        """Round every part, the states behind the rounded one going on to the next; nothing where all is kept."""
        stream = self.stream
        missing = [n for n in range(stream.model.parts) if self._recalled(n) or n not in self._rests]
        if missing:
            stream.progress.stage(f"rounding at slope {self.slope:.3g}", stream.model.parts)
            flow(stream, {self._name: self._ids}, stream.model.part, before=self._rounded)

    def coded(self, name: str) -> Coded:
        """A layer as it stands in the file."""
        return self.sections[name].info, self.sections[name].section, self.blob(name)

    def blob(self, name: str) -> bytes:
        """The bytes of a layer."""
        return self.stream.unit(self.sections[name].key)[1]["blob"].tobytes()

    def _key(self, kind: str, name: str | int) -> str:
        return key_of(kind, self.stream.mark, self.slope, name)

    def _recalled(self, number: int) -> list[Layer]:
        """Take up what is kept of a part; the layers that are missing."""
        for layer in self.stream.model.layers_of(number):
            key = self._key("section", layer.name)
            unit = None if layer.name in self.sections else self.stream.kept.get(key)
            if unit is not None:
                record, rate, distortion = unit[0]
                info, section = manifest.layer_of(record)
                self.sections[layer.name] = Section(info, section, key, rate, distortion)
        unit = self.stream.kept.get(key_of("rest", self.stream.mark, number))
        for name, (dtype, shape) in ({} if unit is None else unit[0]).items():
            assert unit is not None
            self.remainder[name] = unit[1][name].view(known_dtype(dtype)).reshape(shape)
        self._rests |= set() if unit is None else {number}
        return [layer for layer in self.stream.model.layers_of(number) if layer.name not in self.sections]

    def _rounded(self, number: int, part: Part) -> None:
        """Round the layers of a part that are missing, and put what all of them became into it."""
        missing = self._recalled(number)
        if number not in self._rests:
            rest = part.remainder()
            self._keep_rest(number, rest)
            self.remainder |= rest
        if missing:
            self._encode(number, part, missing)
        for name, owner in self.stream.model.stored(number):
            if owner in self.sections and name == owner:
                part.write(name, self._decoded(owner))

    def _keep_rest(self, number: int, rest: Mapping[str, Array]) -> None:
        """Other tensors, as bytes: what keeps units does not know every dtype."""
        told = {name: [array.dtype.name, list(array.shape)] for name, array in rest.items()}
        flat = {name: np.ascontiguousarray(array).reshape(-1).view(np.uint8) for name, array in rest.items()}
        self.stream.kept.put(key_of("rest", self.stream.mark, number), told, flat)

    def _encode(self, number: int, part: Part, layers: list[Layer]) -> None:
        """Statistics of a part, then its layers one by one, those of most inputs last."""
        stats = sensitive(self.stream, self.known, number, part, (self._name, self._ids))
        for layer in sorted(layers, key=lambda one: one.cols):
            give_back()
            made = rounded(self.stream, layer, part.read(layer.name), stats.pop(layer.name), self.slope)
            encoded, rate, distortion = made
            info, section, blob = coded(layer, encoded, self._effort)
            key = self._key("section", layer.name)
            told = [manifest.layer_record(info, section), rate, distortion]
            self.stream.kept.put(key, told, {"blob": np.frombuffer(blob, np.uint8)})
            self.sections[layer.name] = Section(info, section, key, rate, distortion)

    def _decoded(self, name: str) -> Weight:
        """What a reader of the file will have."""
        one, blob = self.sections[name], self.blob(name)
        method = registry.get("method", one.info.method)
        if not isinstance(method, Scaled):
            whole = Encoded(one.info.method, blobs.decode_arrays(one.section, blob), one.info.meta)
            weight: Weight = method.decode(whole)
            return weight
        rest = blobs.decode_arrays(one.section, blob, method.CODES)
        row, column, bias = method.scales(Encoded(one.info.method, rest, one.info.meta))
        return Weight(blobs.decode_scaled_array(one.section, blob, method.CODES, row, column, "float32"), bias)


def sensitive(stream: Stream, known: Known, number: int, part: Part, given: tuple[str, Ids]) -> dict[str, Stats]:
    """Input statistics of a part's layers, with row sensitivities."""
    layers = stream.model.layers_of(number)
    names = [layer.name for layer in layers]
    tied = stream.model.head()
    seen = part.moments(stream.inputs(*given, number), [name for name in names if name != tied])
    if tied in names and known.head is not None:
        seen[str(tied)] = replace(known.head, hessian=known.head.hessian.copy())  # settling is in place
    seen = stream.model.weighed(stream.model.settled(number, seen), known.lookups)
    stats = {layer.name: seen.get(layer.name) or blind_stats(layer) for layer in layers}
    rows = {name: known.rows[name] / known.tokens for name in names if name in known.rows}
    return by_gradients(layers, Weights(part, names), stats, rows)
