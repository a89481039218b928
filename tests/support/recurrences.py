"""MinGRU, MinLSTM and LRU in plain NumPy, float64 and complex128, one step at a time: what the layers are compared with."""

import keras
import numpy as np

import nets
import rnnstate as rs
from oracles import sigmoid

FEATURES, UNITS, STATE = 3, 5, 7

LAYERS = {
    "min_gru": lambda **options: rs.layers.MinGRU(UNITS, activation="tanh", **options),
    "min_lstm": lambda **options: rs.layers.MinLSTM(UNITS, **options),
    "lru": lambda **options: rs.layers.LRU(UNITS, state_size=STATE, **options),
}


def layer_of(kind, **options):
    """Return a built layer with random weights."""
    layer = LAYERS[kind](return_sequences=True, **options)
    layer.build((None, None, FEATURES))
    rng = np.random.default_rng(4)
    for variable in layer.trainable_variables:
        variable.assign(rng.uniform(-0.8, 0.8, size=variable.shape).astype("float32"))
    return layer


def net_of(kind, **options):
    """Return a network of one layer and a read-out."""
    layer = LAYERS[kind](**{"return_sequences": True, "name": kind, **options})
    return keras.Sequential([nets.series_input(features=(FEATURES,)), layer, keras.layers.Dense(2, name="read_out")])


def weights_of(layer):
    """Return the weights of a layer by name, in float64."""
    return {variable.name: nets.host(variable).astype("float64") for variable in layer.trainable_variables}


def min_gru(w, x, states):
    """Return the state and the output after one step."""
    z, c = np.split(x @ w["kernel"] + w["bias"], 2, axis=-1)
    z = sigmoid(z)
    h = (1 - z) * states[0] + z * np.tanh(c)
    return [h], h


def min_lstm(w, x, states):
    """Return the state and the output after one step."""
    f, i, c = np.split(x @ w["kernel"] + w["bias"], 3, axis=-1)
    f, i = sigmoid(f), sigmoid(i)
    h = f / (f + i) * states[0] + i / (f + i) * c
    return [h], h


def lru(w, x, states):
    """Return the state and the output after one step."""
    decay = np.exp(-np.exp(w["nu"]) + 1j * np.exp(w["theta"]))
    split = len(decay)
    B = w["input_kernel"][:, :split] + 1j * w["input_kernel"][:, split:]
    C = w["output_kernel"][:split] - 1j * w["output_kernel"][split:]
    s = decay * (states[0] + 1j * states[1]) + np.exp(w["log_gamma"]) * (x @ B)
    return [s.real, s.imag], (s @ C).real + x @ w["skip_kernel"]


STEPS = {"min_gru": min_gru, "min_lstm": min_lstm, "lru": lru}


def unroll(kind, weights, x, start, mask=None, reset=None, initial=None):
    """Return the outputs `(batch, time, units)`, and the final leaves.

    A masked step keeps the leaves. Its output is meaningless, and zero here.
    """
    states, outputs = [leaf.astype("float64") for leaf in start], []
    for t in range(x.shape[1]):
        if reset is not None:
            states = [np.where(reset[:, t, None], one, leaf) for one, leaf in zip(initial, states, strict=True)]
        after, y = STEPS[kind](weights, x[:, t].astype("float64"), states)
        valid = np.ones((len(x), 1), bool) if mask is None else mask[:, t, None]
        states = [np.where(valid, new, old) for new, old in zip(after, states, strict=True)]
        outputs.append(np.where(valid, y, 0))
    return np.stack(outputs, axis=1), states


def compiled(function):
    """Return a function compiled for JAX, where each operation of a plain call would be compiled by itself."""
    if keras.config.backend() != "jax":
        return function
    import jax  # noqa: TID251

    return jax.jit(function)
