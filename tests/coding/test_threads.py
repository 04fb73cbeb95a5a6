"""Threads of a decoding: the same values and refusals however many there are, late, missing or after a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from attar import _native as native
from attar.coding import order
from attar.coding.rans import STATIC, Rans
from attar.coding.streams import Reader
from attar.coding.values import bounds

TASKS = Path("/proc/self/task")
THREADS = (1, 2, 3, 9)
SHAPE = (9000, 300)
"""Six chunks, and three blocks of row levels."""
BOUNDS = bounds(np.dtype(np.int32))


@pytest.fixture(scope="module")
def codes():
    rng = np.random.default_rng(0)
    spread = np.exp(rng.normal(0, 1, (SHAPE[0], 1)) + rng.normal(0, 0.5, (1, SHAPE[1])))
    found = np.rint(rng.laplace(0, 1, SHAPE) * spread).astype(np.int32)
    found.ravel()[rng.integers(0, found.size, 20)] = 70_000
    return found


@pytest.fixture(scope="module")
def data(codes):
    assert codes.size > 5 * order.CHUNK
    text = Rans.encode(codes)
    assert text[0] - STATIC == 7
    return text


def decoded(data, threads):
    """The bytes of what is read, or that it is refused."""
    out = np.empty(SHAPE, np.int32)
    try:
        native.decode_values(data, out, *SHAPE, 4, *BOUNDS, threads)
    except ValueError:
        return "refused"
    return out.tobytes()


def test_any_number_of_threads_reads_the_same(codes, data):
    for threads in THREADS:
        for _ in range(5):
            assert decoded(data, threads) == codes.tobytes()


def sections(data):
    """Where the text of the side information, its streams and the first chunk begin, and where all ends."""
    side = Reader(memoryview(data)[1:]).sized()
    text = bytes(Reader(side).sized())
    start = data.index(text)
    return [start, start + len(text), data.index(bytes(side)) + len(side), len(data)]


def test_what_one_thread_refuses_ends_all(data):
    rng = np.random.default_rng(1)
    cuts = sections(data)
    refused = 0
    for start, stop in pairwise(cuts):
        for _ in range(12):
            wrong = bytearray(data)
            at = int(rng.integers(start, stop))
            wrong[at] ^= int(rng.integers(1, 256))
            found = {decoded(bytes(wrong), threads) for threads in THREADS}
            assert len(found) == 1
            refused += found == {"refused"}
        short = data[: int(rng.integers(start, stop))]
        assert {decoded(short, threads) for threads in THREADS} == {"refused"}
    assert refused > 30


def test_calls_at_the_same_time(codes, data):
    wrong = bytearray(data)
    wrong[-5] ^= 1
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(decoded, [data, bytes(wrong)] * 12, [3] * 24))
    assert found == [codes.tobytes(), "refused"] * 12


@pytest.mark.skipif(not TASKS.exists(), reason="needs /proc")
def test_threads_end_with_their_call(data):
    for _ in range(50):
        decoded(data, 4)
    # Those that came too late go home.
    end = time.monotonic() + 20
    while len(list(TASKS.iterdir())) > 20:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_starts_threads_of_its_own(codes, data):
    expected = codes.tobytes()
    with ThreadPoolExecutor(1) as pool:
        beside = [pool.submit(decoded, data, 3) for _ in range(10)]
        child = os.fork()
        if child == 0:
            os._exit(0 if decoded(data, 3) == expected else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert all(one.result() == expected for one in beside)


CROWDED = """
import resource, sys, threading
import numpy as np
from attar import _native as native

data, expected = open(sys.argv[1], "rb").read(), np.load(sys.argv[2])
out = np.empty_like(expected)
native.decode_values(data, out, *out.shape, 4, -(1 << 31), (1 << 31) - 1, 1)
pages = int(open("/proc/self/statm").read().split()[0])
# Less than the stack of another thread.
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (16 << 20),) * 2)
try:
    threading.Thread(target=int).start()
except RuntimeError:
    out[:] = 0
else:
    raise SystemExit("a thread started")
native.decode_values(data, out, *out.shape, 4, -(1 << 31), (1 << 31) - 1, 4)
assert (out == expected).all()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_one_thread_does_it_where_no_other_starts(codes, data, tmp_path):
    (tmp_path / "data").write_bytes(data)
    np.save(tmp_path / "codes.npy", codes)

    def large_stacks():
        import resource

        resource.setrlimit(resource.RLIMIT_STACK, (64 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))

    command = [sys.executable, "-c", CROWDED, str(tmp_path / "data"), str(tmp_path / "codes.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=large_stacks)
    assert done.returncode == 0, done.stderr[-2000:]
