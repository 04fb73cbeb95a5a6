"""The second decoder, which knows docs/format.md only, reads what attar writes, to the last bit."""

from __future__ import annotations

import ast
import base64
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from attar import registry
from attar.archive import manifest, vocabulary
from attar.coding import encode_array, known_dtype
from second_decoder.archive import DICTIONARIES, Archive, decode

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "golden"


def bits(array):
    return np.frombuffer(array.tobytes(), f"u{array.itemsize}").tolist()


def test_it_stands_alone():
    for path in HERE.glob("*.py"):
        if path.name.startswith("test_"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.partition(".")[0] in {*sys.stdlib_module_names, "second_decoder"}, (path.name, name)


def test_the_documented_dictionaries_are_those_in_use():
    assert base64.b64decode(DICTIONARIES["manifest"]) == manifest._DICTIONARY
    assert base64.b64decode(DICTIONARIES["skeleton"]) == vocabulary.VOCABULARY


@pytest.mark.parametrize("name", [path.stem for path in sorted(GOLDEN.glob("*.attar"))])
def test_golden_files(name):
    read = Archive((GOLDEN / f"{name}.attar").read_bytes())
    facts = json.loads((GOLDEN / f"{name}.json").read_text())
    arrays = np.load(GOLDEN / f"{name}.npz")
    assert read.manifest["meta"] == facts["meta"]
    assert (read.skeleton.decode() if read.skeleton is not None else None) == facts["skeleton"]
    found = {f"layer|{layer}|{key}": v for layer, arrays in read.layers.items() for key, v in arrays.items()}
    found |= {f"remainder|{key}": values for key, values in read.remainder.items()}
    assert set(found) == set(arrays.files)
    for key, values in found.items():
        expected = np.frombuffer(arrays[key].tobytes(), f"u{known_dtype(facts['dtypes'][key]).itemsize}").tolist()
        assert values == expected, key


def test_dense_matrices_whose_columns_say_something_about_each_other():
    rng = np.random.default_rng(3)
    array = np.rint(rng.normal(0, 2, (30, 5)) @ rng.normal(0, 2, (5, 40)) + rng.normal(0, 0.4, (30, 40)))
    for each in (array.astype(np.int16), (array * 900).astype(np.int32) + 10**6):
        data = registry.get("coder", "dense").encode(each)
        assert decode("dense", data, each.dtype.name, [30, 40]) == bits(each)


@pytest.mark.parametrize("seed", range(25))
def test_arrays_at_random(seed):
    rng = np.random.default_rng(seed)
    shape = (rng.integers(1, 90), rng.integers(1, 200)) if seed % 3 else (rng.integers(1, 9000),)
    scale = np.exp(rng.normal(0, rng.choice([0, 1]), shape[-1]))
    array = np.rint(rng.laplace(0, rng.choice([0.05, 0.6, 5, 60]), shape) * scale).astype(np.int32)
    if seed % 4 == 0:
        array.ravel()[rng.integers(0, array.size, 2)] = [2**31 - 1, -(2**31)]
    coder, data = encode_array(array)
    assert decode(coder, data, "int32", list(array.shape)) == bits(array)
    rans = registry.get("coder", "rans")
    assert decode("rans", rans.encode(array), "int32", list(array.shape)) == bits(array)
    if array.size < 3000 and int(array.max()) - int(array.min()) < 1 << 30:
        dense = registry.get("coder", "dense")
        assert decode("dense", dense.encode(array), "int32", list(array.shape)) == bits(array)
    floats = (array * rng.random(array.shape)).astype(np.float32)
    coder, data = encode_array(floats)
    assert decode(coder, data, "float32", list(array.shape)) == bits(floats)
