"""The sets of a run: read, fitted to the model's inputs, split, and without what must not be in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attar.adapters.base import Adapter, Differentiable, Hearing, Texted
from attar.copies.prepare import DataSettings, Prepared, prepared
from attar.data.fit import fit_inputs
from attar.data.overlap import without
from attar.data.read import read as read_data
from attar.data.speech import read_recordings
from attar.data.splits import Source, make_splits
from attar.data.texts import TextSettings, read_texts
from attar.errors import DataError, ModelError, UsageError
from attar.evaluate.base import Metric
from attar.job import choice_of, image_changes, recovery_settings
from attar.recipe import Recipe
from attar.recover import pruning
from attar.search.params import DATA, TEXT, checked
from attar.types import Dataset, Splits, TensorSpec

WHOLE = 1 << 62
"""As many examples of a set as a split may have."""


def read_splits(sets: Mapping[str, object], recipe: Recipe, adapter: Adapter, metric: Metric) -> Splits:
    """The user's data, fitted to the model's input, as calibrate / select / certify."""
    if all(value is None for value in sets.values()):
        raise UsageError(
            "data: examples are needed to measure the drop. Received none. Pass --data, or --calibrate and --certify."
        )
    if isinstance(adapter, Texted):
        found = {name: None if value is None else _fitted(value, recipe, adapter) for name, value in sets.items()}
        _check_alike(found)
    else:  # pictures as bytes stay that until it is known which of them are used
        found = {name: None if value is None else _read(value, adapter.inputs()) for name, value in sets.items()}
        _check_alike({name: None if data is None else _firsts(data, recipe, adapter) for name, data in found.items()})
    return make_splits(
        found["data"],
        calibrate=found["calibrate"],
        select=found["select"],
        certify=found["certify"],
        seed=recipe.seed,
        n_calibrate=recipe.calibration_examples if choice_of(recipe) == "random" else WHOLE,
        n_select=recipe.select_examples,
        metric_needs_labels=metric.needs_labels,
        fit=lambda part: part if isinstance(adapter, Texted) else _fit(part, recipe, adapter.inputs(), as_bytes=True),
    )


def read_train(source: object, recipe: Recipe, adapter: Adapter, splits: Splits) -> tuple[Dataset | None, list[str]]:
    """The set for recovery without what is measured on, and warnings.

    Raises ModelError without gradients, UsageError for settings that cannot be, or cannot be without a set.
    """
    pruning.check(recovery_settings(recipe), recipe.methods, trains=source is not None)
    image_changes(recipe)
    if source is None:
        return None, []
    if not isinstance(adapter, Differentiable):
        raise ModelError(
            f"model: recovery needs gradients. Received a {adapter.framework} model, which gives none. "
            "Leave the training set out."
        )
    fitted = _fitted(source, recipe, adapter)
    train = fitted if isinstance(fitted, Dataset) else fitted["train"]
    _check_alike({"train": train, "certify": splits.certify})
    return without(train, {"select": splits.select, "certify": splits.certify})


def prepare(splits: Splits, train: Dataset | None, recipe: Recipe) -> Prepared:
    """The data stage: the sets without what the recipe's [settings.data] leaves out; raises DataError, UsageError."""
    settings = checked(DataSettings, DATA, recipe.settings)
    if settings.labels != "keep" and train is None:
        raise UsageError(
            "settings.data.labels: only a training set's labels are left out. Received no training set. Pass --train, "
            "or leave the setting out."
        )
    return prepared(splits, train, settings, recipe.seed)


def read_whole(source: object, recipe: Recipe, adapter: Adapter) -> Dataset:
    """One data set for an evaluation: the test part where a set comes in parts."""
    return _whole(_fitted(source, recipe, adapter))


def read_fitted(source: object, recipe: Recipe, specs: Sequence[TensorSpec]) -> Dataset:
    """The same for a model of which only the inputs are known."""
    return _whole(_of_specs(source, recipe, specs))


def _fitted(source: object, recipe: Recipe, adapter: Adapter) -> Source:
    """One source read, by the model's own means where it has some; every part of it fitted to the model's inputs."""
    if not isinstance(adapter, Texted):
        return _of_specs(source, recipe, adapter.inputs())
    window = checked(TextSettings, TEXT, recipe.settings).window
    if isinstance(adapter, Hearing) and adapter.hears and (recordings := read_recordings(source)) is not None:
        return adapter.labelled(_of_specs(adapter.read_recordings(recordings, window), recipe, adapter.inputs()))
    texts = read_texts(source)
    data = _of_specs(source if texts is None else adapter.read_texts(texts, window), recipe, adapter.inputs())
    if isinstance(data, Dataset):
        return adapter.labelled(data)
    return {name: adapter.labelled(part) for name, part in data.items()}


def _of_specs(source: object, recipe: Recipe, specs: Sequence[TensorSpec]) -> Source:
    """One source read; every part of it fitted to a model's inputs."""
    data = _read(source, specs)
    if isinstance(data, Dataset):
        return _fit(data, recipe, specs)
    return {name: _fit(part, recipe, specs) for name, part in data.items()}


def _read(source: object, specs: Sequence[TensorSpec]) -> Source:
    """One source as it comes."""
    return source if isinstance(source, Dataset) else read_data(source, specs=specs)


def _fit(data: Dataset, recipe: Recipe, specs: Sequence[TensorSpec], *, as_bytes: bool = False) -> Dataset:
    """A set fitted to a model's inputs."""
    return fit_inputs(data, specs, scale=recipe.scale, mean=recipe.mean, std=recipe.std, as_bytes=as_bytes)


def _firsts(data: Source, recipe: Recipe, adapter: Adapter) -> Source:
    """The first example of every part, fitted: what does not fit is known before anything is split."""
    if isinstance(data, Dataset):
        return _fit(data.take(range(min(len(data), 1))), recipe, adapter.inputs())
    return {name: _fit(part.take(range(min(len(part), 1))), recipe, adapter.inputs()) for name, part in data.items()}


def _whole(data: Source) -> Dataset:
    if isinstance(data, Dataset):
        return data
    return data["test"] if "test" in data else next(iter(data.values()))


def _check_alike(sets: Mapping[str, Source | None]) -> None:
    """That examples of all sets have one shape, also where the model's own input shape is not known."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, data in sets.items():
        parts = {name: data} if isinstance(data, Dataset) else {f"{name} {k}": v for k, v in (data or {}).items()}
        for place, part in parts.items():
            shapes[place] = {key: values.shape[1:] for key, values in part.inputs.items()}
    first = next(iter(shapes))
    for place, shape in shapes.items():
        if list(shape.values()) != list(shapes[first].values()):
            raise DataError(
                f"data ({place}): its examples must have the shape of those of {first}, {shapes[first]}. "
                f"Received {shape}. Bring them into one shape."
            )
