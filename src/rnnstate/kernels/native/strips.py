"""The recurrent product with a matrix whose columns are stored in strips, in the order in which tiles read them.

matrix (inner, columns)          strips (strips, inner, WIDTH)
┌────────┬────────┬────┐         ┌────────┐ ┌────────┐ ┌────┬───┐
│   0    │   1    │ 2  │   ──►   │   0    │ │   1    │ │ 2  │ 0 │   the last strip is filled with zeros
└────────┴────────┴────┘         └────────┘ └────────┘ └────┴───┘
"""

from typing import Any

import numpy as np

from rnnstate.kernels.loops.definition import Array
from rnnstate.kernels.native.math import native
from rnnstate.kernels.native.tiles import WIDTH, add_strip

_BYTES = 4
_zero = np.float32(0)


@native
def pack(strips: Array, b: Array) -> None:
    """Copy the columns of a matrix into strips, and fill the last strip with zeros.

    Args:
        strips: Receives the strips, `(strips, inner, WIDTH)`.
        b: The matrix, `(inner, columns)`.
    """
    for strip in range(strips.shape[0]):
        for k in range(b.shape[0]):
            _copy_to_strip(strips[strip, k], b[k], strip * WIDTH)


@native
def _copy_to_strip(line: Array, row: Array, first: int) -> None:
    if row.size - first >= WIDTH:
        for j in range(WIDTH):
            line[j] = row[first + j]
    else:
        for j in range(row.size - first):
            line[j] = row[first + j]
        for j in range(row.size - first, WIDTH):
            line[j] = _zero


@native
def add_product_of_strips(z: Array, tz: int, a: Array, ta: int, strips: Array, edge: Array) -> None:
    """Add the product of `a[:, ta]` and a matrix in strips to `z[:, tz]`.

    Args:
        z: The result, `(rows, time, columns)`.
        tz: Step of `z`.
        a: The first factor, `(rows, time, inner)`.
        ta: Step of `a`.
        strips: The second factor, `(strips, inner, WIDTH)`.
        edge: Scratch `(rows, 1, WIDTH)`, for a strip that is wider than the columns that are left.
    """
    rows, inner, a_at = z.shape[0], strips.shape[1], _address(a, ta, 0)
    for strip in range(strips.shape[0]):
        first, at = strip * WIDTH, strips[strip].ctypes.data
        width = z.shape[2] - first
        if width >= WIDTH:
            add_strip(rows, inner, _address(z, tz, first), z.strides[0], a_at, a.strides[0], at)
        else:
            _copy_columns(edge, 0, 0, z, tz, first, width)
            add_strip(rows, inner, _address(edge, 0, 0), edge.strides[0], a_at, a.strides[0], at)
            _copy_columns(z, tz, first, edge, 0, 0, width)


@native
def _address(array: Array, t: int, column: int) -> Any:
    return array.ctypes.data + t * array.strides[1] + column * _BYTES


@native
def _copy_columns(to: Array, t_to: int, first_to: int, source: Array, t: int, first: int, count: int) -> None:
    for row in range(to.shape[0]):
        target, given = to[row, t_to], source[row, t]
        for j in range(count):
            target[first_to + j] = given[first + j]
