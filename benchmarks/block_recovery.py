"""Block-wise recovery of a streamed language model: what a few hundred steps for each block bring, and cost.

    python benchmarks/block_recovery.py [--bits 2.5 3.2] [--steps 0 100] [--windows 24] [--json FILE]

SmolLM2-135M-Instruct as the folder that perplexity.py makes, compressed by `--stream --bits B` with
`[settings.stream] recovery = STEPS`, calibrated on 24 windows of 256 tokens of the first half of Moby Dick and measured
on windows of the second half. One slope for all steps of a rate, so that the rows of a rate differ in training alone
(and in the codes of later blocks, which see what the trained ones put out). Loss is the nats per token that a file says
more than the one without training, paired window by window, between its 95 % bounds; training is CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from transformers import AutoTokenizer

import attar
from attar.streaming import rounding
from attar.types import Array, Dataset
from gguf_types import opened
from perplexity import PLACE, cut, folder_of
from real_sets import novel
from timing import machine

LENGTH, SEEN = 256, 24
HEAD = (
    "| steps | bytes (bits per weight) | KL | perplexity | nats per token beside 0 steps "
    "| blocks' loss falls by (median), kept | training, CPU s | minutes |"
)
Row = dict[str, Any]


def texts(tokenizer: Any, windows: int) -> tuple[Dataset, Dataset, Dataset]:
    """Calibrate, select (which one pass does not look at) and certify."""
    ids = np.array(tokenizer("\n\n".join(novel()))["input_ids"], np.int64)
    given, held = np.array_split(ids, 2)
    return cut(given, LENGTH, SEEN), cut(given[LENGTH // 2 :], LENGTH, SEEN), cut(held, LENGTH, windows)


def compressed(sets: Sequence[Dataset], bits: float, steps: int, folder: Path) -> tuple[Row, Array]:
    """One run's row, and the nats of every window; what runs share is kept in the folder."""
    spent, plain = [0.0], rounding.recovered

    def timed(*given: Any) -> Any:
        started = process_time()
        made = plain(*given)
        spent[0] += process_time() - started
        return made

    rounding.recovered, started = timed, perf_counter()
    try:
        result = attar.compress(
            PLACE, calibrate=sets[0], select=sets[1], certify=sets[2], metric="perplexity", max_relative_drop=1.0,
            guarantee="estimate", bits=bits, out=folder / f"{bits}-{steps}", work=folder / "work",
            settings={"stream": {"on": "yes", "recovery": steps}},
        )  # fmt: skip
    finally:
        rounding.recovered = plain
    told = next(e for e in result.events if e["event"] == "candidate")
    blocks = next((e["blocks"] for e in result.events if e["event"] == "blocks"), [])
    before = told["value"] - told["drop"]
    row = {
        "bits": bits, "steps": steps, "bytes": told["bytes"], "rate": result.bits, "slope": told["slope"],
        "kl": told["kl"], "perplexity": told["value"],
        "over": [1 + told[key] / before for key in ("drop", "lower", "upper")],
        "fell": [1 - block["after"] / block["before"] for block in blocks], "kept": sum(b["kept"] for b in blocks),
        "training": spent[0], "minutes": (perf_counter() - started) / 60,
    }  # fmt: skip
    return row, np.asarray(-result.after.outputs[..., 0].mean(1), np.float64)


def paired(nats: Array, plain: Array) -> list[float]:
    """Mean difference for each window, and its bounds."""
    apart = nats - plain
    error = 1.645 * float(apart.std(ddof=1)) / np.sqrt(len(apart))
    return [float(apart.mean()), float(apart.mean()) - error, float(apart.mean()) + error]


def line(row: Row) -> str:
    """A row of the table."""
    over, moved, fell = row["over"], row.get("moved"), row["fell"]
    blocks = f"{np.median(fell):.1%}, {row['kept']} of {len(fell)}" if fell else ""
    return (
        f"| {row['steps']} | {row['bytes']:,} ({row['rate']:.3f}) | {row['kl']:.4f} | {row['perplexity']:.3f}, "
        f"{over[0]:.3f} of the original's ({over[1]:.3f} to {over[2]:.3f}) | "
        + (f"{moved[0]:+.4f} ({moved[1]:+.4f} to {moved[2]:+.4f})" if moved else "")
        + f" | {blocks} | {row['training']:.0f} | {row['minutes']:.1f} |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", nargs="+", type=float, default=[2.5, 3.2])
    parser.add_argument("--steps", nargs="+", type=int, default=[0, 100])
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not (PLACE / "config.json").exists():
        folder_of(*opened())
    sets, rows = texts(AutoTokenizer.from_pretrained(PLACE), options.windows), []
    print(f"{machine()}; {options.windows} windows of {LENGTH} tokens\n")
    with tempfile.TemporaryDirectory(prefix="attar-blocks-") as work:
        for bits in options.bits:
            print(f"--bits {bits}\n\n{HEAD}\n{'|---' * HEAD.count(' | ')}|---|", flush=True)
            plain: Array | None = None
            for steps in options.steps:
                row, nats = compressed(sets, bits, steps, Path(work))
                plain = nats if plain is None else plain
                if plain is not nats:
                    row["moved"] = paired(nats, plain)
                rows.append(row)
                print(line(row), flush=True)
            print()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
