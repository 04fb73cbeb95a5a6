"""Looking at a folder of text files and cleaning it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from attar.cleaning.check_folder import MOST_CHECKED, Kept
from attar.cleaning.faults import Fault
from attar.cleaning.label_noise import wrong_labels
from attar.cleaning.table_features import table_features
from attar.cleaning.table_rows import imbalance
from attar.cleaning.table_steps import CleanSettings
from attar.data.extras import extra
from attar.files.notes import Note, read_notes
from attar.files.pictures import silent
from attar.files.sources import Folder
from attar.types import Json


def clean_notes(
    source: Folder, settings: CleanSettings, step: Callable[[int], None] = silent
) -> tuple[Folder, list[Fault], Kept, list[dict[str, Json]]]:
    """The folder without texts that are empty or cannot be read (and without wrong labels where asked), what was found,
    which files stay, facts by part and class. `step` is called for every text.
    """
    notes: list[Note] = []
    texts: dict[int, str] = {}
    stride = -(-len(source.files) // MOST_CHECKED)
    for at, (note, text) in enumerate(read_notes(source.path, source.files)):
        notes.append(note)
        if settings.find_noisy and note.label and not note.empty and not note.error and at % stride == 0:
            texts[at] = text
        step(1)
    stays = np.array([not note.error and not note.empty for note in notes])
    faults = _faults(source, notes) + _twins(notes)
    for part in sorted({note.part for note in notes}):
        counts = Counter(note.label for note in notes if note.part == part and note.label and not note.error)
        faults += imbalance(dict(counts), f"classes of {part}" if part else "classes")
    if settings.find_noisy:
        faults += _noisy(notes, texts, settings, stays)
    kept = tuple(name for name, stay in zip(source.files, stays, strict=True) if stay)
    return Folder(source.path, kept, (), source.kind), faults, stays, _describe(notes)


def _describe(notes: Sequence[Note]) -> list[dict[str, Json]]:
    """A row for each part and class."""
    groups: dict[tuple[str, str], list[Note]] = {}
    for note in notes:
        groups.setdefault((note.part, note.label), []).append(note)
    return [
        {
            "part": part, "class": label, "texts": len(members), "characters": sum(note.length for note in members),
            "shortest": min(note.length for note in members), "longest": max(note.length for note in members),
            "not utf-8": sum(note.encoding == "latin-1" for note in members),
        }
        for (part, label), members in sorted(groups.items())
    ]  # fmt: skip


def _faults(source: Folder, notes: Sequence[Note]) -> list[Fault]:
    """Texts that cannot be read, are empty or have wrong letters, and files that are no text."""
    checks: list[tuple[str, Callable[[Note], bool], str]] = [
        ("broken text", lambda note: bool(note.error), "left out"),
        ("empty text", lambda note: note.empty, "left out"),
        ("not utf-8", lambda note: note.encoding == "latin-1", ""),
        ("control characters", lambda note: note.control, ""),
        ("encoded twice", lambda note: note.twice, ""),
    ]
    faults = []
    for kind, wrong, change in checks:
        bad = [(at, note) for at, note in enumerate(notes) if wrong(note)]
        if bad:
            told, samples = tuple(note.path for _, note in bad[:3]), tuple(at for at, _ in bad)
            faults.append(Fault(kind, "files", len(bad), len(notes), told, change, samples))
    if source.others:
        total = len(source.files) + len(source.others)
        faults.append(Fault("no text", "files", len(source.others), total, tuple(source.others[:3]), "left out"))
    return faults


def _twins(notes: Sequence[Note]) -> list[Fault]:
    """Equal files; `dedupe` takes them out."""
    first: dict[str, int] = {}
    again = [
        (at, first[note.digest])
        for at, note in enumerate(notes)
        if note.digest and not note.empty and first.setdefault(note.digest, at) != at
    ]
    told = tuple(f"{notes[at].path} = {notes[other].path}" for at, other in again[:3])
    samples, said = tuple(at for at, _ in again), tuple(f"= {notes[other].path}" for _, other in again)
    return [Fault("duplicate", "files", len(again), len(notes), told, "", samples, said)] if again else []


def _noisy(notes: Sequence[Note], texts: dict[int, str], settings: CleanSettings, stays: Kept) -> list[Fault]:
    """Texts that probably lie in the folder of another class."""
    rows = list(texts)
    names = sorted({notes[at].label for at in rows})
    if len(names) < 2:
        return []
    frame = extra("pandas", "texts").DataFrame({"text": list(texts.values())})
    labels = np.array([names.index(notes[at].label) for at in rows], np.int64)
    found = wrong_labels(table_features(frame, settings.seed), labels, settings.seed)
    if isinstance(found, str):
        return [Fault("labels not checked", "classes", 0, len(notes), (), found)]
    at = [rows[i] for i in found.positions]
    if not at:
        return []
    said = tuple(f"rather {names[other]}" for other in found.suggested)
    told = tuple(f"{notes[i].path}, {note}" for i, note in list(zip(at, said, strict=True))[:3])
    if settings.drop_noisy:
        stays[at] = False
    change = "left out" if settings.drop_noisy else ""
    return [Fault("label probably wrong", "classes", len(at), found.looked_at, told, change, tuple(at), said)]
