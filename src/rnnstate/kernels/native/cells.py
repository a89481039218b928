"""The cells of the native loops: one row, one step forward, and one step back from the activated gates.

The formulas are those of `kernels/loops/cells.py`. The functions work in place, because the speed of memory limits these
loops: the gates overwrite the projected input, and the gradient of the projected input overwrites the gates. LLVM
vectorizes many short loops over a row with few arrays each. It does not vectorize one long loop.
"""

import numpy as np

from rnnstate.kernels.loops.definition import Array
from rnnstate.kernels.native.math import copy, fill, native, sigmoid, tanh

LSTM, GRU, RNN = 0, 1, 2
_zero, _one = np.float32(0), np.float32(1)


@native
def lstm_forward(x: Array, h: Array, c: Array) -> None:
    """Run the cell.

    Args:
        x: Projected input plus h times the recurrent kernel, `(4 * units,)`. The gates i, f, g, o overwrite it.
        h: Receives h after the step, `(units,)`.
        c: c before the step, `(units,)`. c after the step overwrites it.
    """
    units = h.size
    i_and_f, i, f, g, o = x[: 2 * units], x[:units], x[units : 2 * units], x[2 * units : 3 * units], x[3 * units :]
    for u in range(2 * units):
        i_and_f[u] = sigmoid(i_and_f[u])
    for u in range(units):
        g[u] = tanh(g[u])
    for u in range(units):
        o[u] = sigmoid(o[u])
    for u in range(units):
        c[u] = f[u] * c[u] + i[u] * g[u]
    for u in range(units):
        h[u] = o[u] * tanh(c[u])


@native
def lstm_back(d_h: Array, d_c: Array, before: Array, after: Array, x: Array, spare: Array) -> None:
    """Run the cell backward.

    Args:
        d_h: Gradient of h after the step. Zeros overwrite it.
        d_c: Gradient of c after the step. The gradient of c before the step overwrites it.
        before: c before the step.
        after: c after the step.
        x: The gates. The gradient of the projected input overwrites them.
        spare: Scratch, `(units,)` or more.
    """
    units = d_h.size
    i, f, g, o = x[:units], x[units : 2 * units], x[2 * units : 3 * units], x[3 * units :]
    for u in range(units):
        spare[u] = tanh(after[u])
    for u in range(units):
        d_c[u] += d_h[u] * o[u] * (_one - spare[u] * spare[u])
    for u in range(units):
        o[u] = d_h[u] * spare[u] * o[u] * (_one - o[u])
    for u in range(units):
        spare[u] = d_c[u] * i[u] * (_one - g[u] * g[u])
    for u in range(units):
        i[u] = d_c[u] * g[u] * i[u] * (_one - i[u])
    copy(g, spare)
    for u in range(units):
        spare[u] = d_c[u] * f[u]
    for u in range(units):
        f[u] = d_c[u] * before[u] * f[u] * (_one - f[u])
    copy(d_c, spare)
    fill(d_h, _zero)


@native
def gru_forward(x: Array, p: Array, h: Array, h_h: Array) -> None:
    """Run the cell. Its reset gate acts after the recurrent product.

    Args:
        x: Projected input, `(3 * units,)`. The gates z and r and the candidate for h overwrite it.
        p: h times the recurrent kernel, `(3 * units,)`.
        h: h before the step, `(units,)`. h after the step overwrites it.
        h_h: Receives the last third of `p`.
    """
    units = h.size
    z_and_r, z, r, new = x[: 2 * units], x[:units], x[units : 2 * units], x[2 * units :]
    copy(h_h, p[2 * units :])
    for u in range(2 * units):
        z_and_r[u] = sigmoid(z_and_r[u] + p[u])
    for u in range(units):
        new[u] = tanh(new[u] + r[u] * h_h[u])
    for u in range(units):
        h[u] = z[u] * h[u] + (_one - z[u]) * new[u]


@native
def gru_back(d_h: Array, before: Array, x: Array, h_h: Array, d_p: Array) -> None:
    """Run the cell backward.

    Args:
        d_h: Gradient of h after the step. The gradient of h before the step overwrites it, without the part that flows
            through the recurrent kernel.
        before: h before the step.
        x: The gates. The gradient of the projected input overwrites them.
        h_h: The array `h_h` of `gru_forward`. The last third of the gradient of the recurrent product overwrites it.
        d_p: Receives the gradient of the recurrent product, `(3 * units,)`.
    """
    units = d_h.size
    z, r, new = x[:units], x[units : 2 * units], x[2 * units :]
    d_z, d_r, d_new = d_p[:units], d_p[units : 2 * units], d_p[2 * units :]
    for u in range(units):
        d_new[u] = d_h[u] * (_one - z[u]) * (_one - new[u] * new[u])
    for u in range(units):
        d_z[u] = d_h[u] * (before[u] - new[u]) * z[u] * (_one - z[u])
    for u in range(units):
        d_r[u] = d_new[u] * h_h[u] * r[u] * (_one - r[u])
    for u in range(units):
        d_h[u] *= z[u]
    for u in range(units):
        h_h[u] = d_new[u] * r[u]
    copy(new, d_new)
    copy(d_new, h_h)
    copy(z, d_z)
    copy(r, d_r)


@native
def rnn_forward(x: Array, h: Array) -> None:
    """Run the cell on the projected input plus h times the recurrent kernel."""
    for u in range(h.size):
        h[u] = tanh(x[u])


@native
def rnn_back(d_h: Array, after: Array, x: Array) -> None:
    """Run the cell backward, from h after the step. `x` receives the gradient of the projected input."""
    for u in range(d_h.size):
        x[u] = d_h[u] * (_one - after[u] * after[u])
    fill(d_h, _zero)
