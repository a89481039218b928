"""The call frame that XLA hands to a foreign function: where things lie, and its buffers as arrays.

All offsets are in words of eight bytes. They were checked with JAX and jaxlib 0.10.2 (interface 0.3, Numba 0.68.1).
`EXPECTED` lists every offset under its name in XLA's header, so that `check_layout` can compare them at load.

    XLA_FFI_CallFrame                         XLA_FFI_Args, XLA_FFI_Rets (inside the frame)
    word                                      word of the frame
     0   struct_size                           5 | 10   struct_size
     1   extension_start ---> extension        6 | 11   extension_start
     2   api             ---> functions        7 | 12   size: how many buffers
     3   ctx: goes back to XLA in each call    8 | 13   types
     4   stage (4 bytes, then padding)         9 | 14   args | rets ---> pointers to buffers
     5   args: 5 words
    10   rets: 5 words                        XLA_FFI_Buffer
    15   attrs (not read)                      0   struct_size
                                               1   extension_start
    XLA_FFI_Metadata_Extension                 2   dtype (4 bytes, then padding)
     0   struct_size                           3   data ---> the numbers
     1   type (4 bytes): 1 asks for metadata   4   rank
     2   next                                  5   dims ---> `rank` sizes
     3   metadata ---> XLA_FFI_Metadata
                                              XLA_FFI_Metadata
                                               0   struct_size
                                               1   api_version.struct_size
                                               2   api_version.extension_start
                                               3   api_version.major (4 bytes), .minor (4 bytes): the answer
                                               4   traits (4 bytes): the answer

References:
- https://docs.jax.dev/en/latest/ffi.html
"""

import numpy as np
from numba import carray

from rnnstate.kernels.loops.definition import Array
from rnnstate.kernels.native.math import native
from rnnstate.kernels.native.table import pointer

# XLA_FFI_CallFrame
EXTENSION, API, CONTEXT = 1, 2, 3
_ARGUMENTS_SIZE, _ARGUMENT_COUNT, _ARGUMENTS = 5, 7, 9
_RESULTS_SIZE, _RESULT_COUNT, _RESULTS = 10, 12, 14
_FRAME_WORDS = 15
# XLA_FFI_Buffer
_DATA, _RANK, _SIZES, _BUFFER_WORDS = 3, 4, 5, 6
# XLA_FFI_Metadata_Extension and XLA_FFI_Metadata
_TYPE, _METADATA, _EXTENSION_WORDS = 1, 3, 4
_VERSION, _TRAITS, _METADATA_WORDS = 3, 4, 5
_ASKS_FOR_METADATA = 1
# Bytes of XLA_FFI_Args and of XLA_FFI_Rets, which write their size into their first word.
_LIST_BYTES = 40
# The version that this code was written for: major 0 in the low half of the word, minor 1 in the high half.
_WRITTEN_FOR = 1 << 32

EXPECTED = {
    "XLA_FFI_CallFrame": {
        "struct_size": 0,
        "extension_start": EXTENSION,
        "api": API,
        "ctx": CONTEXT,
        "args.struct_size": _ARGUMENTS_SIZE,
        "args.size": _ARGUMENT_COUNT,
        "args.args": _ARGUMENTS,
        "rets.struct_size": _RESULTS_SIZE,
        "rets.size": _RESULT_COUNT,
        "rets.rets": _RESULTS,
    },
    "XLA_FFI_Buffer": {"data": _DATA, "rank": _RANK, "dims": _SIZES},
    "XLA_FFI_Metadata_Extension": {"extension_base.type": _TYPE, "metadata": _METADATA},
    "XLA_FFI_Metadata": {"api_version.major_version": _VERSION, "traits": _TRAITS},
}


@native
def words(address: int, count: int) -> Array:
    """Return the words of eight bytes that lie at an address."""
    return carray(pointer(address), (count,), np.int64)


@native
def arguments(frame: int) -> Array:
    """Return the addresses of the buffers that XLA passes in."""
    given = words(frame, _FRAME_WORDS)
    return words(given[_ARGUMENTS], given[_ARGUMENT_COUNT])


@native
def results(frame: int) -> Array:
    """Return the addresses of the buffers that XLA wants filled."""
    given = words(frame, _FRAME_WORDS)
    return words(given[_RESULTS], given[_RESULT_COUNT])


@native
def has_buffers(frame: int, argument_count: int, result_count: int) -> bool:
    """Tell whether a frame states the expected sizes of its lists, and at least as many buffers as native code reads."""
    given = words(frame, _FRAME_WORDS)
    sizes = given[_ARGUMENTS_SIZE] == _LIST_BYTES and given[_RESULTS_SIZE] == _LIST_BYTES
    enough: bool = sizes and given[_ARGUMENT_COUNT] >= argument_count and given[_RESULT_COUNT] >= result_count
    return enough


@native
def answer_version(frame: int) -> bool:
    """Answer the question that XLA asks when a function is registered: which version was it written for?

    Returns:
        Whether this call was the question. Then there is nothing to compute.
    """
    extension = words(frame, _FRAME_WORDS)[EXTENSION]
    if extension == 0 or words(extension, _EXTENSION_WORDS)[_TYPE] & 0xFFFFFFFF != _ASKS_FOR_METADATA:
        return False
    metadata = words(words(extension, _EXTENSION_WORDS)[_METADATA], _METADATA_WORDS)
    metadata[_VERSION] = _WRITTEN_FOR
    metadata[_TRAITS] = 0
    return True


@native
def _sizes(buffer: int, count: int) -> Array:
    """Return the last `count` sizes of a buffer. Fill up with ones in front if it has fewer axes."""
    rank = words(buffer, _BUFFER_WORDS)[_RANK]
    given = words(words(buffer, _BUFFER_WORDS)[_SIZES], rank)
    sizes = np.ones(count, np.int64)
    for axis in range(min(count, rank)):
        sizes[count - 1 - axis] = given[rank - 1 - axis]
    return sizes


@native
def copy_place(words_of_array: Array, buffer: int) -> None:
    """Write the address and the last three sizes of a buffer into the words of an array in a table."""
    words_of_array[0] = words(buffer, _BUFFER_WORDS)[_DATA]
    words_of_array[1:] = _sizes(buffer, 3)


@native
def settings(buffer: int) -> Array:
    """Return a buffer of two int32: which cell, and whether the loop runs back."""
    return carray(pointer(words(buffer, _BUFFER_WORDS)[_DATA]), (2,), np.int32)
