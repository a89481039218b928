"""Data that change after `Windows` was made: a value that is not finite raises at its batch, with its window."""

import keras
import numpy as np
import pytest

import nets
import rnnstate as rs
from fitting import LENGTHS, targets_of, weights_of, windows_of
from nets import difference

WHOLE = (15, 15, 15)  # whole windows alone, so the batches of a call are cut together


def spoilt(role, lengths, value=np.nan, **kwargs):
    """Return windows of three sequences, of which step 11 of `k1` changed since they were made."""
    data = nets.series(lengths)
    weights = {key: np.ones(len(x), "float32") for key, x in data.items()}
    given = {"x": data, "y": targets_of(data, 1), "sample_weight": weights}
    windows = rs.Windows(**given, length=5, batch_size=3, **kwargs)
    given[role]["k1"][11] = value
    return windows


@pytest.mark.parametrize("lengths", [WHOLE, (15, 13, 9)])
@pytest.mark.parametrize("role", ["x", "y", "sample_weight"])
def test_the_window_is_named(role, lengths):
    """`fit` raises at the third batch of the first epoch. What two batches have taught is finite."""
    model = nets.make(nets.small)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    text = rf"`{role}` must be finite. Received: nan in the window from step 10 of sequence 'k1'.*was changed since"
    with pytest.raises(rs.DataError, match=text):
        model.fit(spoilt(role, lengths), epochs=2, verbose=0)
    assert all(np.isfinite(weight).all() for weight in weights_of(model).values())


@pytest.mark.parametrize("bad", [1, 15, 16, 18])
def test_the_batches_before_it_have_trained(bad):
    """Batches before a bad one train, also if a backend asks for many at once. The next `fit` reads the data anew."""
    x, y, ended = np.ones((3, 95, nets.FEATURES), "float32"), np.ones((3, 95, 1), "float32"), []
    windows = rs.Windows(x, y, length=5, batch_size=3)
    x[1, 5 * bad + 2, 0] = np.nan
    model = nets.make(nets.small)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    counted = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ended.append(batch))
    with pytest.raises(rs.DataError, match=rf"`x` must be finite. Received: nan in the window from step {5 * bad} of"):
        model.fit(windows, epochs=2, verbose=0, callbacks=[counted])
    assert ended == list(range(bad))
    x[:] = 1.0
    model.fit(windows, epochs=2, verbose=0, callbacks=[counted])
    assert ended[bad:] == [*range(19), *range(19)]


@pytest.mark.parametrize("kwargs", [{"burn_in": 3}, {"targets": "last"}, {"order": "shuffled"}, {"pieces": 3}])
def test_other_cuts(kwargs):
    """The first window that holds the value is named: with `burn_in`, a later one holds it too."""
    data, y = np.ones((1, 20, 2), "float32"), np.ones((1, 20, 1), "float32")
    windows = rs.Windows(data, y, length=5, batch_size=1, **kwargs)
    assert len(list(windows)) == 4 + (kwargs == {"pieces": 3}) * 2
    data[0, 12, 1] = np.inf
    with pytest.raises(
        rs.DataError, match=r"`x` must be finite. Received: inf in the window from step \d+ of sequence"
    ):
        list(windows)
    data[0, 12, 1] = 1.0
    list(windows)


def test_changed_known_values():
    """Known values count too."""
    data, known = {"a": np.ones((10, 2), "float32")}, {"a": np.ones(3, "float32")}
    windows = rs.Windows(data, length=5, batch_size=1, observed=known)
    known["a"][1] = np.nan
    with pytest.raises(rs.DataError, match=r"`observed` must be finite. Received: nan in the window from step 0 of"):
        windows[0]


def test_other_changes_are_data():
    """Negative control: a change to a finite number trains, to other weights; so do numbers whose squares overflow."""
    weights = []
    for value in (2.0, 3.0):
        model = nets.make(nets.small)
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(spoilt("y", WHOLE, value), epochs=1, verbose=0)
        weights.append(weights_of(model))
    assert difference(*weights) > 1e-4
    assert len(list(spoilt("x", WHOLE, np.float32(1e30)))) == 3


class Own(keras.utils.PyDataset):
    """Batches that a user made, with one value that is not finite."""

    def __init__(self, value):
        super().__init__()
        self.windows, self.value = windows_of(1, LENGTHS), value
        self.keys = self.windows.keys

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, index):
        inputs, *rest = self.windows[index]
        if index == 2:
            inputs["x"][1, 0, 1] = self.value
        return {**inputs, "start": self.windows.plan.start[index].astype("int32")}, *rest


def test_batches_of_a_user():
    """The batch and the key are named. The same batches without the value train."""
    model = nets.make(nets.small)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    with pytest.raises(rs.DataError, match=r"`x` must be finite. Received: nan in batch 2, row 1, sequence 'k\d'"):
        model.fit(Own(np.nan), verbose=0)
    model.fit(Own(0.5), verbose=0)
