"""The native loops as a function that XLA calls, with the order of its arguments and results.

The buffers come from the call frame, which `xla.frame` reads. `call_rows` passes them in this order:

    argument  forward    back            result  forward         back
    0         settings   settings        0       gates (was 9)   d_x (was 9)
    1         start      start           1       outputs         d_kept (was 10)
    2         initial    initial         2       kept            d_start
    3         mask       mask            3       final           d_initial
    4         reset      reset           4       spare           spare
    5         recurrent  transposed      5       edge            edge
    6         bias       d_outputs       6       strips          strips
    7         input      d_final
    8         kernel     outputs         A result that "was 9" overwrites argument 9 in place.
    9         projected  gates
    10        -          kept

Shapes are those of `rows_forward` and `rows_back`. The arguments 1 to 8 and the results 0 to 6 are the arrays of the
table that `blocks` reads.
"""

import ctypes
from typing import Any

import jax
import numpy as np

from rnnstate.kernels.loops.definition import Array
from rnnstate.kernels.native.blocks import (
    ALL_ROWS_FOR_STRIPS,
    ARRAYS,
    BLOCK,
    ROWS_FOR_STRIPS,
    STRIPS,
)
from rnnstate.kernels.native.compiling import compiled, fingerprint
from rnnstate.kernels.native.math import native
from rnnstate.kernels.native.strips import pack
from rnnstate.kernels.native.table import BACK, FIRST, KIND, WORDS, leaves, rows
from rnnstate.kernels.native.threads import BLOCK_NAME, TASK, publish, run_in_blocks, take_blocks
from rnnstate.kernels.native.tiles import WIDTH
from rnnstate.kernels.native.xla import frame as xla
from rnnstate.kernels.native.xla.header import header

# The fewest arguments and results that a frame must have for the order above.
_ARGUMENTS, _RESULTS = 10, 7
_READ = 8  # arguments that native code only reads


@native
def _table(frame: int) -> Array:
    """Return the table of the arrays of a call."""
    a, r = xla.arguments(frame), xla.results(frame)
    table = np.zeros(FIRST + WORDS * ARRAYS, np.int64)
    table[KIND], table[BACK] = xla.settings(a[0])[0], xla.settings(a[0])[1]
    for number in range(ARRAYS):
        at = FIRST + WORDS * number
        xla.copy_place(table[at : at + WORDS], a[1 + number] if number < _READ else r[number - _READ])
    return table


@native
def _run_call(frame: int) -> None:
    """Run all rows of a call, forward or back. A frame of another form is left alone: the check at load then fails."""
    if not xla.answer_version(frame) and xla.has_buffers(frame, _ARGUMENTS, _RESULTS):
        table = _table(frame)
        at = table.ctypes.data
        batch, time, recurrent = leaves(at, 0).shape[1], rows(at, _READ).shape[1], rows(at, 4)[0]
        if batch >= ROWS_FOR_STRIPS and batch * time >= ALL_ROWS_FOR_STRIPS:
            pack(rows(at, STRIPS), recurrent)
        else:
            table[FIRST + WORDS * STRIPS + 1] = 0  # no strips
        run_in_blocks(frame, at, batch, float(time * batch * recurrent.size))


def _make(source: int) -> Any:
    """Compile the two functions that C code calls, or load them from disk.

    Numba's key of a kept function includes the values that the function closes over. So each function mentions `source`.
    """

    def task(shared: int) -> None:
        source  # noqa: B018 (a part of Numba's key)
        take_blocks(shared)

    def call(frame: int) -> int:
        source  # noqa: B018 (a part of Numba's key)
        _run_call(frame)
        return 0

    publish(BLOCK_NAME, BLOCK)
    publish(TASK, compiled("void(intp)", task))
    return compiled("intp(intp)", call)


_CALL = _make(fingerprint(header()))
jax.ffi.register_ffi_target("rnnstate_rows", jax.ffi.pycapsule(ctypes.c_void_p(_CALL.address)), platform="cpu")


def call_rows(settings: Array, arrays: list[Array], overwritten: list[Array], results: list[Any]) -> Any:
    """Run the rows of a batch through a window, forward or back.

    Args:
        settings: Two int32: which cell, and whether the loop runs back.
        arrays: The arguments 1 to 8, which native code only reads. The fifth is the recurrent kernel.
        overwritten: The other arguments, which become the first results.
        results: Shapes and dtypes of the results that follow, up to `spare`.

    Returns:
        All results but `edge` and `strips`.
    """
    given = [settings, *arrays, *overwritten]
    batch = overwritten[0].shape[0]
    inner, columns = arrays[4].shape
    sizes = (batch, 1, WIDTH), (-(-columns // WIDTH), inner, WIDTH)
    scratch = [jax.ShapeDtypeStruct(shape, "float32") for shape in sizes]
    shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in overwritten] + results + scratch
    places = {len(given) - len(overwritten) + place: place for place in range(len(overwritten))}
    call = jax.ffi.ffi_call("rnnstate_rows", shapes, vmap_method="sequential", input_output_aliases=places)
    return call(*given)[: -len(scratch)]
