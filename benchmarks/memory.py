"""The most memory that a default search has resident, beside what its frameworks take without a model.

    python benchmarks/memory.py [--only lenet5 resnet20 dwcnn keras lite0 minilm smollm2] [--stages] [--json FILE]

Every run is a process of its own that does what the command does, and its peak is the largest resident set that the
system reports at its end (VmHWM). "imports" is the peak of another process, which opens the same model and runs one
example: what the frameworks take. The limit is three times the float32 model and 500 MB (10^6 bytes each). --stages
prints the peak of every stage of each run, too (VmHWM, set back when a stage begins): where to look, with what is
there when it begins, and how much of that is not mapped from files (RssAnon): pages of libraries, which TensorFlow has
hundreds of MB of, are the system's to drop.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent / "examples/models"
DATA = HERE.parent / "examples/fashion-mnist"
FILES = {"lenet5": "lenet5.onnx", "resnet20": "resnet20.onnx", "dwcnn": "dwcnn.onnx", "keras": "dwcnn.keras"}
BACKEND = {"jax": "JAX", "torch": "PyTorch"}.get(os.environ.get("KERAS_BACKEND", ""), "TensorFlow")
NAMES = {
    "lenet5": "LeNet-5 (ONNX)", "resnet20": "ResNet-20 (ONNX)", "dwcnn": "depthwise CNN (ONNX)",
    "keras": f"depthwise CNN (Keras, {BACKEND})", "lite0": "EfficientNet-Lite0 (ONNX)",
    "minilm": "MiniLM (PyTorch)", "smollm2": "SmolLM2-135M (PyTorch)",
}  # fmt: skip
TEXTS, WINDOWS, LENGTH = 64, 8, 512
"""Texts for each split of MiniLM; windows of so many tokens for each of SmolLM2."""


def status(key: str) -> int:
    """A line of this process's status, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


class Stages:
    """Progress that notes the peak of every stage in MB, what was resident when it began, and what of it is its own."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float, float, float]] = []
        self._begin("opening")

    def _begin(self, name: str) -> None:
        self._now, self._start, self._own, self._begun = name, status("VmRSS"), status("RssAnon"), time.monotonic()

    def stage(self, name: str, total: int) -> None:  # noqa: ARG002
        """The stage before ends."""
        seconds = time.monotonic() - self._begun
        self.rows.append((self._now, self._start / 1e6, self._own / 1e6, status("VmHWM") / 1e6, seconds))
        Path("/proc/self/clear_refs").write_text("5")
        self._begin(name)

    def step(self, count: int = 1) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


def pictured(name: str) -> Path:
    """A model of pictures; EfficientNet-Lite0 is written into the folder of assets, with its crops."""
    if name in FILES:
        return MODELS / FILES[name]
    from inputs import FOLDER
    from search_cases import lite0

    return lite0(FOLDER / "lite0")


def task(name: str) -> tuple[Any, dict[str, Any]]:
    """A model and what it is compressed with."""
    if name in FILES:
        return pictured(name), {"data": DATA, "max_drop": 0.5}
    if name == "lite0":
        from search_cases import crops

        return pictured(name), crops(pictured(name).parent)
    if name == "minilm":
        from inputs import MINILM, asset
        from language import letters, passages

        texts = letters(2 * TEXTS)
        sets = {"calibrate": passages(TEXTS), "select": texts[:TEXTS], "certify": texts[TEXTS:]}
        options = {"metric": "cosine", "max_drop": 0.01, "guarantee": "estimate", "evaluations": 3}
        return asset(*MINILM).parent, {**sets, **options}
    from transformers import AutoTokenizer

    from gguf_types import opened
    from perplexity import PLACE, cut, folder_of
    from real_sets import novel

    folder = PLACE if (PLACE / "config.json").exists() else folder_of(*opened())
    import numpy as np

    tokenizer = AutoTokenizer.from_pretrained(folder)
    given, held = np.array_split(np.array(tokenizer("\n\n".join(novel()))["input_ids"], np.int64), 2)
    sets = {"calibrate": cut(given, LENGTH, WINDOWS), "select": cut(given[256:], LENGTH, WINDOWS),
            "certify": cut(held, LENGTH, WINDOWS)}  # fmt: skip
    options = {"metric": "perplexity", "max_relative_drop": 0.02, "guarantee": "estimate", "evaluations": 3}
    return folder, {**sets, **options}


def float_bytes(adapter: Any) -> int:
    """The model in float32."""
    layers = sum(4 * layer.size for layer in adapter.layers() if layer.tied_to is None)
    return int(layers + sum(4 * array.size for array in adapter.remainder().values()))


def opened_alone(name: str) -> dict[str, Any]:
    """What is there when a model is open and has answered for one example."""
    import numpy as np

    from attar.opening import open_model

    pictures = name in FILES or name == "lite0"
    adapter = open_model(pictured(name) if pictures else task(name)[0])
    if pictures:
        spec = adapter.inputs()[0]
        adapter.run({spec.name: np.zeros((1, *(size or 1 for size in spec.shape[1:])), np.dtype(spec.dtype))})
    return {"model": float_bytes(adapter), "anonymous": status("RssAnon")}


def searched(name: str) -> dict[str, Any]:
    """A run, as the command does it: its outputs and what it keeps on the way go to a folder."""
    import attar

    model, options = task(name)
    stages = Stages() if os.environ.get("ATTAR_STAGES") else None
    with tempfile.TemporaryDirectory() as folder:
        result = attar.compress(model, out=Path(folder) / "out", progress=stages, **options)
    if stages:
        stages.stage("end", 0)
    return {"ratio": result.ratio, "bytes": result.bytes_after, "stages": stages.rows if stages else []}


def child(name: str, what: str, stages: bool) -> dict[str, Any]:
    """One process: what it says, its peak in bytes and its seconds of processors."""
    command = [sys.executable, __file__, "--one", name, what]
    environment = {**os.environ, **({"ATTAR_STAGES": "1"} if stages else {})}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    said = process.stdout.read().decode()
    _, code, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise SystemExit(f"{name}, {what}: it ended with {process.returncode}")
    told = json.loads(said.splitlines()[-1])
    # Not ru_maxrss, which is never below what the process that started this one had. What sets the peak of a stage back
    # sets back that of the process.
    peak = max(told["own"], *(int(1e6 * row[3]) for row in told.get("stages", [])), 0)
    found = {"peak": peak, "seconds": used.ru_utime + used.ru_stime}
    return {**told, **found}


def row(name: str, alone: dict[str, Any], run: dict[str, Any]) -> list[str]:
    """One line of the table."""
    limit = 3 * alone["model"] + 500e6
    cells = [f"{value / 1e6:,.0f} MB" for value in (alone["peak"], run["peak"], limit)]
    return [
        NAMES[name], f"{alone['model'] / 1e6:,.1f} MB", *cells, "met" if run["peak"] <= limit else "missed",
        f"{run['ratio']:.1f}x", f"{run['seconds']:.0f}",
    ]  # fmt: skip


def main() -> None:
    """Every run in a process, then one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(NAMES), default=list(FILES))
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "WHAT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    ways: dict[str, Callable[[str], dict[str, Any]]] = {"alone": opened_alone, "search": searched}
    if options.one:
        print(json.dumps({**ways[options.one[1]](options.one[0]), "own": status("VmHWM")}))
        return
    from acceptance import markdown

    rows, kept = [], {}
    for name in options.only:
        alone, run = child(name, "alone", False), child(name, "search", options.stages)
        kept[name] = {"alone": alone, "search": run}
        rows.append(row(name, alone, run))
        for stage, start, own, peak, seconds in run["stages"]:
            print(f"  {stage:<45}{start:>8,.0f} at first ({own:,.0f} own){peak:>8,.0f} at most{seconds:>8.1f} s")
        print(" | ".join(rows[-1]), f"{run['bytes']:,} bytes", flush=True)
        own, added = alone["anonymous"], run["peak"] - alone["peak"]
        print(f"  opening alone: {own / 1e6:,.0f} MB are not mapped from files; a run adds {added / 1e6:,.0f} MB")
    head = ["model", "float32", "imports", "peak", "limit", "verdict", "ratio", "CPU s"]
    print(markdown(head, rows))
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
