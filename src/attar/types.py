"""The values that flow through attar: frozen, framework-free, numpy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Matrix: TypeAlias = NDArray[np.float32]
Json: TypeAlias = Any
"""A value that `json.dumps` takes: None, bool, int, float, str, list, dict with str keys."""

KINDS = (
    "dense", "conv", "conv_transpose", "embedding", "recurrent", "einsum",
)  # fmt: skip
"""Layer kinds; grouped, depthwise, dilated and strided convolutions are `conv` with `groups` > 1 where grouped."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One compressible weight, seen as the canonical matrix W[rows, cols] with Y = W X.

    rows counts the outputs of all groups together: group g owns rows g * rows/groups ... (g+1) * rows/groups,
    and cols counts the inputs of one group, in (C, kh, kw) order for convolutions.
    `shape` and `dtype` are the framework's own. `has_bias` says that the adapter can add a constant to every row
    (the layer's own bias, or the shift of the batch norm behind it). A tied weight has one owner: the others are
    listed with `tied_to` and are neither read nor written.
    """

    name: str
    kind: str
    rows: int
    cols: int
    shape: tuple[int, ...]
    groups: int = 1
    dtype: str = "float32"
    has_bias: bool = False
    tied_to: str | None = None

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.rows * self.cols


@dataclass(frozen=True, slots=True)
class Weight:
    """A layer's canonical matrix [rows, cols] and its bias [rows], both float32; bias is None where there is none."""

    matrix: Matrix
    bias: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Capture:
    """What a layer saw in one batch: x[groups, cols, n] and y[rows, n] = W x, without the bias.

    y is None only where the framework does not show the product (a recurrent kernel's gates).
    For an embedding x is None and `ids` [n] are the rows looked up (columns of W).
    """

    name: str
    x: Array | None
    y: Array | None
    ids: Array | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """Input statistics of a layer, float64.

    hessian: centred second moment E[(x-mu)(x-mu)^T], [groups, cols, cols]; or its diagonal, [groups, cols], for
    embeddings (where it is the frequency of each id). mean: mu, [groups, cols]. count: number of columns x seen.
    samples: number of examples they came from (fewer than count for convolutions: their patches are correlated).
    sensitivity: [rows], nats of output KL per squared unit of error in each output row (the Fisher diagonal), None
    where not measured. pooled: centred second moment of the mean of x over one example's positions, like hessian;
    None where an example has one position. coupling: [rows, rows], float32, of layers of one group: how errors of two
    rows go together at the output, a correlation matrix that is positive definite; None where not measured.
    """

    hessian: NDArray[np.float64]
    mean: NDArray[np.float64]
    count: int
    samples: int
    sensitivity: NDArray[np.float64] | None = None
    pooled: NDArray[np.float64] | None = None
    coupling: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A compressed layer: named integer and scale arrays, and JSON meta. `method` names the decoder."""

    method: str
    arrays: Mapping[str, Array]
    meta: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Point:
    """One way to store a layer: its coded size in bits, its distortion in nats of output KL, and how to make it.

    encoded is the result where finding the point made it anyway; it saves a second encoding.
    """

    rate_bits: float
    distortion: float
    choice: Mapping[str, Json]
    encoded: Encoded | None = field(default=None, compare=False, repr=False)


class Pixels(Protocol):
    """How a model's own preprocessing makes its input of 8-bit images."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of what `framed` returns; None where they depend on the image's."""

    def framed(self, image: Array) -> Array:
        """uint8 [height, width, channels] of an image uint8 [h, w, channels] of any size: resized and cropped."""

    def scales(self) -> tuple[Array, Array]:
        """mean and std [channels]: the model takes (pixel - mean) / std, pixels from 0 to 255."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A model's input or output: name, dtype (numpy name), shape with None where it is free (the batch, usually).

    An optional input is handed over where the data have an array of its name. guessed: nothing but the name is known,
    and the dtype is what is usual for it. pixels is the model's own way with 8-bit images, where it came with one;
    scales_pixels: it takes them from 0 to 255, and scales them itself.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    optional: bool = False
    guessed: bool = False
    pixels: Pixels | None = field(default=None, compare=False, repr=False)
    scales_pixels: bool = field(default=False, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Scaled:
    """Bytes [n, ...] in place of the floats that they stand for, a quarter of the memory: `[rows]` makes them floats.

    floats: how; a row's are the same whichever others it is made with. picked: which rows of `given`, in this order,
    [n]; None: all as they are.
    """

    given: NDArray[np.uint8]
    floats: Callable[[Array], Array]
    picked: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.given if self.picked is None else self.picked)

    @property
    def shape(self) -> tuple[int, ...]:
        """[n, ...]."""
        return (len(self), *self.given.shape[1:])

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """All rows as floats."""
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def __getitem__(self, rows: int | slice | list[int] | Array) -> Array:
        """Rows as floats; of a number that row alone, without the first axis."""
        if isinstance(rows, int):
            return np.asarray(self[[rows]][0])
        return self.floats(self.given[rows if self.picked is None else self.picked[rows]])

    def take(self, rows: Array, axis: int = 0) -> Scaled:
        """A copy of rows as bytes; the axis is the first."""
        return Scaled(self.given.take(rows if self.picked is None else self.picked[rows], axis), self.floats)

    def part(self, start: int, stop: int) -> Scaled:
        """Rows that follow each other, not copied."""
        if self.picked is None:
            return Scaled(self.given[start:stop], self.floats)
        return replace(self, picked=self.picked[start:stop])

    def pick(self, rows: NDArray[np.int64]) -> Scaled:
        """Rows in any order, not copied: all that are given stay while these do."""
        return replace(self, picked=rows if self.picked is None else self.picked[rows])


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples in memory: inputs by name, [n, ...] each, and labels [n, ...] or None.

    A model with one input takes the only entry whatever it is called; one with several takes them by name.
    `origin` says where they came from, for messages and the ledger. Pictures may be held as bytes (`Scaled`) until
    they are run, also those of `batches`: `arrays` gives what the model takes.
    """

    inputs: Mapping[str, Array | Scaled]
    labels: Array | None = None
    origin: str = "array"
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of examples."""
        return len(next(iter(self.inputs.values())))

    def take(self, rows: Sequence[int] | Array) -> Dataset:
        """The examples of the given row numbers, in that order; of a range without gaps they are not copied."""
        if isinstance(rows, range) and rows.step == 1 and 0 <= rows.start <= rows.stop <= len(self):
            return self._part(rows.start, rows.stop)
        index = np.asarray(rows, dtype=np.int64)
        return self._at(index, {name: values.take(index, axis=0) for name, values in self.inputs.items()})

    def pick(self, rows: NDArray[np.int64]) -> Dataset:
        """The same without a copy of what is held as bytes: for examples that are done with before the whole set is."""
        return self._at(rows, {
            name: values.pick(rows) if isinstance(values, Scaled) else values.take(rows, axis=0)
            for name, values in self.inputs.items()
        })  # fmt: skip

    def _at(self, rows: NDArray[np.int64], inputs: Mapping[str, Array | Scaled]) -> Dataset:
        """These inputs, with the labels of their rows."""
        labels = None if self.labels is None else self.labels[rows]
        return Dataset(inputs, labels, self.origin, self.class_names)

    def _part(self, start: int, stop: int) -> Dataset:
        """Some that follow each other, where they are."""
        labels = None if self.labels is None else self.labels[start:stop]
        inputs = {
            name: values.part(start, stop) if isinstance(values, Scaled) else values[start:stop]
            for name, values in self.inputs.items()
        }
        return Dataset(inputs, labels, self.origin, self.class_names)

    def arrays(self) -> dict[str, Array]:
        """The inputs of all examples."""
        return {name: np.asarray(values) for name, values in self.inputs.items()}

    def batches(self, size: int = 256) -> Iterator[dict[str, Array]]:
        """The inputs, `size` examples at a time, in order; `Scaled` ones stay so, and stand for the arrays they become.

        Who runs a few of them at once takes their rows, so that no more than these are floats.
        """
        for start in range(0, len(self), size):
            yield cast(dict[str, Array], dict(self._part(start, start + size).inputs))


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts in order; whole: each is one example (lines of .jsonl), otherwise they are long and are cut into windows.

    labels: what the lines name as such, or None. `origin` says where they came from.
    """

    texts: Sequence[str]
    whole: bool
    origin: str
    labels: Sequence[Json] | None = None


@dataclass(frozen=True, slots=True)
class Recordings:
    """Samples in -1 .. 1 of each recording, [samples], their rates, and what is said; None where nobody told."""

    samples: Sequence[Array]
    rates: Sequence[int]
    texts: Sequence[str] | None
    origin: str


@dataclass(frozen=True, slots=True)
class Splits:
    """The three parts of the user's data; no example is in two of them."""

    calibrate: Dataset
    select: Dataset
    certify: Dataset
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """A metric's value on one data set, in the metric's own unit (accuracy: percent).

    per_example [n] float64, whose mean is `value`, where the metric is a mean of per-example values (right / wrong,
    squared error, KL, ...); None where it is not (F1, AUROC, R2). outputs [n, ...] are what the model said, labels what
    they were compared with (a bootstrap of a metric without per-example values needs both).
    """

    metric: str
    value: float
    n: int
    outputs: Array
    per_example: NDArray[np.float64] | None = None
    labels: Array | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """The verdict on one candidate: how much worse the decoded file is on the certify split, with a one-sided bound.

    drop is positive when the candidate is worse, in the metric's unit (accuracy: percentage points); lower and upper
    are each one-sided bounds at `confidence`; lost and gained count examples right before and wrong after, and the
    reverse (None where examples are not right or wrong). bound names the method: "score" (Tango), "exact",
    "betting" (bounded per-example values), "bootstrap" (approximate). verdict: "certified" when upper <= max_drop,
    otherwise "not certified", or "not certifiable" when even an unchanged model (or one that loses as often as it gains
    at this flip rate) could not be certified at this size; needed is then, and when not certified for want of samples,
    the number of samples at which this flip rate would be.
    """

    metric: str
    before: float
    after: float
    drop: float
    lower: float
    upper: float
    max_drop: float
    confidence: float
    n: int
    bound: str
    verdict: str
    lost: int | None = None
    gained: int | None = None
    needed: int | None = None
