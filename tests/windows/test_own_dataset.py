"""Datasets of the user's own are taken in a right order, and refused with key and step in a wrong one."""

import keras
import numpy as np
import pytest

import rnnstate as rs


class Reordered(keras.utils.PyDataset):
    """The batches of windows in another order, with the first step of each row."""

    def __init__(self, windows, order):
        super().__init__()
        self.windows, self.order, self.keys = windows, order, windows.keys

    def __len__(self):
        return len(self.order)

    def __getitem__(self, index):
        batch = self.order[index]
        inputs, *rest = self.windows[batch]
        return ({**inputs, "start": self.windows.plan.start[batch].astype("int32")}, *rest)


def make(seed=0):
    """Return a compiled model; equal seeds give equal weights."""
    keras.utils.set_random_seed(seed)
    net = keras.Sequential(
        [keras.Input((None, 2)), keras.layers.GRU(5, return_sequences=True, name="gru"), keras.layers.Dense(3)]
    )
    model = rs.StatefulModel(net)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def make_windows():
    """Return two sequences in three batches."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 11, 2)), rng.normal(size=(2, 11, 3))
    return rs.Windows({"a": x[0], "b": x[1]}, {"a": y[0], "b": y[1]}, length=4, batch_size=2)


def test_a_dataset_of_ones_own_in_time_order_trains_as_windows_do():
    """The adapter changes nothing: weights and states are those of training on the windows themselves."""
    windows, one, other = make_windows(), make(), make()
    one.fit(windows, epochs=2, verbose=0)
    other.fit(Reordered(windows, [0, 1, 2]), epochs=2, verbose=0)
    for expected, actual in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert one.states.read(["a", "b"]) == other.states.read(["a", "b"])
    assert other.evaluate(Reordered(windows, [0, 1, 2]), verbose=0) == one.evaluate(windows, verbose=0)


def test_a_dataset_out_of_time_order_is_refused_before_anything_is_trained():
    """Key and step are named, and no weight has moved."""
    model = make()
    before = model.get_weights()
    with pytest.raises(rs.DataError, match=r"time order.*step 4 after that from step 8, sequence 'a', batch 2"):
        model.fit(Reordered(make_windows(), [0, 2, 1]), verbose=0)
    with pytest.raises(rs.DataError, match=r"must have `first` set.*sequence 'a', batch 0"):
        model.fit(Reordered(make_windows(), [1, 2]), verbose=0)
    for expected, actual in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_predict_needs_windows_to_put_outputs_in_order():
    """A dataset of one's own has no plan to assemble outputs by."""
    with pytest.raises(rs.DataError, match=r"`predict` puts outputs back in time order"):
        make().predict(Reordered(make_windows(), [0, 1, 2]), verbose=0)
