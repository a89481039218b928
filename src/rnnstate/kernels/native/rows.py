"""The native loops: some rows of a batch run through all steps of a window, forward or back.

The rows of a batch do not depend on each other. Each core therefore takes a block of rows through the whole window and
waits for no other core. Masked steps and resets mean the same as in `kernels/loops/definition.py`.

Every array of rows has the shape `(batch, time, width)`. An array for a single step has a time axis of length one. One
step of the forward loop reads and writes these places, for the rows `lo` to `hi`:

    t - 1          t                              t + 1
    h, c  ──────►  x[:, t] += h @ recurrent
                   cell(x[:, t], h, c)  ───────►  h, c
                   outputs[:, t] = h,  kept[:, t] = c
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
        initial: Leaves at which a row starts after a reset, like `start`.
        mask: `(batch, time)`, not 0 at valid steps, or empty.
        reset: `(batch, time)`, not 0 where a row is reset before the step, or empty.
        recurrent: Recurrent kernel `(units, gates * units)`.
        bias: Bias of the recurrent product of a GRU, `(3 * units,)`, or empty.
        given: Input `(batch, time, features)` that this function projects and adds to `x`, or empty.
        kernel: Kernel of the input, `(features, gates * units)`.
        x: Projected input `(batch, time, gates * units)`. The gates overwrite it, with zeros at masked steps.
        outputs: Receives h, `(batch, time, units)`.
        kept: Receives c of an LSTM, or the last third of h times the recurrent kernel of a GRU, `(batch, time, units)`.
        final: Receives the leaves after the window, `(leaves, batch, 1, units)`.
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
            _reset_rows(h, initial[0], reset, t, lo)
            _reset_rows(c, initial[last], reset, t, lo)
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
    """Run the rows `lo` to `hi` backward, from the last step to the first one.

    Args:
        kind: Which cell.
        lo: First row.
        hi: Row after the last one.
        start: As in `rows_forward`.
        initial: As in `rows_forward`.
        mask: As in `rows_forward`.
        reset: As in `rows_forward`.
        transposed: Transposed recurrent kernel `(gates * units, units)`.
        d_outputs: Gradient of the outputs, `(batch, time, units)`.
        d_final: Gradient of the leaves after the window, `(leaves, batch, 1, units)`.
        outputs: The outputs of the forward loop, `(batch, time, units)`.
        x: The gates, `(batch, time, gates * units)`. The gradient of the projected input overwrites them.
        kept: The array `kept` of the forward loop. For a GRU, the gradient of the same product overwrites it.
        d_start: Receives the gradient of the leaves before the window, like `start`.
        d_initial: Receives the gradient of the leaves after a reset, like `initial`.
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
            _masked_back(x[row, t], p[row, 0], kept[row, t], kind == GRU)
        elif kind == LSTM:
            cells.lstm_back(d_h[row, 0], d_c[row, 0], before, kept[row, t], x[row, t], p[row, 0])
        elif kind == GRU:
            cells.gru_back(d_h[row, 0], before, x[row, t], kept[row, t], p[row, 0])
        else:
            cells.rnn_back(d_h[row, 0], outputs[row, t], x[row, t])


@native
def _masked_back(x: Array, p: Array, kept: Array, has_product: bool) -> None:
    """Write the gradients of a masked step, which are zeros.

    `kept` of an LSTM stays, because the next step reads c from it. `kept` of a GRU holds the gradient of a product.
    """
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
def _reset_rows(rows: Array, initial: Array, reset: Array, t: int, lo: int) -> None:
    for row in range(rows.shape[0]):
        if reset[lo + row, t]:
            copy(rows[row, 0], initial[lo + row, 0])


@native
def _collect(d: Array, d_initial: Array, reset: Array, t: int, lo: int) -> None:
    """Add the gradient of each row that was reset to the gradient of its initial leaves."""
    for row in range(d.shape[0]):
        if reset[lo + row, t]:
            add(d_initial[lo + row, 0], d[row, 0])
            fill(d[row, 0], _zero)
