"""A dense ONNX network that is trained in closed form in no time, wide enough that its layers take time."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from adapters.onnx_models import model, node
from attar.types import Dataset

WIDE, CLASSES, INPUTS = 160, 4, 24


@cache
def net() -> tuple[onnx.ModelProto, dict[str, Dataset]]:
    """x -> relu(W1 x) -> relu(W2 h) -> W3 h, random features with a fitted last layer; calibrate, select, certify."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 0.7, (CLASSES, INPUTS))
    labels = rng.integers(0, CLASSES, 6000)
    x = (centres[labels] + rng.normal(0, 1, (len(labels), INPUTS))).astype(np.float32)
    w1 = rng.normal(0, 1 / np.sqrt(INPUTS), (WIDE, INPUTS)).astype(np.float32)
    w2 = rng.normal(0, 1 / np.sqrt(WIDE), (WIDE, WIDE)).astype(np.float32)
    hidden = np.maximum(np.maximum(x @ w1.T, 0) @ w2.T, 0)
    design = np.hstack([hidden, np.ones((len(x), 1))])[:4000]
    solved = np.linalg.solve(
        design.T @ design + 50 * np.eye(WIDE + 1), design.T @ (4 * np.eye(CLASSES)[labels[:4000]] - 1)
    )
    weights = {
        "w1": w1, "b1": np.zeros(WIDE, np.float32), "w2": w2, "b2": np.zeros(WIDE, np.float32),
        "w3": solved[:-1].T.astype(np.float32), "b3": solved[-1].astype(np.float32),
    }  # fmt: skip
    nodes = [
        node("Gemm", "x w1 b1", "a", transB=1), node("Relu", "a", "r"), node("Gemm", "r w2 b2", "c", transB=1),
        node("Relu", "c", "d"), node("Gemm", "d w3 b3", "y", transB=1),
    ]  # fmt: skip
    made = model(nodes, weights, [INPUTS])
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, ["n", CLASSES]))
    parts = {"calibrate": slice(0, 600), "select": slice(2000, 4000), "certify": slice(4000, 6000)}
    return made, {name: Dataset({"x": x[rows]}, labels[rows]) for name, rows in parts.items()}


def written(folder: Path) -> tuple[Path, dict[str, Dataset]]:
    """The model as a file, and its sets."""
    made, sets = net()
    onnx.save(made, folder / "net.onnx")
    return folder / "net.onnx", sets
