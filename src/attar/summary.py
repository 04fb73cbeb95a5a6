"""What a finished run says: the layer table of a file, and the ledger's last event with the flipped examples."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import prod
from typing import Any

import numpy as np

from attar.adapters.base import Adapter
from attar.archive import Archive, SectionInfo, read_archive
from attar.errors import FormatError
from attar.evaluate.changed import said, told
from attar.evaluate.flips import flips
from attar.job import Job
from attar.opening import decode
from attar.recipe import Recipe
from attar.report.picture import picture
from attar.search.in_order import Outcome
from attar.search.loop import Loop
from attar.search.params import RECOVERY, SCALING
from attar.search.subject import Candidate
from attar.types import Array, Dataset, Json

COMMAND = (
    "preset", "factory", "data", "calibrate", "select", "certify", "train", "remove", "methods", "exclude", "goal",
    "latency_budget", "threads", "batch", "metric", "output_name", "max_drop",
    "max_relative_drop", "confidence", "guarantee", "scale", "evaluations", "early_stop", "time_budget",
    "coder", "seed",
)  # fmt: skip
"""Recipe fields that are options of the command line too."""
ALWAYS = ("metric", "seed")
"""Those that the command of a report names even where they are the defaults."""
SHOWN = 24
"""Flipped examples in the report, half of them lost and half gained where there are enough."""
LONGEST, COLUMNS = 280, 24
"""Characters of a text that is shown, and numbers of a row."""


def layer_rows(archive: Archive, size_bytes: int) -> list[dict[str, Json]]:
    """One row for each layer of a file: shape, method, bits per weight, share of zeros, bytes, share of the file."""
    coded = {section.name: section.nbytes for section in archive.sections if section.kind == "layer"}
    rows = []
    for layer in archive.layers:
        matrix = decode(archive, layer.name).matrix
        nbytes = coded[layer.name]
        rows.append({
            "name": layer.name, "kind": layer.kind, "shape": list(layer.shape), "size": layer.size,
            "method": archive.method(layer.name), "bits_per_weight": 8 * nbytes / max(layer.size, 1),
            "zeros": 1 - np.count_nonzero(matrix) / max(matrix.size, 1), "bytes": nbytes, "share": nbytes / size_bytes,
        })  # fmt: skip
    return rows


def model_rows(adapter: Adapter, size_bytes: int) -> list[dict[str, Json]]:
    """The same for a model that is not compressed, with the weights that are left alone and why."""
    rows: list[dict[str, Json]] = []
    for layer in adapter.layers():
        row: dict[str, Json] = {"name": layer.name, "kind": layer.kind, "shape": list(layer.shape), "size": layer.size}
        if layer.tied_to is not None:
            rows.append({**row, "method": f"tied to {layer.tied_to}", "bytes": 0, "share": 0.0})
            continue
        bits = 8 * np.dtype(layer.dtype).itemsize
        nbytes = layer.size * bits // 8
        zeros = float(np.mean(adapter.read(layer.name).matrix == 0))
        # Weights that the model keeps in fewer bits (behind DequantizeLinear) are floats here.
        rows.append({**row, "method": layer.dtype, "bits_per_weight": float(bits), "zeros": zeros, "bytes": nbytes,
                     "share": min(nbytes / size_bytes, 1.0)})  # fmt: skip
    return rows + [{"name": name, "method": "left alone", "reason": why} for name, why in adapter.skipped().items()]


def other_bytes(archive: Archive, size_bytes: int) -> dict[str, int]:
    """What is not layers: the graph, the remaining tensors, the header."""
    known = {"skeleton": 0, "remainder": 0}
    for section in archive.sections:
        if section.kind in known:
            known[section.kind] += section.nbytes
    layers = sum(section.nbytes for section in archive.sections if section.kind == "layer")
    return {**known, "header": size_bytes - layers - sum(known.values())}


def result_fields(
    job: Job, loop: Loop, outcome: Outcome[Candidate], seconds: float, names: Mapping[str, str]
) -> dict[str, Json]:
    """The fields of the ledger's result event."""
    size = outcome.candidate.size_bytes
    archive = read_archive(outcome.candidate.data)
    rows = layer_rows(archive, size)
    for row in rows:
        point = outcome.candidate.plan.choices[row["name"]]
        stats = loop.subject.stats[row["name"]]
        row["distortion"] = point.distortion
        row["sensitivity"] = None if stats.sensitivity is None else float(stats.sensitivity.mean())
    return {
        "file": names["archive"], "native": names["native"], "bytes_before": job.bytes_before, "bytes_after": size,
        "ratio": job.bytes_before / size, "before": outcome.before.value, "after": outcome.after.value,
        "certificate": asdict(outcome.certificate), "layers": rows, "other_bytes": other_bytes(archive, size),
        "methods": {
            name: {"layers": count, "saved_bytes": bits / 8} for name, (count, bits) in outcome.candidate.earned.items()
        },
        "evaluations": outcome.evaluations, "examples": loop.examples, "full_passes": full_passes(loop),
        "seconds": seconds, "folder": names.get("folder"),
        "reproduce": {"command": command(job), "recipe": names["recipe"]}, **changes(job, outcome),
    }  # fmt: skip


def full_passes(loop: Loop) -> float:
    """Examples that candidates were run on, in passes over the split that they were of."""
    return sum(count / len(getattr(loop.splits, split)) for split, count in loop.examples.items())


def tested(events: Sequence[Mapping[str, Json]]) -> int:
    """Candidates that a run has begun to test on the certify split."""
    return sum(event["event"] == "candidate" and event["split"] == "certify" for event in events)


def changes(job: Job, outcome: Outcome[Any]) -> dict[str, Json]:
    """The examples, classes and confidences that the candidate changed."""
    data, confidence = job.splits.certify, outcome.certificate.confidence
    found = told(outcome.before, outcome.after, data.labels, job.metric, data.class_names, confidence)
    rows = flipped(outcome, data)
    say = getattr(job.adapter, "words", lambda: None)() if rows else None
    for row in rows:
        row["text"] = _words(next(iter(data.inputs.values()))[row["index"]], say)
    return {"flips": rows, **found}


def _words(example: Array, say: Callable[[Array], str] | None) -> str | None:
    """An example as text: token ids in words, a few numbers as they are; None for what is a picture or too long."""
    if example.ndim != 1:
        return None
    if say is not None and np.issubdtype(example.dtype, np.integer):
        return say(example)[:LONGEST]
    return ", ".join(f"{x:.4g}" for x in example) if len(example) <= COLUMNS else None


def command(job: Job) -> str:
    """The command line that makes the same file again."""
    words = ["attar", "compress", job.model_name]
    for name in COMMAND:
        value = getattr(job.recipe, name)
        if value is not None and (name in ALWAYS or value != Recipe.model_fields[name].default):
            words += _option(name, value)
    if job.trials:
        words += ["--tune", str(job.trials)]
    for option, table, name in (("--epochs", RECOVERY, "epochs"), ("--scale-moves", SCALING, "moves")):
        value = job.recipe.settings.get(table, {}).get(name)
        words += [] if value is None else [option, str(value)]
    return shlex.join(words)


def _option(name: str, value: Any) -> list[str]:
    """A recipe's field as the command line takes it."""
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if name == "exclude":
        return [word for pattern in value for word in (flag, pattern)]
    if isinstance(value, list):
        return [flag, ",".join(value)]
    return [flag, f"{value:g}" if isinstance(value, float) else str(value)]


def flipped(outcome: Outcome[Any], data: Dataset) -> list[dict[str, Json]]:
    """Examples whose prediction changed between right and wrong (for agreement: at all), with their pictures."""
    relative = outcome.certificate.metric == "agreement"
    outputs = outcome.before.outputs
    if outputs.ndim != 2 or outputs.shape[1] < 2 or outcome.certificate.lost is None:
        return []
    if data.labels is None and not relative:
        return []
    lost, gained = flips(outcome.before, outcome.after, None if relative else data.labels)
    half = SHOWN // 2
    few_lost = lost[: max(half, SHOWN - len(gained))]
    few_gained = gained[: SHOWN - len(few_lost)]
    return [_flip(int(i), "lost", outcome, data) for i in few_lost] + [
        _flip(int(i), "gained", outcome, data) for i in few_gained
    ]


def _flip(index: int, direction: str, outcome: Outcome[Any], data: Dataset) -> dict[str, Json]:
    """One flipped example."""
    before, after = (score.outputs[index].argmax() for score in (outcome.before, outcome.after))
    truth = before
    if data.labels is not None:
        row = np.asarray(data.labels[index])  # a class, a row of one, or a one-hot row
        truth = row.argmax() if row.size > 1 else row.item()
    example: Array = next(iter(data.inputs.values()))[index]
    answers = {"label": truth, "before": before, "after": after}
    return {
        "index": index, "direction": direction, "picture": picture(example),
        **{key: said(data.class_names, int(one)) for key, one in answers.items()},
    }  # fmt: skip


def sparse_line(changed: Mapping[str, tuple[int, int]]) -> str:
    """What sparse layouts have saved: names with their bytes before and after."""
    if not changed:
        return "sparse: no weight has zeros enough to be smaller without them"
    before, after = (sum(sizes[i] for sizes in changed.values()) for i in (0, 1))
    return f"sparse: {', '.join(changed)}: {after:,} bytes instead of {before:,}"


def section_rows(archive: Archive) -> list[dict[str, Json]]:
    """Name, kind and bytes of each section, and what is wrong with it, or None."""
    return [
        {"section": section.name, "kind": section.kind, "bytes": section.nbytes, "error": _damage(archive, section)}
        for section in archive.sections
    ]


def _damage(archive: Archive, section: SectionInfo) -> str | None:
    """What is wrong with a section, read and decoded; None where it is whole."""
    try:
        if section.kind == "layer":
            decode(archive, section.name)
        elif section.kind in ("piece", "shell"):
            archive.check_piece(section)
        elif section.kind == "part":
            archive.part(section)
        elif section.kind == "remainder":
            archive.remainder()
        else:
            archive.skeleton()
    except FormatError as error:
        return str(error)
    return None


def part_rows(archive: Archive) -> list[dict[str, Json]]:
    """One row for each part of a data set; bits are for each element of its arrays."""
    total = sum(section.nbytes for section in archive.sections)
    rows: list[dict[str, Json]] = []
    for name, section in archive.parts.items():
        size = sum(array.size for array in section.arrays)
        rows.append({
            "name": name, "kind": "part", "shape": [size], "size": size,
            "method": "/".join(sorted({array.coder for array in section.arrays})),
            "bits_per_weight": 8 * section.nbytes / max(size, 1), "bytes": section.nbytes,
            "share": section.nbytes / max(total, 1),
        })  # fmt: skip
    return rows


def packed_rows(archive: Archive) -> list[dict[str, Json]]:
    """One row for each tensor of a packed checkpoint, and one for the rest of each file."""
    rows: list[dict[str, Json]] = []
    total = sum(section.nbytes for section in archive.sections)
    for file in archive.files:
        for span in file.spans:
            coders = sorted({piece.section.arrays[0].coder for piece in span.pieces})
            against = sorted({piece.against for piece in span.pieces if piece.against})
            rows.append({
                "name": span.name, "kind": span.dtype, "shape": list(span.shape), "size": prod(span.shape),
                "method": "/".join([*coders, *against]),
                "bits_per_weight": 8 * span.packed_bytes / max(prod(span.shape), 1), "bytes": span.packed_bytes,
                "share": span.packed_bytes / max(total, 1),
            })  # fmt: skip
        shell = sum(section.nbytes for section in file.shell)
        rows.append({
            "name": f"{file.name}: the rest", "kind": file.kind, "shape": [file.shell_bytes], "size": file.shell_bytes,
            "method": "bytes", "bits_per_weight": 8 * shell / max(file.shell_bytes, 1), "bytes": shell,
            "share": shell / max(total, 1),
        })  # fmt: skip
    return rows
