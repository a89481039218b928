"""PyTorch on the CPU: calls of the native block function. Tensors fill the table of arrays, and threads share the rows.

The function runs without Python's lock, so the threads of a pool compute at the same time.
"""

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch

from rnnstate.kernels.loops.definition import Array


@cache
def has_compiler() -> bool:
    """Tell whether native code can run: Numba is installed on a POSIX system, and it compiles.

    The answer is kept for the process. If Numba is there and something fails, one warning says what.
    """
    if sys.platform not in ("linux", "darwin") or importlib.util.find_spec("numba") is None:
        return False
    try:
        native_code()
    except Exception as error:
        warnings.warn(
            "The native loops cannot be compiled, so the operators of PyTorch run, which are slower. "
            f"Received: {error!r}. Install a version of Numba for this NumPy and this processor, or none.",
            stacklevel=2,
        )
        return False
    return True


@cache
def native_code() -> tuple[ModuleType, Callable[..., None], int]:
    """Return the module of the block function, the function, and the width of a strip.

    They need Numba, so nothing is imported before.
    """
    blocks, tiles = (importlib.import_module(f"rnnstate.kernels.native.{name}") for name in ("blocks", "tiles"))
    return blocks, blocks.BLOCK.ctypes, tiles.WIDTH


def run_rows(kind: int, back: bool, arrays: list[Array | None], steps: int, spare: Array, kernel: Array) -> None:
    """Run all rows of a batch, forward or back, in as many threads as PyTorch has and as the work repays.

    Args:
        kind: Which cell.
        back: Whether the loop runs back.
        arrays: The arrays of `kernels.native.blocks` before `spare`, contiguous. Arrays of numbers are float32. `None`
            stands for an empty array.
        steps: Steps of the window.
        spare: Scratch, `(batch, 1, gates * units)`.
        kernel: The recurrent kernel, or its transpose. It is also the fifth array.
    """
    code, _, width = native_code()
    batch = spare.shape[0]
    scratch: list[Array | None] = [spare, None, None]
    if batch >= code.ROWS_FOR_STRIPS and batch * steps >= code.ALL_ROWS_FOR_STRIPS:
        scratch[1:] = kernel.new_empty((batch, 1, width)), _strips(kernel, width)
    table = [kind, int(back)]
    for array in (*arrays, *scratch):
        table += (0, 1, 1, 0) if array is None else (array.data_ptr(), *(1, 1, 1)[array.dim() :], *array.shape)
    _in_blocks(np.array(table, np.int64), batch, float(steps * batch * kernel.numel()))


def _strips(kernel: Array, width: int) -> Array:
    """Return the columns of a kernel in strips, filled up with zeros: `(strips, inner, width)`."""
    inner, columns = kernel.shape
    padded = torch.nn.functional.pad(kernel, (0, -columns % width))
    return padded.view(inner, -1, width).transpose(0, 1).contiguous()


def _in_blocks(table: Any, batch: int, work: float) -> None:
    code, run, _ = native_code()
    at = table.ctypes.data
    blocks = max(1, min(torch.get_num_threads(), (batch + 1) // 2, int(work / code.WORTH_A_THREAD)))
    edges = [block * batch // blocks for block in range(blocks + 1)]
    others = [_pool(os.getpid()).submit(run, at, edges[i], edges[i + 1]) for i in range(1, blocks)]
    run(at, 0, edges[1])
    for other in others:
        other.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the threads of this process. A child that was forked has none of its parent's."""
    return ThreadPoolExecutor(thread_name_prefix="rnnstate-rows")
