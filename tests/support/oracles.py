"""LSTM, GRU and SimpleRNN in plain NumPy, float64, one step at a time: what the layers are compared with.

Weights are taken in Keras' order `[kernel, recurrent_kernel, bias]`. Each oracle returns the outputs of every step,
`(batch, time, units)`, and the final leaves by name; masked steps keep the state and repeat the output.
"""

import numpy as np


def sigmoid(z):
    """Return the logistic function."""
    return 1 / (1 + np.exp(-z))


def unroll(step, x, state, mask=None):
    """Run `step(x_t, state) -> state` over time; `h` is the output."""
    outputs = []
    for t in range(x.shape[1]):
        new = step(x[:, t], state)
        if mask is not None:
            new = {name: np.where(mask[:, t, None], new[name], state[name]) for name in state}
        state = new
        outputs.append(state["h"])
    return np.stack(outputs, axis=1), state


def simple_rnn(weights, x, state, mask=None):
    """`h = tanh(x W + h U + b)`."""
    W, U, b = (w.astype("float64") for w in weights)
    return unroll(lambda x_t, s: {"h": np.tanh(x_t @ W + s["h"] @ U + b)}, x, state, mask)


def lstm(weights, x, state, mask=None):
    """The LSTM of Hochreiter and Schmidhuber with a forget gate; gates in the order i, f, c, o."""
    W, U, b = (w.astype("float64") for w in weights)

    def step(x_t, s):
        i, f, g, o = np.split(x_t @ W + s["h"] @ U + b, 4, axis=-1)
        c = sigmoid(f) * s["c"] + sigmoid(i) * np.tanh(g)
        return {"h": sigmoid(o) * np.tanh(c), "c": c}

    return unroll(step, x, state, mask)


def gru(weights, x, state, mask=None):
    """The GRU of Cho et al.; a bias of two rows means `reset_after=True`; gates in the order z, r, h."""
    W, U, b = (w.astype("float64") for w in weights)
    after = b.ndim == 2
    bias, recurrent_bias = b if after else (b, 0 * b)

    def step(x_t, s):
        x_z, x_r, x_h = np.split(x_t @ W + bias, 3, axis=-1)
        U_z, U_r, U_h = np.split(U, 3, axis=-1)
        b_z, b_r, b_h = np.split(recurrent_bias, 3)
        h = s["h"]
        z, r = sigmoid(x_z + h @ U_z + b_z), sigmoid(x_r + h @ U_r + b_r)
        candidate = np.tanh(x_h + (r * (h @ U_h + b_h) if after else (r * h) @ U_h))
        return {"h": z * h + (1 - z) * candidate}

    return unroll(step, x, state, mask)
