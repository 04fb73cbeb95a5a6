"""Looking at a folder of recordings and cleaning it: one at a time, so that it need not fit into memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from attar.cleaning.check_folder import Kept
from attar.cleaning.faults import Fault, short
from attar.cleaning.table_rows import imbalance
from attar.cleaning.table_steps import CleanSettings
from attar.files.pictures import silent
from attar.files.recordings import Recording, listen
from attar.files.sources import Folder
from attar.types import Json

SILENT = 10 ** (-60 / 20)
"""Peak below which a recording is silent: 60 decibels below full scale."""
CLIPPED = 1e-3
"""Share of clipped samples that is told."""
ODD = 10.0
"""How many times longer or shorter than the median a recording must be to be told."""
Check = tuple[str, str, Callable[[Recording], bool], Callable[[Recording], str]]


def clean_recordings(
    source: Folder, settings: CleanSettings, step: Callable[[int], None] = silent
) -> tuple[Folder, list[Fault], Kept, list[dict[str, Json]]]:
    """The folder without recordings that cannot be read, what was found, which files stay, facts by part and class.

    Transcripts stay with their recordings. `step` is called for every recording.
    """
    del settings
    found = []
    for recording, _ in listen(source.path, source.files):
        found.append(recording)
        step(1)
    stays = np.array([not one.error for one in found])
    faults = _broken(found) + _others(source) + _odd(found) + _twins(found) + _classes(found)
    kept = tuple(name for name, stay in zip(source.files, stays, strict=True) if stay)
    return Folder(source.path, kept, (), source.kind), faults, stays, _describe(found)


def _describe(found: Sequence[Recording]) -> list[dict[str, Json]]:
    """A row for each part and class."""
    groups: dict[tuple[str, str], list[Recording]] = {}
    for one in found:
        groups.setdefault((one.part, one.label), []).append(one)
    rows = []
    for (part, label), members in sorted(groups.items()):
        good = [one for one in members if not one.error]
        forms = Counter(_form(one) for one in good)
        seconds = sorted(one.seconds for one in good)
        rows.append({
            "part": part, "class": label, "recordings": len(members), "broken": len(members) - len(good),
            "seconds": round(sum(seconds), 1), "shortest": round(seconds[0], 2) if good else 0.0,
            "longest": round(seconds[-1], 2) if good else 0.0,
            "forms": ", ".join(name for name, _ in sorted(forms.items(), key=lambda kv: (-kv[1], kv[0]))[:3]),
            "transcripts": sum(one.transcript is not None for one in members),
        })  # fmt: skip
    return rows


def _form(one: Recording) -> str:
    return f"{one.rate} Hz {one.bits} bits {'mono' if one.channels == 1 else 'stereo'}"


def _broken(found: Sequence[Recording]) -> list[Fault]:
    bad = [one for one in found if one.error]
    told = tuple(f"{one.path} ({short(one.error, 70)})" for one in bad[:3])
    return [Fault("broken recording", "files", len(bad), len(found), told, "left out")] if bad else []


def _others(source: Folder) -> list[Fault]:
    total = len(source.files) + len(source.others)
    told = tuple(source.others[:3])
    return [Fault("no recording", "files", len(source.others), total, told, "left out")] if source.others else []


def _odd(found: Sequence[Recording]) -> list[Fault]:
    """Recordings that are silent, clipped, of another form or length than most, or without words."""
    good = [(at, one) for at, one in enumerate(found) if not one.error]
    if not good:
        return []
    form = Counter(_form(one) for _, one in good).most_common(1)[0][0]
    middle = float(np.median([one.seconds for _, one in good]))
    written = any(one.transcript is not None for _, one in good)
    checks: list[Check] = [
        ("silent", "recordings", lambda r: r.peak < SILENT, lambda r: r.path),
        ("clipped", "recordings", lambda r: r.clipped > CLIPPED, lambda r: f"{r.path} {r.clipped:.1%} of its samples"),
        ("other form", f"recordings not {form}", lambda r: _form(r) != form, lambda r: f"{r.path} {_form(r)}"),
        (
            "odd length", f"recordings, the median is {middle:.2f} s",
            lambda r: not middle / ODD <= r.seconds <= middle * ODD, lambda r: f"{r.path} {r.seconds:.2f} s",
        ),
        ("no transcript", "recordings", lambda r: written and r.transcript is None, lambda r: r.path),
        ("empty transcript", "recordings", lambda r: r.transcript == "", lambda r: r.path),
    ]  # fmt: skip
    faults = []
    for kind, place, wrong, told in checks:
        bad = [(at, one) for at, one in good if wrong(one)]
        if bad:
            said, samples = tuple(told(one) for _, one in bad[:3]), tuple(at for at, _ in bad)
            faults.append(Fault(kind, place, len(bad), len(found), said, "", samples))
    return faults


def _twins(found: Sequence[Recording]) -> list[Fault]:
    """Recordings of equal samples; `dedupe` takes them out."""
    first: dict[str, int] = {}
    again = [
        (at, first[one.digest])
        for at, one in enumerate(found)
        if not one.error and first.setdefault(one.digest, at) != at
    ]
    told = tuple(f"{found[at].path} = {found[other].path}" for at, other in again[:3])
    samples, notes = tuple(at for at, _ in again), tuple(f"= {found[other].path}" for _, other in again)
    return [Fault("duplicate", "recordings", len(again), len(found), told, "", samples, notes)] if again else []


def _classes(found: Sequence[Recording]) -> list[Fault]:
    faults = []
    for part in sorted({one.part for one in found}):
        counts = Counter(one.label for one in found if one.part == part and one.label and not one.error)
        faults += imbalance(dict(counts), f"classes of {part}" if part else "classes")
    return faults
