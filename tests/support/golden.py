"""The model and the data of the golden files."""

import keras
import numpy as np

import rnnstate as rs

LENGTHS = {"north": 17, "south": 11}


def build():
    """Return a compiled model of an LSTM and a bidirectional GRU that starts from two observed values."""
    keras.utils.set_random_seed(5)
    layers = [
        keras.Input((None, 2), name="x"),
        keras.layers.LSTM(5, return_sequences=True, name="lstm"),
        keras.layers.Bidirectional(keras.layers.GRU(3, return_sequences=True, name="gru"), name="both"),
        keras.layers.Dense(1, name="dense"),
    ]
    model = rs.StatefulModel(keras.Sequential(layers, name="net"), initial_state=rs.initial.Observed(), name="golden")
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def data():
    """Return the inputs of each key."""
    rng = np.random.default_rng(7)
    return {key: rng.normal(size=(length, 2)).astype("float32") for key, length in LENGTHS.items()}


def windows():
    """Return the windows that the golden models were trained on."""
    x = data()
    y = {key: np.cumsum(values, axis=0)[:, :1] / 5 for key, values in x.items()}
    known = {key: values[0] for key, values in x.items()}
    return rs.Windows(x, y, observed=known, length=5, batch_size=2)


def weights(model):
    """Return the trainable weights by place."""
    return {str(i): keras.ops.convert_to_numpy(value) for i, value in enumerate(model.trainable_variables)}


def answers(model):
    """Return everything that is compared: weights, kept states, a step from random values, and predictions."""
    batch = np.random.default_rng(13).normal(size=(3, 7, 2)).astype("float32")
    y, state = model.step(batch, model.initial_state(batch_size=3, observed=batch[:, 0]))
    found = {f"weights/{name}": value for name, value in weights(model).items()}
    found |= {f"kept/{name}": value for name, value in model.states.read(list(LENGTHS)).numpy().items()}
    found |= {f"step/{name}": value for name, value in state.numpy().items()}
    found["step/y"] = keras.ops.convert_to_numpy(y)
    return found | {f"predict/{key}": value for key, value in model.predict(windows(), verbose=0).items()}
