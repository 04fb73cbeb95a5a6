"""What streaming is made of: states in memory and on disk, slices of large layers, sections written one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.transformers_models import folder
from attar import recipe as recipes
from attar.archive import blobs, manifest
from attar.archive.streamed import coded
from attar.errors import FormatError, ModelError, OutputError, UsageError
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


def test_a_layer_s_record_is_read_as_it_was_written() -> None:
    layer, weight, stats = layer_of(30, 40)
    encoded = Uniform.encode(layer, weight, stats, {"method": "uniform", "slope": 1e-5, "sweeps": 0})
    info, section, blob = coded(layer, encoded, "fast")
    record = json.loads(json.dumps(manifest.layer_record(info, section)))
    assert manifest.layer_of(record) == (info, section)
    arrays = blobs.decode_arrays(section, blob)
    assert all(np.array_equal(arrays[name], array) for name, array in encoded.arrays.items())
    with pytest.raises(FormatError):
        manifest.layer_of(record[:-1])


# Whether to stream


def test_memory_decides_where_nobody_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert settings.wanted(folder("llama"), {}) is None and settings.wanted(folder("llama"), {"bits": None}) is None
    need = settings.float_bytes(folder("llama"))
    assert need == (folder("llama") / "model.safetensors").stat().st_size
    assert abs(settings.float_bytes(folder("half")) - need) < 8000, "two bytes a weight are four in float32"
    monkeypatch.setattr(settings, "memory_bytes", lambda: 2 * need - 1)
    assert "a run in memory takes" in str(settings.wanted(folder("llama"), {}))
    assert settings.wanted(folder("llama"), {"settings": {"stream": {"on": "no"}}}) is None
    assert settings.wanted(object(), {}) is None and settings.wanted(tmp_path, {}) is None


def test_what_asks_to_stream(tmp_path: Path) -> None:
    yes, no = ({"settings": {"stream": {"on": word}}} for word in ("yes", "no"))
    assert "as asked for" in str(settings.wanted(folder("llama"), yes))
    assert "as asked for" in str(settings.wanted(folder("llama"), {"bits": 4.0}))
    assert settings.wanted(folder("llama"), {"bits": 4.0, **no}) is None
    assert settings.wanted(tmp_path / "weights.npz", {"bits": 4.0}) is None, "weights alone are not streamed so"
    for more in ({}, {"factory": "made:net"}):
        with pytest.raises(UsageError, match="must be a Hugging Face folder"):
            settings.wanted(folder("llama") if more else tmp_path / "model.onnx", {**yes, **more})
    with pytest.raises(UsageError, match=r"settings\.stream\.passes"):
        settings.wanted(folder("llama"), {"settings": {"stream": {"passes": 40}}})
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


def test_rates_at_many_slopes_are_those_at_each() -> None:
    given, slopes = layer_of(40, 30), [1e-6, 1e-4, 1e-2]
    together = sliced.rates_of(stream(), *given, slopes)
    assert together == [sliced.rounded(stream(), *given, slope)[1] for slope in slopes]
    assert together == sorted(together, reverse=True)


@pytest.mark.parametrize(("low", "high", "kind"), [(-3, 127, "i1"), (-129, 0, "i2"), (0, 128, "i2"), (0, 40000, "i4")])
def test_codes_that_wait_take_as_few_bytes_as_they_need(low: int, high: int, kind: str) -> None:
    codes = np.array([[low, high]], np.int32)
    waiting = sliced.narrow(Encoded("uniform", {"codes": codes, "rows": np.zeros(1, np.int16)}, {"step": 1.0}))
    assert waiting.arrays["codes"].dtype == np.dtype(kind)
    np.testing.assert_array_equal(waiting.arrays["codes"], codes)
