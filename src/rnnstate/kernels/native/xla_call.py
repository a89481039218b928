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

Shapes are those of `rows_forward` and `rows_back`.
"""

import ctypes
from typing import Any

import jax

from rnnstate.kernels.loops.definition import Array
from rnnstate.kernels.native.compiling import compiled, fingerprint
from rnnstate.kernels.native.math import native
from rnnstate.kernels.native.rows import rows_back, rows_forward
from rnnstate.kernels.native.strips import pack
from rnnstate.kernels.native.threads import BLOCK, TASK, publish, run_in_blocks, take_blocks
from rnnstate.kernels.native.tiles import WIDTH
from rnnstate.kernels.native.xla import frame as xla

# Rows of a step, and of all steps, for which a kernel is laid in strips.
_ROWS_FOR_STRIPS, _ALL_ROWS_FOR_STRIPS = 4, 16


# The fewest arguments and results that a frame must have for the order above.
_ARGUMENTS, _RESULTS = 10, 7


@native
def _strips(frame: int) -> Array:
    """Return the room for the kernel in strips. It is empty if too few rows use the strips to repay the copy."""
    r = xla.results(frame)
    batch, time, _ = xla.rows(r[0]).shape
    strips = xla.rows(r[6])
    return strips if batch >= _ROWS_FOR_STRIPS and batch * time >= _ALL_ROWS_FOR_STRIPS else strips[:0]


@native
def _run_block(frame: int, lo: int, hi: int) -> None:
    """Run a block of rows, forward or back."""
    a, r = xla.arguments(frame), xla.results(frame)
    kind, back = xla.settings(a[0])[0], xla.settings(a[0])[1]
    given = xla.leaves(a[1]), xla.leaves(a[2]), xla.flags(a[3]), xla.flags(a[4]), xla.rows(a[5])[0]
    scratch = xla.rows(r[4]), xla.rows(r[5]), _strips(frame)
    if back:
        gradients = xla.rows(a[6]), xla.leaves(a[7]), xla.rows(a[8])
        found = xla.rows(r[0]), xla.rows(r[1]), xla.leaves(r[2]), xla.leaves(r[3])
        rows_back(kind, lo, hi, *given, *gradients, *found, *scratch)
    else:
        bias, features, kernel = xla.rows(a[6])[0, 0], xla.rows(a[7]), xla.rows(a[8])[0]
        found = xla.rows(r[0]), xla.rows(r[1]), xla.rows(r[2]), xla.leaves(r[3])
        rows_forward(kind, lo, hi, *given, bias, features, kernel, *found, *scratch)


@native
def _run_call(frame: int) -> None:
    """Run all rows of a call, forward or back. A frame of another form is left alone: the check at load then fails."""
    if not xla.answer_version(frame) and xla.has_buffers(frame, _ARGUMENTS, _RESULTS):
        a, r = xla.arguments(frame), xla.results(frame)
        batch, time, kernel = xla.leaves(a[1]).shape[1], xla.rows(r[0]).shape[1], xla.rows(a[5]).size
        pack(_strips(frame), xla.rows(a[5])[0])
        run_in_blocks(frame, batch, float(time * batch * kernel))


def _make(source: int) -> Any:
    """Compile the three functions that C code calls, or load them from disk.

    Numba's key of a kept function includes the values that the function closes over. So each function mentions `source`.
    """

    def block(frame: int, lo: int, hi: int) -> None:
        source  # noqa: B018 (a part of Numba's key)
        _run_block(frame, lo, hi)

    def task(shared: int) -> None:
        source  # noqa: B018 (a part of Numba's key)
        take_blocks(shared)

    def call(frame: int) -> int:
        source  # noqa: B018 (a part of Numba's key)
        _run_call(frame)
        return 0

    publish(BLOCK, compiled("void(intp, intp, intp)", block))
    publish(TASK, compiled("void(intp)", task))
    return compiled("intp(intp)", call)


_CALL = _make(fingerprint())
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
