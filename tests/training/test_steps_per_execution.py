"""Law: how many steps run in a call changes nothing. And nothing compiles anew for data of the same shapes."""

import keras
import numpy as np
import pytest

import nets
import rnnstate as rs
from fitting import refuses_many_steps
from nets import difference

STEPS = 7  # a prime: some steps are always left over


def windows(steps=STEPS, seed=0, rows=3):
    """Return windows of 5 steps of `rows` sequences, with targets; the last one is padded."""
    x = nets.series([5 * steps - 2] * rows, seed=seed)
    y = nets.series([5 * steps - 2] * rows, features=1, seed=seed + 50)
    return rs.Windows(x, y, length=5, batch_size=3)


class Steps(keras.callbacks.Callback):
    """Record when a call of training steps began and ended, and the losses that were logged."""

    def __init__(self):
        super().__init__()
        self.batches, self.losses = [], []

    def on_train_batch_end(self, batch, logs=None):
        """Record the last step of the call."""
        self.batches.append(batch)
        self.losses.append(float(logs["loss"]))


def trained(count, *, dropout=0.0, epochs=2):
    """Return a model trained with `count` steps in a call, its history, and what a callback saw."""
    keras.utils.set_random_seed(3)
    net = keras.Sequential(
        [
            nets.series_input(),
            keras.layers.LSTM(5, return_sequences=True, dropout=dropout, seed=11, name="lstm"),
            keras.layers.GRU(3, return_sequences=True, name="gru"),
            keras.layers.Dense(1),
        ]
    )
    model, seen = rs.StatefulModel(net), Steps()
    model.compile("adam", "mse", metrics=["mae"], steps_per_execution=count)
    history = model.fit(windows(), validation_data=windows(2, seed=9), epochs=epochs, verbose=0, callbacks=[seen])
    return model, history.history, seen


@pytest.mark.parametrize("count", [3, STEPS, 20])
def test_many_steps_in_a_call_change_nothing(count, backend):
    """Weights, states, logs and validation are those of one step per call, with the remainder and dropout."""
    if refuses_many_steps(backend):
        with pytest.raises(ValueError, match="steps_per_execution"):
            trained(count)
        return
    one, logs, _ = trained(1, dropout=0.3)
    many, same, seen = trained(count, dropout=0.3)
    tolerance = 0.0 if backend == "jax" else 1e-6
    assert max(difference(*pair) for pair in zip(one.get_weights(), many.get_weights(), strict=True)) <= tolerance
    assert difference(one.states.read(), many.states.read()) <= tolerance
    assert logs.keys() == same.keys()
    assert all(np.allclose(logs[name], same[name], rtol=1e-6) for name in logs)
    assert seen.batches == [begin + count - 1 for begin in range(0, STEPS, count)] * 2


def test_a_batch_alone_is_one_step(backend):
    """`train_on_batch` of as many rows as there are steps in a call trains one step, and not one step per row."""
    if refuses_many_steps(backend):
        return
    data = windows(1)
    found = []
    for count in (1, 3):
        keras.utils.set_random_seed(5)
        model = nets.make(nets.small)
        model.compile("adam", "mse", steps_per_execution=count)
        before = model.get_weights()
        model.states.reserve(data.keys)
        model.train_on_batch(*data[0])
        assert max(difference(*pair) for pair in zip(before, model.get_weights(), strict=True)) > 1e-4
        found.append(model.get_weights())
    assert max(difference(*pair) for pair in zip(*found, strict=True)) < 1e-6


def test_a_longer_call_would_be_noticed(backend):
    """The comparison above can fail: one epoch more gives other weights."""
    one, two = trained(1)[0], trained(1, epochs=3)[0]
    assert max(difference(*pair) for pair in zip(one.get_weights(), two.get_weights(), strict=True)) > 1e-4


class Counted(rs.StatefulModel):
    """Counts how often the training step is run in Python: once for each compilation, or each time if not compiled."""

    runs = 0

    def train_step(self, *args, **kwargs):
        """Count, and train."""
        self.runs += 1
        return super().train_step(*args, **kwargs)


def test_nothing_compiles_anew_for_the_same_shapes(backend):
    """Another dataset, with other keys, another number of windows and a partial batch, runs the compiled step there is."""
    model = Counted(nets.randomized(nets.two_layers()))
    model.compile("adam", "mse")
    model.fit(windows(rows=5), epochs=2, verbose=0)
    before = model.runs
    x, y = nets.series([17, 23, 9, 4], seed=3), nets.series([17, 23, 9, 4], features=1, seed=4)
    other = rs.Windows(x, y, length=5, batch_size=3)
    model.fit(other, verbose=0)
    model.fit(windows(3, seed=8), verbose=0)
    assert model.runs - before == (0 if backend != "torch" else len(other) + 3)
