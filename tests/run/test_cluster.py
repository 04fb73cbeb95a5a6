"""Tasks on a Ray cluster of two nodes, one of which is lost on the way."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from attar.errors import UsageError
from attar.run.cluster import Cluster
from run.test_engines import refused, total

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ray() -> Iterator[Cluster]:
    engine = Cluster(None, 2)
    yield engine
    engine.close()


def test_tasks_on_this_machine(ray: Cluster) -> None:
    values = np.arange(200_000.0)
    shared = ray.share(values)
    assert ray.share(values) is shared
    assert list(ray.map(total, [(shared, n) for n in range(5)])) == [total(values, n) for n in range(5)]
    results = ray.map(refused, [(1,), (2,)])
    assert next(results) == 1
    with pytest.raises(UsageError, match="layer 'two'"):
        next(results)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
