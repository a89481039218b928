"""Law: the next batch is made while a step runs, by one thread, in order, once; and nothing else changes."""

import threading
import traceback
from functools import partial

import keras
import numpy as np
import pytest

import nets
import rnnstate as rs
from nets import difference

LENGTH, ROWS = 5, 3
WAIT = 30.0  # seconds after which a test fails instead of hanging


def model_of(*extra, **kwargs):
    """Return a compiled model, with `extra` layers before the last."""
    layers = [keras.layers.LSTM(5, return_sequences=True, name="lstm"), *extra, keras.layers.Dense(1)]
    model = rs.StatefulModel(nets.randomized(keras.Sequential([nets.series_input(), *layers])))
    model.compile("adam", "mse", metrics=["mae"], **kwargs)
    return model


def windows(lengths, seed=0, **kwargs):
    """Return windows of sequences of these lengths, with targets."""
    x, y = nets.series(lengths, seed=seed), nets.series(lengths, features=1, seed=seed + 50)
    return rs.Windows(x, y, length=LENGTH, batch_size=ROWS, **kwargs)


class Told(rs.Windows):
    """Windows that tell which of their batches were made, and in which thread; batch `bad` cannot be."""

    def __init__(self, *args, bad=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.made = [threading.Event() for _ in range(len(self))]
        self.makers, self.bad = [], bad

    def forget(self):
        """Forget what was made."""
        for event in self.made:
            event.clear()
        self.makers.clear()

    def __getitem__(self, index):
        if index == self.bad:
            raise ValueError(f"no batch {index}")
        batch = super().__getitem__(index)
        self.makers.append((index, threading.current_thread()))
        self.made[index].set()
        return batch


def told(**kwargs):
    """Return such windows, four batches of them."""
    x, y = nets.series([20, 20, 20]), nets.series([20, 20, 20], features=1, seed=1)
    return Told(x, y, length=LENGTH, batch_size=ROWS, **kwargs)


class Watch(keras.callbacks.Callback):
    """Notes which steps began; the network asks it within a step, where all runs in Python."""

    def __init__(self):
        super().__init__()
        self.step = None
        self.seen = {}

    def on_train_batch_begin(self, batch, logs=None):
        """A step begins."""
        self.step = batch

    def on_train_batch_end(self, batch, logs=None):
        """A step has ended."""
        self.step = None


def watched(data, ask):
    """Train step by step in Python, and call `ask(step)` within each."""
    watch = Watch()

    @keras.saving.register_keras_serializable("tests")
    class Asking(keras.layers.Layer):
        def call(self, x):
            if watch.step is not None and watch.step not in watch.seen:
                watch.seen[watch.step] = ask(watch.step)
            return x

    model = model_of(Asking(), run_eagerly=True)
    model.fit(data, verbose=0)
    data.forget()
    watch.seen.clear()
    model.fit(data, callbacks=[watch], verbose=0)
    return watch.seen


def test_the_next_batch_is_made_while_a_step_runs():
    """In the middle of each step but the last, the next batch comes to be made, in another thread."""
    data = told()
    seen = watched(data, lambda step: step + 1 == len(data) or data.made[step + 1].wait(WAIT))
    assert seen == dict.fromkeys(range(len(data)), True)
    in_time = data.makers[-len(data) :]
    assert [index for index, _ in in_time] == list(range(len(data)))
    # The checks before the run make the first batch, and the first step takes it from them.
    assert threading.main_thread() not in [thread for _, thread in in_time[1:]]


def test_without_workers_nothing_is_made_ahead():
    """Negative control, and a way out: with `workers=0` a batch is made when its step needs it."""
    data = told(workers=0)
    seen = watched(data, lambda step: [event.is_set() for event in data.made])
    assert seen == {step: [True] * (step + 1) + [False] * (len(data) - step - 1) for step in range(len(data))}


def loaders():
    """Return our loading threads that are alive."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("rnnstate-loader")]


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_ahead_changes_nothing(workers):
    """Weights, states and logs are those of batches made one by one, order and epochs of drawn windows included."""
    results = []
    for count in (workers, 0):
        model = model_of()
        data = windows([17, 23, 9, 31], vary=True, seed=7, workers=count)
        other = windows([17, 23], seed=5, workers=count)
        history = model.fit(data, validation_data=other, epochs=3, verbose=0).history
        results.append([*model.get_weights(), *model.states.read().values(), *map(np.array, history.values())])
        assert not loaders()
    assert max(difference(*pair) for pair in zip(*results, strict=True)) == 0


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("method", ["fit", "validation", "evaluate", "predict"])
def test_an_error_of_the_data_is_raised_as_it_is(workers, method):
    """It comes when its batch is due, with its own traceback, on every backend; the thread ends."""
    model, data = model_of(), told(bad=2, workers=workers)
    validating = partial(model.fit, told(), validation_data=data)
    call = validating if method == "validation" else partial(getattr(model, method), data)
    with pytest.raises(ValueError, match=r"^no batch 2$") as caught:
        call(verbose=0)
    assert "raise ValueError" in "".join(traceback.format_exception(caught.value))
    assert not loaders()
    data.bad = None
    model.fit(data, verbose=0)


def test_an_error_of_a_callback_stays_its_own():
    """What fails beside the data is not taken for an error of the data, and ends the thread too."""

    class Broken(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyError("mine")

    model = model_of()
    with pytest.raises(KeyError, match="mine"):
        model.fit(told(bad=1), callbacks=[Broken()], verbose=0)
    assert not loaders()


def test_each_batch_is_made_once_in_order():
    """No batch is made twice in an epoch, or for nothing; the first step takes the batch that the checks made."""
    data, model = told(), model_of()
    model.fit(data, verbose=0)  # Keras builds a new model on the first batch
    data.forget()
    model.fit(data, epochs=3, verbose=0)
    assert [index for index, _ in data.makers] == [*range(len(data))] * 3
    assert [index for index, thread in data.makers if thread is threading.main_thread()] == [0]


@pytest.mark.parametrize(("features", "threads"), [(3, 0), (1_201, 1)])
def test_small_batches_need_no_thread(features, threads, backend):
    """A thread is worth it for batches of 64 KiB and more, and for data that do more than look into arrays."""
    x = np.zeros((ROWS, 5 * LENGTH, features), "float32")
    windows = rs.Windows(x, x[:, :, :1], length=LENGTH, batch_size=ROWS)
    assert windows.batch_bytes == sum(part.nbytes for part in (windows[0][0]["x"], windows[0][1]))
    assert (windows.batch_bytes >= 2**16) == bool(threads)
    seen = []
    asked = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(len(loaders())))
    layers = [keras.layers.SimpleRNN(2, return_sequences=True), keras.layers.Dense(1)]
    model = rs.StatefulModel(keras.Sequential([keras.Input((None, features)), *layers]))
    model.compile("sgd", "mse")
    model.fit(windows, verbose=0, callbacks=[asked])
    assert set(seen) == {0 if backend == "tensorflow" else threads}
