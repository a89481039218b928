"""The function that runs a block of rows, compiled once for all backends. It reads its arrays from a table.

    array   forward     back           array   forward    back
    0       start       start          8       x          x
    1       initial     initial        9       outputs    kept
    2       mask        mask           10      kept       d_start
    3       reset       reset          11      final      d_initial
    4       recurrent   transposed     12      spare      spare
    5       bias        d_outputs      13      edge       edge
    6       given       d_final        14      strips     strips
    7       kernel      outputs

`rows_forward` and `rows_back` describe the arrays.
"""

from typing import Any

from rnnstate.kernels.native.compiling import compiled, fingerprint
from rnnstate.kernels.native.math import native
from rnnstate.kernels.native.rows import rows_back, rows_forward
from rnnstate.kernels.native.table import BACK, KIND, flags, leaves, rows, word

ARRAYS, STRIPS = 15, 14
# Rows of a step, and of all steps, for which a kernel is laid in strips. Fewer rows do not repay the copy.
ROWS_FOR_STRIPS, ALL_ROWS_FOR_STRIPS = 4, 16
# The least work of a block that repays a second thread, in multiplications with an addition. At 64 units such a block
# takes 35 us.
WORTH_A_THREAD = 2e6


@native
def run_block(table: int, lo: int, hi: int) -> None:
    """Run the rows `lo` to `hi`."""
    kind, back = word(table, KIND), word(table, BACK)
    given = leaves(table, 0), leaves(table, 1), flags(table, 2), flags(table, 3), rows(table, 4)[0]
    scratch = rows(table, 12), rows(table, 13), rows(table, 14)
    if back:
        gradients = rows(table, 5), leaves(table, 6), rows(table, 7)
        found = rows(table, 8), rows(table, 9), leaves(table, 10), leaves(table, 11)
        rows_back(kind, lo, hi, *given, *gradients, *found, *scratch)
    else:
        bias, features, kernel = rows(table, 5)[0, 0], rows(table, 6), rows(table, 7)[0]
        outputs = rows(table, 8), rows(table, 9), rows(table, 10), leaves(table, 11)
        rows_forward(kind, lo, hi, *given, bias, features, kernel, *outputs, *scratch)


def _make(source: int) -> Any:
    """Compile the function, or load it from disk. Numba's key of a kept function includes `source`."""

    def block(table: int, lo: int, hi: int) -> None:
        source  # noqa: B018 (a part of Numba's key)
        run_block(table, lo, hi)

    return compiled("void(intp, intp, intp)", block)


BLOCK = _make(fingerprint())
