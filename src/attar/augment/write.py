"""`attar data augment`: a set with changed copies of its examples, and a page that shows what the changes do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

import attar
from attar.archive.folder import Begun, Named, named
from attar.augment.arrays import FITS, ArraySet, array_set
from attar.augment.changes import Params, chosen
from attar.augment.folders import FolderSet, open_folder
from attar.augment.frames import TableSet, table_set
from attar.augment.plan import Plan
from attar.data.idx import is_idx
from attar.errors import DataError, UsageError
from attar.files.pictures import silent
from attar.files.sources import Arrays, Folder, Source, Table, check_output, open_source
from attar.outputs import guarded, publish, staged
from attar.types import Json

SHOWN = 12
"""Examples of a page."""
Set = FolderSet | ArraySet | TableSet


@dataclass(frozen=True)
class Augmented:
    """What was written: `before` and `after` count examples, `changed` those of them that have copies."""

    examples: Set
    plan: Plan
    params: Params
    after: int
    out: Path | None

    def facts(self) -> dict[str, Json]:
        """For a machine."""
        source = self.examples.source
        return {
            "source": str(source.path), "kind": self.examples.kind, "examples": self.examples.total,
            "augmented": len(self.examples.places), "copies": self.plan.copies, "seed": self.plan.seed,
            "written": self.after, "out": None if self.out is None else str(self.out),
            "left_out": list(source.others) if isinstance(source, Folder) else [],
            "changes": {name: asdict(params) for name, params in self.params.items()},
        }  # fmt: skip


def augment(
    source: str | Path | Source,
    out: Path | None,
    plan: Plan | None = None,
    *,
    only_copies: bool = False,
    target: str | None = None,
    kind: str | None = None,
    jobs: int | None = None,
    force: bool = False,
    step: Callable[[int], None] = silent,
) -> Augmented:
    """Write originals and changed copies with their labels to `out` (None: nothing is written); the source stays.

    Parts called test or val get no copies. `target` is a table's column of labels, `kind` (images, audio, tables) what
    arrays hold where their shape does not say. The same set, plan and seed give the same bytes, whatever `jobs` is.
    A run that was killed goes on with the files of a folder that are missing.
    Raises UsageError, DataError, FormatError, OutputError; nothing is left behind then.
    """
    plan = plan or Plan()
    examples = open_set(source, plan, target, kind)
    if out is not None:
        check_output(examples.source, out, force)
    params = chosen(examples.kinds, plan.changes, "")
    examples.check(params, plan.copies)
    if out is None:
        return Augmented(examples, plan, params, 0, out)
    if isinstance(examples, FolderSet):
        after = len(_folder(examples, out, params, plan, only_copies, jobs, force, step))
        return Augmented(examples, plan, params, after, out)
    rows = examples
    with staged(out.parent) as stage:
        after = guarded(
            lambda: rows.write(stage / out.name, params, plan.copies, plan.seed, only_copies, jobs, step), out
        )
        if out.is_dir():  # empty, or it would have been refused
            guarded(out.rmdir, out)
        publish(stage, out.parent)
    return Augmented(examples, plan, params, after, out)


def _folder(
    examples: FolderSet, out: Path, params: Params, plan: Plan, only_copies: bool, jobs: int | None, force: bool,
    step: Callable[[int], None],
) -> list[str]:  # fmt: skip
    """The names of the files that were written; a run that was killed goes on with those that are missing."""
    told = {name: asdict(one) for name, one in params.items()}
    made_of = [attar.__version__, str(examples.source.path.resolve()), told, plan.copies, plan.seed, only_copies]
    mark = sha256(json.dumps([made_of, examples.mark()], default=str).encode()).hexdigest()
    begun, names = Begun(named(out), mark, force), []

    def written() -> Iterator[Named]:
        for name in examples.write(begun, params, plan.copies, plan.seed, only_copies, jobs, step):
            names.append(name)
            yield name, lambda _: None

    begun.finish(written())
    return names


def open_set(source: str | Path | Source, plan: Plan, target: str | None, kind: str | None) -> Set:
    """What lies at a path, ready to be changed; raises UsageError, DataError, FormatError."""
    if isinstance(source, str | Path):
        path = Path(source)
        folder = path.is_dir() and not any(is_idx(file) for file in path.iterdir())
        source = open_folder(path) if folder else open_source(path)
    if kind is not None and (not isinstance(source, Arrays) or kind not in FITS):
        raise UsageError(f"kind: it must be one of {', '.join(FITS)}, of arrays. Received {kind!r}. Leave it out.")
    if not isinstance(source, Table):
        for name, given in (("target", target), ("leave", ", ".join(plan.leave) or None)):
            if given is not None:
                raise UsageError(f"{name}: only tables have a column to name. Received {given!r}. Leave it out.")
        found = FolderSet(source) if isinstance(source, Folder) else array_set(source, kind)
        if not found.places:
            raise DataError(
                f"data {str(source.path)!r}: a training part is needed, since test parts are never changed. Received "
                f"{found.total:,} examples of test parts. Give the training part."
            )
        return found
    return table_set(source, target, plan.leave)


def shown(found: Augmented) -> list[tuple[str, Any, dict[str, Any]]]:
    """A dozen examples: caption, the original, and by name what each change alone and all together make of it.

    All together is the first copy, as it is written. Values are planes [1, ...], text, or cells by column.
    """
    examples, seed = found.examples, found.plan.seed
    places = examples.places
    picked = np.unique(np.linspace(0, len(places) - 1, min(SHOWN, len(places))).astype(int))
    ways: dict[str, Params] = {name: {name: params} for name, params in found.params.items()}
    ways |= {"all together": found.params} if len(ways) > 1 else {}
    return [
        (
            examples.caption(places[at]),
            examples.shown(places[at], None, seed),
            {name: examples.shown(places[at], params, seed) for name, params in ways.items()},
        )
        for at in picked.tolist()
    ]
