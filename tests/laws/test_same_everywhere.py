"""Law: same everywhere. One set of numbers that each backend must give; they were found by NumPy alone."""

import keras
import numpy as np
import pytest

import nets
import oracles
import rnnstate as rs
from nets import difference

LENGTHS = (11, 7, 5)


def numbers():
    """Return weights and data that depend on no backend."""
    weights = [nets.values(2, 12, seed=1), nets.values(3, 12, seed=2), nets.values(12, seed=3)]
    return weights, [nets.values(3, 1, seed=4), nets.values(1, seed=5)], nets.series(LENGTHS, seed=6)


def model_of(weights, read_out):
    """Return a model with given weights."""
    lstm, dense = keras.layers.LSTM(3, return_sequences=True, name="lstm"), keras.layers.Dense(1)
    model = rs.StatefulModel(keras.Sequential([nets.series_input(), lstm, dense]))
    lstm.set_weights(weights)
    dense.set_weights(read_out)
    return model


def loss_and_step(parts, data, y, states, rate, delta=1e-5):
    """Return the loss of a window in NumPy, the weights after one step of gradient descent, and the final states."""

    def loss(parts):
        *weights, kernel, bias = parts
        h, final = oracles.lstm(weights, data, states)
        return np.mean((h @ kernel + bias - y) ** 2), final

    value, final = loss(parts)
    new = []
    for i, part in enumerate(parts):
        gradient = np.zeros_like(part)
        for place in np.ndindex(part.shape):
            up, down = ([p.copy() for p in parts] for _ in range(2))
            up[i][place] += delta
            down[i][place] -= delta
            gradient[place] = (loss(up)[0] - loss(down)[0]) / (2 * delta)
        new.append(part - rate * gradient)
    return value, new, final


def test_prediction_is_that_of_numpy():
    """Outputs and states are those of the definition in NumPy, whatever the backend."""
    weights, read_out, data = numbers()
    outputs, state = model_of(weights, read_out).predict(
        rs.Windows(data, length=4, batch_size=2), return_state=True, verbose=0
    )
    for row, (key, x) in enumerate(data.items()):
        h, final = oracles.lstm(weights, x[None], {"h": np.zeros((1, 3)), "c": np.zeros((1, 3))})
        assert difference(outputs[key], (h @ read_out[0] + read_out[1])[0]) < 1e-6
        for leaf in ("h", "c"):
            assert difference(state[f"lstm/{leaf}"][[row]], final[leaf]) < 1e-6


def test_training_is_that_of_numpy():
    """Two windows of carried training give the losses, weights and states of NumPy with numeric gradients."""
    weights, read_out, _ = numbers()
    x, y = nets.values(3, 10, 2, seed=7), nets.values(3, 10, 1, seed=8)
    model = model_of(weights, read_out)
    model.compile(keras.optimizers.SGD(0.5), "mse")
    history = model.fit(rs.Windows(x, y, length=5, batch_size=3), verbose=0).history
    parts = [part.astype("float64") for part in (*weights, *read_out)]
    states, losses = {"h": np.zeros((3, 3)), "c": np.zeros((3, 3))}, []
    for window in (slice(0, 5), slice(5, 10)):
        loss, parts, states = loss_and_step(parts, x[:, window], y[:, window], states, 0.5)
        losses.append(loss)
    assert history["loss"][0] == pytest.approx(np.mean(losses), abs=1e-6)
    for variable, expected in zip(model.trainable_variables, parts, strict=True):
        assert difference(variable, expected) < 1e-6
    for leaf in ("h", "c"):
        assert difference(model.states.read()[f"lstm/{leaf}"], states[leaf]) < 1e-6
