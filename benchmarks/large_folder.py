"""Every verb of `attar data` on a folder that is larger than memory should be asked for: seconds and peak memory.

    python benchmarks/large_folder.py [--gigabytes 5] [--folder DIR] [--verbs inspect clean ...] [--json FILE]

PNG of 256 x 256 x 3, in ten classes: slopes of grey under noise, about 135 kB each; one in a thousand is a copy
of another, one in two thousand is cut off. Packing is killed by SIGKILL after a tenth of its stacks and goes on. What
is augmented is the clean folder. A table for `hash` is a fifth as large, of 27 columns. Peaks are of the
resident set, the target is 1 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from timing import machine

SIDE, CLASSES = 256, 10
WORDS, DIMS = 25, 256
"""Columns of words in the table, and what they are hashed to."""
COPIES, BROKEN = 1000, 2000
MOST = 1_000_000_000
ATTAR = [sys.executable, "-m", "attar", "data"]


def picture(number: int) -> Image.Image:
    """One picture, of its number alone."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    base = np.stack(
        [128 + 90 * np.sin(random.uniform(1, 9) * (y * a + x * b)) for a, b in random.normal(size=(3, 2))], 2
    )
    return Image.fromarray(np.clip(base + random.normal(0, 6, base.shape), 0, 255).astype(np.uint8))


def fill(folder: Path, size: int) -> int:
    """Pictures until the folder has so many bytes; what is there already stays. Returns how many there are."""
    done = number = 0
    while done < size:
        path = folder / str(number % CLASSES) / f"{number:06}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            one = number - 1 if number % COPIES == COPIES - 1 else number
            picture(one).save(path, compress_level=1)
            if number % BROKEN == BROKEN - 1:
                path.write_bytes(path.read_bytes()[:5000])
        done += path.stat().st_size
        number += 1
    return number


def table(path: Path, size: int) -> None:
    """A CSV file of so many bytes, like a log of clicks: a label, a price, and words of many columns."""
    random = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("label,price," + ",".join(f"c{k}" for k in range(WORDS)) + "\n")
        while file.tell() < size:
            labels, prices = random.integers(0, 2, 10_000), random.gamma(2, 20, 10_000)
            words = np.char.add("w", (random.zipf(1.3, (10_000, WORDS)) % 100_000).astype(str))
            rows = zip(labels, prices, words, strict=True)
            file.writelines(f"{label},{price:.2f},{','.join(row)}\n" for label, price, row in rows)


def run(arguments: list[str], until: Callable[[], bool] = lambda: False) -> tuple[int, float, int]:
    """Exit code (minus the signal where `until` had it killed), seconds and peak bytes of one command."""
    begun = time.perf_counter()
    child = subprocess.Popen([*ATTAR, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        if until():
            child.send_signal(signal.SIGKILL)
        time.sleep(0.2)
    code = os.waitstatus_to_exitcode(status)
    if code > 0 and child.stderr is not None:
        print(child.stderr.read().decode()[-2000:], file=sys.stderr)
    return code, time.perf_counter() - begun, usage.ru_maxrss * 1024


def packing(images: Path, place: Path, bytes_of_pixels: int) -> Callable[[], tuple[int, float, int]]:
    """Packing that is killed on the way and goes on."""

    def both() -> tuple[int, float, int]:
        goal, stacks = place / "images.attar", max(bytes_of_pixels // (1 << 26) // 10, 1)
        work = place / ".images.attar.work"
        killed = run(["pack", str(images), "-o", str(goal)], lambda: len(list(work.glob("*.unit"))) >= stacks)
        assert killed[0] == -signal.SIGKILL, killed
        code, seconds, peak = run(["pack", str(images), "-o", str(goal)])
        return code, killed[1] + seconds, max(killed[2], peak)

    return both


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=5)
    parser.add_argument("--folder", type=Path, help="keep the pictures here")
    parser.add_argument("--verbs", nargs="*")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        images = options.folder or place / "images"
        count = fill(images, int(options.gigabytes * 1e9))
        size = sum(file.stat().st_size for file in images.rglob("*.png"))
        csv = place / "rows.csv"
        table(csv, int(size / 5))
        source, archive = str(images), place / "images.attar"
        verbs: dict[str, Callable[[], tuple[int, float, int]]] = {
            "inspect": lambda: run(["inspect", source, "--html", str(place / "page.html")]),
            "clean": lambda: run(["clean", source, "-o", str(place / "clean")]),
            "dedupe": lambda: run(["dedupe", source, "--near", "-o", str(place / "unique")]),
            "select": lambda: run(["select", source, "-k", "500", "-o", str(place / "chosen")]),
            "augment": lambda: run(["augment", str(place / "clean"), "-o", str(place / "more"), "--only-copies"]),
            "pack": packing(images, place, count * SIDE * SIDE * 3),
            "unpack": lambda: run(["unpack", str(archive), "-o", str(place / "back")]),
            "hash": lambda: run(
                ["hash", str(csv), "-o", str(place / "hashed.npz"), "--target", "label", "--dims", str(DIMS)]
            ),
        }
        print(f"{machine()}; {count:,} pictures, {size:,} bytes; table of {csv.stat().st_size:,} bytes\n")
        print("| verb | seconds | peak memory, MB | target | |\n|---|---|---|---|---|", flush=True)
        rows = {}
        for verb in options.verbs or verbs:
            code, seconds, peak = verbs[verb]()
            assert code == 0, (verb, code)
            rows[verb] = {"seconds": seconds, "peak": peak}
            told = "met" if peak < MOST else "missed"
            print(f"| {verb} | {seconds:,.0f} | {peak / 1e6:,.0f} | < {MOST / 1e6:,.0f} | {told} |", flush=True)
            for left in ("unique", "more", "back"):
                shutil.rmtree(place / left, ignore_errors=True)
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
