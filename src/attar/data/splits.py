"""The user's examples as calibrate / select / certify: seeded, stratified, and without an example in two of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attar.data.overlap import separate
from attar.errors import DataError, UsageError
from attar.types import Dataset, Splits

PARTS = ("calibrate", "select", "certify")
LEAST = 20
"""Fewest examples of a set."""
Source = Dataset | Mapping[str, Dataset]


def _as_it_is(part: Dataset) -> Dataset:
    return part


def make_splits(
    data: Source | None,
    *,
    calibrate: Source | None = None,
    select: Source | None = None,
    certify: Source | None = None,
    seed: int,
    n_calibrate: int = 4000,
    n_select: int = 10000,
    metric_needs_labels: bool = True,
    fit: Callable[[Dataset], Dataset] = _as_it_is,
) -> Splits:
    """Three parts without a common example, from separate sets, or from one that is split.

    One set: stratified by label, at most a quarter each for calibrate and select, the rest for certify. Parts train and
    test: train gives calibrate and select, test is certify. A set given by itself is that part; with no set for select,
    calibrate's gives it where it has labels, otherwise certify's gives up to half. Calibrate carries no labels.
    Examples that occur twice are left out of calibrate and select, never of certify, with a warning; sets given
    separately that share more than 1 % are refused. fit makes a part what the model takes, once it is known which
    examples are in it. Raises DataError, UsageError.
    """
    rng = np.random.default_rng(seed)
    pools = _pools(data, calibrate, select, certify)
    for place, pool in pools.items():
        _check(place, pool, metric_needs_labels and place != "calibrate")
    limits = {"calibrate": n_calibrate, "select": n_select}
    parts: dict[str, Dataset] = {}
    source_of: dict[str, int] = {}
    for index, (pool, names) in enumerate(_assign(pools, metric_needs_labels)):
        parts.update({name: fit(part) for name, part in _share(pool, names, limits, rng).items()})
        source_of.update(dict.fromkeys(names, index))
    kept, warnings = separate(parts, source_of)
    for name in PARTS:
        _check_part(name, kept[name], metric_needs_labels and name != "calibrate")
    return Splits(replace(kept["calibrate"], labels=None), kept["select"], kept["certify"], tuple(warnings))


def _pools(
    data: Source | None, calibrate: Source | None, select: Source | None, certify: Source | None
) -> dict[str, Dataset]:
    """The sets by the part they are given for; "data" is for the parts without a set of their own."""
    pools: dict[str, Dataset] = {}
    for name, source, part in (
        ("calibrate", calibrate, "train"),
        ("select", select, "train"),
        ("certify", certify, "test"),
    ):
        if source is not None:
            pools[name] = source if isinstance(source, Dataset) else source[part]
    if isinstance(data, Dataset):
        pools["data"] = data
    elif data is not None:
        pools["data"] = data["train"]
        pools.setdefault("certify", data["test"])
    return pools


def _check(place: str, pool: Dataset, needs_labels: bool) -> None:
    """Enough examples; labels where they are needed."""
    if len(pool) < LEAST:
        raise DataError(
            f"data {pool.origin!r} ({place}): at least {LEAST} examples are needed. Received {len(pool)}. "
            "Some thousand are better."
        )
    if needs_labels and pool.labels is None:
        raise DataError(
            f"data {pool.origin!r} ({place}): the metric needs labels. Received none. "
            "Add them, or use agreement, kl or cosine."
        )


def _check_part(name: str, part: Dataset, needs_labels: bool) -> None:
    """Something to measure on, of more than one class."""
    if not len(part):
        raise DataError(f"{name}: at least one example is needed. All of {part.origin!r} occur in other parts as well.")
    classes = _classes(part) if needs_labels else None
    if classes is not None and len(np.unique(classes)) < 2:
        raise DataError(
            f"{name}: labels must be of two classes at least. Received only class {classes[0]}. "
            "Give examples of the others."
        )


def _classes(dataset: Dataset) -> NDArray[np.int64] | None:
    """Class numbers [n], also from one-hot rows; None where labels are not classes of whole examples."""
    labels = dataset.labels
    if labels is None:
        return None
    if labels.ndim == 2 and labels.shape[1] > 1 and np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all():
        return np.asarray(labels.argmax(1), np.int64)
    if labels.dtype != bool and not np.issubdtype(labels.dtype, np.integer):
        return None
    return np.asarray(labels.reshape(len(labels)), np.int64) if labels.size == len(labels) else None


def stratified(dataset: Dataset, rng: np.random.Generator) -> NDArray[np.int64]:
    """Row numbers in an order of which every prefix has each class in its due share; [n]."""
    n = len(dataset)
    order = rng.permutation(n)
    classes = _classes(dataset)
    if classes is None:
        return order
    mixed = classes[order]
    by_class = np.argsort(mixed, kind="stable")
    _, start, counts = np.unique(mixed[by_class], return_index=True, return_counts=True)
    rank = np.empty(n)
    rank[by_class] = (np.arange(n) - np.repeat(start, counts) + 0.5) / np.repeat(counts, counts)
    return order[np.argsort(rank, kind="stable")]


def _assign(pools: Mapping[str, Dataset], needs_labels: bool) -> list[tuple[Dataset, list[str]]]:
    """Which set gives which parts; raises UsageError where a part has none."""
    assigned = {name: (pools[name], [name]) for name in PARTS if name in pools}
    wanted = [name for name in PARTS if name not in pools]
    if "data" in pools:
        if not wanted:
            raise UsageError("data: give one set to split or all three parts. Received both. Leave one out.")
        return [*assigned.values(), (pools["data"], wanted)]
    if wanted == ["select"]:
        own = pools["calibrate"]
        able = len(own) >= 2 * LEAST and (own.labels is not None or not needs_labels)
        assigned["calibrate" if able else "certify"][1].append("select")
    elif wanted:
        raise UsageError(
            f"data: a set is needed for {' and '.join(wanted)}. Received none. "
            "Pass data to split, or calibrate and certify."
        )
    return list(assigned.values())


def _share(
    pool: Dataset, names: Sequence[str], limits: Mapping[str, int], rng: np.random.Generator
) -> dict[str, Dataset]:
    """One set divided among parts; certify, where it is one of them, gets what is left, never less than half."""
    n = len(pool)
    if list(names) == ["certify"]:
        return {"certify": pool}
    order, start, parts = stratified(pool, rng), 0, {}
    most = n if len(names) == 1 else n // 4 if len(names) == 3 else n // 2
    for name in sorted(names, key=PARTS.index):
        count = n - start if name == "certify" else min(limits[name], most, n - start)
        parts[name] = pool if count == n else pool.take(np.sort(order[start : start + count]))
        start += count
    return parts
