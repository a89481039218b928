"""PyTorch on the CPU: calls of the native loops. Tensors fill the table of arrays, and threads share the rows.

PyTorch's OpenMP gives the threads (`csrc/teams.c`). On macOS, and in a process that was forked, a pool gives them: `ctypes`
runs native code without Python's lock, so the threads of a pool compute at the same time.
"""

import ctypes
import os
import warnings
from array import array
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from rnnstate.kernels.loops.definition import Array
from rnnstate.kernels.native.library import (
    STEPS_OF_SUMS,
    is_supported,
    library,
    line_of_sums,
    lines_of_sums,
    strip_count,
)

# What a call does, as in `csrc/call.h`.
FORWARD, BACK, SUMS, _GRADIENT_OF_X = range(4)
# The least work of a block that repays a second thread, in multiplications with an addition.
WORTH_A_THREAD = 2e6
_PROCESS = os.getpid()


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


class NativeCall:
    """A call of native code, which can run several times on the same memory.

    Args:
        kind: Which cell.
        work: What the call does.
        arrays: The arrays of `csrc/call.h`.
        parts: Rows of a loop, or strips of sums.
        multiplications: How many multiplications with an addition the call makes.
    """

    def __init__(self, kind: int, work: int, arrays: list[Array | None], parts: int, multiplications: float) -> None:
        self._arrays, self._table = arrays, _table(kind, work, arrays)  # the arrays keep their memory
        self._parts, self._threads = parts, int(multiplications / WORTH_A_THREAD)

    def __call__(self) -> None:
        """Run all parts."""
        _in_threads(self._table, self._parts, self._threads)


def rows_run(kind: int, work: int, arrays: list[Any], steps: int, spare: Array, strips: Array | None) -> NativeCall:
    """Prepare all rows of a batch, forward or back, in as many threads as PyTorch has and as the work repays.

    Args:
        kind: Which cell.
        work: `FORWARD` or `BACK`.
        arrays: The arrays of `csrc/call.h` before `spare`, contiguous. Arrays of numbers are float32. `None` stands for
            an empty array.
        steps: Steps of the window.
        spare: Scratch of the rows, `(batch, 1, ...)`.
        strips: Scratch for kernels in strips, or `None`.
    """
    kernels = [arrays[4], arrays[7] if work == FORWARD else None]
    numbers = sum(kernel.numel() for kernel in kernels if kernel is not None)
    return NativeCall(kind, work, [*arrays, spare, strips], len(spare), float(steps * len(spare) * numbers))


def scratch_for_strips(lines: int, columns: int, like: Array) -> Array:
    """Return scratch for a matrix in strips."""
    return like.new_empty((strip_count(columns), lines, library().width))


def sums_run(arrays: list[Any]) -> NativeCall:
    """Prepare the gradients of the kernels, for the arrays of `csrc/call.h` before `spare`. The threads share the strips."""
    d_x, x, outputs = arrays[5:8]
    inner, strips = x.shape[2] + outputs.shape[2], strip_count(d_x.shape[2])
    spare = x.new_empty((strips, STEPS_OF_SUMS, line_of_sums(inner)))
    in_strips = x.new_empty((strips, lines_of_sums(inner), library().width))
    return NativeCall(0, SUMS, [*arrays, spare, in_strips], strips, float(d_x.numel() * inner))


def gradient_of_x_run(d_x: Array, kernel: Array, strips: Array | None, result: Array) -> NativeCall:
    """Prepare the gradient of x, `(batch, time, features)`. The threads share the rows.

    Args:
        d_x: Gradient of the projected input.
        kernel: The kernel of the input, or without strips the transposed kernel.
        strips: Scratch for the transposed kernel in strips, or `None`.
        result: Receives the gradient.
    """
    nothing, zeros = [None, None, None], d_x.new_zeros(result.shape[2])
    arrays = [*nothing, *nothing, d_x, kernel, zeros, result, *nothing, None, strips]
    return NativeCall(0, _GRADIENT_OF_X, arrays, len(d_x), float(d_x.numel() * result.shape[2]))


def _table(kind: int, work: int, arrays: list[Array | None]) -> "array[int]":
    table = [kind, work]
    for part in arrays:
        table += (0, 1, 1, 0) if part is None else (part.data_ptr(), *(1, 1, 1)[part.dim() :], *part.shape)
    return array("q", table)


def _address(table: "array[int]") -> int:
    return table.buffer_info()[0]


def _in_threads(table: "array[int]", parts: int, most: int) -> None:
    """Run all parts of a call: rows of a loop, or strips of sums. The work repays at most `most` threads."""
    run, call = library().rnnstate_run, _address(table)
    threads = max(1, min(torch.get_num_threads(), (parts + 1) // 2, most))
    team = _team() if threads > 1 and os.getpid() == _PROCESS else None
    if team is not None:  # its threads pack the kernels
        library().rnnstate_run_team(call, threads, team)
        return
    library().rnnstate_pack(call)
    if threads == 1:
        run(call, 0, parts)
    else:
        edges = [thread * parts // threads for thread in range(threads + 1)]
        others = [_pool(os.getpid()).submit(run, call, edges[i], edges[i + 1]) for i in range(1, threads)]
        run(call, 0, edges[1])
        for other in others:
            other.result()


@cache
def _team() -> int | None:
    """Return the address of the function that starts PyTorch's threads, `GOMP_parallel`, or `None` without such threads."""
    if not torch.backends.openmp.is_available():
        return None
    for path in Path(torch.__file__).parent.glob("lib/libgomp*.so*"):
        with suppress(OSError, AttributeError):  # PyTorch computes with another library
            start = ctypes.CDLL(str(path), os.RTLD_NOLOAD | os.RTLD_NOW).GOMP_parallel
            return ctypes.cast(start, ctypes.c_void_p).value
    return None


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the threads of this process. A child that was forked has none of its parent's."""
    return ThreadPoolExecutor(thread_name_prefix="rnnstate-rows")
