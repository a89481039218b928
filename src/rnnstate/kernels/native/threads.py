"""Blocks of rows on the threads of XLA, from native code.

XLA's threads wait for work by looking for it again and again, so that threads of our own would have to share the cores
with them. Nothing here waits for a thread that has not begun: blocks are taken by whoever comes first, and the thread that
XLA called takes all that nobody else has.
"""

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rnnstate.kernels.native.math import native
from rnnstate.kernels.native.xla.frame import words
from rnnstate.kernels.native.xla.pool import count_threads, schedule

# Callbacks that are made by whoever uses this module.
BLOCK, TASK = "rnnstate_block_of_rows", "rnnstate_take_blocks"
_run = types.ExternalFunction(BLOCK, types.void(types.intp, types.intp, types.intp))
_allocate = types.ExternalFunction("malloc", types.intp(types.intp))
_free = types.ExternalFunction("free", types.void(types.intp))
_let_others = types.ExternalFunction("sched_yield", types.int32())

# Multiplications, each with an addition, that make a block worth a thread: at 64 units they take 35 us with all else.
_WORTH_A_THREAD = 2e6
# What threads share: what to run, its rows, blocks in all; then counts of blocks taken and done, and of threads to come.
_FRAME, _ROWS, _BLOCKS, _TAKEN, _DONE, _USERS, _WORDS = range(7)


def publish(name: str, callback: Any) -> None:
    """Give a callback a name under which native code finds it: its address is another one in each process.

    Args:
        name: `BLOCK`, which gets the call frame, the first row, and the row after the last; or `TASK`, which gets what the
            threads share, and calls `take_blocks`.
        callback: What to call; code that names it must be compiled later.
    """
    binding.add_symbol(name, callback.address)


@intrinsic
def _add(_: Any, address: Any, value: Any) -> Any:
    """Add to a word that other threads add to; return what it was before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = context.get_value_type(types.intp)
        return builder.atomic_rmw("add", builder.inttoptr(arguments[0], word.as_pointer()), arguments[1], "seq_cst")

    return types.intp(types.intp, types.intp), generate


@intrinsic
def _task_address(_: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = context.get_value_type(types.intp)
        task = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [word]), TASK)
        return builder.ptrtoint(task, word)

    return types.intp(), generate


@native
def take_blocks(shared: int) -> None:
    """Run blocks until all are taken, and leave."""
    given = words(shared, _WORDS)
    rows, blocks = given[_ROWS], given[_BLOCKS]
    block = _add(shared + 8 * _TAKEN, 1)
    while block < blocks:
        _run(given[_FRAME], block * rows // blocks, (block + 1) * rows // blocks)
        _add(shared + 8 * _DONE, 1)
        block = _add(shared + 8 * _TAKEN, 1)
    _leave(shared)


@native
def _leave(shared: int) -> None:
    if _add(shared + 8 * _USERS, -1) == 1:
        _free(shared)


@native
def run_in_blocks(frame: int, rows: int, work: float) -> None:
    """Run all rows, in as many blocks as are worth it.

    Args:
        frame: The call frame.
        rows: Rows of the batch.
        work: Multiplications and additions of all rows.
    """
    blocks = max(1, min((rows + 1) // 2, int(work / _WORTH_A_THREAD)))
    if blocks > 1:
        blocks = min(blocks, count_threads(frame))
    if blocks == 1:
        _run(frame, 0, rows)
        return
    shared = _allocate(8 * _WORDS)
    given = words(shared, _WORDS)
    given[:] = 0
    given[_FRAME], given[_ROWS], given[_BLOCKS], given[_USERS] = frame, rows, blocks, blocks + 1
    for _ in range(blocks - 1):
        if not schedule(frame, _task_address(), shared):
            _leave(shared)
    take_blocks(shared)
    while _add(shared + 8 * _DONE, 0) < blocks:
        _let_others()
    _leave(shared)
