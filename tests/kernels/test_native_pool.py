"""Law: the pool of threads changes no bit, serves several calls at once, and stays out of processes that were forked."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from native_calls import LSTM, back_arrays, forward_arrays, run
from rnnstate.kernels.native.library import use_threads

pytestmark = pytest.mark.once
# Large enough for several blocks; 29 rows and 131 units fill no tile.
ROWS, TIME, UNITS = 29, 7, 131
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the threads of a process are counted in /proc")
RESULTS = ("x", "outputs", "kept", "final", "d_start")


@pytest.fixture
def threads():
    """Let the pool compute with three threads."""
    use_threads(3)
    yield
    use_threads(1)


def both_ways(pool):
    """Return the results of a window forward and back."""
    forward = run(LSTM, forward_arrays(LSTM, ROWS, TIME, UNITS, 0.1), None, pool=pool)
    back = run(LSTM, back_arrays(LSTM, forward), None, back=True, pool=pool)
    return [part[name] for part in (forward, back) for name in RESULTS if name in part]


@pytest.mark.usefixtures("threads")
def test_the_pool_changes_no_bit():
    """Three threads give what one thread gives, call after call."""
    expected = both_ways(pool=False)
    assert len(expected) == 8
    for _ in range(5):
        assert all(np.array_equal(one, other) for one, other in zip(both_ways(pool=True), expected, strict=True))


@pytest.mark.usefixtures("threads")
def test_several_threads_call_at_once():
    """Calls from five threads share the pool. Each waits for its own blocks alone."""
    expected = both_ways(pool=False)
    with ThreadPoolExecutor(5) as callers:
        found = [callers.submit(both_ways, pool=True) for _ in range(40)]
        for one in found:
            assert all(np.array_equal(*pair) for pair in zip(one.result(), expected, strict=True))


def long_call(pool):
    """Return the outputs of a call that repays moves of threads, `WORTH_A_MOVE` in csrc/blocks.c."""
    return run(LSTM, forward_arrays(LSTM, 67, 23, 311, 0.1), None, pool=pool)["outputs"]


@ON_LINUX
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("is_pinned", [True, False])
def test_the_threads_of_a_long_call_keep_their_cores(is_pinned):
    """They may move apart during the call. Afterwards each thread may use the same cores as before, and no bit changed."""
    allowed = os.sched_getaffinity(0)
    expected = long_call(pool=False)
    run(LSTM, forward_arrays(LSTM, ROWS, TIME, UNITS, 0.1), None, pool=True)  # starts the threads
    try:
        os.sched_setaffinity(0, {min(allowed)} if is_pinned else allowed)  # the calling thread alone
        before = _cores()
        for _ in range(20):
            assert np.array_equal(long_call(pool=True), expected)
        assert _cores() == before
        assert (before[threading.get_native_id()] == allowed) is (not is_pinned or len(allowed) == 1)
    finally:
        os.sched_setaffinity(0, allowed)


def _cores():
    """Return the cores that each thread of this process may use."""
    return {int(thread): os.sched_getaffinity(int(thread)) for thread in os.listdir("/proc/self/task")}


@ON_LINUX
def test_the_pool_starts_threads():
    """Two more threads run after a large call, and none after a small one or with one thread."""
    assert _printed("small, alone, large") == "0 0 2"


@ON_LINUX
def test_a_process_that_was_forked():
    """It has no threads of its parent, so it computes alone, and gives the same bits."""
    assert _printed("fork") == "0 True"


SCRIPT = """
import os, sys
import numpy as np
from native_calls import LSTM, forward_arrays, run
from rnnstate.kernels.native.library import library, use_threads

def count():
    return len(os.listdir("/proc/self/task"))

def call(units):
    return run(LSTM, forward_arrays(LSTM, 29, 7, units, 0.1), None, pool=True)["outputs"]

library()
use_threads(3)
if sys.argv[1] == "fork":
    expected = call(131)
    child = os.fork()
    if not child:
        os._exit(0 if count() == 1 and np.array_equal(call(131), expected) and count() == 1 else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), np.array_equal(call(131), expected))
else:
    before, found = count(), []
    call(5)
    found.append(count() - before)
    use_threads(1)
    call(131)
    found.append(count() - before)
    use_threads(3)
    call(131)
    found.append(count() - before)
    print(*found)
"""


def _printed(what):
    support = Path(__file__).parents[1] / "support"
    code = f"import sys; sys.path.insert(0, {str(support)!r})\n{SCRIPT}"
    done = subprocess.run([sys.executable, "-c", code, what], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()
