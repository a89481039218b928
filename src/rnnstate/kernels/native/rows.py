"""The native loops: some rows of a batch through all steps of a window, forward and back.

Rows know nothing of one another, so that each core can take some of them through the whole window, and need not wait for
the others in between. What a masked step and a reset mean is as in `loops_reference.py`. Arrays of rows are
`(batch, time, width)`; those of one step have a time axis of one.
"""

import numpy as np

from rnnstate.kernels.loops.definition import Array
from rnnstate.kernels.native import cells
from rnnstate.kernels.native.cells import GRU, LSTM
from rnnstate.kernels.native.math import add, add_product, copy, fill, native
from rnnstate.kernels.native.strips import add_product_of_strips

_zero = np.float32(0)


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
    bias: Array,
    given: Array,
    kernel: Array,
    x: Array,
    outputs: Array,
    kept: Array,
    final: Array,
    spare: Array,
    edge: Array,
    strips: Array,
) -> None:
    """Run the rows `lo` to `hi`.

    Args:
        kind: Which cell.
        lo: First row.
        hi: Row after the last one.
        start: Leaves before the window, `(leaves, batch, 1, units)`.
        initial: Leaves that resets put rows back to.
        mask: `(batch, time)`, not 0 at valid steps, or empty.
        reset: `(batch, time)`, not 0 where a row is put back, or empty.
        recurrent: Recurrent kernel `(units, gates * units)`.
        bias: Of the recurrent product of a GRU, `(3 * units,)`, or empty.
        given: Input `(batch, time, features)` that is yet to be projected and added to `x`, or empty.
        kernel: `(features, gates * units)`.
        x: Projected input `(batch, time, gates * units)`; becomes the gates, zeros at masked steps.
        outputs: Takes h, `(batch, time, units)`.
        kept: Takes c of an LSTM, or h through the last third of the kernel of a GRU, `(batch, time, units)`.
        final: Takes the leaves after the window, `(leaves, batch, 1, units)`.
        spare: Scratch, `(batch, 1, gates * units)`.
        edge: Scratch of the products, `(batch, 1, width of a strip)`.
        strips: The recurrent kernel in strips, or empty.
    """
    last = start.shape[0] - 1
    h, c, p = final[0, lo:hi], final[last, lo:hi], spare[lo:hi]
    x, outputs, kept, given = x[lo:hi], outputs[lo:hi], kept[lo:hi], given[lo:hi]
    for row in range(hi - lo):
        copy(h[row, 0], start[0, lo + row, 0])
        copy(c[row, 0], start[last, lo + row, 0])
    for t in range(x.shape[1]):
        if reset.size:
            _put_back(h, initial[0], reset, t, lo)
            _put_back(c, initial[last], reset, t, lo)
        if given.size:
            add_product(x, t, given, t, kernel)
        if kind == GRU:
            _fill_rows(p, bias)
        product, at = (p, 0) if kind == GRU else (x, t)
        _add_recurrent(product, at, h, 0, recurrent, strips, edge[lo:hi])
        _cell_forward(kind, t, mask[lo:hi], x, p, h, c, kept)
        for row in range(hi - lo):
            copy(outputs[row, t], h[row, 0])
            if kind == LSTM:
                copy(kept[row, t], c[row, 0])


@native
def _add_recurrent(z: Array, tz: int, a: Array, ta: int, kernel: Array, strips: Array, edge: Array) -> None:
    if strips.size:
        add_product_of_strips(z, tz, a, ta, strips, edge)
    else:
        add_product(z, tz, a, ta, kernel)


@native
def _cell_forward(kind: int, t: int, mask: Array, x: Array, p: Array, h: Array, c: Array, kept: Array) -> None:
    for row in range(h.shape[0]):
        if mask.size and not mask[row, t]:
            fill(x[row, t], _zero)
            fill(kept[row, t], _zero)
        elif kind == LSTM:
            cells.lstm_forward(x[row, t], h[row, 0], c[row, 0])
        elif kind == GRU:
            cells.gru_forward(x[row, t], p[row, 0], h[row, 0], kept[row, t])
        else:
            cells.rnn_forward(x[row, t], h[row, 0])


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
    x: Array,
    kept: Array,
    d_start: Array,
    d_initial: Array,
    spare: Array,
    edge: Array,
    strips: Array,
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
        d_outputs: Gradient of the outputs, `(batch, time, units)`.
        d_final: Of the leaves after the window, `(leaves, batch, 1, units)`.
        outputs: What the way forward gave.
        x: The gates; become the gradient of the projected input.
        kept: What the way forward kept; of a GRU, it becomes the gradient of h through the last third of the kernel.
        d_start: Takes the gradient of the leaves before the window.
        d_initial: Takes that of the leaves of resets.
        spare: Scratch, `(batch, 1, gates * units)`.
        edge: Scratch of the products, `(batch, 1, width of a strip)`.
        strips: `transposed` in strips, or empty.
    """
    last = start.shape[0] - 1
    d_h, d_c, p = d_start[0, lo:hi], d_start[last, lo:hi], spare[lo:hi]
    x, kept, outputs, d_outputs = x[lo:hi], kept[lo:hi], outputs[lo:hi], d_outputs[lo:hi]
    for leaf in range(last + 1):
        for row in range(lo, hi):
            copy(d_start[leaf, row, 0], d_final[leaf, row, 0])
            fill(d_initial[leaf, row, 0], _zero)
    for t in range(x.shape[1] - 1, -1, -1):
        for row in range(hi - lo):
            add(d_h[row, 0], d_outputs[row, t])
        flags = mask[lo:hi], reset[lo:hi]
        _cell_back(kind, t, flags, start[last, lo:hi], initial[last, lo:hi], outputs, x, kept, d_h, d_c, p)
        d_product, at = (p, 0) if kind == GRU else (x, t)
        _add_recurrent(d_h, 0, d_product, at, transposed, strips, edge[lo:hi])
        if reset.size:
            for leaf in range(last + 1):
                _collect(d_start[leaf, lo:hi], d_initial[leaf], reset, t, lo)


@native
def _cell_back(
    kind: int,
    t: int,
    flags: tuple[Array, Array],
    start: Array,
    initial: Array,
    outputs: Array,
    x: Array,
    kept: Array,
    d_h: Array,
    d_c: Array,
    p: Array,
) -> None:
    mask, reset = flags
    states = kept if kind == LSTM else outputs
    for row in range(d_h.shape[0]):
        before = states[row, t - 1] if t else start[row, 0]
        if reset.size and reset[row, t]:
            before = initial[row, 0]
        if mask.size and not mask[row, t]:
            _nothing_back(x[row, t], p[row, 0], kept[row, t], kind == GRU)
        elif kind == LSTM:
            cells.lstm_back(d_h[row, 0], d_c[row, 0], before, kept[row, t], x[row, t], p[row, 0])
        elif kind == GRU:
            cells.gru_back(d_h[row, 0], before, x[row, t], kept[row, t], p[row, 0])
        else:
            cells.rnn_back(d_h[row, 0], outputs[row, t], x[row, t])


@native
def _nothing_back(x: Array, p: Array, kept: Array, has_product: bool) -> None:
    """A masked step: what it kept is c before the next step of an LSTM, and the gradient of a product of a GRU."""
    fill(x, _zero)
    fill(p, _zero)
    if has_product:
        fill(kept, _zero)


@native
def _fill_rows(rows: Array, values: Array) -> None:
    for row in range(rows.shape[0]):
        if values.size:
            copy(rows[row, 0], values)
        else:
            fill(rows[row, 0], _zero)


@native
def _put_back(rows: Array, initial: Array, reset: Array, t: int, lo: int) -> None:
    for row in range(rows.shape[0]):
        if reset[lo + row, t]:
            copy(rows[row, 0], initial[lo + row, 0])


@native
def _collect(d: Array, d_initial: Array, reset: Array, t: int, lo: int) -> None:
    """Send the gradient of rows that were put back to what they were put back to."""
    for row in range(d.shape[0]):
        if reset[lo + row, t]:
            add(d_initial[lo + row, 0], d[row, 0])
            fill(d[row, 0], _zero)
