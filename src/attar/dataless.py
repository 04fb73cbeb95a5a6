"""Weights without a network: compressed to so many bits, or so small an error, with nothing measured on data.

Every matrix is rounded for the least relative error ||W - W'|| / ||W|| at its coded size (search/blind.py); for so many
bits all share one slope between error and bits. Matrices are read, rounded and written one after the other. What the
error does to a model nobody knows: such a file is never certified.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import attar
from attar import opening, outputs, pipeline, registry
from attar import recipe as recipes
from attar.adapters.tensors.adapter import TensorsAdapter
from attar.archive import Archive, read_archive
from attar.archive.streamed import Coded, coded, write_streamed
from attar.coding import effort_of, known_dtype
from attar.errors import ModelError, OutputError, UsageError
from attar.packing.ahead import ahead
from attar.recipe import Recipe
from attar.report import render
from attar.run.clock import Clock
from attar.run.ledger import Ledger, Watcher
from attar.run.progress import Progress
from attar.search import blind
from attar.search.params import check_rules
from attar.summary import other_bytes
from attar.types import Array, Certificate, Json, Layer, Point, Weight

VERDICT, METRIC = "not certified: no data", "relative weight error"
SLACK, AIM, PASSES = 0.01, 0.998, 4
"""Share of the bits that may be left over; what is aimed at where they were missed; most passes over the matrices."""
NOT_FOR_WEIGHTS = (
    "data", "calibrate", "select", "certify", "train", "max_drop", "max_relative_drop", "latency_budget", "time_budget",
    "tune",
)  # fmt: skip
"""What needs a network that runs; also metric, goal and remove where they are not the defaults."""
COMMAND = ("bits", "max_error", "methods", "exclude", "coder")


@dataclass(frozen=True)
class Job:
    """What is compressed, and the wish: bits per weight or relative error."""

    recipe: Recipe
    adapter: TensorsAdapter
    path: Path

    @property
    def names(self) -> dict[str, str]:
        """File names of the outputs."""
        stem = self.path.name.removesuffix(".safetensors.index.json") if not self.path.is_dir() else self.path.name
        suffix, stem = self.adapter.suffixes[0], stem.removesuffix(self.path.suffix)
        return {
            "archive": f"{stem}.attar", "native": f"{stem}{suffix or '/'}", "report": "report.html",
            "recipe": "recipe.toml", "ledger": "ledger.jsonl",
        }  # fmt: skip


@dataclass(frozen=True)
class Blind:
    """What `compress` hands back for weights alone: the file, and how far its weights are from the original's."""

    path: Path
    """The archive."""
    bytes_before: int
    bits: float
    """Per weight of all matrices: their sections in the file."""
    error: float
    """||W - W'|| / ||W|| of all matrices together, read back from the file in the dtype of the tensors."""
    worst: float
    """The largest of one layer."""
    recipe: Recipe
    certificate: Certificate
    events: Sequence[Mapping[str, Json]] = field(repr=False)
    folder: TemporaryDirectory[str] | None = field(repr=False, default=None)
    """Where the archive lies if no place was given for it: gone with this object."""
    certified: bool = False
    fast: None = None
    calibration: None = None

    @property
    def within(self) -> bool:
        """Whether what was asked for, bits or error, is held. It says nothing of what the model does."""
        if self.recipe.bits is not None:
            return self.bits <= self.recipe.bits
        return self.worst <= (self.recipe.max_error or 0.0)

    @property
    def data(self) -> bytes:
        """The archive's bytes."""
        return self.path.read_bytes()

    @property
    def bytes_after(self) -> int:
        """Size of the archive."""
        return self.path.stat().st_size

    @property
    def ratio(self) -> float:
        """How many times smaller."""
        return self.bytes_before / self.bytes_after

    @property
    def model(self) -> dict[str, Array]:
        """The tensors by name."""
        tensors: dict[str, Array] = opening.from_archive(read_archive(self.path)).model()
        return tensors

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the archive under another name; raises OutputError."""
        place = Path(path)
        if place.suffix != ".attar":
            raise UsageError(
                f"output {place.name!r}: the ending must be .attar. Received {place.suffix!r}. `attar expand` writes "
                "the plain files."
            )
        outputs.check_free(place.parent, [place.name], force)
        with outputs.staged(place.parent) as stage:
            outputs.write(stage / place.name, self.data)
            outputs.publish(stage, place.parent, force)


def job_of(model: object, recipe: Recipe | None, given: Mapping[str, Any]) -> Job | None:
    """The job where a model is weights alone; None for others. Raises UsageError, ModelError, FormatError."""
    fields = recipes.over_preset({**(recipe.model_dump(exclude_unset=True) if recipe else {}), **given})
    path = model if model is not None else fields.get("model")
    alone = isinstance(path, str | Path) and fields.get("factory") is None and TensorsAdapter.accepts(path)
    wished = [name for name in ("bits", "max_error") if fields.get(name) is not None]
    if not alone:
        if wished:
            preset = " and the preset data-free" * (fields.get("preset") == "data-free")
            raise UsageError(
                f"{wished[0]}: it is for files of weights without a network: safetensors, GGUF or .npz. Received "
                f"{_named(path)}{preset}. For a model that runs, pass --data and --max-drop; write weights that are in "
                "memory, or in another format, to such a file."
            )
        return None
    others = [name for name in NOT_FOR_WEIGHTS if fields.get(name) is not None]
    others += [name for name, plain in (("goal", "size"), ("remove", 0.0)) if fields.get(name, plain) != plain]
    if others:
        raise UsageError(
            f"{others[0]}: weights without a network cannot be run, so that no data are taken. Received it with "
            f"{Path(str(path)).name!r}. Pass --bits or --max-error, or the model itself: a folder with config.json, "
            "ONNX, or --factory."
        )
    if len(wished) != 1:
        raise UsageError(
            f"model {Path(str(path)).name!r}: weights without a network are compressed to so many bits or so small an "
            f"error. Received {'both' if wished else 'neither'}. Pass --bits 4.0, --max-error 1% or --preset data-free."
        )
    return _opened(Path(str(path)), recipes.make(**{**fields, "model": str(path)}))


def _named(model: object) -> str:
    """A file's name, or what kind of object it is."""
    return repr(Path(model).name) if isinstance(model, str | Path) else f"a {type(model).__name__}"


def _opened(path: Path, recipe: Recipe) -> Job:
    """The job with its tensors; raises ModelError where none is a matrix."""
    adapter = TensorsAdapter.open(path)
    names = [layer.name for layer in adapter.layers()]
    if not names:
        reasons = sorted(set(adapter.skipped().values())) or ["no tensor of a known dtype has two axes"]
        if path.suffix == ".npz":
            reasons.append("of bfloat16 it keeps the bytes alone, which safetensors know")
        raise ModelError(
            f"model {path.name!r}: it must have a matrix that can be compressed. Received none: {'; '.join(reasons)}. "
            "`attar pack` makes it smaller without changing a bit."
        )
    check_rules(recipe, names)
    adapter.keep(recipe.exclude)
    return Job(recipe, adapter, path)


def begin(job: Job, ledger: Ledger, progress: Progress) -> int:
    """What is known before any work, for the ledger; bytes of the model."""
    before = job.adapter.nbytes if job.path.is_dir() or not job.adapter.suffixes[0] else job.path.stat().st_size
    layers, warning = job.adapter.layers(), "no data: nothing was measured but the weights, and nothing is certified"
    progress.note(warning)
    ledger.add(
        "run", attar=attar.__version__, model=str(job.path), framework=job.adapter.framework, bytes_before=before,
        metric={"name": METRIC, "unit": "", "higher_is_better": False}, seed=job.recipe.seed, splits={},
        budget={"bits": job.recipe.bits, "max_error": job.recipe.max_error},
        warnings=[warning], recipe=job.recipe.model_dump(exclude_none=True), machine=pipeline.machine(),
    )  # fmt: skip
    told = [{"name": x.name, "kind": x.kind, "rows": x.rows, "cols": x.cols, "groups": 1, "shape": list(x.shape),
             "size": x.size, "tied_to": None} for x in layers]  # fmt: skip
    ledger.add("layers", layers=told, skipped=dict(job.adapter.skipped()))
    return before


def compress(
    job: Job, out: Path | None, progress: Progress, *, force: bool = False, jobs: int | None = None,
    watchers: Sequence[Watcher] = (),
) -> Blind:  # fmt: skip
    """Round, write and read back; with `out`, plain files, report, recipe and ledger stand beside the archive."""
    if out is None:
        folder = TemporaryDirectory(prefix="attar-")
        place = Path(folder.name) / job.names["archive"]
        return _run(job, place, None, Ledger(None, watchers), (jobs, progress), folder)
    names = job.names
    outputs.check_free(out, list(names.values()), force)
    if (out / names["native"].rstrip("/")).resolve() == job.path.resolve():
        raise OutputError(
            f"output {str(out)!r}: the compressed model must not replace the original. Received the folder that holds "
            "it. Choose another place with -o."
        )
    with outputs.staged(out) as stage:
        ledger = Ledger(stage / names["ledger"], watchers)
        made = _run(job, stage / names["archive"], stage, ledger, (jobs, progress))
        outputs.publish(stage, out, force)
    return Blind(out / names["archive"], *(getattr(made, name) for name in (
        "bytes_before", "bits", "error", "worst", "recipe", "certificate", "events")))  # fmt: skip


def _run(
    job: Job, place: Path, stage: Path | None, ledger: Ledger, how: tuple[int | None, Progress],
    folder: TemporaryDirectory[str] | None = None,
) -> Blind:  # fmt: skip
    """The straight path from a job to its file."""
    clock, progress = Clock(), how[1]
    before = begin(job, ledger, progress)
    passes = _write(job, place, *how)
    progress.stage("reading the file back", len(job.adapter.layers()))
    archive = read_archive(place)
    rows, error, worst = _read_back(job, archive, progress)
    bits = 8 * sum(row["bytes"] for row in rows) / sum(row["size"] for row in rows)
    nan = float("nan")
    told = Certificate(METRIC, 0.0, error, nan, nan, nan, job.recipe.max_error or nan, job.recipe.confidence, 0, "none",
                       VERDICT)  # fmt: skip
    names, size = job.names, place.stat().st_size
    ledger.add(
        "result", file=names["archive"], native=names["native"].rstrip("/"), bytes_before=before, bytes_after=size,
        ratio=before / size, before=0.0, after=error, certificate=asdict(told), layers=rows,
        other_bytes=other_bytes(archive, size), methods={}, flips=[], evaluations=passes, seconds=clock.elapsed(),
        bits=bits, worst=worst, reproduce={"command": _command(job), "recipe": names["recipe"]},
    )  # fmt: skip
    if stage is not None:
        progress.stage("files and report", 1)
        outputs.guarded(lambda: job.adapter.save(stage / names["native"].rstrip("/")), stage)
        outputs.write(stage / names["report"], render(ledger.events).encode())
        outputs.write(stage / names["recipe"], recipes.to_toml(job.recipe).encode())
    return Blind(place, before, bits, error, worst, job.recipe, told, ledger.events, folder)


def _write(job: Job, place: Path, jobs: int | None, progress: Progress) -> int:
    """The archive, written again with another slope while its bits are not those that were asked for; passes."""
    rounding, layers, wish = blind.Rounding(job.recipe, job.adapter), job.adapter.layers(), job.recipe.bits
    if wish is None:
        limit = job.recipe.max_error or 0.0

        def within(layer: Layer, weight: Weight) -> Point:
            return blind.within(rounding, layer, weight, limit, partial(_lost, layer, weight))

        _pass(job, place, within, jobs, progress)
        return 1
    progress.stage("rates of samples", 1)
    slope, total = blind.slope_for(rounding, layers, AIM * wish, jobs), sum(layer.size for layer in layers)
    for number in range(1, PASSES + 1):
        size = _pass(job, place, partial(rounding.best, slope=slope), jobs, progress)
        bits = 8 * size / total
        if (1 - SLACK) * wish <= bits <= wish:
            break
        slope *= 4.0 ** (bits - (AIM - 0.002 * (number > 1)) * wish)
    return number


def _pass(
    job: Job, place: Path, choose: Callable[[Layer, Weight], Point], jobs: int | None, progress: Progress
) -> int:  # fmt: skip
    """Every matrix rounded and the archive written; bytes of the matrices' sections."""
    adapter, layers = job.adapter, job.adapter.layers()
    effort = effort_of(job.recipe.coder, sum(layer.size for layer in layers))
    progress.stage("rounding", len(layers))

    def one(layer: Layer) -> Coded:
        weight = blind.read(adapter, layer)
        point = choose(layer, weight)
        method = registry.get("method", point.choice["method"])
        stats = blind.stats_of(layer, weight)
        return coded(layer, point.encoded or method.encode(layer, weight, stats, point.choice), effort)

    def each() -> Iterator[Coded]:
        for done in ahead((partial(one, layer) for layer in layers), jobs):
            progress.step()
            yield done

    info = write_streamed(
        place, layers=each(), remainder=adapter.remainder(), skeleton=adapter.skeleton(),
        meta={"framework": adapter.framework, "attar": attar.__version__, "data": False}, force=True,
    )  # fmt: skip
    return sum(section.nbytes for section in info.sections if section.kind == "layer")


def _lost(layer: Layer, weight: Weight, point: Point) -> float:
    """The relative error of a point in the dtype that the tensor has."""
    method = registry.get("method", point.choice["method"])
    encoded = point.encoded or method.encode(layer, weight, blind.stats_of(layer, weight), point.choice)
    return _relative(*_squares(layer, weight, method.decode(encoded)))


def _squares(layer: Layer, weight: Weight, decoded: Weight) -> tuple[float, float]:
    """||W - W'||^2 and ||W||^2, W' as its tensor holds it."""
    stored = decoded.matrix.astype(known_dtype(layer.dtype)).astype(np.float32)
    away = np.square(weight.matrix - stored, dtype=np.float64).sum()
    return float(away), float(np.square(weight.matrix, dtype=np.float64).sum())


def _relative(away: float, norm: float) -> float:
    return float(np.sqrt(away / norm)) if norm else float(away > 0)


def _read_back(job: Job, archive: Archive, progress: Progress) -> tuple[list[dict[str, Json]], float, float]:
    """A row for each layer, the relative error of all and the worst; what was read stands in the adapter then."""
    sections = {section.name: section.nbytes for section in archive.sections if section.kind == "layer"}
    rows: list[dict[str, Json]] = []
    away, norm = 0.0, 0.0
    for layer in job.adapter.layers():
        weight, decoded = job.adapter.read(layer.name), opening.decode(archive, layer.name)
        job.adapter.write(layer.name, decoded)
        squares, nbytes = _squares(layer, weight, decoded), sections[layer.name]
        away, norm = away + squares[0], norm + squares[1]
        rows.append({
            "name": layer.name, "kind": layer.kind, "shape": list(layer.shape), "size": layer.size,
            "method": archive.method(layer.name), "bits_per_weight": 8 * nbytes / layer.size,
            "zeros": float(np.mean(decoded.matrix == 0)), "bytes": nbytes, "share": nbytes / archive.nbytes,
            "error": _relative(*squares),
        })  # fmt: skip
        progress.step()
    return rows, _relative(away, norm), max(row["error"] for row in rows)


def _command(job: Job) -> str:
    """The command line that makes the same file again."""
    words = ["attar", "compress", str(job.path)]
    for name in COMMAND:
        value = getattr(job.recipe, name)
        if value is not None and value != Recipe.model_fields[name].get_default(call_default_factory=True):
            flag = f"--{name.replace('_', '-')}"
            if name == "exclude":
                words += [word for pattern in value for word in (flag, pattern)]
            else:
                words += [flag, ",".join(value) if isinstance(value, list) else str(value)]
    return shlex.join(words)
