"""`fit` is a loop over `step`: same weights, same states, with everything that Keras' `fit` offers."""

import keras
import numpy as np
import pytest
from keras import layers

import by_hand
import nets
import rnnstate as rs
from fitting import LENGTHS, fitted, refuses_many_steps, targets_of, weights_of, windows_of
from nets import difference, host
from rnnstate.kernels import kernels
from rnnstate.training.fit_checks import check_windows
from rnnstate.training.fit_hooks import paced

TOLERANCE = 1e-6


@pytest.mark.parametrize(
    ("build", "outputs", "optimizer", "lengths"),
    [
        (nets.two_layers, 1, lambda: keras.optimizers.Adam(0.01), LENGTHS),
        (nets.stack_of_cells, 2, lambda: keras.optimizers.SGD(0.1, momentum=0.9), (15, 15, 15)),
        (nets.custom_cell, 2, lambda: keras.optimizers.RMSprop(0.01), LENGTHS),
    ],
)
def test_fit_equals_a_loop_over_step(build, outputs, optimizer, lengths):
    """Three epochs of `fit` give the losses, weights and states of a hand-written loop with the same optimizer."""
    windows = windows_of(outputs, lengths)
    model, history = fitted(build, windows, epochs=3, optimizer=optimizer())
    other = nets.make(build)
    loop = by_hand.Loop(other, optimizer())
    for _ in range(3):
        loop.epoch(windows)
    assert difference(weights_of(model), weights_of(other)) < TOLERANCE
    assert difference(model.states.read(windows.keys), loop.states(len(lengths))) < TOLERANCE
    assert difference(weights_of(model), weights_of(nets.make(build))) > 1e-2
    losses = np.reshape(loop.losses, (3, -1)).mean(axis=1)
    assert history.history["loss"] == pytest.approx(losses, abs=TOLERANCE)


def test_fit_without_carry_is_another_training():
    """Negative control: windows that all start fresh lead to other weights."""
    data = nets.series((15, 15, 15))
    y = targets_of(data, 1)
    windows = rs.Windows(data, y, length=5, batch_size=3)
    pieces = rs.Windows(data, y, length=5, batch_size=3, pieces=3)
    model, _ = fitted(nets.small, windows, epochs=3)
    other, _ = fitted(nets.small, pieces, epochs=3)
    assert difference(weights_of(model), weights_of(other)) > 1e-3


def test_targets_per_window_equal_a_loop():
    """A network with one output per window trains on the target of each window, carried."""
    data = nets.series((15, 15, 15))
    y = targets_of(data, 2)
    windows = rs.Windows(data, y, length=5, batch_size=3, targets="last")
    model, _ = fitted(nets.last_step, windows, epochs=3)
    other = nets.make(nets.last_step)
    loop = by_hand.Loop(other, keras.optimizers.Adam(0.01))
    for _ in range(3):
        loop.epoch(windows)
    assert difference(weights_of(model), weights_of(other)) < TOLERANCE
    assert difference(model.states.read(), loop.states(3)) < TOLERANCE


def test_sample_weights_equal_a_loop():
    """Weights per step count as in Keras, on valid steps alone; a weight of zero leaves a step's target unread."""
    data = nets.series(LENGTHS)
    y = targets_of(data, 1)
    weight = {key: np.abs(nets.values(len(x), seed=9)) for key, x in data.items()}
    weight["k0"][3] = 0
    windows = rs.Windows(data, y, sample_weight=weight, length=5, batch_size=3)
    model, _ = fitted(nets.small, windows)
    loop = by_hand.Loop(nets.make(nets.small), keras.optimizers.Adam(0.01))
    for _ in range(2):
        loop.epoch(windows)
    assert difference(weights_of(model), weights_of(loop.model)) < TOLERANCE
    y["k0"][3] = 1e3
    again, _ = fitted(nets.small, rs.Windows(data, y, sample_weight=weight, length=5, batch_size=3))
    assert difference(weights_of(model), weights_of(again)) < TOLERANCE


def test_steps_per_execution(backend):
    """Several batches in one call are the same training; on PyTorch Keras refuses them before release 3.16."""
    windows = windows_of(1)
    if refuses_many_steps(backend):
        with pytest.raises(ValueError, match=r"steps_per_execution"):
            fitted(nets.small, windows, steps_per_execution=3)
        return
    model, _ = fitted(nets.small, windows)
    other, _ = fitted(nets.small, windows, steps_per_execution=3)
    assert difference(weights_of(model), weights_of(other)) < TOLERANCE
    assert difference(model.states.read(), other.states.read()) < TOLERANCE


class TwoProcesses(keras.distribution.DataParallel):
    """What Keras makes in each of two processes of a cluster."""

    num_processes, num_model_replicas = 2, 2


class OneReplica(TwoProcesses):
    """Two processes that share one model, and are given the same data."""

    num_model_replicas = 1


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_processes_with_different_data_are_refused(method):
    """Batches dealt to processes would cut sequences by time, so no method takes them, and no variable changes."""
    model, windows = nets.make(nets.small), windows_of(1)
    model.compile("sgd", "mse")
    before = model.get_weights()
    with (
        TwoProcesses(devices=["cpu:0"]).scope(),
        pytest.raises(rs.UnsupportedModelError, match=r"one process.*2 processes.*auto_shard_dataset"),
    ):
        getattr(model, method)(windows, verbose=0)
    assert all(np.array_equal(*pair) for pair in zip(before, model.get_weights(), strict=True))
    for harmless in (keras.distribution.DataParallel, OneReplica):
        with harmless(devices=["cpu:0"]).scope():
            check_windows(model, windows, argument="x", targets=True)


def test_run_eagerly():
    """Without compilation the training is the same."""
    windows = windows_of(1, lengths=(7, 5), batch_size=2)
    model, _ = fitted(nets.small, windows)
    other, _ = fitted(nets.small, windows, run_eagerly=True)
    assert difference(weights_of(model), weights_of(other)) < TOLERANCE
    assert difference(model.states.read(), other.states.read()) < TOLERANCE


def test_two_fits_equal_one():
    """`fit` goes on where the last one ended: two of one epoch are one of two."""
    windows = windows_of(1)
    model, _ = fitted(nets.small, windows, epochs=2)
    other, _ = fitted(nets.small, windows, epochs=1)
    other.fit(windows, epochs=2, initial_epoch=1, verbose=0)
    assert difference(weights_of(model), weights_of(other)) < TOLERANCE


class Reader(keras.callbacks.Callback):
    """Notes where every sequence stands after each batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.model.states.read())


class Writer(Reader):
    """Sets where every sequence stands before each batch."""

    def __init__(self, given):
        super().__init__()
        self.given = given

    def on_train_batch_begin(self, batch, logs=None):
        self.model.states.write(self.model.states.keys, self.given[batch])


def steps_of(model, windows, starts):
    """Return the state after each batch when batch `i` starts from `starts[i]`, or from where the last one ended."""
    state, seen = model.initial_state(windows.batch_size), []
    for index in range(len(windows)):
        state = state if starts is None else starts[index]
        state = model.step(windows[index][0]["x"], state)[1].numpy()
        seen.append(state)
    return seen


def test_a_callback_reads_the_state_after_each_batch():
    """A callback sees, after each batch, the state in which the batch ended."""
    windows = windows_of(1, (15, 15, 15))
    reader = Reader()
    model, _ = fitted(nets.small, windows, 1, keras.optimizers.SGD(0.0), callbacks=[reader])
    for seen, expected in zip(reader.seen, steps_of(model, windows, None), strict=True):
        assert difference(seen, expected) < TOLERANCE


def test_a_callback_sets_the_state_before_each_batch():
    """What a callback writes before a batch is where this very batch starts, first windows included."""
    windows = windows_of(1, (15, 15, 15))
    shapes = {"lstm/h": 5, "lstm/c": 5, "gru/h": 3}
    given = [{n: nets.values(3, u, seed=10 * b + u + i) for i, (n, u) in enumerate(shapes.items())} for b in range(3)]
    writer = Writer(given)
    model, _ = fitted(nets.two_layers, windows, 1, keras.optimizers.SGD(0.0), callbacks=[writer])
    for seen, expected in zip(writer.seen, steps_of(model, windows, given), strict=True):
        assert difference(seen, expected) < TOLERANCE
    carried = steps_of(model, windows, None)
    assert difference(writer.seen[0], carried[0]) > 1e-2


def test_written_states_are_read_back_bit_for_bit():
    """`write` then `read` is the identity, for some keys and some leaves, between and after fits."""
    windows = windows_of(1)
    model, _ = fitted(nets.two_layers, windows, 1)
    before = model.states.read(windows.keys)
    h = nets.values(2, 5, seed=4)
    model.states.write(["k2", "k0"], {"lstm/h": h})
    after = model.states.read(windows.keys)
    np.testing.assert_array_equal(after["lstm/h"][[2, 0]], h)
    np.testing.assert_array_equal(after["lstm/h"][[1, 3]], before["lstm/h"][[1, 3]])
    for leaf in ("lstm/c", "gru/h"):
        np.testing.assert_array_equal(after[leaf], before[leaf])
    model.states.reset("k1")
    assert model.states.read("k1") == model.initial_state(1).numpy()
    assert model.states.read(["k0", "k2", "k3"]) == after.rows([0, 2, 3])


def test_given_states_start_an_epoch_once():
    """A written state starts the next epoch's first window; the epoch after starts from the initial state again."""
    windows = windows_of(1, (15, 15, 15))
    reader = Reader()
    model = nets.make(nets.two_layers)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    given = model.step(nets.values(3, 7, 2, seed=8), model.initial_state(3), training=False)[1].numpy()
    model.states.write(windows.keys, given)
    model.fit(windows, epochs=2, callbacks=[reader], verbose=0)
    first = model.step(windows[0][0]["x"], given)[1].numpy()
    second = model.step(windows[0][0]["x"], model.initial_state(3))[1].numpy()
    assert difference(reader.seen[0], first) < TOLERANCE
    assert difference(reader.seen[3], second) < TOLERANCE
    assert difference(first, second) > 1e-2


def test_mixed_precision_keeps_states_in_float32():
    """Under mixed precision the bank is float32, carries, and holds what the layers computed."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    windows = windows_of(1, (15, 15, 15))
    reader = Reader()
    model, _ = fitted(nets.two_layers, windows, 1, keras.optimizers.SGD(0.0), callbacks=[reader])
    assert {leaf.dtype for leaf in model.state_spec.values()} == {"float32"}
    assert {keras.backend.standardize_dtype(v.dtype) for v in model.states.bank.variables} == {"float32"}
    for seen, expected in zip(reader.seen, steps_of(model, windows, None), strict=True):
        assert difference(seen, expected) < 1e-2  # bfloat16 has 8 bits
    fresh = steps_of(model, windows, [model.initial_state(3)] * 3)
    assert difference(reader.seen[2], fresh[2]) > 3e-2


def test_metrics_are_exact_over_valid_steps():
    """Loss and metrics are those of NumPy on the unpadded data, in training, evaluation and validation."""
    data = nets.series(LENGTHS)
    y = {key: (target > 0).astype("float32") for key, target in targets_of(data, 1).items()}
    windows = rs.Windows(data, y, length=7, batch_size=3)
    model = nets.make(nets.small)
    metrics = ["mae", keras.metrics.RootMeanSquaredError(name="rmse"), keras.metrics.AUC(name="auc", from_logits=True)]
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=metrics)
    truth = np.concatenate(list(y.values()))
    guess = np.concatenate(list(model.predict(windows, verbose=0).values())).astype("float64")
    errors = guess - truth
    auc = keras.metrics.AUC(from_logits=True)
    auc.update_state(truth, guess)
    expected = {
        "mae": np.abs(errors).mean(),
        "rmse": np.sqrt((errors**2).mean()),
        "auc": float(auc.result()),
    }
    history = model.fit(windows, validation_data=windows, verbose=0).history
    evaluated = model.evaluate(windows, return_dict=True, verbose=0)
    for name, value in expected.items():
        assert history[name][0] == pytest.approx(value, abs=1e-5)
        assert history[f"val_{name}"][0] == pytest.approx(value, abs=1e-5)
        assert evaluated[name] == pytest.approx(value, abs=1e-5)


def test_dropout_and_normalisation_train():
    """Layers with seeds and moving statistics train, move, and are quiet at inference."""
    net = keras.Sequential(
        [
            nets.series_input(),
            layers.LSTM(5, return_sequences=True, dropout=0.3, recurrent_dropout=0.2, name="lstm"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.5),
            layers.Dense(1),
        ]
    )
    model = rs.StatefulModel(nets.randomized(net))
    model.compile(keras.optimizers.SGD(0.05), "mse")
    windows = windows_of(1)
    first = model.predict(windows, verbose=0)
    model.fit(windows, epochs=2, verbose=0)
    assert np.abs(nets.host(net.get_layer("norm").moving_mean)).max() > 1e-4
    second = model.predict(windows, verbose=0)
    assert difference(first, second) > 1e-3
    assert difference(second, model.predict(windows, verbose=0)) == 0


def test_more_sequences_later():
    """A later fit may bring new sequences and other batch sizes; states of the old ones stay."""
    model, _ = fitted(nets.small, windows_of(1), 1)
    before = model.states.read()
    data = {f"new{i}": x for i, x in enumerate(nets.series((9, 8, 7, 6, 5, 4, 3), seed=40).values())}
    more = rs.Windows(data, targets_of(data, 1), length=3, batch_size=5)
    model.fit(more, verbose=0)
    assert model.states.keys == (*before_keys(), *data)
    assert model.states.read(before_keys()) == before


def before_keys():
    """Return the keys of the usual windows."""
    return tuple(f"k{i}" for i in range(len(LENGTHS)))


def test_weights_are_shared_with_the_network():
    """Training the model trains the network it was made from: they are the same variables."""
    net = nets.randomized(nets.two_layers())
    model = rs.StatefulModel(net)
    assert [id(v) for v in model.trainable_variables] == [id(v) for v in net.trainable_variables]
    before = [nets.host(v).copy() for v in net.trainable_variables]
    model.compile("adam", "mse")
    model.fit(windows_of(1), verbose=0)
    assert max(difference(old, new) for old, new in zip(before, net.trainable_variables, strict=True)) > 1e-4


def test_fit_waits_for_no_batch(monkeypatch):
    """No callback of rnnstate asks Keras for the logs of a batch, except one that puts the learning rate back.

    On a CPU, PyTorch has them when the step returns.
    """
    monkeypatch.setattr(kernels(), "is_synchronous", lambda: False)
    model = nets.make(nets.lstm)
    model.compile("sgd", "mse")
    given = {"length": 3, "batch_size": 2}
    for vary in (None, True):
        windows = rs.Windows(nets.values(2, 6, nets.FEATURES), nets.values(2, 6, 5), vary=vary, **given)
        with paced(model, windows, None) as callbacks:
            ends = {type(callback).on_train_batch_end for callback in callbacks}
        assert (ends == {keras.callbacks.Callback.on_train_batch_end}) == (vary is None)
    monkeypatch.setattr(kernels(), "is_synchronous", lambda: True)
    windows = rs.Windows(nets.values(2, 6, nets.FEATURES), nets.values(2, 6, 5), **given)
    with paced(model, windows, None) as callbacks:
        assert any("on_train_batch_end" in vars(callback) for callback in callbacks)


def test_slots_are_looked_up_again_after_a_load(tmp_path):
    """The slots of the same keys are those of the moment: states that were loaded may have them in another order."""
    one, other = nets.make(nets.lstm), nets.make(nets.lstm)
    keys = ("a", "b", "c")
    for model, order in ((one, keys), (other, keys[::-1])):
        model.states.write(order, model.initial_state(3).map(lambda leaf: host(leaf) + np.arange(3.0)[:, None]))
    other.save_weights(tmp_path / "other.weights.h5")
    first = one.states.reserve(keys)
    first[:] = 0  # the caller's own
    assert one.states.reserve(keys).tolist() == [1, 2, 3]
    one.load_weights(tmp_path / "other.weights.h5")
    assert one.states.reserve(keys).tolist() == [3, 2, 1]
    assert one.states.read(keys) == other.states.read(keys)
