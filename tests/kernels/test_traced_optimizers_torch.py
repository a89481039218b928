"""Law: on PyTorch a traced training step updates the weights as Keras' optimizers do, bit for bit, or leaves it to them."""

import keras
import numpy as np
import pytest

from traced_steps import assert_same, data_of, net_of, trained, untraced

pytestmark = pytest.mark.skipif(keras.config.backend() != "torch", reason="these steps run on PyTorch alone")

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(centered=True),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.02, amsgrad=True),
    "lion": keras.optimizers.Lion,
    "clipped": lambda: keras.optimizers.Adam(0.01, clipnorm=0.05),
    "clipped together": lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.05),
    "decaying": lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name, kept, monkeypatch):
    """The steps of Keras' optimizers are part of the trace: clipped gradients, decayed weights, learning rates by step."""
    found = trained(net_of, data_of(), optimizer=OPTIMIZERS[name])
    assert kept == ["whole" if name == "sgd" else "resident"]  # SGD makes numbers of Python of its tensors
    untraced(monkeypatch)
    assert_same(found, trained(net_of, data_of(), optimizer=OPTIMIZERS[name]))
    assert not np.array_equal(
        found["0"], trained(net_of, data_of())["0"]
    )  # the control: training depends on the optimizer


class OwnOptimizer(keras.optimizers.Adam):
    """An optimizer of a user, which counts its steps."""

    steps = 0

    def apply(self, *args, **kwargs):
        """Count."""
        OwnOptimizer.steps += 1
        return super().apply(*args, **kwargs)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.Adam(gradient_accumulation_steps=2),
        lambda: keras.optimizers.Adam(use_ema=True, ema_overwrite_frequency=3),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
        keras.optimizers.Nadam,
        OwnOptimizer,
    ],
    ids=["accumulated", "averaged", "scaled", "nadam", "own"],
)
def test_optimizers_that_run_as_they_are(optimizer, kept, monkeypatch):
    """An optimizer that depends on values, or is code of a user, runs at each step after the traced network."""
    OwnOptimizer.steps = 0
    found = trained(net_of, data_of(), optimizer=optimizer)
    assert kept == ["forward"]
    assert OwnOptimizer.steps == 15 * (optimizer is OwnOptimizer)
    untraced(monkeypatch)
    assert_same(found, trained(net_of, data_of(), optimizer=optimizer))


CHANGES = {
    "rate": ("learning_rate", 0.3, ["resident"]),
    "clip": ("clipnorm", 0.01, ["resident", "resident"]),
    "decay": ("beta_1", 0.2, ["resident", "resident"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_optimizer_is_noticed(name, kept, monkeypatch):
    """A callback changes the optimizer between two epochs. A new learning rate needs no new trace."""
    attribute, value, traces = CHANGES[name]

    def change(callback):
        def begin(epoch, logs=None):
            if epoch == 1:
                setattr(callback.model.optimizer, attribute, value)

        callback.on_epoch_begin = begin
        return callback

    found = trained(net_of, data_of(), [change(keras.callbacks.Callback())])
    assert kept == traces
    untraced(monkeypatch)
    assert_same(found, trained(net_of, data_of(), [change(keras.callbacks.Callback())]))
    assert not np.array_equal(found["0"], trained(net_of, data_of())["0"])  # the control: the change changes something


def test_an_optimizer_that_changes_often_is_not_traced(kept, monkeypatch):
    """A callback changes it at each epoch. From the fourth setting on, the trace holds the network alone, and serves on."""

    class Change(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.beta_1 = 0.1 + 0.1 * epoch

    found = trained(net_of, data_of(), [Change()], epochs=6)
    assert kept == ["resident"] * 3 + ["forward"]
    untraced(monkeypatch)
    assert_same(found, trained(net_of, data_of(), [Change()], epochs=6))
