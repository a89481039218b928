"""The native loops: some rows of a batch through all steps of a window, forward and back.

Rows know nothing of one another, so that each core can take some of them through the whole window, and need not wait for the
others in between. What a masked step and a reset mean is as in `loops_reference.py`.
"""

import numpy as np

from rnnstate.kernels.loops_reference import Array
from rnnstate.kernels.native_cells import GRU, LSTM, step_back, step_forward
from rnnstate.kernels.native_math import add_product, native


@native
def rows_forward(
    kind: int,
    lo: int,
    hi: int,
    start: Array,
    initial: Array,
    mask: Array,
    reset: Array,
    recurrent: Array,
    x: Array,
    bias: Array,
    outputs: Array,
    cells: Array,
    gates: Array,
    final: Array,
) -> None:
    """Run the rows `lo` to `hi`.

    Args:
        kind: Which cell.
        lo: First row.
        hi: Row after the last one.
        start: Leaves before the window, `(leaves, batch, units)`.
        initial: Leaves that resets put rows back to.
        mask: `(time, batch)`, not 0 at valid steps, or empty.
        reset: `(time, batch)`, not 0 where a row is put back, or empty.
        recurrent: Recurrent kernel `(units, gates * units)`.
        x: Projected input `(time, batch, gates * units)`.
        bias: Of the recurrent product, `(gates * units,)`, or empty.
        outputs: Takes h, `(time, batch, units)`.
        cells: Takes c of an LSTM, `(time, batch, units)`, or is empty.
        gates: Takes what the steps save, `(time, batch, saved * units)`; with one step only, it is scratch.
        final: Takes the leaves after the window.
    """
    leaves = start[:, lo:hi].copy()
    product = np.empty((hi - lo, x.shape[2]), np.float32)
    for t in range(x.shape[0]):
        if reset.size:
            _put_back(leaves, initial, reset[t], lo)
        product[:] = np.float32(0)
        if bias.size:
            product[:] = bias
        add_product(product, leaves[0], recurrent)
        saved = gates[t if gates.shape[0] > 1 else 0]
        for row in range(hi - lo):
            if mask.size == 0 or mask[t, lo + row]:
                step_forward(kind, x[t, lo + row], product[row], leaves, row, saved[lo + row])
            else:
                saved[lo + row] = 0
        outputs[t, lo:hi] = leaves[0]
        if cells.size:
            cells[t, lo:hi] = leaves[1]
    final[:, lo:hi] = leaves


@native
def _put_back(leaves: Array, initial: Array, reset: Array, lo: int) -> None:
    for row in range(leaves.shape[1]):
        if reset[lo + row]:
            leaves[:, row] = initial[:, lo + row]


@native
def rows_back(
    kind: int,
    lo: int,
    hi: int,
    start: Array,
    initial: Array,
    mask: Array,
    reset: Array,
    transposed: Array,
    d_outputs: Array,
    d_final: Array,
    outputs: Array,
    cells: Array,
    gates: Array,
    d_x: Array,
    d_product: Array,
    d_start: Array,
    d_initial: Array,
) -> None:
    """Run the rows `lo` to `hi` back.

    Args:
        kind: Which cell.
        lo: First row.
        hi: Row after the last one.
        start: As on the way forward, like `initial`, `mask` and `reset`.
        initial: See `start`.
        mask: See `start`.
        reset: See `start`.
        transposed: Recurrent kernel `(gates * units, units)`.
        d_outputs: Gradient of the outputs, `(time, batch, units)`.
        d_final: Of the leaves after the window, `(leaves, batch, units)`.
        outputs: What the way forward gave, like `cells` and `gates`.
        cells: See `outputs`.
        gates: See `outputs`.
        d_x: Takes the gradient of the projected input.
        d_product: Takes that of h through the recurrent kernel, for a GRU; elsewhere they are the same.
        d_start: Takes that of the leaves before the window.
        d_initial: Takes that of the leaves of resets.
    """
    d = d_final[:, lo:hi].copy()
    d_initial[:, lo:hi] = 0
    before = cells if kind == LSTM else outputs
    leaf = 1 if kind == LSTM else 0
    d_p = d_product if kind == GRU else d_x
    for t in range(outputs.shape[0] - 1, -1, -1):
        for row in range(hi - lo):
            at = lo + row
            for u in range(d.shape[2]):
                d[0, row, u] += d_outputs[t, at, u]
            if mask.size and not mask[t, at]:
                d_x[t, at] = 0
                d_p[t, at] = 0
                continue
            old = before[t - 1, at] if t else start[leaf, at]
            if reset.size and reset[t, at]:
                old = initial[leaf, at]
            step_back(kind, d, old, outputs[t, at], row, gates[t, at], d_x[t, at], d_p[t, at])
        add_product(d[0], d_p[t, lo:hi], transposed)
        if reset.size:
            _collect(d, d_initial, reset[t], lo)
    d_start[:, lo:hi] = d


@native
def _collect(d: Array, d_initial: Array, reset: Array, lo: int) -> None:
    for row in range(d.shape[1]):
        if reset[lo + row]:
            d_initial[:, lo + row] += d[:, row]
            d[:, row] = 0
