"""What a latency goal hands back and writes down: the artefact, what each measure earned, the frontier."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from attar import measuring, pipeline, summary
from attar.adapters.base import Adapter
from attar.archive import read_archive
from attar.exports.onnx.runtime import Runtime
from attar.exports.timing import Latency, latencies
from attar.job import Job
from attar.latency.candidate import FLOAT, WHOLE, Candidate
from attar.latency.fast import FastFile
from attar.latency.race import Race
from attar.latency.stage import Raced
from attar.opening import from_archive
from attar.search.in_order import Outcome
from attar.types import Certificate, Json

WORDS = {"float": "as it came", "channels": "channels removed", "int8": "int8", "both": "what was written"}


@dataclass(frozen=True)
class Handed:
    """The winner: the .attar file's bytes and outcome, its model, the artefact."""

    candidate: Candidate
    file: Outcome[Candidate]
    adapter: Adapter
    fast: FastFile


def handed(job: Job, found: Raced, names: Mapping[str, str]) -> Handed:
    """What was certified timed once more, side by side, and the fastest handed back.

    Raises AttarError where the file does not read back.
    """
    race = found.race
    winner, times = last_measured(found)
    adapter = read_back(race, winner)
    verdicts = race.verdicts[winner.key]
    verdict, _ = verdicts["artefact"]
    (own, after), before = verdicts["file"], race.before["certify"]
    record = {
        "file": names["fast"], "candidate": race.shown(winner.key),
        "sha256": hashlib.sha256(winner.fast.data).hexdigest(), "bytes": len(winner.fast.data),
        "format": "onnx-int8" if winner.fast.integers else "onnx", "runtime": Runtime(winner.fast.data).version,
        "machine": pipeline.machine(), "certificate": asdict(verdict), "bytes_before": job.bytes_before,
        "threads": job.recipe.threads, "batch": job.recipe.batch, "latency": asdict(times["both"]),
        "milliseconds": winner.milliseconds, "predicted_milliseconds": winner.predicted, "how": winner.fast.how,
        "latency_budget": job.recipe.latency_budget, "in_time": found.in_time, "channels": dict(winner.channels),
        "removed": winner.share, "trained": winner.trained,
        "earned": [{"what": WORDS[name], **asdict(latency)} for name, latency in times.items()],
    }  # fmt: skip
    fast = FastFile(
        winner.fast.data, verdict, times["both"], winner.milliseconds, winner.predicted, found.budget_ms, record
    )
    return Handed(winner, Outcome(winner, own, before, after, race.count), adapter, fast)


def last_measured(found: Raced) -> tuple[Candidate, dict[str, Latency]]:
    """The winner and the latencies of what each measure makes alone, interleaved.

    Where noise has put a slower candidate last, the fastest of those that passed wins: all of them did.
    """
    race, winner = found.race, found.outcome.candidate
    passed = [key for key, some in race.verdicts.items() if _passed(race, some)]
    if winner.key in passed and found.budget_ms is None and race.sizing is None:
        calls = {str(key): _call(race, race.candidate(key).fast.data) for key in [FLOAT, *passed] if key in race.built}
        times = latencies(calls)
        winner = race.candidate(min(passed, key=lambda key: times[str(key)].ratio))
    tries = {"float": race.candidate(FLOAT).fast.data}
    if winner.channels:
        tries["channels"] = from_archive(read_archive(winner.archive)).model().SerializeToString()
    if race.candidate(WHOLE).fast.integers:
        tries["int8"] = race.candidate(WHOLE).fast.data
    tries["both"] = winner.fast.data
    return winner, latencies({name: _call(race, data) for name, data in tries.items()})


def _call(race: Race, data: bytes) -> Any:
    return Runtime(data, race.task.threads).once(race.task.batch)


def _passed(race: Race, verdicts: Mapping[str, tuple[Certificate, Any]]) -> bool:
    """Whether both claims about a candidate hold."""
    bound = race.budget.guarantee == "bound"
    return all(c.verdict == "certified" if bound else c.drop <= c.max_drop for c, _ in verdicts.values())


def read_back(race: Race, winner: Candidate) -> Adapter:
    """The model made from the archive's bytes, checked to answer as when it was certified; raises AttarError."""
    adapter = from_archive(read_archive(winner.archive))
    batch = next(race.splits.certify.batches(measuring.BATCH))
    _, after = race.verdicts[winner.key]["file"]
    pipeline.check_answers(adapter, batch, after)
    return adapter


def event(job: Job, found: Raced, made: Handed, seconds: float, names: Mapping[str, str]) -> dict[str, Json]:
    """The fields of the ledger's result event."""
    archive = read_archive(made.candidate.archive)
    size = len(made.candidate.archive)
    rows = summary.layer_rows(archive, size)
    stats = found.race.loop.subject.stats
    for row in rows:
        known = stats[row["name"]].sensitivity if row["name"] in stats else None
        row["sensitivity"] = None if known is None else float(known.mean())
    certificate = made.file.certificate
    return {
        "file": names["archive"], "native": names["native"], "bytes_before": job.bytes_before, "bytes_after": size,
        "ratio": job.bytes_before / size, "before": made.file.before.value, "after": made.file.after.value,
        "certificate": asdict(certificate), "layers": rows, "other_bytes": summary.other_bytes(archive, size),
        "methods": {}, "evaluations": found.race.count, **summary.changes(job, made.file),
        "seconds": seconds, "fast": dict(made.fast.record), "frontier": frontier(found.race),
        "folder": names.get("folder"), "reproduce": {"command": summary.command(job), "recipe": names["recipe"]},
    }  # fmt: skip


def frontier(race: Race) -> list[dict[str, Json]]:
    """Every candidate that was judged: bytes of its file, milliseconds, and its drop where it was seen first.

    best marks those that no other beats in all three.
    """
    rows: list[dict[str, Json]] = [
        {"candidate": race.shown(key), "trained": race.built[key].trained, "bytes": len(race.built[key].archive),
         "milliseconds": race.built[key].milliseconds, "predicted_milliseconds": race.built[key].predicted,
         "drop": verdict.drop, "upper": verdict.upper, "removed": race.built[key].share}
        for key, verdict in sorted(race.looked.items())
    ]  # fmt: skip
    for row in rows:
        row["best"] = not any(_beats(other, row) for other in rows)
    return rows


def _beats(one: Mapping[str, Json], other: Mapping[str, Json]) -> bool:
    """Whether a row is no worse in anything, and better in something."""
    pairs = [(one[name], other[name]) for name in ("bytes", "milliseconds", "drop")]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
