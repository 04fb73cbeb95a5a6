"""Which offers stand beside those of uniform codes, and by what size."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from attar.adapters.folded import Folded
from attar.archive import read_archive
from attar.coding import encode_array
from attar.search import offers
from attar.search.subject import Subject
from attar.types import Layer, Point, Stats, Weight
from kits.method_laws import problem

METHODS = ("uniform", "lowrank", "keep")
SLOPE = 1e-3


def case(rank: int | None) -> tuple[Layer, Weight, Stats]:
    """A layer of 80 x 120 as networks have them, or of so few ranks and a little noise."""
    layer, weight, stats = problem(80, 120)
    if rank is None:
        return layer, weight, stats
    rng = np.random.default_rng(1)
    thin = rng.normal(0, 0.1, (80, rank)) @ rng.normal(0, 1, (rank, 120)) + rng.normal(0, 1e-3, (80, 120))
    return layer, Weight(thin.astype(np.float32), weight.bias), stats


def offered(rank: int | None, methods: Sequence[str] = METHODS, effort: str = "dense") -> list[Point]:
    layer, weight, stats = case(rank)
    bare = Folded(replace(stats, sensitivity=None))
    return offers.sized(effort, layer, weight, bare, stats.sensitivity, methods, {}, (SLOPE,))


def names(points: Sequence[Point]) -> set[str]:
    return {str(point.choice["method"]) for point in points}


def coded(point: Point, effort: str) -> int:
    assert point.encoded is not None
    return 8 * sum(len(encode_array(array, effort)[1]) for array in point.encoded.arrays.values())


def test_low_rank_is_left_out_where_its_factors_have_many_numbers() -> None:
    assert names(offered(None)) == {"uniform", "keep"}
    assert names(offered(3)) == set(METHODS)


def test_low_rank_stands_where_uniform_does_not_compete() -> None:
    assert names(offered(None, ("lowrank", "keep"))) == {"lowrank", "keep"}


def test_a_rank_that_is_given_is_not_left_out_before_it_is_made() -> None:
    layer, weight, stats = case(None)
    settings = {"lowrank": {"rank": 80}}
    made = offers.offers(layer, weight, stats, METHODS, settings, (SLOPE,))
    assert "lowrank" in names(list(made))


def test_what_is_offered_is_plainly_better() -> None:
    points = offered(3)
    cost = {
        name: min(p.distortion + SLOPE * p.rate_bits for p in points if p.choice["method"] == name) for name in METHODS
    }
    assert cost["lowrank"] <= offers.PLAINLY * cost["uniform"]


def test_methods_that_are_close_have_their_coded_sizes() -> None:
    for effort in ("fast", "dense"):
        points = offered(None, ("uniform", "rotated", "keep"), effort)
        for point in points:
            if point.choice["method"] in ("uniform", "rotated"):
                assert point.rate_bits == coded(point, effort)


def test_a_layer_of_one_method_has_the_size_that_the_entropy_model_tells() -> None:
    (point,) = offered(None, ("uniform",))
    assert point.rate_bits != coded(point, "dense")


def test_a_file_is_built_of_what_is_taken() -> None:
    layer, weight, stats = case(3)
    nobody: Any = None  # files are built without the model
    subject = Subject(nobody, [layer], {"layer": weight}, {"layer": stats}, {}, None, {}, METHODS)
    candidate = subject.build(SLOPE)
    assert candidate.plan.choices["layer"].choice["method"] == "lowrank"
    assert read_archive(candidate.data).encoded("layer").method == "lowrank"
    assert candidate.earned["lowrank"][0] == 1 and candidate.earned["lowrank"][1] > 0
