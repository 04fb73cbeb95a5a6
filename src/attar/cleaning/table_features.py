"""A table as numbers for a linear model: numbers standardised, categories one-hot, text hashed, and their cosines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.cleaning.table_steps import number_columns, text_columns
from attar.data.extras import extra

MOST_LEVELS = 50
"""Most categories of a column that get a feature each; of more, the words are hashed, or it is an identifier."""
LEAST_WORDS = 3
"""Fewest words of a cell, on average, of a column whose words tell something."""
WORDS = 1024
"""Features of hashed words for each column of text."""
COSINES = 256
"""Random Fourier features, which let a linear model see bends (Rahimi and Recht, NIPS 2007)."""


def table_features(frame: Any, seed: int = 0) -> NDArray[np.float32]:
    """The table's columns as features float32 [rows, d]; empty numbers are the median, empty text is its own level."""
    parts = [_standard(frame[name]) for name in number_columns(frame)]
    pandas = extra("pandas", "tables")
    parts += [_standard(frame[n].astype(float)) for n in frame.columns if pandas.api.types.is_bool_dtype(frame[n])]
    for name in text_columns(frame):
        column = frame[name].fillna("")
        if column.nunique() <= min(MOST_LEVELS, len(column) / 5):
            parts.append(_levels(column))
        elif column.str.count(" ").mean() + 1 >= LEAST_WORDS:
            parts.append(_words(column))
    if not parts:
        return np.zeros((len(frame), 1), np.float32)
    plain = np.concatenate(parts, 1).astype(np.float32)
    bent = _cosines(plain, min(COSINES, len(plain) // 8), seed)
    return np.concatenate([plain, bent], 1) if plain.shape[1] < COSINES / 2 else plain


def _standard(column: Any) -> NDArray[np.float32]:
    """One column [rows, 1] of mean 0 and variance 1."""
    values = column.to_numpy(np.float64, na_value=np.nan)
    values = np.where(np.isfinite(values), values, np.nanmedian(values) if np.isfinite(values).any() else 0.0)
    return ((values - values.mean()) / (values.std() + 1e-12)).astype(np.float32)[:, None]


def _levels(column: Any) -> NDArray[np.float32]:
    """One column for each category."""
    codes, names = extra("pandas", "tables").factorize(column, sort=True)
    return np.eye(len(names), dtype=np.float32)[codes]


def _words(column: Any) -> NDArray[np.float32]:
    """Hashed counts of words, damped by their logarithm."""
    extra("sklearn", "label noise")
    from sklearn.feature_extraction.text import HashingVectorizer

    counts = HashingVectorizer(n_features=WORDS, alternate_sign=False, norm=None).transform(column)
    return np.log1p(counts.toarray()).astype(np.float32)


def _cosines(plain: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """cos(W x + b) [rows, count] at the width that the number of columns suggests."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((plain.shape[1], count)) / np.sqrt(plain.shape[1])
    return np.cos(plain @ weights.astype(np.float32) + rng.uniform(0, 2 * np.pi, count)).astype(np.float32)
