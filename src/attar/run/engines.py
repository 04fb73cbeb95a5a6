"""Where tasks run: threads of this process, processes, or the nodes of a Ray cluster; the bytes are the same.

A task is a function of a module with plain arguments: values, arrays, names. What many tasks take (weights,
statistics) is shared once, and reaches each node once. Results come in the order of the tasks, and BLAS has one thread
in every task, so that sums are taken in the same order wherever it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from attar.errors import UsageError
from attar.run.executor import map_in_order

R = TypeVar("R")
ENGINES = ("threads", "processes", "ray")


class Engine(Protocol):
    """Runs tasks; closed when the run has ended."""

    @property
    def jobs(self) -> int | None:
        """Tasks at once; None for as many as there are cores."""
        ...

    def share(self, value: Any, of: object = None) -> Any:
        """What stands for a value in the arguments of tasks: shared once for the object that it is of, itself without.

        Neither may change afterwards.
        """
        ...

    def map(self, function: Callable[..., R], tasks: Iterable[tuple[Any, ...]]) -> Iterator[R]:
        """function(*task) for each task, in order; the first error is raised. Shared arguments are read-only."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


@dataclass(frozen=True)
class Threads:
    """Tasks on `jobs` threads (None: one a core)."""

    jobs: int | None = None

    def share(self, value: Any, of: object = None) -> Any:  # noqa: ARG002
        """The value itself."""
        return value

    def map(self, function: Callable[..., R], tasks: Iterable[tuple[Any, ...]]) -> Iterator[R]:
        """In order; raises UsageError where `jobs` is not a positive number."""
        with one_blas_thread():
            yield from map_in_order(lambda task: function(*task), tasks, self.jobs)

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class Shares:
    """Values shared once with `put`, by the identity of what they are of, which is held so that it stays theirs."""

    put: Callable[[Any], Any]
    known: dict[int, tuple[object, Any]] = field(default_factory=dict)

    def get(self, value: Any, of: object = None) -> Any:
        """What stands for a value."""
        owner = value if of is None else of
        if id(owner) not in self.known:
            self.known[id(owner)] = (owner, self.put(value))
        return self.known[id(owner)][1]


def one_blas_thread() -> AbstractContextManager[Any]:
    """BLAS with one thread: tasks that each take all cores would be slower."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limits


def engine_of(text: str, jobs: int | None = None) -> Engine:
    """The engine of a name: threads, processes, ray (a cluster that is there, else this machine), ray://host:port.

    Raises UsageError, also where Ray is not installed.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs: it must be one or more. Received {jobs}. Leave it out for one a core.")
    if text == "threads":
        return Threads(jobs)
    if text == "processes":
        from attar.run.processes import Processes

        return Processes(jobs)
    if text == "ray" or text.startswith("ray://"):
        from attar.run.cluster import Cluster

        return Cluster(None if text == "ray" else text, jobs)
    raise UsageError(
        f"engine: it must be one of {', '.join(ENGINES)}, or ray://host:port. Received {text!r}. Correct it."
    )
