"""A small training run that depends on everything a checkpoint must keep, and can be killed at any moment.

As a script, `python killable.py FOLDER RESULT`, it trains with checkpoints in FOLDER and leaves its result in RESULT.
"""

import os
import random
import signal
import sys

import keras
import numpy as np
from keras import layers

import rnnstate as rs

EPOCHS, BATCHES = 2, 7


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


class Killer(keras.callbacks.Callback):
    """Ends the run at the given call, such as `("on_train_batch_begin", 3, 1)`: batch 3 of epoch 1."""

    def __init__(self, at=None, kill=None):
        super().__init__()
        self.at, self.epoch, self.kill = at, 0, kill or _raise

    def __getattribute__(self, name):
        if name.startswith("on_") and name in ("on_train_begin", "on_epoch_begin", "on_epoch_end"):
            return lambda epoch=0, logs=None: self._reached(name, epoch or 0)
        if name in ("on_train_batch_begin", "on_train_batch_end", "on_test_batch_begin"):
            return lambda batch, logs=None: self._reached(name, batch)
        return super().__getattribute__(name)

    def _reached(self, name, number):
        if name == "on_epoch_begin":
            self.epoch = number
        if self.at is not None and self.at == (name, number, self.epoch):
            self.kill()


class Drawing(keras.callbacks.Callback):
    """Changes the weights by what Python and NumPy draw, before each epoch and after each batch."""

    def on_epoch_begin(self, epoch, logs=None):
        self._nudge(random.random())

    def on_train_batch_end(self, batch, logs=None):
        self._nudge(np.random.normal())

    def _nudge(self, value):
        bias = self.model.trainable_variables[-1]
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        bias.assign(bias + 0.01 * value)


def build(seed=11, units=3, optimizer=None, **compile_arguments):
    """Return a compiled model with dropout, BatchNorm, and two recurrent layers."""
    keras.utils.set_random_seed(seed)
    net = keras.Sequential(
        [
            keras.Input((None, 2)),
            layers.LSTM(units, dropout=0.2, return_sequences=True, name="lstm"),
            layers.BatchNormalization(),
            layers.GRU(2, return_sequences=True, name="gru"),
            layers.Dense(1),
        ]
    )
    model = rs.StatefulModel(net, initial_state=rs.initial.Learned(noise=0.1, seed=5))
    model.compile(optimizer or keras.optimizers.Adam(0.05), "mse", metrics=["mae"], **compile_arguments)
    return model


def windows(seed=7, lengths=(23, 17, 13), order="lanes", order_seed=None):
    """Return training windows in 7 batches of 2 rows and 5 steps."""
    rng = np.random.default_rng(seed)
    x = {f"key{i}": rng.normal(size=(n, 2)).astype("float32") for i, n in enumerate(lengths)}
    y = {key: rng.normal(size=(len(value), 1)).astype("float32") for key, value in x.items()}
    return rs.Windows(x, y, length=5, batch_size=2, order=order, seed=order_seed)


def validation():
    """Return validation windows in 3 batches."""
    return windows(seed=8, lengths=(11, 7))


def train(folder=None, killer=None, callbacks=(), epochs=EPOCHS, model=None, data=None, **policy):
    """Train, with checkpoints after every second batch unless the folder is `None`."""
    model = model or build()
    checkpoint = None if folder is None else rs.Checkpoint(folder, **{"every_batches": 2, **policy})
    history = model.fit(
        data or windows(),
        validation_data=validation(),
        epochs=epochs,
        verbose=0,
        callbacks=[killer or Killer(), *callbacks],
        checkpoint=checkpoint,
    )
    return result(model, history)


def result(model, history):
    """Return all that must be equal, bit for bit."""
    variables = [*keras.Model.variables.fget(model), *model.optimizer.variables]
    values = {f"variable/{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}
    states = {f"state/{leaf}": rows for leaf, rows in model.states.read().items()}
    logs = {f"history/{name}": np.asarray(log) for name, log in history.history.items()}
    return {**values, **states, **logs, "epoch": np.asarray(history.epoch)}


def differences(one, other):
    """Return the names of what is not equal bit for bit."""
    if set(one) != set(other):
        return sorted(set(one) ^ set(other))
    return [name for name in one if one[name].tobytes() != other[name].tobytes()]


def _raise():
    raise Killed


if __name__ == "__main__":
    if keras.config.backend() != "tensorflow":
        sys.modules["tensorflow"] = None  # Keras would import it to write the config of a model, which takes seconds
    folder, out = sys.argv[1:3]
    at = (sys.argv[3], int(sys.argv[4]), int(sys.argv[5])) if len(sys.argv) > 3 else None
    np.savez(out, **train(folder, Killer(at, lambda: os.kill(os.getpid(), signal.SIGKILL))))
