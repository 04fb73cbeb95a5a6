"""Tasks on the nodes of a Ray cluster: what is shared goes to a node once, and a lost node's tasks are run again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from attar.errors import AttarError, UsageError
from attar.run.engines import Shares, one_blas_thread

R = TypeVar("R")
STORE_BYTES = 500 << 20
"""Shared memory of a cluster that is begun here; what does not fit goes to the disk."""
AGAIN = 5
"""How often a task is run again whose node was lost."""


class Cluster:
    """Tasks on a Ray cluster: that of an address, the one this process is connected to, or one of this machine alone.

    One that was begun or connected to here is left when the run has ended. Nothing is sent about its use. On other
    machines attar of the same version is installed. Raises UsageError where Ray is not installed, or nothing answers.

    A cluster of this machine takes seconds to start, in which nothing else runs: Ray forks, before which OpenBLAS ends
    its threads, and a product that this process is in the middle of would wait for them for ever.
    """

    def __init__(self, address: str | None = None, jobs: int | None = None) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            import ray
        except ImportError:
            raise UsageError("engine 'ray': Ray must be installed. It is not. Run: pip install 'attar[ray]'.") from None
        self.jobs, self._ray, self._shares = jobs, ray, Shares(ray.put)
        self._mine = not ray.is_initialized()
        if self._mine:
            self._connect(address)
        elif address is not None:
            raise UsageError(
                f"engine {address!r}: a process has one Ray cluster. It is connected to one already. Use 'ray'."
            )

    def share(self, value: Any, of: object = None) -> Any:
        """A reference to the value in the object store."""
        return self._shares.get(value, of)

    def map(self, function: Callable[..., R], tasks: Iterable[tuple[Any, ...]]) -> Iterator[R]:
        """In order; raises AttarError where nodes are lost again and again."""
        run = self._ray.remote(max_retries=AGAIN, num_cpus=1)(_call)
        waiting = [run.remote(function, *task) for task in tasks]
        try:
            while waiting:
                yield self._result(waiting[0])
                waiting = waiting[1:]
        finally:
            for one in waiting:
                self._ray.cancel(one)

    def close(self) -> None:
        """Let go of what is shared, and of a cluster that was begun here."""
        self._shares = Shares(self._ray.put)
        if self._mine and self._ray.is_initialized():
            self._ray.shutdown()

    def _result(self, reference: Any) -> Any:
        """What a task returned; what it raised is raised."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            raise AttarError(
                f"engine 'ray': a task must end. Received {type(error).__name__}, as when nodes are lost or memory "
                "runs out. Use --engine threads, or nodes with more memory."
            ) from error

    def _connect(self, address: str | None) -> None:
        """To the cluster of an address, or to one that begins here."""
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        here = address is None and "RAY_ADDRESS" not in os.environ
        if here:
            quiet |= {
                "num_cpus": self.jobs or os.cpu_count(), "include_dashboard": False, "object_store_memory": STORE_BYTES,
                "_system_config": {"worker_niceness": 0},  # Ray's own 15 starves tasks beside anything else
            }  # fmt: skip
        try:
            # "local": one of another user's, or what a killed one left behind in /tmp, is not to be connected to.
            self._ray.init("local" if here else address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            said = " ".join(str(error).split())[:200]
            raise UsageError(
                f"engine {address or 'ray'!r}: a Ray cluster must answer there. Received: {said}. Check the address, "
                "or use --engine threads."
            ) from None


def _call(function: Callable[..., R], *task: Any) -> R:
    """A task on its node; references among its arguments have become what they stand for."""
    with one_blas_thread():
        return function(*task)
