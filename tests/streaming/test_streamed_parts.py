"""What streaming is made of: states in memory and on disk, slices of large layers, sections written one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.transformers_models import folder
from attar import recipe as recipes
from attar.archive import blobs, manifest, to_bytes
from attar.archive.base import LayerInfo
from attar.archive.write import write_sections
from attar.errors import ModelError, OutputError, UsageError
from attar.methods.uniform import Uniform
from attar.run.states import States
from attar.streaming import expanding, settings, sliced
from attar.streaming.base import chunks
from attar.streaming.rate import _standing
from attar.types import Array, Encoded, Layer, Stats, Weight


def parts(array: Array, size: int) -> Iterator[Array]:
    return (array[start : start + size] for start in range(0, len(array), size))


# States


@pytest.mark.parametrize("on_disk", [False, True])
def test_states_come_back_in_any_rows(on_disk: bool, tmp_path: Path) -> None:
    states = States(tmp_path / "s" if on_disk else None)
    array = np.random.default_rng(0).normal(size=(7, 3, 2)).astype(np.float32)
    assert "a.0" not in states
    states.put("a.0", 7, parts(array, 3))
    assert "a.0" in states
    np.testing.assert_array_equal(states.rows("a.0"), array)
    np.testing.assert_array_equal(states.rows("a.0", 2, 5), array[2:5])
    np.testing.assert_array_equal(states.rows("a.0", 6, 99), array[6:])
    again = States(states.folder)
    assert ("a.0" in again) == on_disk
    states.drop("a.0")
    with pytest.raises(KeyError):
        states.rows("a.0")
    states.put("b", 7, parts(array, 7))
    states.close()
    assert "b" not in states and not (tmp_path / "s").exists()


def test_half_an_array_is_not_there(tmp_path: Path) -> None:
    states = States(tmp_path)

    def broken() -> Iterator[Array]:
        yield np.zeros((2, 3), np.float32)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        states.put("a", 4, broken())
    assert "a" not in states and not list(tmp_path.iterdir())


def test_a_place_that_takes_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="the disk must take them"):
        States(tmp_path / "file" / "states").put("a", 1, iter([np.zeros((1, 1), np.float32)]))


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 100))
def test_chunks_are_all_windows_once(count: int, length: int, tokens: int) -> None:
    found = list(chunks(np.zeros((count, length), np.int64), tokens))
    assert [k for a, b in found for k in range(a, b)] == list(range(count))
    assert all((b - a) * length <= max(tokens, length) for a, b in found)


# Slices


def stream(**fields: Any) -> Any:
    recipe = recipes.make(**{"methods": ["uniform", "keep"], **fields})
    return SimpleNamespace(job=SimpleNamespace(recipe=recipe, adapter=None))


def layer_of(rows: int, cols: int, kind: str = "dense") -> tuple[Layer, Weight, Stats]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(cols, 4 * cols))
    hessian = (x @ x.T / (4 * cols))[None] if kind == "dense" else np.full((1, cols), 1 / cols)
    weight = Weight(rng.normal(size=(rows, cols)).astype(np.float32), rng.normal(size=rows).astype(np.float32))
    sensitivity = rng.uniform(0.5, 2, rows)
    stats = Stats(hessian, np.zeros((1, cols)), 4 * cols, 4 * cols, sensitivity)
    return Layer("x", kind, rows, cols, (rows, cols), has_bias=True), weight, stats


@pytest.mark.parametrize("kind", ["dense", "embedding"])
def test_slices_of_rows_are_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are estimated slice by slice: the same steps, nearly all codes the same."""
    layer, weight, stats = layer_of(96, 24, kind)
    whole, bits, loss = sliced.rounded(stream(), layer, weight, stats, 1e-3)
    monkeypatch.setattr(sliced, "SLICE", 24 * 40)
    monkeypatch.setattr(sliced, "FACTORED", 0)
    cut, cut_bits, cut_loss = sliced.rounded(stream(), layer, weight, stats, 1e-3)
    assert list(cut.arrays) == list(whole.arrays) and cut.meta == whole.meta
    np.testing.assert_array_equal(cut.arrays["rows"], whole.arrays["rows"])
    np.testing.assert_array_equal(cut.arrays["cols"], whole.arrays["cols"])
    assert cut.arrays["codes"].shape == (96, 24)
    assert np.mean(cut.arrays["codes"] != whole.arrays["codes"]) < 0.15
    assert cut_loss == pytest.approx(loss, rel=0.2) and cut_bits == pytest.approx(bits, rel=0.2)
    np.testing.assert_allclose(Uniform.decode(cut).matrix, weight.matrix, atol=2)


def test_layers_that_keep_every_bit_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, weight, stats = layer_of(96, 24)
    monkeypatch.setattr(sliced, "SLICE", 100)
    made, _, _ = sliced.rounded(stream(exclude=["x"]), layer, weight, stats, 1e-3)
    assert made.method == "keep"


# The file


def test_sections_one_by_one_are_the_file(tmp_path: Path) -> None:
    layers, coded, bytes_of = [], [], {}
    for number, (rows, cols) in enumerate([(8, 12), (300, 400), (5, 40)]):
        layer, weight, stats = layer_of(rows, cols)
        layer = replace(layer, name=f"l{number}")
        encoded = Uniform.encode(layer, weight, stats, {"method": "uniform", "slope": 1e-5, "passes": 1, "sweeps": 0})
        section, blob = blobs.code_arrays(layer.name, "layer", encoded.arrays)
        record = json.loads(json.dumps(manifest.layer_record(LayerInfo(layer, "uniform", dict(encoded.meta)), section)))
        layers.append((layer, encoded))
        coded.append(manifest.layer_of(record))
        bytes_of[layer.name] = blob
    rest: dict[str, Array] = {"norm": np.ones(5, np.float32), "other": np.arange(3)}
    common: dict[str, Any] = {"remainder": rest, "skeleton": b"graph" * 100, "meta": {"framework": "torch"}}
    read: list[str] = []

    def blob_of(name: str) -> bytes:
        read.append(name)
        return bytes_of[name]

    info = write_sections(tmp_path / "a.attar", layers=coded, blob_of=blob_of, **common)
    assert (tmp_path / "a.attar").read_bytes() == to_bytes(layers=layers, coder="fast", **common)
    assert sorted(read) == ["l0", "l1", "l2"] and info.nbytes == (tmp_path / "a.attar").stat().st_size
    with pytest.raises(OutputError, match="not overwritten"):
        write_sections(tmp_path / "a.attar", layers=coded, blob_of=blob_of, **common)
    with pytest.raises(UsageError, match="a name of its own"):
        write_sections(tmp_path / "b.attar", layers=[coded[0], coded[0]], blob_of=blob_of, **common)
    assert not (tmp_path / "b.attar").exists()


# Whether to stream


def test_memory_decides_where_nobody_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert settings.wanted(folder("llama"), {}) is None
    need = settings.float_bytes(folder("llama"))
    assert need == (folder("llama") / "model.safetensors").stat().st_size
    assert abs(settings.float_bytes(folder("half")) - need) < 8000, "two bytes a weight are four in float32"
    monkeypatch.setattr(settings, "memory_bytes", lambda: 2 * need - 1)
    assert "a run in memory takes" in str(settings.wanted(folder("llama"), {}))
    assert settings.wanted(folder("llama"), {"stream": {"on": "no"}}) is None
    assert settings.wanted(object(), {}) is None and settings.wanted(tmp_path, {}) is None


def test_what_asks_to_stream(tmp_path: Path) -> None:
    for table in ({"on": "yes"}, {"bits": 4.0}):
        assert "as asked for" in str(settings.wanted(folder("llama"), {"stream": table}))
        with pytest.raises(UsageError, match="must be a Hugging Face folder"):
            settings.wanted(tmp_path / "model.onnx", {"stream": table})
    with pytest.raises(UsageError, match=r"settings\.stream\.bits"):
        settings.wanted(folder("llama"), {"stream": {"bits": 40.0}})
    assert settings.memory_bytes() > 1 << 20


def test_a_memory_limit_of_the_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "GROUP_LIMIT", tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text("12345678\n")
    assert settings.memory_bytes() == 12345678
    (tmp_path / "memory.max").write_text("max\n")
    assert settings.memory_bytes() > 12345678


def test_archives_are_expanded_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, _, _ = layer_of(8, 8)
    archive: Any = SimpleNamespace(meta={"framework": "transformers"}, layers=[layer])
    assert not expanding.wants(archive, asked=False) and expanding.wants(archive, asked=True)
    monkeypatch.setattr(expanding, "memory_bytes", lambda: 100)
    assert expanding.wants(archive, asked=False)
    other: Any = SimpleNamespace(meta={"framework": "torch"}, layers=[layer])
    assert not expanding.wants(other, asked=False)
    with pytest.raises(ModelError, match="Leave --stream out"):
        expanding.wants(other, asked=True)


@given(st.integers(2, 60))
def test_the_parts_looked_at_stand_for_all(last: int) -> None:
    found = _standing(last)
    assert sum(found.values()) == last + 1 and {0, last} <= set(found) and max(found) == last


def test_encoded_values_are_what_methods_make() -> None:
    assert isinstance(sliced.rounded(stream(), *layer_of(4, 6), 1e-3)[0], Encoded)
