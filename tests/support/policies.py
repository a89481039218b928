"""What the tests of state policies share: a network that counts, training in one line, and TBPTT written out by hand."""

import keras
import numpy as np
from keras import layers

import by_hand
import nets
import rnnstate as rs
from rnnstate.testing import CountingCell

TOLERANCE = 1e-6


def counting(start=0.0):
    """Return a model that counts steps from `start` on, and adds up its input."""
    net = keras.Sequential([keras.Input((None, 1)), layers.RNN(CountingCell(start), return_sequences=True, name="rnn")])
    return rs.StatefulModel(net)


def trained(model, windows, epochs=1, rate=0.1, **fit):
    """Return a model after `fit` with plain gradient descent, and its history."""
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model, model.fit(windows, epochs=epochs, verbose=0, **fit).history


def weights_of(model):
    """Return all trainable weights by place."""
    return {str(i): nets.host(variable) for i, variable in enumerate(model.trainable_variables)}


def data_of(model, lengths=(9, 9), seed=0):
    """Return random sequences and targets for a model."""
    x = nets.series(lengths, seed=seed)
    outputs = model.net.output_shape[-1]
    return x, {key: nets.values(len(part), outputs, seed=seed + 70 + i) for i, (key, part) in enumerate(x.items())}


def stacked(data):
    """Return sequences of one length as one array `(sequences, time, features)`."""
    return np.stack(list(data.values()))


class Lead:
    """Truncated BPTT by hand, for sequences of one length: each window is led to by the steps before it.

    Args:
        model: The model to train.
        lead: How many steps lead to a window.
        through: Whether gradient flows through them.
        rate: Learning rate.
    """

    def __init__(self, model, lead, through, rate=0.1):
        self.model, self.lead, self.through = model, lead, through
        self.optimizer = keras.optimizers.SGD(rate)
        self.losses = []

    def epoch(self, x, y, length):
        """Train on windows of `length`; return the state in which the sequences end."""
        state, time = None, x.shape[1]
        for start in range(0, time, length):
            begin, end = max(start - self.lead, 0), start + length
            if begin == 0:
                state = None  # the initial state, into which gradient flows
            kept = end if end == time else max(end - self.lead, 0)
            state = self._window(state, x[:, begin:end], y[:, start:end], start - begin, kept - begin)
        return state

    def _window(self, state, x, y, before, kept):
        model = self.model

        def forward(x, y, state):
            state = model.initial_state(x.shape[0]) if state is None else state
            if before:
                _, state = model.step(x[:, :before], state, training=True)
            state = state if self.through or not before else rs.State(state).detach()
            y_pred, final = model.step(x[:, before:], state, training=True)
            return by_hand.mse(y, y_pred), final

        variables = model.trainable_variables
        start = model.initial_state(x.shape[0]) if state is None else state
        new = start if kept == 0 else model.step(x[:, :kept], start, training=True)[1]
        new = new.detach().numpy()
        (loss, _), gradients = by_hand.gradients_of(forward, variables)(x, y, state)
        by_hand.apply(self.optimizer, gradients, variables)
        self.losses.append(float(keras.ops.stop_gradient(loss)))
        return new
