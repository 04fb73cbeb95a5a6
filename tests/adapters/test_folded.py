"""Statistics whose second moments are held as triangles."""

import numpy as np
import pytest

from adapters.test_held_pictures import BYTES, three_layers
from attar.adapters.folded import Folded, Moments, held, with_sensitivity
from attar.adapters.moments import MomentSum
from attar.beginning import job_of
from attar.measuring import subject_of
from attar.run.kept import Kept
from attar.run.progress import Silent
from attar.search.remember import moments, sensitivities
from attar.search.subject import Subject
from attar.types import Scaled, Stats


def summed(groups: int, cols: int) -> Stats:
    """Statistics as adapters sum them, in two blocks."""
    total, rng = MomentSum(groups, cols), np.random.default_rng(cols)
    for _ in range(2):
        total.add(rng.normal(0.3, 1, (groups, cols, 40 * 3)).astype(np.float32), 40)
    found = total.stats()
    assert found is not None and found.pooled is not None
    return found


def same(one: Stats, other: Stats) -> bool:
    arrays = [(getattr(one, part), getattr(other, part)) for part in ("hessian", "mean", "pooled", "sensitivity")]
    alike = [a is b or (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes()) for a, b in arrays]
    return (one.count, one.samples) == (other.count, other.samples) and all(alike)


@pytest.mark.parametrize(("groups", "cols"), [(1, 1), (1, 2), (1, 200), (7, 9), (3, 33)])
def test_moments_come_back_bit_by_bit_from_half_of_the_memory(groups: int, cols: int) -> None:
    stats, found = summed(groups, cols), Moments()
    found["a"] = stats
    assert same(found["a"], stats)
    for part in ("hessian", "pooled"):
        assert getattr(found.held("a").stats, part).size == groups * (cols * (cols + 1) // 2)


def test_what_is_not_symmetric_to_the_last_bit_stays_whole() -> None:
    stats = summed(2, 5)
    stats.hessian[1, 3, 2] = np.nextafter(stats.hessian[1, 3, 2], 9)
    zeros = np.zeros((1, 3, 3))
    zeros[0, 1, 0] = -0.0
    for one, parts in ((stats, ("pooled",)), (Stats(zeros, np.zeros((1, 3)), 9, 9), ())):
        found = Moments()
        found["a"] = one
        assert found.held("a").parts == parts and same(found["a"], one)
    diagonal = Stats(np.ones((1, 8)), np.zeros((1, 8)), 9, 9)
    found["a"] = diagonal
    assert found["a"].hessian is diagonal.hessian


def test_other_sensitivities_copy_no_moments() -> None:
    plain = {"a": summed(1, 20), "b": summed(1, 30)}
    known = Moments()
    known.update(plain)
    rows = np.arange(4.0)
    for stats in (plain, known):
        found = with_sensitivity(stats, {"a": rows})
        assert found["a"].sensitivity is rows and found["b"].sensitivity is None and list(found) == ["a", "b"]
        assert all(held(found, name).stats.hessian is held(stats, name).stats.hessian for name in stats)


def test_folded_statistics_are_kept_and_found_again(tmp_path) -> None:
    known = Moments()
    known["a"], known["b"] = summed(1, 20), summed(6, 9)
    first = moments(Kept(tmp_path), "m", lambda: known)
    again = moments(Kept(tmp_path), "m", lambda: pytest.fail("kept"))
    assert first is known and isinstance(again, Moments) and all(same(again[name], known[name]) for name in known)
    assert all(again.held(name).parts == ("hessian", "pooled") for name in known)
    rows = {"a": np.arange(4.0)}
    sensitivities(Kept(tmp_path), "s", known, lambda: (with_sensitivity(known, rows), "told"))
    found, told = sensitivities(Kept(tmp_path), "s", known, lambda: pytest.fail("kept"))
    assert told == "told" and found["a"].sensitivity.tolist() == rows["a"].tolist()
    assert held(found, "a").stats.hessian is known.held("a").stats.hessian
    unit = Kept(tmp_path).get("s")
    assert unit is not None and list(unit[1]) == ["a/sensitivity"], "moments are not kept twice"


def test_onnx_statistics_and_the_search_hold_triangles() -> None:
    adapter = three_layers()
    seen = adapter.moments([{"x": Scaled(BYTES, lambda given: (given / np.float32(255)).astype(np.float32))}])
    assert isinstance(seen, Moments) and all(seen.held(name).parts == ("hessian", "pooled") for name in seen)
    layers = adapter.layers()
    weights = {layer.name: adapter.read(layer.name) for layer in layers}
    subject = Subject(adapter, layers, weights, seen, {}, b"", {})
    whole = Subject(adapter, layers, weights, dict(seen), {}, b"", {})
    corrected, factors = subject.corrected(1e-4, lambda: 0.5, Silent())
    assert whole.corrected(1e-4, lambda: 0.5, Silent())[1] == factors
    assert all(held(corrected.stats, name).stats.hessian is seen.held(name).stats.hessian for name in seen)
    assert len(subject.build(1e-4).data) and subject.build(1e-4).data == whole.build(1e-4).data
    (task, *_) = [subject._sent(layer, 1e-4) for layer in layers]
    assert isinstance(task[2], Folded) and task[2].parts == ("hessian", "pooled"), "made whole where it runs"


def test_a_run_holds_triangles_alone() -> None:
    model, answers = three_layers(), np.zeros((len(BYTES), 4, 14, 13), np.float32)
    fields = {"metric": "mse", "max_drop": 1.0, "guarantee": "estimate"}
    found = subject_of(job_of(model.model(), (BYTES, answers), None, fields), Silent())
    assert isinstance(found.stats, Moments)
    assert [found.stats.held(layer.name).parts for layer in found.layers] == [("hessian",)] * 3
