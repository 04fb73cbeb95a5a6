"""Four published models through every verb of the command, typed as a user does: exit codes, sizes, seconds, memory.

    python benchmarks/verbs.py [--models efficientnet minilm whisper smollm2] [--folder KEPT] [--json FILE]

EfficientNet-Lite0 (an ONNX file; crops of pictures), MiniLM (a folder; e-mails, one a line), Whisper tiny.en (a folder;
recordings) and SmolLM2-135M (a folder; a book): compress, inspect, eval and expand of the archive, and an export of it,
with no option but the data, the metric, the drop and the format. Exit code 3 says that the drop is not proved, 0 that
it is. Memory is the most that a command had resident. What a command printed last is shown below the table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from timing import machine

CROPS, MAILS, WINDOWS, CHARACTERS = 240, 600, 24, 50_000
Case = tuple[Path, Path, list[str], str]
"""The model, its data, metric and drop, and the format of the export."""


def efficientnet(folder: Path) -> Case:
    """Crops of all pictures, as the network takes them."""
    from efficientnet import crops, exported, network, pictures

    model = exported(network(), folder / "efficientnet.onnx")
    np.savez(folder / "crops.npz", **crops([p for part in pictures() for p in part], CROPS, 0).inputs)
    return model, folder / "crops.npz", ["--metric", "agreement", "--max-drop", "5"], "onnx-int8"


def minilm(folder: Path) -> Case:
    """Beginnings of e-mails."""
    from inputs import MINILM, asset
    from language import letters

    data = folder / "mails.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in letters(MAILS)))
    return asset(*MINILM).parent, data, ["--metric", "cosine", "--max-drop", "0.01"], "compressed-tensors"


def whisper(folder: Path) -> Case:
    """Sentences read aloud, with their texts."""
    from whisper import folder as published
    from whisper import windows

    data = windows(folder / "recordings", WINDOWS, told=True)
    return published(), data, ["--metric", "perplexity", "--max-relative-drop", "5%"], "compressed-tensors"


def smollm2(folder: Path) -> Case:
    """The beginning of a novel."""
    from gguf_types import opened
    from perplexity import PLACE, folder_of
    from real_sets import novel

    data = folder / "book.txt"
    data.write_text("\n\n".join(novel())[:CHARACTERS])
    model = PLACE if (PLACE / "config.json").exists() else folder_of(*opened())
    return model, data, ["--metric", "perplexity", "--max-relative-drop", "10%"], "gguf"


MODELS: dict[str, Callable[[Path], Case]] = {
    "efficientnet": efficientnet, "minilm": minilm, "whisper": whisper, "smollm2": smollm2,
}  # fmt: skip


def commands(case: Case, out: Path) -> dict[str, list[str]]:
    """What is typed, by verb."""
    model, data, asked, form = case
    archive = out / f"{model.stem if model.is_file() else model.name}.attar"
    against, examples = ["--against", str(model)], ["--data", str(data)]
    return {
        "compress": ["compress", str(model), *examples, *asked, "-o", str(out)],
        "inspect": ["inspect", str(archive)],
        "eval": ["eval", str(archive), *examples, *asked[:2], *against],
        "expand": ["expand", str(archive), "-o", str(out / "plain")],
        "export": ["export", str(archive), "--to", form, *examples, *asked, *against, "-o", str(out / "made")],
    }


def typed(words: list[str], log: Path) -> dict[str, Any]:
    """One command: exit code, seconds, peak memory in MiB; what it printed is in the log."""
    started = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "attar", *words], stdout=file, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {"code": process.returncode, "seconds": time.monotonic() - started, "peak": _mebibytes(used)}


def _mebibytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / (1024 if sys.platform != "darwin" else 1 << 20)


def passed(name: str, folder: Path) -> list[dict[str, Any]]:
    """All verbs for one model."""
    place = folder / name
    place.mkdir(parents=True)
    rows = []
    for verb, words in commands(MODELS[name](place), place / "out").items():
        log = place / f"{verb}.txt"
        rows.append({"model": name, "verb": verb, **typed(words, log), "said": log.read_text(errors="replace")})
        print(f"{name} {verb}: {rows[-1]['code']}", file=sys.stderr, flush=True)
        if rows[-1]["code"] not in (0, 3):
            break
    return rows


def shown(rows: list[dict[str, Any]]) -> str:
    """The table, and what was printed."""
    lines = ["| model | verb | exit code | seconds | peak MiB |", "|---|---|---|---|---|"]
    lines += [f"| {r['model']} | {r['verb']} | {r['code']} | {r['seconds']:.0f} | {r['peak']:,.0f} |" for r in rows]
    for row in rows:
        last = row["said"].strip().splitlines()[-12:]
        lines += ["", f"{row['model']}, {row['verb']}:", *(f"    {line[:160]}" for line in last)]
    return "\n".join(lines)


def main() -> None:
    """Run and print; exits with 1 where a verb failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--folder", type=Path, help="what is written stays here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = [row for name in options.models for row in passed(name, options.folder or Path(temporary))]
    print(machine())
    print(shown(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if any(row["code"] not in (0, 3) for row in rows):
        raise SystemExit("verbs: a command failed; what it said is above.")


if __name__ == "__main__":
    main()
