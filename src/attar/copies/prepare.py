"""The data stage of a run: near copies of what is certified, duplicates and wrong labels are left out, as asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from attar.cleaning.check_arrays import array_features
from attar.cleaning.label_noise import wrong_labels
from attar.copies.dedupe import groups_of
from attar.copies.near import array_crops, near_images
from attar.data.overlap import MOST, row_hashes
from attar.data.splits import LEAST
from attar.errors import DataError
from attar.files.pictures import as_images
from attar.types import Array, Dataset, Json, Scaled, Splits

SMALLEST = 16
"""Pixels of the shorter side from which on images can be told to be near copies; smaller ones are alike by chance."""
BLOCK = 2048
"""Certified images, at nine offsets each, that are held at once."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class DataSettings:
    """What is left out of the examples before a run, in a recipe's [settings.data]; certify is never changed."""

    leaks: str = field(
        default="near",
        metadata={"help": "what of certify is left out elsewhere: near copies too", "choices": ("near", "equal")},
    )
    duplicates: str = field(
        default="keep",
        metadata={
            "help": "which duplicates are left out of calibrate, select and train",
            "choices": ("keep", "equal", "near"),
        },
    )
    labels: str = field(
        default="keep",
        metadata={"help": "probably wrong labels of the training set", "choices": ("keep", "leave-out")},
    )


@dataclass(frozen=True)
class Step:
    """One thing that was looked for in one set: `found` of `examples`, of which `left_out` went."""

    looked_for: str
    part: str
    examples: int
    found: int
    left_out: int
    note: str = ""

    def row(self) -> dict[str, Json]:
        """For the ledger."""
        return {
            "looked_for": self.looked_for, "part": self.part, "examples": self.examples, "found": self.found,
            "left_out": self.left_out, "note": self.note,
        }  # fmt: skip

    def warning(self) -> str:
        """In a line, where something went."""
        return f"{self.left_out:,} of {self.examples:,} examples of {self.part} were left out: {self.looked_for}."


@dataclass(frozen=True)
class Prepared:
    """The sets of a run and what was done to them."""

    splits: Splits
    train: Dataset | None
    steps: tuple[Step, ...]


def prepared(splits: Splits, train: Dataset | None, settings: DataSettings, seed: int = 0) -> Prepared:
    """The sets without what the settings leave out; raises DataError where too little of one is left.

    Near copies of certified images go from 1 % of a set on: fewer are natural (Fashion-MNIST's own train and test
    have 0.4 % in common). Duplicates: the first stays. Nothing is ever taken out of certify.
    """
    sets = {"calibrate": splits.calibrate, "select": splits.select} | ({} if train is None else {"train": train})
    steps: list[Step] = []
    if settings.leaks == "near":
        for part, (goes, step) in _leaks(sets, splits.certify).items():
            sets[part] = _without(sets[part], goes, step, steps)
    if settings.duplicates != "keep":
        for part in list(sets):
            sets[part] = _without(sets[part], *_duplicates(part, sets[part], settings.duplicates), steps)
    if settings.labels == "leave-out" and train is not None:
        sets["train"] = _without(sets["train"], *_wrong(sets["train"], seed), steps)
    warnings = tuple(step.warning() for step in steps if step.left_out)
    kept = replace(splits, calibrate=sets["calibrate"], select=sets["select"], warnings=(*splits.warnings, *warnings))
    return Prepared(kept, sets.get("train"), tuple(steps))


def _without(data: Dataset, goes: Mask, step: Step, steps: list[Step]) -> Dataset:
    """The rest, and the step noted; raises DataError where too little is left."""
    steps.append(step)
    if len(data) - step.left_out < min(LEAST, len(data)):
        raise DataError(
            f"{step.part} ({data.origin!r}): at least {LEAST} examples must be left. Received {len(data)}, of which "
            f"{step.left_out} are {step.looked_for}. Give a set of its own."
        )
    return data.take(np.flatnonzero(~goes)) if step.left_out else data


def _leaks(sets: Mapping[str, Dataset], certify: Dataset) -> dict[str, tuple[Mask, Step]]:
    """Which images of each set have a near copy among the certified ones; nothing where they are no images."""
    held = next(iter(certify.inputs.values()))
    if len(certify.inputs) != 1 or not _are_images(held):
        return {}
    firsts = {part: next(iter(data.inputs.values())) for part, data in sets.items()}
    found = np.zeros(sum(map(len, sets.values())), bool)
    found[_near(list(firsts.values()), held)] = True
    masks = np.split(found, np.cumsum([len(data) for data in sets.values()])[:-1])
    return {part: _leak(part, mask) for part, mask in zip(sets, masks, strict=True)}


def _leak(part: str, found: Mask) -> tuple[Mask, Step]:
    """What is done about the near copies that were found in a set."""
    count = int(found.sum())
    many = count > MOST * len(found)
    note = "" if many or not count else "few enough to stay"
    return found & many, Step("near copies of certified images", part, len(found), count, count if many else 0, note)


def _near(several: Sequence[Array | Scaled], held: Array | Scaled) -> list[int]:
    """Positions in several sets, one behind the other, of images that are near to one of those held aside.

    The smaller side is hashed at nine offsets, a block at a time, the other in the middle only.
    """
    if len(held) < sum(map(len, several)):
        middles = [one for values in several for one in array_crops(values, middle=True)]
        return [i for block in _blocks(held) for i, _ in near_images(middles, list(array_crops(held, block)))]
    middles = list(array_crops(held, middle=True))
    before = np.cumsum([0, *map(len, several)]).tolist()
    return [
        first + block.start + j
        for first, values in zip(before, several, strict=False)
        for block in _blocks(values)
        for _, j in near_images(middles, list(array_crops(values, block)))
    ]


def _blocks(values: Array | Scaled) -> list[slice]:
    """The rows of a set, BLOCK at a time."""
    return [slice(start, start + BLOCK) for start in range(0, len(values), BLOCK)]


def _duplicates(part: str, data: Dataset, kind: str) -> tuple[Mask, Step]:
    """Which examples repeat an earlier one."""
    goes = np.ones(len(data), bool)
    goes[np.unique(row_hashes(data), return_index=True)[1]] = False
    note = ""
    if kind == "near":
        first = next(iter(data.inputs.values()))
        if len(data.inputs) == 1 and _are_images(first):
            for group in groups_of(len(data), near_images(list(array_crops(first)))):
                goes[list(group[1:])] = True
        else:
            note = f"only equal ones: near ones are found in images of {SMALLEST} pixels and more"
    count = int(goes.sum())
    return goes, Step("duplicates of examples that stay", part, len(data), count, count, note)


def _wrong(data: Dataset, seed: int) -> tuple[Mask, Step]:
    """Which labels of the training set are probably wrong."""
    goes, what, labels = np.zeros(len(data), bool), "examples whose labels are probably wrong", data.labels
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.min(initial=0) < 0:
        return goes, Step(what, "train", len(data), 0, 0, "not looked for: labels are no classes")
    rows = np.arange(len(data))
    found = wrong_labels(array_features(data.arrays(), rows, seed), labels.astype(np.int64), seed)
    if isinstance(found, str):
        return goes, Step(what, "train", len(data), 0, 0, found)
    goes[found.positions] = True
    return goes, Step(what, "train", len(data), len(found.positions), len(found.positions))


def _are_images(values: Array | Scaled) -> bool:
    """Whether near copies can be told."""
    shown = as_images(values[:1])
    return shown is not None and min(shown.shape[1:3]) >= SMALLEST
