"""The native loops as a function that XLA calls. `csrc/xla.c` gives the order of its arguments and results."""

import ctypes
from typing import Any

import jax

from rnnstate.kernels.loops.definition import Array
from rnnstate.kernels.native.library import library, strip_count
from rnnstate.kernels.native.xla_header import place_of

_LIBRARY = library()
_LIBRARY.rnnstate_use_pool(place_of("XLA_FFI_ThreadPool_Schedule"), place_of("XLA_FFI_ThreadPool_NumThreads"))
_ADDRESS = ctypes.cast(_LIBRARY.rnnstate_xla, ctypes.c_void_p)
jax.ffi.register_ffi_target("rnnstate_rows", jax.ffi.pycapsule(_ADDRESS), platform="cpu")


def call_rows(
    settings: Array, arrays: list[Array], overwritten: list[Array], results: list[Any], strips: tuple[int, int] | None
) -> Any:
    """Run the rows of a batch through a window, forward or back.

    Args:
        settings: Two int32: which cell, and what to do.
        arrays: The arguments 1 to 9, which native code only reads. The fifth is the recurrent kernel.
        overwritten: The other arguments, which become the first results.
        results: Shapes and dtypes of the results that follow, up to `spare`.
        strips: Shape of the factor that is laid in strips, or `None`.

    Returns:
        All results but `strips`.
    """
    given = [settings, *arrays, *overwritten]
    in_strips = (strip_count(strips[1]), strips[0], _LIBRARY.width) if strips else (0, 0, 0)
    results = [*results, jax.ShapeDtypeStruct(in_strips, "float32")]
    shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in overwritten] + results
    places = {len(given) - len(overwritten) + place: place for place in range(len(overwritten))}
    call = jax.ffi.ffi_call("rnnstate_rows", shapes, vmap_method="sequential", input_output_aliases=places)
    return call(*given)[:-1]
