"""Tasks in processes of this machine: each reads what is shared from one file that all of them map into memory."""

from __future__ import annotations

import mmap
import os
import pickle
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from attar.errors import AttarError
from attar.run.engines import Shares

R = TypeVar("R")
AGAIN = 3
"""How often tasks are run again after a process was lost."""
ALIGN = 64
OPEN = 8
"""Shared values that a process keeps open."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Shared:
    """A value in a file: its pickle without the arrays, then the bytes of each array from an offset."""

    path: str
    head: bytes
    spans: tuple[tuple[int, int], ...]


class Processes:
    """Tasks on `jobs` processes (None: one a core); a lost one's tasks are run again."""

    def __init__(self, jobs: int | None = None) -> None:
        self.jobs = jobs
        self._shares = Shares(self._put)
        self._folder: Path | None = None
        self._pool: ProcessPoolExecutor | None = None

    def share(self, value: Any, of: object = None) -> Any:
        """A name that processes find the value by."""
        return self._shares.get(value, of)

    def map(self, function: Callable[..., R], tasks: Iterable[tuple[Any, ...]]) -> Iterator[R]:
        """In order; raises AttarError where processes are lost again and again."""
        waiting, lost = list(tasks), 0
        futures: list[Future[R]] = []
        while waiting:
            try:
                futures = futures or self._submit(function, waiting)
                done = futures[0].result()
            except BrokenProcessPool as error:
                lost, futures = lost + 1, []
                self._stop()
                if lost > AGAIN:
                    raise AttarError(
                        f"engine 'processes': a task must end. Its process was lost {lost} times, as when memory "
                        "runs out or a script has no `if __name__ == '__main__':`. Use threads or "
                        "fewer --jobs."
                    ) from error
                continue
            yield done
            futures, waiting = futures[1:], waiting[1:]

    def close(self) -> None:
        """End the processes and remove the files."""
        self._stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder, self._shares = None, Shares(self._put)

    def _submit(self, function: Callable[..., R], tasks: list[tuple[Any, ...]]) -> list[Future[R]]:
        """All tasks, to a pool that is there or begins now. BLAS reads its number of threads when a process begins."""
        before = {name: os.environ.get(name) for name in ONE_THREAD}
        os.environ.update(ONE_THREAD)
        try:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(self.jobs or os.cpu_count(), get_context("spawn"))
            return [self._pool.submit(_call, function, task) for task in tasks]
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})

    def _stop(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None

    def _put(self, value: Any) -> Shared:
        """Write a value to a file of its own."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="attar-"))
        buffers: list[pickle.PickleBuffer] = []
        head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        path, spans = self._folder / str(len(self._shares.known)), []
        with path.open("wb") as file:
            for buffer in buffers:
                file.write(bytes(-file.tell() % ALIGN))
                raw = buffer.raw()
                spans.append((file.tell(), raw.nbytes))
                file.write(raw)
        return Shared(str(path), head, tuple(spans))


_open: OrderedDict[str, Any] = OrderedDict()


def _call(function: Callable[..., R], task: tuple[Any, ...]) -> R:
    """A task in its process, with what is shared in the place of its names."""
    return function(*(_value(part) if isinstance(part, Shared) else part for part in task))


def _value(shared: Shared) -> Any:
    """A shared value, its arrays mapped from the file, read-only; those used last stay open."""
    if shared.path not in _open:
        buffers: list[memoryview] = []
        if any(size for _, size in shared.spans):
            with Path(shared.path).open("rb") as file:
                whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            buffers = [whole[start : start + size] for start, size in shared.spans]
        else:
            buffers = [memoryview(b"") for _ in shared.spans]
        _open[shared.path] = pickle.loads(shared.head, buffers=buffers)  # noqa: S301 - written by this very run
        while len(_open) > OPEN:
            _open.popitem(last=False)
    _open.move_to_end(shared.path)
    return _open[shared.path]
