"""What a run holds at once: bounds on the memory of single pieces of work, and of a process."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.adapters.moments import BLOCK, MomentSum, Pace, with_last
from attar.adapters.transformers.priors import settled
from attar.data.fit import fit_inputs
from attar.data.overlap import row_hashes
from attar.data.splits import make_splits
from attar.run import memory
from attar.run.kept import Kept
from attar.run.memory import Sparing, give_back
from attar.search.remember import data_mark
from attar.types import Dataset, Stats, TensorSpec

MIB = 1 << 20


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes of arrays that a piece of work has held beside what was there."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_handed_back_when_a_stage_begins(monkeypatch):
    told = []

    class Listener:
        def stage(self, name, total):
            told.append((name, total))

        def step(self, count=1):
            told.append(count)

        def note(self, text):
            told.append(text)

    give_back()  # the real one: nothing breaks
    monkeypatch.setattr(memory, "give_back", lambda: told.append("back"))
    progress = Sparing(Listener())
    progress.stage("statistics", 3)
    progress.step()
    progress.step(2)
    progress.note("well")
    assert told == ["back", ("statistics", 3), 1, 2, "well"]


def test_a_system_without_malloc_trim_keeps_what_it_has(monkeypatch):
    monkeypatch.setattr(memory, "_own", lambda name: None)
    memory.give_back()
    with memory.at_once():
        pass


def test_large_arrays_are_handed_back_at_once_and_later_as_usual(monkeypatch):
    told = []
    monkeypatch.setattr(memory, "_own", lambda name: lambda *values: told.append((name, *values)))
    begun = [
        ("malloc_trim", 0), ("mallopt", memory.M_MMAP_THRESHOLD, memory.APART),
        ("mallopt", memory.M_TRIM_THRESHOLD, memory.FREE),
    ]  # fmt: skip
    with pytest.raises(KeyError), memory.at_once():
        with memory.at_once():  # within the other it begins and ends nothing
            pass
        assert told == begun
        raise KeyError
    assert told[3:] == [
        ("mallopt", memory.M_MMAP_THRESHOLD, memory.USUAL), ("mallopt", memory.M_TRIM_THRESHOLD, 2 * memory.USUAL),
        ("malloc_trim", 0),
    ]  # fmt: skip
    with memory.at_once():
        assert told[6:] == begun


def test_units_are_written_from_where_arrays_are_and_read_once(tmp_path):
    arrays = {"hessian": np.ones((4, 1024, 1024), np.float32), "none": np.zeros((0, 3)), "flag": np.array(True)}
    kept = Kept(tmp_path)
    assert peak_of(lambda: kept.put("unit", {"n": 1}, arrays)) < MIB
    assert peak_of(lambda: kept.get("unit")) < arrays["hessian"].nbytes + 4 * MIB
    told, found = kept.get("unit") or (None, {})
    assert told == {"n": 1} and list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


@pytest.mark.parametrize("place", [0, 31, 32, 40, 60, -1])
def test_a_unit_with_another_byte_or_without_its_end_is_none(tmp_path, place):
    kept = Kept(tmp_path)
    kept.put("unit", [1, 2], {"a": np.arange(100)})
    data = bytearray((tmp_path / "unit").read_bytes())
    data[place] ^= 1
    (tmp_path / "unit").write_bytes(data)
    assert kept.get("unit") is None
    data[place] ^= 1
    (tmp_path / "unit").write_bytes(data[: place if place else 0])
    assert kept.get("unit") is None


def test_pictures_are_held_as_bytes_and_hashed_a_few_at_a_time():
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 64, 64), np.uint8)
    specs = [TensorSpec("image", "float32", (None, 1, 64, 64))]
    options = {"seed": 0, "n_calibrate": 400, "n_select": 300}
    made: list[Dataset] = []

    def split() -> None:
        whole = Dataset({"x": pixels}, np.arange(2000) % 4)
        made.append(make_splits(whole, fit=lambda part: fit_inputs(part, specs, as_bytes=True), **options).certify)

    assert peak_of(split) < 2.5 * pixels.nbytes  # four times as much as floats, and itself once more
    held = made[0]
    floats = Dataset({"image": held.arrays()["image"]}, held.labels)
    assert peak_of(lambda: data_mark(held)) < held.inputs["image"].given.nbytes
    assert data_mark(held) != data_mark(Dataset({"image": held.inputs["image"].take(np.arange(5))}, held.labels))
    assert np.array_equal(row_hashes(held), row_hashes(floats))


def test_a_set_is_fitted_where_it_is_used():
    rng = np.random.default_rng(0)
    pool = Dataset({"x": rng.integers(0, 256, (20000, 32, 32), np.uint8)}, np.arange(20000) % 4)
    held = Dataset({"x": rng.integers(0, 256, (500, 32, 32), np.uint8)}, np.arange(500) % 4)
    specs = [TensorSpec("image", "float32", (None, 1, 32, 32))]
    options = {"seed": 0, "n_calibrate": 400, "n_select": 300}

    def late() -> None:
        made.append(make_splits({"train": pool, "test": held}, fit=lambda part: fit_inputs(part, specs), **options))

    made: list = []
    assert peak_of(late) < pool.inputs["x"].nbytes  # four times as much as floats
    parts = {"train": fit_inputs(pool, specs), "test": fit_inputs(held, specs)}
    early, found = make_splits(parts, **options), made[0]
    for part in ("calibrate", "select", "certify"):
        one, other = getattr(found, part), getattr(early, part)
        assert one.inputs["image"].tobytes() == other.inputs["image"].tobytes()


@given(st.lists(st.integers()))
def test_the_last_item_is_told(items):
    assert list(with_last(items)) == [(item, place == len(items) - 1) for place, item in enumerate(items)]


@given(each=st.integers(1, 1 << 20), most=st.integers(1, 1 << 24), batches=st.lists(st.integers(1, 400), max_size=4))
@settings(max_examples=60, deadline=None)
def test_pieces_stay_below_their_bytes_and_end_with_blocks(each, most, batches):
    pace = Pace(most)
    for count in batches:
        start = 0
        while start < count:
            size = pace(start)
            assert 1 <= size <= max(8, most // each, 1)
            assert size <= BLOCK - start % BLOCK, "it ends within its block, or with it"
            pace.learn(size * each, size)
            start += size


def test_what_waits_may_be_summed_before_the_statistics_are_asked_for():
    x = np.random.default_rng(1).normal(size=(2, 5, 3 * 300)).astype(np.float32)
    whole, early = MomentSum(2, 5), MomentSum(2, 5)
    for total in (whole, early):
        total.add(x, 300)
    early.flush()
    one, other = whole.stats(), early.stats()
    assert one is not None and other is not None
    assert one.hessian.tobytes() == other.hessian.tobytes() and one.count == other.count == 900


def test_a_moment_that_layers_share_is_woken_once():
    moment = np.eye(3)[None].copy()
    stats = {name: Stats(moment, np.zeros((1, 3)), 9, 9) for name in ("q", "k")}
    found = settled(stats, {}, [], 0.5)
    assert found["q"].hessian is found["k"].hessian
    np.testing.assert_array_equal(found["q"].hessian, 1.5 * np.eye(3)[None])


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import numpy as np
from adapters import onnx_models as models
from attar.adapters.onnx.adapter import OnnxAdapter

def resident(key):
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(key))
    return int(line.split()[1]) << 10

nodes, weights, name = [], {{}}, "x"
for k in range(6):
    weights[f"w{{k}}"] = models.random(32, 3 if k == 0 else 32, 3, 3, seed=k)
    nodes.append(models.node("Conv", [name, f"w{{k}}"], f"y{{k}}", pads=[1, 1, 1, 1]))
    name = f"y{{k}}"
adapter = OnnxAdapter.open(models.model(nodes, weights, (3, 64, 64), y=name))
x = models.random(384, 3, 64, 64)
adapter.run({{"x": x[:1]}})
before = resident("VmHWM")
stats = adapter.moments([{{"x": x[:256]}}, {{"x": x[256:]}}])
assert len(stats) == 6
print(resident("VmHWM") - before)
"""


def test_statistics_of_large_activations_take_them_in_pieces():
    """The activations of a batch take 700 MB here, and what is unfolded of them for 384 examples as much again."""
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 240 * MIB
