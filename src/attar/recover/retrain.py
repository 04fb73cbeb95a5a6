"""Training a model's own floats: for models that have lost channels, before anything is rounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from attar.adapters.base import Adapter
from attar.methods.keep import Keep
from attar.recover.base import Form, Latent
from attar.recover.settings import RecoverySettings
from attar.recover.teacher import Teacher
from attar.recover.tune import Course
from attar.run.progress import Progress
from attar.types import Encoded


def retrain(
    adapter: Adapter,
    teacher: Teacher,
    settings: RecoverySettings,
    *,
    classification: bool,
    rng: np.random.Generator,
    progress: Progress,
) -> None:
    """Train every layer of the adapter's model in place, towards labels and the teacher's answers; no penalty.

    The teacher may be a larger model than the adapter's. Raises ModelError for an operation without a gradient.
    """
    plain = replace(settings, penalty="none", steps="kept", sparsity=0.0, pattern="")
    forms = _floats(adapter)
    course = Course(teacher, forms, plain, slope=0.0, classification=classification, rng=rng, adapter=adapter)
    rest = course.run(progress)
    if course.moved:
        adapter.restore(rest)


def _floats(adapter: Adapter) -> list[Form]:
    """Every weight as it is, in units of a share of its layer's size."""
    forms = []
    for layer in adapter.layers():
        if layer.tied_to is not None:
            continue
        weight = adapter.read(layer.name)
        arrays = {"matrix": weight.matrix} if weight.bias is None else {"matrix": weight.matrix, "bias": weight.bias}
        encoded = Encoded(Keep.name, arrays)
        unit, row_unit = Keep.units(encoded)
        bias = None if weight.bias is None else np.array(weight.bias / row_unit, np.float32)
        values = np.array(weight.matrix / unit, np.float32)
        latent = Latent(layer, encoded, unit, row_unit, values, bias, snapped=False)
        forms.append(Form(layer, encoded, {"": latent}))
    return forms
