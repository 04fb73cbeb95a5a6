"""Rivals that no Python package exposes, compiled from the sources of packages that do exist.

Sources and libraries are kept in the folder of the assets (ATTAR_ASSETS, default .assets), so that this happens once.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from inputs import FOLDER

KEPT = FOLDER / "rivals"


def source_of(package: str) -> Path:
    """The unpacked source distribution of a pinned package ("zstd==1.5.7.2"); raises ImportError."""
    target = KEPT / package.replace("==", "-")
    if not target.exists():
        command = ["pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(KEPT), package]
        _run([sys.executable, "-m", *command], f"pip download {package} failed")
        archive = next(KEPT.glob(target.name + "*.tar.gz"))
        with tarfile.open(archive) as packed:
            packed.extractall(target.with_suffix(".part"), filter="data")
        target.with_suffix(".part").rename(target)
    return next(target.iterdir())


def compiled(name: str, sources: list[Path], flags: list[str]) -> ctypes.CDLL:
    """A shared library of C and assembler sources, built by the system's compiler; raises ImportError."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ImportError("no C compiler is found")
    command = [compiler, "-O3", "-shared", "-fPIC", *flags, *map(str, sources)]
    parts = [" ".join(command).encode(), *(source.read_bytes() for source in sources)]
    library = KEPT / f"{name}-{hashlib.sha256(b''.join(parts)).hexdigest()[:12]}.so"
    if not library.exists():
        part = library.with_suffix(".part")
        _run([*command, "-o", str(part)], f"compiling {name} failed")
        part.rename(library)
    return ctypes.CDLL(str(library))


def debian_library(package: str, pattern: str) -> ctypes.CDLL:
    """A shared library out of a Debian package, unpacked and not installed; raises ImportError."""
    target = KEPT / package
    if not target.exists():
        part = target.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        _run(["apt-get", "download", "-q", package], f"apt-get download {package} failed", part)
        _run(["dpkg-deb", "-x", str(next(part.glob("*.deb"))), str(part)], f"unpacking {package} failed")
        part.rename(target)
    return ctypes.CDLL(str(next(target.rglob(pattern))))


def _run(command: list[str], failure: str, folder: Path | None = None) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    except FileNotFoundError as error:
        raise ImportError(f"{failure}: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ImportError(f"{failure}: {last}")
