"""What decoded images have to be like: near the originals, or the same to a model. A ratio of 1 or less is enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar import registry
from attar.adapters.base import Adapter
from attar.data.fit import fit_inputs
from attar.errors import UsageError
from attar.evaluate.bounds import paired_upper
from attar.evaluate.certificate import certify
from attar.evaluate.metrics import Accuracy
from attar.evaluate.score import score
from attar.types import Certificate, Dataset

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Near:
    """The error's root mean square is at most 1 - quality of the standard deviation of the pixels."""

    images: U8
    most: float

    def ratio(self, rows: I64, made: U8) -> float:
        """What is lost of the images of these rows [n, height, width, channels], over what may be lost, in squares."""
        return square(self.images[rows], made) / self.most**2


def square(images: U8, made: U8) -> float:
    """Mean squared error."""
    return float(np.mean((images.astype(np.float32) - made) ** 2))


class Viewer:
    """What a model says of images, and what it said of the originals; labels where the set has them."""

    def __init__(self, adapter: Adapter, images: U8, labels: I64 | None) -> None:
        """images [n, height, width, channels]; raises DataError and UsageError where the model does not take them.

        sight is the model with gradients: see attar.adapters.torch.sight.
        """
        self.images, self.labels, self._adapter = images, labels, adapter
        self._known: dict[int, int] = {}
        self.sight = torch_part("sight")(adapter, images[:16], self.inputs(images[:16]).inputs)

    def inputs(self, images: U8) -> Dataset:
        """As the model takes them."""
        plain = images[..., 0] if images.shape[-1] == 1 else images
        return fit_inputs(Dataset({"x": plain}, origin="images"), self._adapter.inputs())

    def answers(self, images: U8) -> I64:
        """The class of each."""
        found = [np.asarray(self._adapter.run(batch)) for batch in self.inputs(images).batches()]
        return np.concatenate([one.reshape(len(one), -1).argmax(1) for one in found])

    def before(self, rows: I64) -> I64:
        """Of originals, which are asked about once."""
        fresh = np.array([row for row in rows if int(row) not in self._known], np.int64)
        if fresh.size:
            self._known.update(zip(fresh.tolist(), self.answers(self.images[fresh]), strict=True))
        return np.array([self._known[int(row)] for row in rows], np.int64)

    def certificate(self, rows: I64, made: U8, max_drop: float, confidence: float) -> Certificate:
        """The paired bound on what the accuracy loses, for images that played no part before; docs/certificate.md."""
        metric, run = Accuracy(), self._adapter.run
        assert self.labels is not None
        before, after = (
            score(run, Dataset(self.inputs(images).inputs, self.labels[rows], "images"), metric)
            for images in (self.images[rows], made)
        )
        return certify(before, after, metric, max_drop, confidence)


@dataclass(frozen=True)
class Within:
    """Near enough, and the model's accuracy drops by at most so many points: as a certificate will see it.

    Without the first, images could become anything that the model takes for their class.
    """

    near: Near
    viewer: Viewer
    max_drop: float
    confidence: float
    certified: int

    def ratio(self, rows: I64, made: U8) -> float:
        """The larger of both: upper bound of the drop at the flips of these images, over max_drop."""
        assert self.viewer.labels is not None
        labels = self.viewer.labels[rows]
        right, after = self.viewer.before(rows) == labels, self.viewer.answers(made) == labels
        lost, gained = (float(np.mean(a & ~b)) * self.certified for a, b in ((right, after), (after, right)))
        upper = float(paired_upper(lost, gained, self.certified, self.confidence))
        return max(100 * upper / self.max_drop, self.near.ratio(rows, made))


def check(quality: float | None, max_drop: float | None, model: object, exact: bool) -> None:
    """That what may be lost can be; raises UsageError."""
    if quality is not None and not 0 < quality <= 1:
        raise UsageError(f"quality: it must be above 0 and at most 1 (lossless). Received {quality!r}. Use 0.8.")
    if max_drop is not None and not 0 < max_drop <= 100:
        raise UsageError(f"max_drop: it must be above 0 and at most 100 points. Received {max_drop!r}. Use 1.")
    if (max_drop is None) != (model is None):
        raise UsageError(
            "max_drop: it goes with the model whose accuracy may drop. Received one of both. Pass --for MODEL and "
            "--max-drop POINTS."
        )
    if max_drop is not None and quality == 1:
        raise UsageError("quality: 1 is lossless, and no accuracy drops. Received --max-drop as well. Leave out one.")
    if exact and (quality is None or quality == 1 or max_drop is not None):
        raise UsageError(
            "exact: it goes with what the network alone keeps, and nothing drops. Received "
            f"quality {quality!r}, max_drop {max_drop!r}. Pass --quality 0.8 and no --max-drop; without --exact and "
            "--quality nothing is lost either."
        )


def torch_part(name: str) -> Any:
    """What needs PyTorch, by its name in the registry; raises UsageError where PyTorch is missing."""
    try:
        return registry.get("latent", name)
    except ImportError as error:
        raise UsageError(
            f"quality: PyTorch must be installed where images may differ. Received {error}. "
            "Run: pip install 'attar[torch]'."
        ) from error
