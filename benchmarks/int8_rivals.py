"""Quantisers of ONNX models beside attar's: onnxruntime's static and dynamic one, NNCF's, and its accuracy control.

Intel Neural Compressor is not among them: 3.10 has no code for ONNX, and onnx-neural-compressor 1.0, to which that was
moved, needs numpy below 2.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from attar.evaluate.metrics import resolve_metric
from attar.exports.onnx.runtime import Runtime
from attar.types import Array, Dataset

SEEN = 300
"""Examples that rivals calibrate with: NNCF's default."""
BATCH = 100


class Reader(CalibrationDataReader):
    """Examples one by one."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self._rows: Iterator[dict[str, Any]] = iter(rows)

    def get_next(self) -> dict[str, Any] | None:
        """The next one."""
        return next(self._rows, None)


class Case:
    """A model, what rivals may calibrate and validate with, and the metric; passes: full ones that validation took."""

    def __init__(self, model: Path, calibrate: Dataset, validate: Dataset, metric: str, max_drop: float) -> None:
        self.model, self.metric, self.max_drop = model, resolve_metric(metric), max_drop
        self.names = [spec.name for spec in Runtime(model).inputs]
        self.rows = list(self._named(calibrate.take(range(min(SEEN, len(calibrate)))).batches(1)))
        self._validate = validate
        self.passes = 0.0

    def _named(self, batches: Iterable[dict[str, Array]]) -> Iterator[dict[str, Array]]:
        for batch in batches:
            arrays = {name: np.asarray(values) for name, values in batch.items()}  # rivals take no others
            yield arrays if len(self.names) > 1 else {self.names[0]: next(iter(arrays.values()))}

    def items(self) -> list[tuple[int, dict[str, Array]]]:
        """Batches of the validation examples, and where each begins."""
        return [(BATCH * k, one) for k, one in enumerate(self._named(self._validate.batches(BATCH)))]

    def value(
        self, model: onnx.ModelProto, items: Iterable[tuple[int, dict[str, Array]]]
    ) -> tuple[float, Sequence[float]]:
        """The metric of a model on validation batches, and for each batch; higher is better."""
        runtime = Runtime(model.SerializeToString())
        each = []
        for start, batch in items:
            outputs = runtime.run(batch)
            rows = slice(start, start + len(outputs))
            labels = None if self._validate.labels is None else self._validate.labels[rows]
            each.append(float(np.mean(self.metric.examples(outputs, labels, None))))
            self.passes += len(outputs) / len(self._validate)
        return float(np.mean(each)), each


def static_default(case: Case, out: Path) -> None:
    """onnxruntime's static quantiser as its documentation calls it first."""
    _static(case, out)


def static_tuned(case: Case, out: Path) -> None:
    """The same with the activation type that its kernels like, and a scale for each channel."""
    _static(case, out, activation_type=QuantType.QUInt8, per_channel=True)


def _static(case: Case, out: Path, **options: Any) -> None:
    quantize_static(_prepared(case, out), str(out), Reader(case.rows), quant_format=QuantFormat.QDQ, **options)


def _prepared(case: Case, out: Path) -> str:
    """The model as its documentation prepares it, with weights out of Constant nodes."""
    ready = out.with_suffix(".ready")
    quant_pre_process(str(case.model), str(ready), skip_symbolic_shape=True)
    return str(ready)


def dynamic_default(case: Case, out: Path) -> None:
    """onnxruntime's dynamic quantiser with its defaults."""
    quantize_dynamic(_prepared(case, out), str(out))


def dynamic_tuned(case: Case, out: Path) -> None:
    """The same with a scale for each channel, and of products only: its convolutions are slow."""
    quantize_dynamic(_prepared(case, out), str(out), per_channel=True, op_types_to_quantize=["MatMul"])


def nncf(case: Case, out: Path) -> None:
    """NNCF's post-training quantisation with its defaults."""
    import nncf as rival

    logging.getLogger("nncf").setLevel(logging.ERROR)
    onnx.save(rival.quantize(onnx.load(case.model), rival.Dataset(case.rows), subset_size=SEEN), out)


def nncf_controlled(case: Case, out: Path) -> None:
    """NNCF's quantisation with accuracy control: layers go back to float until the drop is met."""
    import nncf as rival

    logging.getLogger("nncf").setLevel(logging.ERROR)
    found = rival.quantize_with_accuracy_control(
        onnx.load(case.model), rival.Dataset(case.rows), rival.Dataset(case.items()),
        lambda model, items: case.value(model, items), max_drop=case.max_drop, subset_size=SEEN,
    )  # fmt: skip
    onnx.save(found, out)


RIVALS: dict[str, Callable[[Case, Path], None]] = {
    "onnxruntime static, defaults": static_default,
    "onnxruntime static, uint8, per channel": static_tuned,
    "onnxruntime dynamic": dynamic_default,
    "onnxruntime dynamic, products, per channel": dynamic_tuned,
    "NNCF post-training": nncf,
    "NNCF accuracy control": nncf_controlled,
}
