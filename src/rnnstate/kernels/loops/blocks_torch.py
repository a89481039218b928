"""PyTorch on the CPU: calls of the native loops. Tensors fill the table of arrays, and threads share the rows.

`ctypes` runs native code without Python's lock, so the threads of a pool compute at the same time.
"""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch

from rnnstate.kernels.loops.definition import Array
from rnnstate.kernels.native.library import ALL_ROWS_FOR_STRIPS, ROWS_FOR_STRIPS, is_supported, library

# The least work of a block that repays a second thread, in multiplications with an addition.
WORTH_A_THREAD = 2e6


@cache
def has_library() -> bool:
    """Tell whether native code can run: the library is there or can be compiled.

    The answer is kept for the process. If something fails, one warning says what.
    """
    if not is_supported():
        return False
    try:
        library()
    except Exception as error:
        warnings.warn(
            "The native loops cannot be loaded, so the operators of PyTorch run, which are slower. "
            f"Received: {error!r}. Install rnnstate from a wheel for this platform, or install a C compiler.",
            stacklevel=2,
        )
        return False
    return True


def run_rows(kind: int, back: bool, arrays: list[Array | None], steps: int, spare: Array, kernel: Array) -> None:
    """Run all rows of a batch, forward or back, in as many threads as PyTorch has and as the work repays.

    Args:
        kind: Which cell.
        back: Whether the loop runs back.
        arrays: The arrays of `csrc/call.h` before `spare`, contiguous. Arrays of numbers are float32. `None` stands for
            an empty array.
        steps: Steps of the window.
        spare: Scratch, `(batch, 1, gates * units)`.
        kernel: The recurrent kernel, or its transpose. It is also the fifth array.
    """
    batch, strips, given = spare.shape[0], None, None if back else arrays[7]
    lines = len(kernel) + (0 if given is None else len(given))
    if batch >= ROWS_FOR_STRIPS and batch * steps >= ALL_ROWS_FOR_STRIPS:
        width = library().width
        strips = kernel.new_empty((-(-kernel.shape[1] // width), lines, width))
    table = [kind, int(back)]
    for array in (*arrays, spare, strips):
        table += (0, 1, 1, 0) if array is None else (array.data_ptr(), *(1, 1, 1)[array.dim() :], *array.shape)
    call = np.array(table, np.int64)
    library().rnnstate_pack(call.ctypes.data)
    _in_blocks(call.ctypes.data, batch, float(steps * batch * lines * kernel.shape[1]))


def _in_blocks(call: int, batch: int, work: float) -> None:
    run = library().rnnstate_run
    blocks = max(1, min(torch.get_num_threads(), (batch + 1) // 2, int(work / WORTH_A_THREAD)))
    edges = [block * batch // blocks for block in range(blocks + 1)]
    others = [_pool(os.getpid()).submit(run, call, edges[i], edges[i + 1]) for i in range(1, blocks)]
    run(call, 0, edges[1])
    for other in others:
        other.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the threads of this process. A child that was forked has none of its parent's."""
    return ThreadPoolExecutor(thread_name_prefix="rnnstate-rows")
