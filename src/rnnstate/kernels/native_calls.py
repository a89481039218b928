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
def _floats(buffer: int) -> Array:
    """Return a buffer as an array of three axes, the first ones of one if it has fewer."""
    words = _words(buffer, 6)
    sizes = np.ones(3, np.int64)
    given = _words(words[_SIZES], words[_RANK])
    sizes[3 - given.size :] = given
    return carray(_pointer(words[_DATA]), (sizes[0], sizes[1], sizes[2]), np.float32)


@native
def _flags(buffer: int) -> Array:
    """Return a buffer of booleans `(time, batch, 1)`, or an empty one, as an array `(time, batch)`."""
    words = _words(buffer, 6)
    sizes = _words(words[_SIZES], 3)
    return carray(_pointer(words[_DATA]), (sizes[0], sizes[1]), np.uint8)


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
    a, r = _words(_words(frame, 15)[_ARGUMENTS], 11), _words(_words(frame, 15)[_RESULTS], 4)
    kind, back = _settings(a[0])[0], _settings(a[0])[1]
    given = _floats(a[1]), _floats(a[2]), _flags(a[3]), _flags(a[4]), _floats(a[5])[0], _floats(a[6])
    found = _floats(r[0]), _floats(r[1]), _floats(r[2]), _floats(r[3])
    if back:
        rows_back(kind, lo, hi, *given, _floats(a[7]), _floats(a[8]), _floats(a[9]), _floats(a[10]), *found)
    else:
        rows_forward(kind, lo, hi, *given, _floats(a[7])[0, 0], *found)
    return 0


register_task(_block)


@native_callback("intp(intp)")
def _call(frame: int) -> int:
    """Run all rows of what XLA calls for, forward or back."""
    if not _is_asked_for_version(frame):
        a = _words(_words(frame, 15)[_ARGUMENTS], 7)
        batch, kernel, time = _floats(a[1]).shape[1], _floats(a[5]).size, _floats(a[6]).shape[0]
        run_in_blocks(frame, batch, float(time * batch * kernel), _settings(a[0])[2])
    return 0


jax.ffi.register_ffi_target("rnnstate_rows", jax.ffi.pycapsule(ctypes.c_void_p(_call.address)), platform="cpu")


def call_rows(results: Any, kind: int, back: bool, cores: int, *arrays: Any) -> Any:
    """Run the rows of a batch through a window.

    Args:
        results: Shapes and dtypes of the last four arguments of `rows_forward` or `rows_back`.
        kind: Which cell.
        back: Whether to run `rows_back`.
        cores: How many threads may run at a time.
        *arrays: The other arrays of that function.
    """
    call = jax.ffi.ffi_call("rnnstate_rows", results, vmap_method="sequential")
    return call(np.array([kind, back, cores], np.int32), *arrays)
