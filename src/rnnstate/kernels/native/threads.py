"""Blocks of rows on the threads of XLA, started from native code.

The threads of XLA look for work again and again while they wait. Additional threads would have to share the cores with
them, so this module uses the threads of XLA.

    thread that XLA called     take a block, run it, take the next one, ...   then wait until all blocks are done
    other threads of XLA            take a block, run it, ...                 leave when no block is left

The counter `_TAKEN` gives each block to exactly one thread. If the other threads come late or never, the calling thread
runs all blocks itself. It waits only for blocks that another thread has begun. The last thread to leave frees the memory.
"""

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rnnstate.kernels.native.blocks import WORTH_A_THREAD
from rnnstate.kernels.native.math import native
from rnnstate.kernels.native.xla.frame import words
from rnnstate.kernels.native.xla.pool import count_threads, schedule

# The names of two callbacks. `xla_call` publishes them.
BLOCK_NAME, TASK = "rnnstate_block_of_rows", "rnnstate_take_blocks"
_run = types.ExternalFunction(BLOCK_NAME, types.void(types.intp, types.intp, types.intp))
_allocate = types.ExternalFunction("malloc", types.intp(types.intp))
_free = types.ExternalFunction("free", types.void(types.intp))
_let_others = types.ExternalFunction("sched_yield", types.int32())

# The words that the threads share: the table of arrays, its rows, the number of blocks, the blocks taken, the blocks done,
# and the threads that still use this memory.
_TABLE, _ROWS, _BLOCKS, _TAKEN, _DONE, _USERS, _WORDS = range(7)


def publish(name: str, callback: Any) -> None:
    """Give a callback a name under which native code finds it. Its address differs from process to process.

    Args:
        name: `BLOCK_NAME` or `TASK`. The first callback takes the table, the first row and the row after the last one.
            The second callback takes the address of the shared words, and calls `take_blocks`.
        callback: A compiled function. Publish it before you compile code that uses its name.
    """
    binding.add_symbol(name, callback.address)


@intrinsic
def _add(_: Any, address: Any, value: Any) -> Any:
    """Add to a shared word in one atomic operation. Return its value before the addition."""

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
    """Run blocks until none is left, then leave."""
    given = words(shared, _WORDS)
    rows, blocks = given[_ROWS], given[_BLOCKS]
    block = _add(shared + 8 * _TAKEN, 1)
    while block < blocks:
        _run(given[_TABLE], block * rows // blocks, (block + 1) * rows // blocks)
        _add(shared + 8 * _DONE, 1)
        block = _add(shared + 8 * _TAKEN, 1)
    _leave(shared)


@native
def _leave(shared: int) -> None:
    if _add(shared + 8 * _USERS, -1) == 1:
        _free(shared)


@native
def run_in_blocks(frame: int, table: int, rows: int, work: float) -> None:
    """Run all rows, in several blocks if the work repays more than one thread.

    Args:
        frame: Address of the call frame.
        table: Address of the table of arrays.
        rows: Number of rows of the batch.
        work: Number of multiplications with an addition, over all rows.
    """
    blocks = max(1, min((rows + 1) // 2, int(work / WORTH_A_THREAD)))
    if blocks > 1:
        blocks = min(blocks, count_threads(frame))
    if blocks == 1:
        _run(table, 0, rows)
        return
    shared = _allocate(8 * _WORDS)
    given = words(shared, _WORDS)
    given[:] = 0
    given[_TABLE], given[_ROWS], given[_BLOCKS], given[_USERS] = table, rows, blocks, blocks + 1
    for _ in range(blocks - 1):
        if not schedule(frame, _task_address(), shared):
            _leave(shared)
    take_blocks(shared)
    while _add(shared + 8 * _DONE, 0) < blocks:
        _let_others()
    _leave(shared)
