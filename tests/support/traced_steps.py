"""Trainings on PyTorch whose steps are traced, and how to compare them."""

import keras
import numpy as np
from keras import layers

import nets
import rnnstate as rs
from fitting import targets_of, weights_of
from nets import host

UNITS = 5


def untraced(monkeypatch):
    """Let Keras run each step."""
    from rnnstate.kernels.step import training_torch  # needs PyTorch

    monkeypatch.setattr(training_torch, "AFTER", -1)


def net_of(*more, cell=layers.LSTM):
    """Return a network of a recurrent layer, more layers, and an output at each step."""
    return keras.Sequential(
        [nets.series_input(), cell(UNITS, return_sequences=True, name="loop"), *more, layers.Dense(3)]
    )


def data_of(lengths=(35, 35), **kwargs):
    """Return windows of seven steps."""
    data = nets.series(lengths)
    return rs.Windows(data, targets_of(data, 3), length=7, batch_size=2, **kwargs)


def resets_of(lengths):
    """Return a reset before one step in five."""
    return {key: nets.values(len(x), seed=9) > 0.8 for key, x in nets.series(lengths).items()}


def trained(build, windows, callbacks=(), loss="mse", optimizer="adam", initial_state="zeros", epochs=3, **kwargs):
    """Return the weights, the states, the variables without gradients and the losses of a training, as arrays.

    The variables of the optimizer are among them: its moments, its number of steps and its learning rate.
    """
    keras.utils.set_random_seed(3)
    model = rs.StatefulModel(nets.randomized(build()), initial_state=initial_state)
    model.compile(optimizer() if callable(optimizer) else optimizer, loss, **kwargs)
    history = model.fit(windows, epochs=epochs, verbose=0, callbacks=list(callbacks)).history
    states = {name: host(leaf) for name, leaf in model.states.read().items()}
    averages = {f"average {i}": host(one) for i, one in enumerate(model.net.non_trainable_variables)}
    moments = {f"moment {i}": host(one) for i, one in enumerate(model.optimizer.variables)}
    return {**weights_of(model), **states, **averages, **moments, **history}


def assert_same(ones, others):
    """Assert that two trainings ended in the same bits."""
    assert ones.keys() == others.keys()
    assert [name for name in ones if not np.array_equal(ones[name], others[name])] == []
