"""Threads: steps go on while another thread trains; two calls of `fit`, `evaluate` or `predict` at once are refused."""

import threading

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs
from nets import difference, host
from serving import serving


def made():
    """Return a compiled model with averages that move, and its windows."""
    net = keras.Sequential(
        [
            nets.series_input(),
            layers.GRU(5, return_sequences=True, name="gru"),
            layers.BatchNormalization(),
            layers.Dense(2),
        ]
    )
    model = rs.StatefulModel(nets.randomized(net), initial_state=rs.initial.Learned())
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x, y = nets.values(3, 35, nets.FEATURES), nets.values(3, 35, 2, seed=1)
    return model, rs.Windows(x, y, length=5, batch_size=3)


def in_thread(function):
    """Run a function in another thread, and return its result or error."""
    kept = []

    def run():
        try:
            kept.append(function())
        except Exception as error:
            kept.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, kept


class Between(keras.callbacks.Callback):
    """Calls a function after each batch, while JAX has emptied the variables, and keeps the results."""

    def __init__(self, function):
        super().__init__()
        self.function, self.results = function, []

    def on_train_batch_end(self, batch, logs=None):
        """Call it."""
        self.results.append(self.function())

    on_predict_batch_end = on_train_batch_end


def elsewhere(function):
    """Return a function that runs `function` in another thread, and waits."""

    def call():
        thread, kept = in_thread(function)
        thread.join()
        return kept[0]

    return call


def served(model, x):
    """Return a function that steps, traces and runs free."""

    def call():
        with serving():
            start = model.initial_state(1)
            y, state = model.step(x, start)
            return [host(part) for part in (y, state["gru/h"], model.trace(x, start)[0])]

    return call


def test_steps_while_fit_runs(backend):
    """In each batch another thread steps: from the weights of the epoch's begin on JAX, else from those of the moment."""
    model, windows = made()
    x = nets.values(1, 1, nets.FEATURES)
    step = served(model, x)
    before = step()
    between = Between(elsewhere(step))
    model.fit(windows, epochs=2, verbose=0, callbacks=[between])
    batches = len(between.results) // 2
    assert [type(one) for one in between.results] == [list] * 2 * batches
    assert (difference(between.results[batches - 2][0], before[0]) == 0) == (backend == "jax")
    assert difference(between.results[-1][0], before[0]) > 1e-4
    assert difference(between.results[0][0], between.results[0][2]) < 1e-6
    after = step()
    assert (difference(between.results[-1][0], after[0]) < 1e-6) == (backend != "jax")


class Zeroing(keras.callbacks.Callback):
    """Sets all weights to zero after the first epoch, if `on` is true."""

    def __init__(self, on):
        super().__init__()
        self.on = on

    def on_epoch_end(self, epoch, logs=None):
        """Set them."""
        if self.on and not epoch:
            self.model.set_weights([0 * weight for weight in self.model.get_weights()])


@pytest.mark.parametrize("zeroing", [True, False])
def test_weights_set_between_epochs_are_those_of_the_next_one(zeroing, backend):
    """On JAX the weights are copied when an epoch ends. A callback may set others, with which the next epoch begins."""
    model, windows = made()
    between = Between(elsewhere(served(model, nets.values(1, 1, nets.FEATURES))))
    model.fit(windows, epochs=2, verbose=0, callbacks=[Zeroing(zeroing), between])
    first = between.results[len(windows)][0]
    assert (np.abs(first).max() == 0) == (zeroing and backend == "jax")


def test_weights_are_copied_once_for_each_epoch(backend, monkeypatch):
    """`fit` copies them when it begins, and while the last step of each epoch runs. The next epoch copies nothing."""
    if backend != "jax":
        pytest.skip("training takes the weights away from other threads on JAX alone")
    from rnnstate.kernels import jax as kernels

    model, windows = made()
    model.fit(windows, verbose=0)
    copied, copies = [], kernels.copies
    monkeypatch.setattr(kernels, "copies", lambda tensors: copied.append(1) or copies(tensors))
    model.fit(windows, epochs=3, verbose=0)
    assert len(copied) == 1 + 3


def test_a_callback_steps_with_the_weights_of_the_moment():
    """In the thread that trains, a step uses the weights after the batch."""
    model, windows = made()
    between = Between(served(model, nets.values(1, 1, nets.FEATURES)))
    model.fit(windows, verbose=0, callbacks=[between])
    assert difference(between.results[0][0], between.results[1][0]) > 1e-5
    assert difference(between.results[-1][0], between.function()[0]) < 1e-6


def test_many_steps_at_once_beside_fit_and_predict():
    """Threads that step all the time see no error, and `fit` gives the weights that it gives alone."""
    alone, windows = made()
    weights = alone.get_weights()
    alone.fit(windows, epochs=2, verbose=0)
    model, windows = made()
    model.set_weights(weights)
    step, end, x = served(model, nets.values(1, 1, nets.FEATURES)), threading.Event(), windows
    expected = step()

    def until_end():
        count = 0
        while not end.is_set():
            assert all(np.isfinite(part).all() for part in step())
            count += 1
        return count

    threads = [in_thread(until_end) for _ in range(2)]
    for _ in range(3):
        model.predict(x, verbose=0)
    assert difference(step()[0], expected[0]) < 1e-6
    model.fit(windows, epochs=2, verbose=0)
    end.set()
    for thread, kept in threads:
        thread.join()
        assert isinstance(kept[0], int), kept
    assert max(difference(a, b) for a, b in zip(model.get_weights(), alone.get_weights(), strict=True)) < 1e-6


def test_what_needs_the_model_for_itself_is_refused():
    """Training, prediction and rows of sequences belong to one thread at a time; its callbacks may use them."""
    model, windows = made()
    keys = list(windows.keys)
    calls = {
        "fit": lambda: model.fit(windows, verbose=0),
        "predict": lambda: model.predict(windows, verbose=0),
        "evaluate": lambda: model.evaluate(windows, verbose=0),
        "model.states": lambda: model.states.read(keys),
    }
    for name, call in calls.items():
        between = Between(elsewhere(call))
        model.predict(windows, verbose=0, callbacks=[between])
        with pytest.raises(
            rs.errors.CarryError, match=rf"`{name}` must have the model for itself.*`predict` of the same"
        ):
            raise between.results[0]
    between = Between(lambda: model.states.read(keys))
    model.fit(windows, verbose=0, callbacks=[between])
    assert isinstance(between.results[-1], rs.State)
    model.fit(windows, verbose=0)  # the model is free again


def test_weights_shared_with_a_model_in_training(backend):
    """Where Keras has emptied the variables for another model, a step says so; elsewhere it works."""
    model, windows = made()
    other = rs.StatefulModel(model.net)
    x = nets.values(1, 1, nets.FEATURES)
    between = Between(elsewhere(served(other, x)))
    model.fit(windows, verbose=0, callbacks=[between])
    if backend == "jax":
        with pytest.raises(rs.errors.CarryError, match="Another model that shares these weights"):
            raise between.results[0]
    else:
        assert between.results[0][0].shape == (1, 1, 2)


@pytest.mark.once
def test_windows_are_read_by_many_threads():
    """Batches are the same in whatever thread they are made."""
    _, windows = made()
    alone = [windows[i] for i in range(len(windows))]
    threads = [in_thread(lambda: [windows[i] for i in range(len(windows))]) for _ in range(4)]
    for thread, kept in threads:
        thread.join()
        for one, other in zip(kept[0], alone, strict=True):
            assert all(
                np.array_equal(a, b) for a, b in zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True)
            )
