"""The native loops as functions that XLA calls: arrays are taken from its call frames, where they lie.

The layout is that of XLA's C interface for foreign functions, `xla/ffi/api/c_api.h`, in words of eight bytes.

References:
- https://docs.jax.dev/en/latest/ffi.html
"""

import ctypes
from typing import Any

import jax
import numpy as np
from numba import carray

from rnnstate.kernels.loops.definition import Array
from rnnstate.kernels.native.math import native
from rnnstate.kernels.native.rows import rows_back, rows_forward
from rnnstate.kernels.native.strips import pack
from rnnstate.kernels.native.threads import BLOCK, TASK, pointer, publish, run_in_blocks, take_blocks, words
from rnnstate.kernels.native.tiles import WIDTH
from rnnstate.kernels.native.xla_header import compiled, fingerprint

# Words of a call frame: extension, arguments, results. Of a buffer: data, rank, sizes.
_EXTENSION, _ARGUMENTS, _RESULTS = 1, 9, 14
_DATA, _RANK, _SIZES = 3, 4, 5
# Rows of a step, and of all steps, for which a kernel is laid in strips.
_ROWS_FOR_STRIPS, _ALL_ROWS_FOR_STRIPS = 4, 16


@native
def _sizes(buffer: int, count: int) -> Array:
    """Return the last sizes of a buffer, ones where it has fewer axes."""
    rank = words(buffer, 6)[_RANK]
    given = words(words(buffer, 6)[_SIZES], rank)
    sizes = np.ones(count, np.int64)
    for axis in range(min(count, rank)):
        sizes[count - 1 - axis] = given[rank - 1 - axis]
    return sizes


@native
def _rows(buffer: int) -> Array:
    """Return a buffer `(batch, time, width)` of floats, or one with fewer axes."""
    sizes = _sizes(buffer, 3)
    return carray(pointer(words(buffer, 6)[_DATA]), (sizes[0], sizes[1], sizes[2]), np.float32)


@native
def _leaves(buffer: int) -> Array:
    """Return a buffer `(leaves, batch, units)` of floats with a time axis of one."""
    sizes = _sizes(buffer, 3)
    return carray(pointer(words(buffer, 6)[_DATA]), (sizes[0], sizes[1], 1, sizes[2]), np.float32)


@native
def _flags(buffer: int) -> Array:
    """Return a buffer `(batch, time)` of booleans."""
    sizes = _sizes(buffer, 2)
    return carray(pointer(words(buffer, 6)[_DATA]), (sizes[0], sizes[1]), np.uint8)


@native
def _strips(frame: int) -> Array:
    """Return the place for the kernel in strips, empty where so few rows use it that it is not worth it."""
    r = words(words(frame, 15)[_RESULTS], 7)
    batch, time, _ = _rows(r[0]).shape
    strips = _rows(r[6])
    return strips if batch >= _ROWS_FOR_STRIPS and batch * time >= _ALL_ROWS_FOR_STRIPS else strips[:0]


@native
def _settings(buffer: int) -> Array:
    return carray(pointer(words(buffer, 6)[_DATA]), (2,), np.int32)


@native
def _is_asked_for_version(frame: int) -> bool:
    """Answer what XLA asks when a function is registered: which version of the interface it was written for."""
    extension = words(frame, 2)[_EXTENSION]
    if extension == 0:
        return False
    metadata = words(words(extension, 4)[3], 5)
    metadata[3] = 1 << 32  # major 0, minor 1
    metadata[4] = 0
    return True


@native
def _run_block(frame: int, lo: int, hi: int) -> None:
    """Run a block of rows, forward or back."""
    a, r = words(words(frame, 15)[_ARGUMENTS], 11), words(words(frame, 15)[_RESULTS], 6)
    kind, back = _settings(a[0])[0], _settings(a[0])[1]
    given = _leaves(a[1]), _leaves(a[2]), _flags(a[3]), _flags(a[4]), _rows(a[5])[0]
    if back:
        gradients = _rows(a[6]), _leaves(a[7]), _rows(a[8])
        found = _rows(r[0]), _rows(r[1]), _leaves(r[2]), _leaves(r[3]), _rows(r[4]), _rows(r[5]), _strips(frame)
        rows_back(kind, lo, hi, *given, *gradients, *found)
    else:
        found = _rows(r[0]), _rows(r[1]), _rows(r[2]), _leaves(r[3]), _rows(r[4]), _rows(r[5]), _strips(frame)
        rows_forward(kind, lo, hi, *given, _rows(a[6])[0, 0], _rows(a[7]), _rows(a[8])[0], *found)


@native
def _run_call(frame: int) -> None:
    """Run all rows of what XLA calls for, forward or back."""
    if not _is_asked_for_version(frame):
        a, r = words(words(frame, 15)[_ARGUMENTS], 6), words(words(frame, 15)[_RESULTS], 1)
        batch, time, kernel = _leaves(a[1]).shape[1], _rows(r[0]).shape[1], _rows(a[5]).size
        pack(_strips(frame), _rows(a[5])[0])
        run_in_blocks(frame, batch, float(time * batch * kernel))


def _make(source: int) -> Any:
    """Compile, or take what was kept: Numba keeps the code of a function together with the values it closes over."""

    def block(frame: int, lo: int, hi: int) -> None:
        source  # noqa: B018
        _run_block(frame, lo, hi)

    def task(shared: int) -> None:
        source  # noqa: B018
        take_blocks(shared)

    def call(frame: int) -> int:
        source  # noqa: B018
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
        settings: Which cell, and whether back, int32.
        arrays: What `rows_forward` or `rows_back` only reads; the fifth is the kernel.
        overwritten: What becomes its first results.
        results: Shapes and dtypes of the others, but for the scratch of the products.

    Returns:
        All results.
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
