"""Keras models that keep their state in their layers, as users build them: a fixed batch, `stateful=True`."""

import keras
import numpy as np
from keras import layers

import nets
import rnnstate as rs

BATCH = 3


def net(*layers_, features=(2,), batch=BATCH):
    """Return a Sequential model of a fixed batch with random weights."""
    return nets.randomized(keras.Sequential([keras.Input(batch_shape=(batch, None, *features)), *layers_]))


def lstm(batch=BATCH):
    """One LSTM layer."""
    return net(layers.LSTM(5, stateful=True, return_sequences=True, name="lstm"), batch=batch)


def gru():
    """One GRU layer."""
    return net(layers.GRU(5, stateful=True, return_sequences=True, name="gru"))


def simple_rnn():
    """One SimpleRNN layer."""
    return net(layers.SimpleRNN(5, stateful=True, return_sequences=True, name="rnn"))


def lstm_gru():
    """Two layers of different sizes and kinds."""
    return net(
        layers.LSTM(5, stateful=True, return_sequences=True, name="lstm"),
        layers.GRU(7, stateful=True, return_sequences=True, name="gru"),
    )


def stack():
    """One layer around a stack of cells."""
    cells = [layers.LSTMCell(5), layers.GRUCell(7)]
    return net(layers.RNN(cells, stateful=True, return_sequences=True, name="rnn"))


def conv():
    """One ConvLSTM1D layer."""
    layer = layers.ConvLSTM1D(2, 2, padding="same", stateful=True, return_sequences=True, name="conv")
    return net(layer, features=(5, 2))


def nested():
    """A model within a model."""
    inner = keras.Sequential(
        [keras.Input(batch_shape=(BATCH, None, 2)), layers.LSTM(5, stateful=True, return_sequences=True, name="lstm")],
        name="encoder",
    )
    return net(inner, layers.GRU(7, stateful=True, return_sequences=True, name="gru"))


def custom():
    """A cell of one's own, which does not start from zero."""
    return net(layers.RNN(nets.TwoSpeedCell(), stateful=True, return_sequences=True, name="rnn"))


def both_ways():
    """A Bidirectional layer."""
    return net(layers.Bidirectional(layers.LSTM(5, stateful=True, return_sequences=True), name="both"))


class Subclassed(keras.Model):
    """A model whose graph Keras does not know."""

    def __init__(self):
        super().__init__()
        self.recurrent = layers.LSTM(5, stateful=True, name="lstm")
        self.read_out = layers.Dense(2)

    def call(self, x):
        return self.read_out(self.recurrent(x))


def subclassed():
    """A subclassed model that was called once."""
    model = Subclassed()
    model(np.zeros((BATCH, 7, 2), "float32"))
    return model


LEAVES = {
    lstm: {"lstm/h": (5,), "lstm/c": (5,)},
    gru: {"gru/h": (5,)},
    simple_rnn: {"rnn/h": (5,)},
    lstm_gru: {"lstm/h": (5,), "lstm/c": (5,), "gru/h": (7,)},
    stack: {"rnn/0/h": (5,), "rnn/0/c": (5,), "rnn/1/h": (7,)},
    conv: {"conv/h": (5, 2), "conv/c": (5, 2)},
    nested: {"encoder/lstm/h": (5,), "encoder/lstm/c": (5,), "gru/h": (7,)},
    custom: {"rnn/0": (3,), "rnn/1": (5,)},
}


def on_jax():
    """True where stock stateful layers take no part in the compiled step."""
    return keras.config.backend() == "jax"


# Stock stateful layers take part in the compiled step everywhere but on JAX.
FORMS = {"repaired": rs.repair} | ({} if on_jax() else {"stock": lambda model: model})


def random_state(leaves, rows=BATCH, seed=1):
    """Return other random values for each leaf."""
    return {name: nets.values(rows, *shape, seed=seed + i) for i, (name, shape) in enumerate(leaves.items())}


def variables_of(model):
    """Return the variables that hold the state, found without this library where Keras made them."""
    found = []
    for layer in model.layers:
        if hasattr(layer, "state_variables"):
            found += layer.state_variables.values()
        elif isinstance(layer, keras.Model):
            found += variables_of(layer)
        else:
            found += keras.tree.flatten(getattr(layer, "states", None) or [])
    return found
