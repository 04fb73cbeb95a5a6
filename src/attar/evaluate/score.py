"""Run a model over a data set and measure it: outputs, per-example values, value."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError
from attar.evaluate.base import Metric, finite_rows
from attar.evaluate.targets import next_tokens
from attar.types import Array, Dataset, Score

MAX_OUTPUT_BYTES = 16 << 30
"""Most memory that the outputs of one data set may take."""
Transcribe = Callable[[Mapping[str, Array]], tuple[Array, Array]]
TOGETHER = 64
"""Examples that are written down at once."""
FEW = 8
"""Examples that a check of the labels runs."""
_log = logging.getLogger("attar.evaluate")


def score(
    run: Callable[[Mapping[str, Array]], Array],
    dataset: Dataset,
    metric: Metric,
    original: Array | None = None,
    batch_size: int = 256,
    progress: Callable[[int], None] | None = None,
    transcribe: Transcribe | None = None,
) -> Score:
    """The metric of a model on a data set; `original` [n, ...] are the original model's outputs, None if this is it.

    transcribe gives what a model writes down of a batch and what was said in it, for metrics of words.
    progress receives the number of examples done after every batch. Raises DataError where labels are missing or do not
    fit, and where the original's outputs are not finite; a candidate's outputs that are not finite count as wrong (a
    warning is logged).
    """
    labels = _labels(dataset, metric)
    _check_data(dataset, metric, labels)
    outputs = _run(run, dataset, batch_size, progress)
    _check_outputs(outputs, metric, original)
    _check_labels(outputs, labels, metric)
    if getattr(metric, "transcribes", False):
        each = metric.examples(*_transcripts(transcribe, dataset, metric), None)
    else:
        each = metric.examples(outputs, labels, original)
    value = metric.value(outputs, labels, original) if each is None else float(np.mean(each))
    if original is None and not math.isfinite(value):
        raise DataError(
            f"metric {metric.name!r}: the original model's value must be finite. Received {value}. "
            "Check model and data."
        )
    return Score(metric.name, value, len(dataset), outputs, each, labels)


def part_of(whole: Score, rows: NDArray[np.int64]) -> Score:
    """A score on some of its examples, of a metric that is a mean over them."""
    assert whole.per_example is not None
    each = whole.per_example[rows]
    labels = None if whole.labels is None else whole.labels[rows]
    return replace(
        whole, value=float(each.mean()), n=len(rows), outputs=whole.outputs[rows], per_example=each, labels=labels
    )


def _transcripts(transcribe: Transcribe | None, dataset: Dataset, metric: Metric) -> tuple[Array, Array]:
    """Words [n, longest], written down and said; raises DataError where a model writes none."""
    if transcribe is None:
        raise DataError(
            f"metric {metric.name!r}: the model must write down speech. Received another model. Use it with Hugging "
            "Face folders of the Whisper kind."
        )
    pairs = [transcribe(batch) for batch in dataset.batches(TOGETHER)]
    written, said = (_joined([pair[side] for pair in pairs]) for side in (0, 1))
    return written, said


def _joined(parts: Sequence[Array]) -> Array:
    """Rows of all parts, filled up to the longest."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=-1) for part in parts])


def check_labels(run: Callable[[Mapping[str, Array]], Array], dataset: Dataset, metric: Metric) -> None:
    """That all labels fit what the model says of the first examples; raises DataError, as `score` would much later."""
    labels = _labels(dataset, metric)
    _check_data(dataset, metric, labels)
    first = np.asarray(run(next(dataset.batches(FEW))))[:1]
    _check_labels(np.broadcast_to(first, (len(dataset), *first.shape[1:])), labels, metric)


def _labels(dataset: Dataset, metric: Metric) -> Array | None:
    """What outputs are compared with; for perplexity the next tokens."""
    return next_tokens(dataset.arrays(), dataset.labels) if metric.name == "perplexity" else dataset.labels


def _check_labels(outputs: Array, labels: Array | None, metric: Metric) -> None:
    """Whether they fit, where there are any or there must be; raises DataError."""
    if metric.needs_labels or labels is not None or metric.name == "perplexity":
        metric.check(outputs, labels)


def _check_data(dataset: Dataset, metric: Metric, labels: Array | None) -> None:
    """There are examples, and labels where the metric needs them."""
    if not len(dataset):
        raise DataError(f"data {dataset.origin!r}: examples are needed. Received none.")
    if metric.needs_labels and labels is None:
        raise DataError(
            f"data {dataset.origin!r}: metric {metric.name!r} needs labels. Received none. Add them, or use a metric "
            "without labels: agreement, kl or cosine."
        )
    if labels is not None and len(labels) != len(dataset):
        raise DataError(
            f"data {dataset.origin!r}: there must be one label for each example. Received {len(labels)} labels for "
            f"{len(dataset)} examples."
        )


def _run(
    run: Callable[[Mapping[str, Array]], Array], dataset: Dataset, size: int, progress: Callable[[int], None] | None
) -> Array:
    """All outputs, [n, ...], written into one array that the first batch gives its shape."""
    outputs: Array | None = None
    done = 0
    for batch in dataset.batches(size):
        part = np.asarray(run(batch))
        count = len(next(iter(batch.values())))
        if part.ndim == 0 or len(part) != count:
            raise DataError(
                f"model: its output must have one row for each of {count} inputs. Received shape {part.shape}."
            )
        if outputs is None:
            outputs = _room(part, len(dataset))
        if part.shape[1:] != outputs.shape[1:]:
            raise DataError(
                f"model: outputs must have one shape for all examples. Received {part.shape[1:]} after "
                f"{outputs.shape[1:]}. Pad the inputs to one length."
            )
        outputs[done : done + count] = part
        done += count
        if progress is not None:
            progress(count)
    assert outputs is not None
    return outputs


def _room(part: Array, n: int) -> Array:
    """An empty array for n rows like those of the first batch; raises DataError where they would be too large."""
    size = part[:1].nbytes * n
    if size > MAX_OUTPUT_BYTES:
        raise DataError(
            f"model: the outputs of {n} examples must fit {MAX_OUTPUT_BYTES >> 30} GiB. Received {size >> 30} GiB. "
            "Use fewer or shorter examples."
        )
    return np.empty((n, *part.shape[1:]), part.dtype)


def _check_outputs(outputs: Array, metric: Metric, original: Array | None) -> None:
    """Finite, or reported; of the original's shape."""
    if original is not None and original.shape != outputs.shape:
        raise DataError(f"model: outputs must have the original's shape {original.shape}. Received {outputs.shape}.")
    bad = int(np.count_nonzero(~finite_rows(outputs)))
    if not bad:
        return
    if original is None:
        raise DataError(
            f"model: the original's outputs must be finite. Received NaN or infinity for {bad} of "
            f"{len(outputs)} examples. Check the model and the scale of the inputs."
        )
    _log.warning("%d of %d outputs are not finite; they count as wrong (%s)", bad, len(outputs), metric.name)
