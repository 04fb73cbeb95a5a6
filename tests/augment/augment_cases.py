"""Small sets of every kind, and what is done to them."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from attar.augment.changes import CHANGES, Keyed
from attar.augment.images import Draw
from attar.augment.tables import Columns

EVERY = [(kind, name) for kind, changes in CHANGES.items() for name in changes]
PLANES = [(kind, name) for kind, name in EVERY if kind in ("images", "audio")]
SENTENCE = "the service was quick and friendly but our table had never been cleaned before we arrived at 7 o'clock"
WORDS = SENTENCE.split()


def images(n: int = 6, channels: int = 1, dtype: str = "uint8", side: int = 12) -> NDArray[np.generic]:
    """Smooth blobs [n, channels, side, side]; floats within 0 to 1."""
    rng = np.random.default_rng(0)
    grid = np.arange(side)
    middles = rng.uniform(3, side - 3, (n, channels, 2, 1))
    lines = np.exp(-((grid - middles) ** 2) / 12)
    found = lines[:, :, 0, :, None] * lines[:, :, 1, None, :]
    return (255 * found).astype(dtype) if dtype == "uint8" else found.astype(dtype)


def sounds(n: int = 5, channels: int = 1, dtype: str = "int16", samples: int = 800) -> NDArray[np.generic]:
    """Decaying tones [n, channels, samples]."""
    t = np.arange(samples) / 800
    found = np.sin(2 * np.pi * np.arange(20, 20 + n)[:, None, None] * t) * np.exp(-t) * np.ones((n, channels, 1))
    return (12000 * found).astype(dtype) if dtype == "int16" else (0.4 * found).astype(dtype)


def frame(rows: int = 40) -> pd.DataFrame:
    """Numbers rounded and not, whole ones, categories in words and numbers, gaps, free text, an identifier, labels."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({
        "height": np.round(rng.normal(170, 10, rows), 1),
        "score": rng.normal(size=rows),
        "age": rng.integers(18, 80, rows),
        "rooms": rng.integers(1, 4, rows),
        "city": rng.choice(["Berlin", "Paris"], rows),
        "big": rng.integers(2**60, 2**62, rows),
        "review": [" ".join(rng.permutation(WORDS)) for _ in range(rows)],
        "label": np.arange(rows) % 2,
    })  # fmt: skip
    table.loc[::5, "score"] = np.nan
    return table


def columns(rows: int = 40) -> Columns:
    """The numbers of the table."""
    table = frame(rows)
    return Columns(table[["height", "score", "age", "rooms"]].to_numpy(np.float64), table["label"].to_numpy())


def keyed(name: str, n: int, seed: int = 0, copy: int = 1, start: int = 0) -> Draw:
    """Draws for a block of examples."""
    return Keyed(seed, name, np.arange(start, start + n), copy)


def image_folder(place: Path, count: int = 6, suffix: str = ".png", colour: bool = False) -> Path:
    """Images in folders of two classes."""
    for at, image in enumerate(images(count, 3 if colour else 1, side=16)):
        folder = place / f"class{at % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.moveaxis(image, 0, -1) if colour else image[0]).save(folder / f"{at:03}{suffix}")
    return place


def sound_folder(place: Path, count: int = 4, channels: int = 2) -> Path:
    """WAV files in folders of two classes."""
    for at, sound in enumerate(sounds(count, channels)):
        folder = place / f"class{at % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        write_wav(folder / f"{at:03}.wav", sound.T)
    return place


def write_wav(path: Path, samples: NDArray[np.generic], width: int = 2) -> None:
    """16-bit PCM [samples, channels] at 8 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(8000)
        file.writeframes(samples.astype("<i2").tobytes())


def read_wav(path: Path) -> tuple[NDArray[np.int16], int]:
    """Samples [n, channels] and rate."""
    with wave.open(str(path), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        return samples, file.getframerate()


def text_folder(place: Path, count: int = 4) -> Path:
    """Text files in folders of two classes."""
    for at in range(count):
        folder = place / f"class{at % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{at:03}.txt").write_bytes((" ".join(WORDS * 3) + ".\r\nA second line, é.\n").encode())
    return place


def contents(place: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path; hidden ones too."""
    return {p.relative_to(place).as_posix(): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}
