"""Whisper tiny.en compressed: bits per weight, likelihood and word error rate before and after, with intervals.

    python benchmarks/speech.py [--calibrate N] [--select N] [--held N] [--spoken N] [--nll 0.02] [--keep FOLDER]

37.7 million float16 weights in matrices. Statistics and the search hear windows of up to 27 seconds, sentences of Moby
Dick read by flite and espeak-ng without transcripts: tokens are what the model itself writes down. Measured are the
five LibriVox clips of Debian's pocketsphinx-testdata (people reading Jane Austen, 71 words), other windows of the same
readers, and sentences by espeak-ng with noise 20 dB below, of which the model misunderstands every second word. The
search lands on a perplexity exp(nll) times the original's on the select split. Likelihoods are those of the original's
own transcripts, error rates those of what was really said; intervals are 90 %, of a paired bootstrap over recordings
(95 % on each side).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import attar
from attar import opening, reading, recipe
from attar.adapters.transformers.adapter import TransformersAdapter
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.types import Dataset, Score
from timing import machine
from whisper import clips, folder, spoken, windows


def untold(place: Path) -> Path:
    """The recordings of a folder without their texts."""
    other = place.with_name(place.name + "-untold")
    other.mkdir()
    for path in place.glob("*.wav"):
        (other / path.name).write_bytes(path.read_bytes())
    return other


def scored(adapter: Any, data: Dataset, metric: str, original: Score | None = None) -> Score:
    """One metric on one set."""
    before = None if original is None else original.outputs
    return score(adapter.run, data, resolve_metric(metric), before, transcribe=adapter.transcripts)


def bits(archive: Path) -> tuple[float, int]:
    """Bits of the whole file for each weight of its layers, and these weights."""
    size = sum(row["size"] for row in attar.inspect(archive) if row.get("bytes"))
    return 8 * archive.stat().st_size / size, size


def rows(work: Path, arguments: argparse.Namespace) -> Iterator[str]:
    """The table's rows, one for each set."""
    model = folder()
    sets = {
        "LibriVox, 5 clips": clips(work / "clips"),
        f"flite and espeak-ng, {arguments.held} windows": windows(work / "held", arguments.held, skip=300, told=True),
        f"espeak-ng in noise, {arguments.spoken} sentences": spoken(work / "spoken", arguments.spoken, skip=3000),
    }
    start = perf_counter()
    result = attar.compress(
        model, calibrate=windows(work / "calibrate", arguments.calibrate),
        select=windows(work / "select", arguments.select, skip=200), certify=windows(work / "certify", 20, skip=250),
        metric="perplexity", max_relative_drop=float(np.expm1(arguments.nll)), guarantee="estimate",
        evaluations=arguments.evaluations, coder="dense", work=arguments.keep,
    )  # fmt: skip
    seconds = perf_counter() - start
    archive = work / "whisper.attar"
    result.save(archive)
    rate, weights = bits(archive)
    yield f"{weights:,} weights, {result.bytes_before:,} -> {result.bytes_after:,} bytes, {rate:.3f} bits a weight, "
    yield f"{seconds:.0f} s\n\n| recordings | NLL before | after | rise | WER before | after | rise |\n|" + "---|" * 7
    plan, before, after = recipe.make(), TransformersAdapter.open(model), opening.from_archive(read(archive))
    for name, place in sets.items():
        told, own = (reading.read_whole(str(one), plan, before) for one in (place, untold(place)))
        cells = []
        for data, metric in ((own, "perplexity"), (told, "wer")):
            one = scored(before, data, metric)
            other = scored(after, data, metric, one)
            c = certify(one, other, resolve_metric(metric), 1.0)
            values = [one.value, other.value, c.drop, c.lower, c.upper]
            if metric == "perplexity":
                values = [*np.log(values[:2]), *(np.log1p(x / one.value) for x in values[2:])]
            cells += [
                f"{values[0]:.3f}",
                f"{values[1]:.3f}",
                f"{values[2]:+.3f} ({values[3]:+.3f} to {values[4]:+.3f})",
            ]
        yield f"| {name} | " + " | ".join(cells) + " |"


def read(archive: Path) -> Any:
    """The archive."""
    from attar.archive import read_archive

    return read_archive(archive)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calibrate", type=int, default=64, help="windows")
    parser.add_argument("--select", type=int, default=20, help="windows, 20 or more")
    parser.add_argument("--held", type=int, default=20, help="windows to measure on")
    parser.add_argument("--spoken", type=int, default=12, help="sentences in noise to measure on")
    parser.add_argument("--nll", type=float, default=0.02, help="rise in nats a token that is allowed")
    parser.add_argument("--evaluations", type=int, default=6)
    parser.add_argument("--keep", type=Path, help="folder for what a run that is started again need not do again")
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as work:
        for line in rows(Path(work), arguments):
            print(line, flush=True)


if __name__ == "__main__":
    main()
