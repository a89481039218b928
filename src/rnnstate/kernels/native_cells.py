"""The cells of the native loops: one row, one step forward, and one step back from the activated gates that were saved.

The same formulas as in `cells.py`, row by row and in place. `p` is h through the recurrent kernel, `g` what is saved.
"""

import numpy as np

from rnnstate.kernels.loops_reference import Array
from rnnstate.kernels.native_math import native, sigmoid, tanh

LSTM, GRU, RNN = 0, 1, 2
NATIVE = {"lstm": LSTM, "gru": GRU, "rnn": RNN}
# What a step saves of each unit: i, f, g, o, tanh(c); z, r, new, h through the kernel; nothing.
SAVED = (5, 4, 0)

_one = np.float32(1)


@native
def step_forward(kind: int, x: Array, p: Array, leaves: Array, row: int, g: Array) -> None:
    """Run the cell for one row.

    Args:
        kind: Which cell.
        x: Projected input of the row, `(gates * units,)`.
        p: Its h through the recurrent kernel, `(gates * units,)`; overwritten.
        leaves: `(leaves, batch, units)`; the row is overwritten.
        row: Which.
        g: Takes what the way back needs, `(saved * units,)`.
    """
    if kind == LSTM:
        _lstm_forward(x, p, leaves[0, row], leaves[1, row], g)
    elif kind == GRU:
        _gru_forward(x, p, leaves[0, row], g)
    else:
        h = leaves[0, row]
        for u in range(h.size):
            h[u] = tanh(x[u] + p[u])


@native
def _lstm_forward(x: Array, p: Array, h: Array, c: Array, gates: Array) -> None:
    units = h.size
    for u in range(4 * units):
        gates[u] = x[u] + p[u]
    i, f, g, o, tanh_c = (
        gates[:units],
        gates[units : 2 * units],
        gates[2 * units : 3 * units],
        gates[3 * units : 4 * units],
        gates[4 * units :],
    )
    i_and_f = gates[: 2 * units]
    for u in range(2 * units):
        i_and_f[u] = sigmoid(i_and_f[u])
    for u in range(units):
        g[u] = tanh(g[u])
        o[u] = sigmoid(o[u])
    for u in range(units):
        new = f[u] * c[u] + i[u] * g[u]
        squashed = tanh(new)
        c[u] = new
        tanh_c[u] = squashed
        h[u] = o[u] * squashed


@native
def _gru_forward(x: Array, p: Array, h: Array, gates: Array) -> None:
    units = h.size
    z, r, new, h_h = gates[:units], gates[units : 2 * units], gates[2 * units : 3 * units], gates[3 * units :]
    x_h, p_h = x[2 * units :], p[2 * units :]
    for u in range(2 * units):
        gates[u] = sigmoid(x[u] + p[u])
    for u in range(units):
        h_h[u] = p_h[u]
        new[u] = tanh(x_h[u] + r[u] * p_h[u])
    for u in range(units):
        h[u] = z[u] * h[u] + (_one - z[u]) * new[u]


@native
def step_back(kind: int, d: Array, old: Array, new: Array, row: int, g: Array, d_x: Array, d_p: Array) -> None:
    """Run the cell back for one row.

    Args:
        kind: Which cell.
        d: Gradients of the leaves after the step, `(leaves, batch, units)`; the row is overwritten by those of the leaves
            before it, without what flows through the recurrent kernel.
        old: The leaf before the step that the cell needs, `(units,)`: c of an LSTM, else h.
        new: h after the step, `(units,)`.
        row: Which.
        g: What the step saved.
        d_x: Takes the gradient of the projected input.
        d_p: Takes that of h through the recurrent kernel; the same array where they are equal.
    """
    if kind == LSTM:
        _lstm_back(d[0, row], d[1, row], old, g, d_x)
    elif kind == GRU:
        _gru_back(d[0, row], old, g, d_x, d_p)
    else:
        d_h = d[0, row]
        for u in range(d_h.size):
            d_x[u] = d_h[u] * (_one - new[u] * new[u])
            d_h[u] = 0


@native
def _lstm_back(d_h: Array, d_c: Array, c: Array, gates: Array, d_x: Array) -> None:
    units = d_h.size
    i, f, g, o = gates[:units], gates[units : 2 * units], gates[2 * units : 3 * units], gates[3 * units : 4 * units]
    tanh_c = gates[4 * units :]
    d_i, d_f, d_g, d_o = d_x[:units], d_x[units : 2 * units], d_x[2 * units : 3 * units], d_x[3 * units :]
    for u in range(units):
        total = d_c[u] + d_h[u] * o[u] * (_one - tanh_c[u] * tanh_c[u])
        d_i[u] = total * g[u] * i[u] * (_one - i[u])
        d_f[u] = total * c[u] * f[u] * (_one - f[u])
        d_g[u] = total * i[u] * (_one - g[u] * g[u])
        d_o[u] = d_h[u] * tanh_c[u] * o[u] * (_one - o[u])
        d_c[u] = total * f[u]
        d_h[u] = 0


@native
def _gru_back(d_h: Array, h: Array, gates: Array, d_x: Array, d_p: Array) -> None:
    units = d_h.size
    z, r, new, h_h = gates[:units], gates[units : 2 * units], gates[2 * units : 3 * units], gates[3 * units :]
    for u in range(units):
        d_new = d_h[u] * (_one - z[u]) * (_one - new[u] * new[u])
        d_x[u] = d_h[u] * (h[u] - new[u]) * z[u] * (_one - z[u])
        d_x[units + u] = d_new * h_h[u] * r[u] * (_one - r[u])
        d_x[2 * units + u] = d_new
        d_p[2 * units + u] = d_new * r[u]
        d_h[u] = d_h[u] * z[u]
    for u in range(2 * units):
        d_p[u] = d_x[u]
