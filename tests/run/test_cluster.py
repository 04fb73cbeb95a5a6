"""Tasks on a Ray cluster: on this machine, and on two nodes one of which is lost on the way."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import attar
from attar.errors import UsageError
from attar.run.cluster import Cluster
from attar.run.engines import engine_of
from attar.run.progress import Silent

ROOT = Path(__file__).parents[2]
STORE = {"object_store_memory": 200 << 20}


@pytest.fixture(scope="module")
def engine() -> Iterator[Cluster]:
    engine = Cluster(None, 2)
    yield engine
    engine.close()


def test_tasks_on_this_machine(engine: Cluster) -> None:
    def total(values: np.ndarray, number: int) -> float:
        if number == 3:
            raise UsageError("layer 'three': it must not be.")
        return float(values.sum()) + number

    values = np.arange(200_000.0)
    shared = engine.share(values)
    assert engine.share(values) is shared, "shipped once"
    results = engine.map(total, [(shared, n) for n in range(5)])
    assert [next(results) for _ in range(3)] == [values.sum() + n for n in range(3)]
    with pytest.raises(UsageError, match="layer 'three'"):
        next(results)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_one_cluster_at_a_time(engine: Cluster) -> None:
    with pytest.raises(UsageError, match="already"):
        engine_of("ray://127.0.0.1:10001")


class Falls(Silent):
    """Takes a node down when the first layer has been encoded."""

    def __init__(self, fall) -> None:
        self.fall, self.encoding = fall, False

    def stage(self, name: str, total: int) -> None:
        self.encoding = name.startswith("encoding")

    def step(self, count: int = 1) -> None:
        if self.encoding and self.fall is not None:
            self.fall()
            self.fall = None


@pytest.mark.slow
def test_a_lost_node_changes_no_byte(engine: Cluster, monkeypatch) -> None:
    import ray
    from ray.cluster_utils import Cluster as Nodes

    engine.close()
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, **STORE})
    second = nodes.add_node(num_cpus=1, **STORE)
    third = nodes.add_node(num_cpus=1, **STORE)
    ray.init(nodes.address, log_to_driver=False, logging_level="ERROR")
    try:
        lost_on_the_way(nodes, second)
        model, data = ROOT / "examples/models/lenet5.onnx", ROOT / "examples/fashion-mnist"
        options = {"max_drop": 2, "evaluations": 2, "calibration_examples": 400, "select_examples": 1000}
        here = attar.compress(model, data, **options)
        falls = Falls(lambda: nodes.remove_node(third, allow_graceful=False))
        there = attar.compress(model, data, engine="ray", progress=falls, **options)
        assert falls.fall is None and there.data == here.data
        assert ray.is_initialized(), "a connection that was there stays"
    finally:
        ray.shutdown()
        nodes.shutdown()


def lost_on_the_way(nodes, node) -> None:
    """Tasks that a lost node was at work on are run again elsewhere."""

    def place(seconds: float) -> str:
        import time

        import ray

        time.sleep(seconds)
        return str(ray.get_runtime_context().get_node_id())

    engine = engine_of("ray")
    assert node.node_id in set(engine.map(place, [(0.5,)] * 9)), "all nodes work"
    results = engine.map(place, [(1.0,)] * 9)
    first = next(results)
    nodes.remove_node(node, allow_graceful=False)
    rest = list(results)
    assert len([first, *rest]) == 9 and node.node_id not in rest[-3:]
    engine.close()


@pytest.mark.slow
def test_a_cluster_that_is_not_there(engine: Cluster) -> None:
    engine.close()
    with pytest.raises(UsageError, match="must answer"):
        engine_of("ray://127.0.0.1:9")
