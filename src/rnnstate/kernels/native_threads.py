"""Blocks of rows on threads of their own, from native code: started for one loop, and waited for.

Starting a thread takes some 20 us, so a loop is split only where each part takes many times that. The threads of a pool
could all be waiting for one another; these cannot.
"""

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rnnstate.kernels.native_math import native

_TASK = "rnnstate_block_of_rows"
_run = types.ExternalFunction(_TASK, types.intp(types.intp))
_start = types.ExternalFunction("pthread_create", types.int32(*[types.intp] * 4))
_join = types.ExternalFunction("pthread_join", types.int32(types.intp, types.intp))

# Multiplications and additions that make a block worth a thread: about 100 us of them.
_WORTH_A_THREAD = 4e6


def register_task(task: Any) -> None:
    """Give the function that runs a block the name under which native code finds it.

    Its address is another one in each process, so code that is kept on disk must not hold it.

    Args:
        task: A callback `intp(intp)`, which gets the address of four words: what to run, first row, row after the last.
    """
    binding.add_symbol(_TASK, task.address)


@intrinsic
def _task_address(_: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = context.get_value_type(types.intp)
        task = cgutils.get_or_insert_function(builder.module, ir.FunctionType(word, [word]), _TASK)
        return builder.ptrtoint(task, word)

    return types.intp(), generate


@native
def run_in_blocks(what: int, rows: int, work: float, cores: int) -> None:
    """Run the task on all rows, in as many blocks as are worth it.

    Args:
        what: First word for the task.
        rows: Rows of the batch.
        work: Multiplications and additions of all rows.
        cores: Blocks at most.
    """
    blocks = max(1, min(cores, (rows + 1) // 2, int(work / _WORTH_A_THREAD)))
    height = (rows + 2 * blocks - 1) // (2 * blocks) * 2  # rows are multiplied two at a time
    words = np.zeros((blocks, 4), np.int64)
    for block in range(blocks):
        words[block, 0] = what
        words[block, 1] = min(rows, block * height)
        words[block, 2] = min(rows, (block + 1) * height)
    started = np.zeros(blocks, np.bool_)
    for block in range(1, blocks):
        started[block] = _start(words[block, 3:].ctypes.data, 0, _task_address(), words[block].ctypes.data) == 0
    for block in range(blocks):
        if not started[block]:  # the first, and those that there was no thread for
            _run(words[block].ctypes.data)
    for block in range(1, blocks):
        if started[block]:
            _join(words[block, 3], 0)
