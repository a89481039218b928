"""The native loops as functions that XLA calls: arrays are taken from its call frames, where they lie.

The layout is that of XLA's C interface for foreign functions, `xla/ffi/api/c_api.h`, version 0.1 and later, in words of eight
bytes.

References:
- https://docs.jax.dev/en/latest/ffi.html
"""

import ctypes
from typing import Any

import jax
import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from rnnstate.kernels.loops_reference import Array
from rnnstate.kernels.native_loops import rows_back, rows_forward
from rnnstate.kernels.native_math import native, native_callback
from rnnstate.kernels.native_threads import register_task, run_in_blocks

# Words of a call frame: extension, arguments, results. Of a buffer: data, rank, sizes.
_EXTENSION, _ARGUMENTS, _RESULTS = 1, 9, 14
_DATA, _RANK, _SIZES = 3, 4, 5


@intrinsic
def _pointer(_: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.intp), generate


@native
def _words(address: int, count: int) -> Array:
    return carray(_pointer(address), (count,), np.int64)


@native
def _sizes(buffer: int, count: int) -> Array:
    """Return the last sizes of a buffer, ones where it has fewer axes."""
    words = _words(buffer, 6)
    sizes = np.ones(count, np.int64)
    for axis in range(min(count, words[_RANK])):
        sizes[count - 1 - axis] = _words(words[_SIZES], words[_RANK])[words[_RANK] - 1 - axis]
    return sizes


@native
def _rows(buffer: int) -> Array:
    """Return a buffer `(batch, time, width)` of floats, or one with fewer axes."""
    sizes = _sizes(buffer, 3)
    return carray(_pointer(_words(buffer, 6)[_DATA]), (sizes[0], sizes[1], sizes[2]), np.float32)


@native
def _leaves(buffer: int) -> Array:
    """Return a buffer `(leaves, batch, units)` of floats with a time axis of one."""
    sizes = _sizes(buffer, 3)
    return carray(_pointer(_words(buffer, 6)[_DATA]), (sizes[0], sizes[1], 1, sizes[2]), np.float32)


@native
def _flags(buffer: int) -> Array:
    """Return a buffer `(batch, time)` of booleans."""
    sizes = _sizes(buffer, 2)
    return carray(_pointer(_words(buffer, 6)[_DATA]), (sizes[0], sizes[1]), np.uint8)


@native
def _settings(buffer: int) -> Array:
    return carray(_pointer(_words(buffer, 6)[_DATA]), (3,), np.int32)


@native
def _is_asked_for_version(frame: int) -> bool:
    """Answer what XLA asks when a function is registered: which version of the interface it was written for."""
    extension = _words(frame, 2)[_EXTENSION]
    if extension == 0:
        return False
    metadata = _words(_words(extension, 4)[3], 5)
    metadata[3] = 1 << 32  # major 0, minor 1
    metadata[4] = 0
    return True


@native_callback("intp(intp)")
def _block(address: int) -> int:
    """Run a block of rows, forward or back."""
    block = _words(address, 3)
    frame, lo, hi = block[0], block[1], block[2]
    a, r = _words(_words(frame, 15)[_ARGUMENTS], 11), _words(_words(frame, 15)[_RESULTS], 5)
    kind, back = _settings(a[0])[0], _settings(a[0])[1]
    given = _leaves(a[1]), _leaves(a[2]), _flags(a[3]), _flags(a[4]), _rows(a[5])[0]
    if back:
        gradients = _rows(a[6]), _leaves(a[7]), _rows(a[8])
        found = _rows(r[0]), _rows(r[1]), _leaves(r[2]), _leaves(r[3]), _rows(r[4])
        rows_back(kind, lo, hi, *given, *gradients, *found)
    else:
        found = _rows(r[0]), _rows(r[1]), _rows(r[2]), _leaves(r[3]), _rows(r[4])
        rows_forward(kind, lo, hi, *given, _rows(a[6])[0, 0], *found)
    return 0


register_task(_block)


@native_callback("intp(intp)")
def _call(frame: int) -> int:
    """Run all rows of what XLA calls for, forward or back."""
    if not _is_asked_for_version(frame):
        a, r = _words(_words(frame, 15)[_ARGUMENTS], 6), _words(_words(frame, 15)[_RESULTS], 1)
        batch, time, kernel = _leaves(a[1]).shape[1], _rows(r[0]).shape[1], _rows(a[5]).size
        run_in_blocks(frame, batch, float(time * batch * kernel), _settings(a[0])[2])
    return 0


jax.ffi.register_ffi_target("rnnstate_rows", jax.ffi.pycapsule(ctypes.c_void_p(_call.address)), platform="cpu")


def call_rows(settings: Array, arrays: list[Array], overwritten: list[Array], results: list[Any]) -> Any:
    """Run the rows of a batch through a window, forward or back.

    Args:
        settings: Which cell, whether back, and how many threads may run at a time, int32.
        arrays: What `rows_forward` or `rows_back` only reads.
        overwritten: What becomes its first results.
        results: Shapes and dtypes of the others.

    Returns:
        All results.
    """
    given = [settings, *arrays, *overwritten]
    shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in overwritten] + results
    places = {len(given) - len(overwritten) + place: place for place in range(len(overwritten))}
    call = jax.ffi.ffi_call("rnnstate_rows", shapes, vmap_method="sequential", input_output_aliases=places)
    return call(*given)
