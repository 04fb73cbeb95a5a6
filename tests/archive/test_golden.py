"""Files of every past version are read for ever: tests/golden/v*.attar against the arrays beside them.

tests/golden/README.md says how a new one is made.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from attar import opening, registry
from attar.archive import read_archive
from attar.archive.vocabulary import VOCABULARY

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = sorted(GOLDEN.glob("*.attar"))


def test_there_is_one_for_this_version():
    assert {path.stem.split("-")[0] for path in FILES} == {"v1"}


def test_the_vocabulary_is_for_ever():
    """Files are decoded with it: another one is another codec."""
    assert (len(VOCABULARY), zlib.crc32(VOCABULARY)) == (3813, 0xDF14D197)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_decodes_as_it_was_written(path):
    expected = np.load(path.with_suffix(".npz"))
    facts = json.loads(path.with_suffix(".json").read_text())
    archive = read_archive(path)
    archive.verify()
    assert dict(archive.meta) == facts["meta"]
    assert archive.skeleton() == (None if facts["skeleton"] is None else facts["skeleton"].encode())
    seen = set()
    for layer in archive.layers:
        encoded = archive.encoded(layer.name)
        fields = [layer.name, layer.kind, layer.rows, layer.cols, list(layer.shape), layer.groups, layer.dtype]
        assert facts["layers"][layer.name] == {
            "fields": [*fields, layer.has_bias, layer.tied_to], "method": encoded.method, "meta": dict(encoded.meta),
        }  # fmt: skip
        arrays = {f"layer|{layer.name}|{name}": array for name, array in encoded.arrays.items()}
        seen |= check(arrays, expected, facts)
    seen |= check({f"remainder|{name}": array for name, array in archive.remainder().items()}, expected, facts)
    assert seen == set(expected.files)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*-decoded.npz")), ids=lambda path: path.stem)
def test_methods_decode_to_the_same_floats(path):
    """Bit by bit, so that the model that was certified is the model on every machine."""
    expected = np.load(path)
    archive = read_archive(path.with_name(path.name.replace("-decoded.npz", ".attar")))
    assert {archive.method(layer.name) for layer in archive.layers} <= set(registry.names("method"))
    assert {f"{layer.name}|{part}" for layer in archive.layers for part in ("matrix", "bias")} == set(expected.files)
    for layer in archive.layers:
        weight = opening.decode(archive, layer.name)
        for part, array in (("matrix", weight.matrix), ("bias", weight.bias)):
            assert array.tobytes() == expected[f"{layer.name}|{part}"].tobytes(), (layer.name, part)


def test_every_method_is_in_them():
    stored = {archive.method(x.name) for archive in map(read_archive, FILES) for x in archive.layers}
    assert set(registry.names("method")) <= stored


def check(arrays, expected, facts):
    for key, array in arrays.items():
        assert array.dtype.name == facts["dtypes"][key]
        if array.dtype.isbuiltin == 1:
            assert array.shape == expected[key].shape
        raw = np.frombuffer(array.tobytes(), np.uint8)
        assert (raw == np.frombuffer(expected[key].tobytes(), np.uint8)).all(), key
    return set(arrays)


def test_every_form_of_the_format_is_in_them():
    forms = set()
    for path in FILES:
        archive = read_archive(path)
        for section in archive.sections:
            blob, at = archive._blob(section), 0
            for array in section.arrays:
                forms.add((array.coder, blob[at] if array.coder != "raw" and array.nbytes else None))
                at += array.nbytes
    assert {("rans", form) for form in range(7)} <= forms
    assert {byte & flag for coder, byte in forms if coder == "dense" for flag in (32, 64, 128)} >= {0, 32, 64, 128}
    assert {("planes", 0), ("planes", 1), ("planes", 2), ("raw", None)} <= forms
