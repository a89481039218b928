"""The table in which native code finds its arrays. Each backend fills a table for each call.

    word     0      1       2         3 4 5    6         7 8 9    ...
             kind   back    address   sizes    address   sizes
                            | array 0         | array 1        |

`kind` and `back` say which cell runs, and whether the loop runs back. An array has four words: its address and three sizes.
An array with fewer axes has sizes of one in front. `blocks` lists the arrays.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from rnnstate.kernels.loops.definition import Array
from rnnstate.kernels.native.math import native

# The places of the settings, the place of the first array, and the words of an array.
KIND, BACK, FIRST, WORDS = 0, 1, 2, 4


@intrinsic
def pointer(_: Any, address: Any) -> Any:
    """Return an address as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.intp), generate


@intrinsic
def word(_: Any, address: Any, place: Any) -> Any:
    """Return the word at a place of a table."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.IntType(64)
        at = builder.add(arguments[0], builder.mul(arguments[1], kind(8)))
        return builder.load(builder.inttoptr(at, kind.as_pointer()))

    return types.intp(types.intp, types.intp), generate


@native
def rows(table: int, number: int) -> Array:
    """Return an array of floats `(batch, time, width)`."""
    at = FIRST + WORDS * number
    sizes = word(table, at + 1), word(table, at + 2), word(table, at + 3)
    return carray(pointer(word(table, at)), sizes, np.float32)


@native
def leaves(table: int, number: int) -> Array:
    """Return an array of floats `(leaves, batch, units)` as `(leaves, batch, 1, units)`: the time axis is one step."""
    at = FIRST + WORDS * number
    sizes = word(table, at + 1), word(table, at + 2), 1, word(table, at + 3)
    return carray(pointer(word(table, at)), sizes, np.float32)


@native
def flags(table: int, number: int) -> Array:
    """Return an array of booleans as bytes, `(batch, time)`."""
    at = FIRST + WORDS * number
    return carray(pointer(word(table, at)), (word(table, at + 2), word(table, at + 3)), np.uint8)
