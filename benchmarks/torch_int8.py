"""int8 PyTorch programs by attar and by torchao's PT2E: size, drop and latency in one run, one thread.

    python benchmarks/torch_int8.py [--models lenet5 resnet20 dwcnn] [--json FILE]

torchao's flow is that of its documentation: X86InductorQuantizer with its default configuration, prepared, calibrated
on 300 training images, converted, and lowered by lower_pt2e_quantized_to_x86 for plain execution. (torch.compile with
freezing of the converted model fails with torch 2.13 and torchao 0.18: UnsupportedOperatorException for
onednn.qconv_prepack.) Its file is the converted program, which torch loads where torchao or torch.ao registered its
operators, and which has to be lowered after loading. Drops are on the 10,000 test images. Latencies are interleaved,
ratios to the float program as torch.export has it.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import attar
from attar.adapters.torch.model import TorchModel
from attar.data.fit import fit_inputs
from attar.data.read import read
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import resolve_metric
from attar.evaluate.score import score
from attar.exports.timing import latencies
from attar.exports.torch.runtime import Runtime
from attar.search.divergence import divergence, kind_of
from attar.types import Array, Dataset
from timing import machine

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
RIVALS_SEE = 300
"""Examples that torchao calibrates with; attar counts 512."""
BATCHES = (1, 32)
FLOAT, LOWERED, OURS = "float32", "torchao PT2E", "attar"
Network = Callable[[torch.Tensor], torch.Tensor]


def network(name: str) -> torch.nn.Module:
    """A trained model of examples/."""
    sys.path.insert(0, str(EXAMPLES))
    from torch_models import MODELS

    model = MODELS[name]()
    model.load_state_dict(torch.load(EXAMPLES / "models" / f"{name}.pt", weights_only=True))
    return model.eval()


def converted(model: torch.nn.Module, data: Dataset) -> Any:
    """torchao's PT2E, as its documentation has it."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    (images,) = (torch.tensor(values) for values in data.inputs.values())
    free = {0: torch.export.Dim.DYNAMIC}
    module = torch.export.export(model, (images[:2],), dynamic_shapes=(free,)).module()
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(module, quantizer)
    for part in images[:RIVALS_SEE].split(1):
        prepared(part)
    return convert_pt2e(prepared)


def file_size(module: torch.nn.Module, example: torch.Tensor) -> int:
    """Bytes of the file that torch.export.save writes."""
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)), buffer)
    return len(buffer.getvalue())


class Module:
    """A module run like a Runtime."""

    def __init__(self, call: Network) -> None:
        self._call = call

    def run(self, batch: Mapping[str, Array]) -> Array:
        """The output [n, classes]."""
        with torch.no_grad():
            return self._call(torch.tensor(next(iter(batch.values())))).numpy()

    def once(self, batch: Mapping[str, Array]) -> Callable[[], Any]:
        """One call, for timing."""
        images = torch.tensor(next(iter(batch.values())))

        def call() -> Any:
            with torch.no_grad():
                return self._call(images)

        return call


def lowered(name: str, train: Dataset, batch: Mapping[str, Array]) -> Callable[[], Any]:
    """For timing: torchao's model lowered for one batch size."""
    from torchao.quantization.pt2e.lowering import lower_pt2e_quantized_to_x86

    images = torch.tensor(next(iter(batch.values())))
    module = lower_pt2e_quantized_to_x86(converted(network(name), train), (images,))
    for node in module.graph.nodes:  # it fails on LeNet-5 as it is: integer kernels give another order in memory
        if node.target == torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    module.recompile()
    return Module(module).once(batch)


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Every way of running one model: bytes, drop, bound, latencies."""
    model = network(name)
    adapter = TorchModel.opened(model)
    parts = read(EXAMPLES / "fashion-mnist")
    train, test = (fit_inputs(parts[part], adapter.inputs()) for part in ("train", "test"))
    found = attar.export(model, "pt2-int8", calibrate=train, certify=test, out=folder, max_drop=0.5)
    free = {0: torch.export.Dim.DYNAMIC}
    image = torch.tensor(next(iter(train.take(range(2)).inputs.values())))
    torch.export.save(torch.export.export(model, (image,), dynamic_shapes=(free,)), folder / "float.pt2")
    rival = converted(network(name), train)
    sizes = {FLOAT: (folder / "float.pt2").stat().st_size, OURS: found.path.stat().st_size}
    sizes[LOWERED] = file_size(rival, image)
    runs: dict[str, Any] = {FLOAT: Runtime(folder / "float.pt2"), LOWERED: Module(rival), OURS: Runtime(found.path)}
    how, scores = resolve_metric("accuracy"), {}
    before = score(runs[FLOAT].run, test, how, None)
    for way, run in runs.items():
        after = score(run.run, test, how, None)
        verdict = certify(before, after, how, 0.5, 0.95)
        moved = float(divergence(before.outputs, after.outputs, kind_of(before.outputs, True)).mean())
        scores[way] = {"drop": verdict.drop, "upper": verdict.upper, "kl": moved}
    rows: dict[str, Any] = {way: {"bytes": sizes[way], **scores[way]} for way in runs}
    for count in BATCHES:
        batch = dict(test.take(np.arange(count)).inputs)
        timed = {way: runs[way].once(batch) for way in (FLOAT, OURS)}
        timed[LOWERED] = lowered(name, train, batch)
        for way, latency in latencies(timed).items():
            rows[way][f"batch {count}"] = [latency.milliseconds, latency.ratio, latency.low, latency.high]
    rows[OURS]["notes"] = list(found.notes)
    return rows


def show(name: str, rows: Mapping[str, Any]) -> None:
    """One table."""
    print(f"\n**{name}**\n\n| | bytes | drop | 95 % bound | KL | batch 1 | batch 32 |\n|---|---|---|---|---|---|---|")
    for way, row in rows.items():
        times = [row[f"batch {count}"] for count in BATCHES]
        cells = [f"{t[0]:.3g} ms" if way == FLOAT else f"{t[1]:.2f} ({t[2]:.2f} to {t[3]:.2f})" for t in times]
        print(f"| {way} | {row['bytes']:,} | {row['drop']:+.2f} | {row['upper']:+.2f} | {row['kl']:.2g} | "
              f"{' | '.join(cells)} |")  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["lenet5", "resnet20", "dwcnn"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"{machine()}; one thread; torch {torch.__version__}")
    found = {}
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measured(name, Path(folder))
        show(name, found[name])
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
