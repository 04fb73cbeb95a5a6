"""Runs, tables and orders at random, for the tests of the kernel and its twin."""

from __future__ import annotations

import numpy as np


def frequencies_for(symbols, table, tables, alphabet):
    """Tables that give every symbol a share."""
    result = np.ones((tables, alphabet), np.int64)
    np.add.at(result, (table, symbols), 1)
    result = np.maximum(1, result * 3500 // result.sum(1, keepdims=True))
    result[np.arange(tables), result.argmax(1)] += 4096 - result.sum(1)
    return result.astype(np.uint16)


def random_runs(rng, count, tables, longest=400):
    """int32 [k, 3] that add up to so many symbols."""
    runs, left = [], count
    while left:
        width = int(rng.integers(1, min(left, longest) + 1))
        rows = int(rng.integers(1, left // width + 1)) if rng.random() < 0.5 else 1
        runs.append([rows, width, int(rng.integers(0, tables))])
        left -= rows * width
    return np.array(runs, np.int32).reshape(-1, 3)


def random_case(seed, count, tables, alphabet, share=0.4):
    """Symbols, runs and frequencies."""
    rng = np.random.default_rng(seed)
    symbols = np.minimum(rng.geometric(share, count) - 1, alphabet - 1).astype(np.uint8)
    runs = random_runs(rng, count, tables)
    table = np.repeat(runs[:, 2], runs[:, 0] * runs[:, 1])
    return symbols, runs, frequencies_for(symbols, table, tables, alphabet)


def random_order(seed, height, width, tables=5):
    """Rows of a chunk, sorted columns, and the runs of its groups."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(height)[: int(rng.integers(1, height + 1))].astype(np.int32)
    columns = np.arange(width) if rng.random() < 0.2 else rng.permutation(width)
    runs, left = [], rows.size
    while left:
        group = int(rng.integers(1, left + 1))
        cuts = np.unique([0, width, *rng.integers(0, width + 1, 3).tolist()])
        runs += [[group, int(span), int(rng.integers(0, tables))] for span in np.diff(cuts)]
        left -= group
    return rows, columns.astype(np.int32), np.array(runs, np.int32)
