"""What scale moves change for a sentence encoder and a speech model, at the same slopes.

    python benchmarks/transformer_scales.py [--models MiniLM Whisper] [--moves none equalise smooth fold] [--kls K ...]

Plans of `uniform` and `keep` at two slopes, the same for every move of a model; statistics from passages of Moby Dick
(MiniLM) and from sentences of it read aloud (Whisper tiny.en). Measured on others that no statistic has seen:
SpamAssassin's e-mails, and other sentences of the same voices: the divergence from the original's outputs in nats with
a 90 % interval over examples, and the bytes of the whole file. J is what a plan makes small, predicted distortion plus
slope times predicted bits.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from attar import beginning, measuring, scale_moves
from attar.adapters.base import Adapter
from attar.job import Job
from attar.run.ledger import Ledger
from attar.run.progress import Silent
from attar.search.divergence import divergence, kind_of
from attar.types import Array, Dataset
from inputs import MINILM, asset
from language import letters, passages
from timing import machine
from whisper import folder, windows

MOVES = ("none", "equalise", "smooth", "fold")


def minilm(_: Path) -> tuple[Path, dict[str, object]]:
    """The encoder, and texts: passages for statistics, e-mails to measure on."""
    new = letters(240)
    return asset(*MINILM).parent, {
        "calibrate": passages(1000), "select": new[:120], "certify": new[120:], "metric": "cosine", "max_drop": 0.01
    }  # fmt: skip


def whisper(work: Path) -> tuple[Path, dict[str, object]]:
    """The speech model, and windows of sentences read aloud."""
    places = {
        "calibrate": windows(work / "calibrate", 64), "select": windows(work / "select", 20, skip=200),
        "certify": windows(work / "certify", 20, skip=250),
    }  # fmt: skip
    return folder(), {**places, "metric": "perplexity", "max_relative_drop": 0.02}


MODELS: dict[str, Callable[[Path], tuple[Path, dict[str, object]]]] = {"MiniLM": minilm, "Whisper": whisper}


def outputs(adapter: Adapter, data: Dataset) -> Array:
    """All of a set."""
    return np.concatenate([adapter.run(batch) for batch in data.batches(64)])


def rows(name: str, job: Job, moves: str, kls: Sequence[float]) -> Iterator[str]:
    """A row for each slope."""
    data = job.splits.certify
    original, weights = outputs(job.adapter, data), sum(x.size for x in job.adapter.layers() if x.tied_to is None)
    kind = kind_of(original, job.metric.name not in measuring.NUMERIC)
    told = job.recipe.model_copy(update={"settings": {"scaling": {"moves": moves}}})
    ledger = Ledger()
    moved = scale_moves.moved(replace(job, recipe=told), ledger, Silent())
    groups = len(ledger.events[0]["groups"]) if ledger.events else 0
    subject = measuring.measured(replace(moved, original=None), Silent())[0]
    for kl in kls:
        slope = 2 * float(np.log(2)) * kl / weights
        candidate = replace(subject, methods=("uniform", "keep")).build(slope)
        subject.put(candidate)
        lost = divergence(original, outputs(subject.adapter, data), kind)
        error = 1.645 * float(lost.std(ddof=1)) / np.sqrt(len(lost))
        cost = sum(p.distortion + slope * p.rate_bits for p in candidate.plan.choices.values())
        yield (
            f"| {name} | {moves} | {groups} | {kl:g} | {candidate.size_bytes:,} "
            f"| {8 * candidate.size_bytes / weights:.2f} | {lost.mean():.5f} \u00b1 {error:.5f} | {cost:.4f} |"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--moves", nargs="+", default=MOVES, choices=MOVES)
    parser.add_argument("--kls", nargs="+", type=float, default=[0.004, 0.02], help="predicted divergences, for slopes")
    options = parser.parse_args()
    print(f"{machine()}\n\n| model | moves | groups | slope of | bytes | bits | divergence | J |\n|" + "---|" * 8)
    with tempfile.TemporaryDirectory() as work:
        for name in options.models:
            place, fields = MODELS[name](Path(work))
            for moves in options.moves:
                job = beginning.job_of(place, None, None, dict(fields))
                for row in rows(name, job, moves, options.kls):
                    print(row, flush=True)


if __name__ == "__main__":
    main()
