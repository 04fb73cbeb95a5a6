"""One pass: each part in turn is rounded for the inputs that the rounded parts before it give, and written down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from attar import registry
from attar.archive import blobs, manifest
from attar.archive.base import LayerInfo, SectionInfo
from attar.archive.streamed import Coded, coded
from attar.coding import effort_of, known_dtype
from attar.methods.base import Scaled
from attar.recover.latents import decoded
from attar.run.executor import generator
from attar.run.kept import key_of
from attar.run.memory import give_back
from attar.search.sensitivity import by_gradients
from attar.search.subject import blind_stats
from attar.streaming.base import Ids, Part, Stream, flow
from attar.streaming.original import Known
from attar.streaming.recovery import Gain, Windows, recovered
from attar.streaming.sliced import Made, rounded
from attar.types import Array, Encoded, Json, Layer, Stats, Weight


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
        self.gains: dict[int, Gain] = {}
        """What training brought, by part; nothing where blocks are not trained."""
        self._rests: set[int] = set()
        self._ids: Ids = stream.ids("calibrate")
        self._name = f"pass-{stream.course(slope)}"
        self._effort = effort_of(stream.job.recipe.coder, sum(layer.size for layer in stream.layers()))

    def run(self) -> None:
        """Round every part, the states behind the rounded one going on to the next; nothing where all is kept."""
        stream = self.stream
        missing = [n for n in range(stream.model.parts) if self._recalled(n) or not self._done(n)]
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
        return key_of(kind, self.stream.mark, self.stream.course(self.slope), name)

    def _trains(self, number: int) -> bool:
        return bool(self.stream.settings.recovery) and 0 < number < self.stream.last

    def _done(self, number: int) -> bool:
        return number in self._rests and (number in self.gains or not self._trains(number))

    def _recalled(self, number: int) -> list[Layer]:
        """Take up what is kept of a part; the layers that are missing."""
        layers = self.stream.model.layers_of(number)
        trained = self.stream.kept.get(self._key("trained", number)) if self._trains(number) else None
        changed = [] if trained is None else trained[0]["layers"]
        for layer in layers:
            if layer.name not in self.sections:
                self._take_up(layer.name, "retold" if layer.name in changed else "section")
        keys = {name: one.key for name, one in self.sections.items()}
        if any(keys.get(name) != self._key("retold", name) for name in changed):  # damaged: trained again
            trained = None
            for name in changed:
                self.sections.pop(name, None)
                self._take_up(name, "section")
        unit = self.stream.kept.get(key_of("rest", self.stream.mark, number))
        if unit is not None:
            self.remainder |= _rest_of(unit[0], unit[1])
            self._rests.add(number)
        if trained is not None:
            self.gains[number] = Gain(**trained[0]["gain"])
            self.remainder |= _rest_of(trained[0]["rest"], trained[1])
        return [layer for layer in layers if layer.name not in self.sections]

    def _take_up(self, name: str, kind: str) -> None:
        """A layer that is kept; nothing where it is not."""
        key = self._key(kind, name)
        unit = self.stream.kept.get(key)
        if unit is not None:
            record, rate, distortion = unit[0]
            info, section = manifest.layer_of(record)
            self.sections[name] = Section(info, section, key, rate, distortion)

    def _rounded(self, number: int, part: Part) -> None:
        """Round the layers of a part that are missing, and put what all of them became into it."""
        missing = self._recalled(number)
        if number not in self._rests:
            rest = part.remainder()
            self.stream.kept.put(key_of("rest", self.stream.mark, number), *_flat(rest))
            self.remainder |= rest
        if self.stream.settings.recovery:
            self._teach(number, part)
        if missing:
            self._encode(number, part, missing)
        for name, owner in self.stream.model.stored(number):
            if owner in self.sections and name == owner:
                part.write(name, self._decoded(owner))
        if number in self.gains:
            part.restore(self.remainder)
        elif self._trains(number):
            self._train(number, part)

    def _teach(self, number: int, part: Part) -> None:
        """What the part, not yet rounded, makes of the original's states; those before it are dropped."""
        name, states = f"teacher-{self._name}", self.stream.states
        if number < self.stream.last and f"{name}.{number}" not in states:
            given = self.stream.inputs(name, self._ids, number)
            states.put(f"{name}.{number}", len(self._ids), (part.run(*one) for one in given))
        states.drop(f"{name}.{number - 1}")

    def _train(self, number: int, part: Part) -> None:
        """Train what stands beside the codes of a part, and keep it; the mark of it all comes last."""
        stream, names = self.stream, [layer.name for layer in self.stream.model.layers_of(number)]
        windows = Windows(stream.states, self._ids, f"{self._name}.{number - 1}", f"teacher-{self._name}.{number}")
        rng = generator(stream.job.recipe.seed, f"blocks/{number}")
        gain, told, rest = recovered(part, names, self._encoded, windows, stream.settings.recovery, rng)
        for layer in stream.model.layers_of(number):
            if layer.name in told:
                old = self.sections[layer.name]
                self._keep("retold", layer, (told[layer.name], old.rate_bits, old.distortion))
        shapes, flat = _flat(rest)
        stream.kept.put(
            self._key("trained", number), {"gain": asdict(gain), "layers": list(told), "rest": shapes}, flat
        )
        self.gains[number] = gain
        self.remainder |= rest

    def _encode(self, number: int, part: Part, layers: list[Layer]) -> None:
        """Statistics of a part, then its layers one by one, those of most inputs last."""
        stats = sensitive(self.stream, self.known, number, part, (self._name, self._ids))
        for layer in sorted(layers, key=lambda one: one.cols):
            give_back()
            made = rounded(self.stream, layer, part.read(layer.name), stats.pop(layer.name), self.slope)
            self._keep("section", layer, made)

    def _keep(self, kind: str, layer: Layer, made: Made) -> None:
        """A layer's section under a key of its own."""
        encoded, rate, distortion = made
        info, section, blob = coded(layer, encoded, self._effort)
        key = self._key(kind, layer.name)
        told = [manifest.layer_record(info, section), rate, distortion]
        self.stream.kept.put(key, told, {"blob": np.frombuffer(blob, np.uint8)})
        self.sections[layer.name] = Section(info, section, key, rate, distortion)

    def _encoded(self, name: str) -> Encoded:
        """A layer as the file has it."""
        one = self.sections[name]
        return Encoded(one.info.method, blobs.decode_arrays(one.section, self.blob(name)), one.info.meta)

    def _decoded(self, name: str) -> Weight:
        """What a reader of the file will have."""
        one, blob = self.sections[name], self.blob(name)
        method = registry.get("method", one.info.method)
        if not isinstance(method, Scaled):
            return decoded(self._encoded(name))
        rest = blobs.decode_arrays(one.section, blob, method.CODES)
        row, column, bias = method.scales(Encoded(one.info.method, rest, one.info.meta))
        return Weight(blobs.decode_scaled_array(one.section, blob, method.CODES, row, column, "float32"), bias)


def _flat(rest: Mapping[str, Array]) -> tuple[Json, dict[str, Array]]:
    """Tensors as bytes, with what they are: what keeps units does not know every dtype."""
    told = {name: [array.dtype.name, list(array.shape)] for name, array in rest.items()}
    return told, {name: np.ascontiguousarray(array).reshape(-1).view(np.uint8) for name, array in rest.items()}


def _rest_of(told: Mapping[str, Json], arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The inverse."""
    return {name: arrays[name].view(known_dtype(dtype)).reshape(shape) for name, (dtype, shape) in told.items()}


def sensitive(
    stream: Stream, known: Known, number: int, part: Part, given: tuple[str, Ids]
) -> MutableMapping[str, Stats]:
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
