"""XLA's thread pool, called from native code: how many threads it has, and a task for one of them.

Each call gets the address of one struct of words, as XLA's header lays it out:

    word   XLA_FFI_ThreadPool_NumThreads_Args    XLA_FFI_ThreadPool_Schedule_Args
    0      struct_size: 32                       struct_size: 40
    1      extension_start: none                 extension_start: none
    2      ctx, from the call frame              ctx, from the call frame
    3      num_threads ---> one word             task: the function to call
    4      -                                     data: its argument
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from rnnstate.kernels.native.math import native
from rnnstate.kernels.native.xla.frame import API, CONTEXT, words
from rnnstate.kernels.native.xla.header import WORD, word_of

_SIZE, _CTX, _THREADS, _TASK, _DATA = 0, 2, 3, 3, 4
_COUNT_WORDS, _SCHEDULE_WORDS = 4, 5
# The two functions in the table of all functions that XLA offers.
_SCHEDULE, _COUNT = word_of("XLA_FFI_ThreadPool_Schedule"), word_of("XLA_FFI_ThreadPool_NumThreads")
_TABLE_WORDS = max(_SCHEDULE, _COUNT) + 1

EXPECTED = {
    "XLA_FFI_ThreadPool_NumThreads_Args": {"struct_size": _SIZE, "ctx": _CTX, "num_threads": _THREADS},
    "XLA_FFI_ThreadPool_Schedule_Args": {"struct_size": _SIZE, "ctx": _CTX, "task": _TASK, "data": _DATA},
}


@intrinsic
def _invoke(_: Any, function: Any, argument: Any) -> Any:
    """Call a C function by its address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = context.get_value_type(types.intp)
        kind = ir.FunctionType(word, [word]).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], kind), [arguments[1]])

    return types.intp(types.intp, types.intp), generate


@native
def count_threads(frame: int) -> int:
    """Return how many threads XLA has, or 1 if it does not say."""
    given, call = words(frame, CONTEXT + 1), np.zeros(_COUNT_WORDS + 1, np.int64)
    call[_SIZE], call[_CTX] = _COUNT_WORDS * WORD, given[CONTEXT]
    call[_THREADS] = call[_COUNT_WORDS:].ctypes.data  # XLA writes the number into the word after the struct
    failed = _invoke(words(given[API], _TABLE_WORDS)[_COUNT], call.ctypes.data)
    return 1 if failed else call[_COUNT_WORDS]


@native
def schedule(frame: int, task: int, data: int) -> bool:
    """Let a thread of XLA call the function at the address `task` with `data`. Tell whether XLA accepted it."""
    given, call = words(frame, CONTEXT + 1), np.zeros(_SCHEDULE_WORDS, np.int64)
    call[_SIZE], call[_CTX] = _SCHEDULE_WORDS * WORD, given[CONTEXT]
    call[_TASK], call[_DATA] = task, data
    failed = _invoke(words(given[API], _TABLE_WORDS)[_SCHEDULE], call.ctypes.data)
    return not failed
