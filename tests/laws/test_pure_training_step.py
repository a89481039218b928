"""Law 4 in training: `step(training=True)` changes no variable, and `training_step` returns what would have moved."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs
from nets import difference, host


class Tally(layers.Layer):
    """Counts its calls in a variable."""

    def build(self, input_shape):
        self.total = self.add_weight(shape=(), initializer="zeros", trainable=False, name="total")

    def call(self, x):
        """Count, and give back the input."""
        self.total.assign(self.total + 1.0)
        return x


def moving():
    """Return a model in which averages, seeds and a count move in training."""
    net = keras.Sequential(
        [
            nets.series_input(),
            layers.LSTM(5, return_sequences=True, dropout=0.3, activity_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            Tally(),
        ]
    )
    return rs.StatefulModel(nets.randomized(net), initial_state=rs.initial.Learned(noise=0.1))


def values_of(model):
    """Return the values of all variables by path."""
    return {variable.path: host(variable) for variable in model.variables}


@pytest.mark.filterwarnings("ignore:`step.training=True.` is pure")
def test_a_step_of_training_moves_nothing(backend):
    """All variables stay, two equal calls give equal results, and losses stay with the model, once."""
    model, x = moving(), nets.values(3, 5, nets.FEATURES)
    before, start, rows = values_of(model), model.initial_state(3), np.array([True, False, True])
    first, again = (model.step(x, start, reset=rows, training=True) for _ in range(2))
    assert len(model.losses) == 1
    # On PyTorch, Keras draws dropout from PyTorch's own generator.
    assert (difference(first[0], again[0]) == 0) == (backend != "torch")
    after = values_of(model)
    assert {path for path in before if difference(before[path], after[path]) > 0} == set()


def test_training_step_returns_what_moved(backend):
    """The new values are those of Keras' own call: averages, seeds and counts; assigned, the next call draws anew."""
    model, x = moving(), nets.values(3, 5, nets.FEATURES)
    before, start = values_of(model), model.initial_state(3)
    y, _, moved = model.training_step(x, start)
    assert {path: difference(before[path], value) for path, value in values_of(model).items() if path} == dict.fromkeys(
        before, 0.0
    )
    names = {variable.name for variable, _ in moved}
    assert {"moving_mean", "moving_variance", "total"} <= names
    assert "seed_generator_state" in names or backend == "torch"
    for variable, value in moved:
        variable.assign(value)
    norm = model.net.layers[1]
    assert difference(host(norm.moving_mean), before[norm.moving_mean.path]) > 1e-5
    other, *_ = model.training_step(x, start)
    assert difference(y, other) > 1e-3
    assert difference(y, model.step(x, start)[0]) > 1e-3


def test_dropped_values_are_told_once():
    """The first step that drops new values says so, and which call returns them."""
    model, x = moving(), nets.values(3, 5, nets.FEATURES)
    start = model.initial_state(3)
    with pytest.warns(UserWarning, match=r"is pure: it dropped the new values of \d variables.*`training_step`"):
        model.step(x, start, training=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.step(x, start, training=True)
