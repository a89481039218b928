"""Datasets of the user's own are taken in a right order, and refused with key and step in a wrong one."""

import keras
import numpy as np
import pytest

import rnnstate as rs
from rnnstate.windows.own_dataset import as_windows


class Reordered(keras.utils.PyDataset):
    """The batches of windows in another order, with the first step of each row."""

    def __init__(self, windows, order):
        super().__init__()
        self.built = []
        self.windows, self.order, self.keys = windows, order, windows.keys

    def __len__(self):
        return len(self.order)

    def __getitem__(self, index):
        batch = self.order[index]
        self.built = [*self.built, index]
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
    with pytest.raises(rs.DataError, match=r"time order.*step 4 after the window from step 8, sequence 'a', batch 2"):
        model.fit(Reordered(make_windows(), [0, 2, 1]), verbose=0)
    with pytest.raises(rs.DataError, match=r"must have `first` set.*sequence 'a', batch 0"):
        model.fit(Reordered(make_windows(), [1, 2]), verbose=0)
    for expected, actual in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.once
def test_each_batch_is_built_once_for_the_check():
    """The check reads each batch once, and hands on the first one, at which a model looks before it trains."""
    dataset = Reordered(make_windows(), [0, 1, 2])
    windows = as_windows(dataset, "x")
    assert dataset.built == [0, 1, 2]
    inputs, targets = windows[0]
    assert dataset.built == [0, 1, 2]
    np.testing.assert_array_equal(targets, dataset.windows[0][1])
    assert "start" not in inputs
    windows[0]  # a second pass makes it again
    assert dataset.built == [0, 1, 2, 0]


class Turning(Reordered):
    """Comes in another order in each epoch but the first."""

    def on_epoch_end(self):
        """Swap two batches."""
        self.order = [0, 2, 1]


class WithoutStart(Reordered):
    """Does not tell at which step its windows begin."""

    def __getitem__(self, index):
        inputs, *rest = super().__getitem__(index)
        return ({name: part for name, part in inputs.items() if name != "start"}, *rest)


@pytest.mark.once
def test_an_order_that_cannot_be_checked_is_refused():
    """Without `start`, and in an epoch that the dataset orders anew, a wrong order is not trained on silently."""
    with pytest.raises(rs.DataError, match=r"must have `start`.*Received: no `start`, sequence 'a', batch 1, row 0"):
        as_windows(WithoutStart(make_windows(), [0, 1, 2]), "x")
    windows = as_windows(Turning(make_windows(), [0, 1, 2]), "x")
    with pytest.raises(rs.DataError, match=r"time order.*sequence 'a', batch 2"):
        windows.on_epoch_end()


@pytest.mark.once
def test_a_dataset_with_static_inputs_and_steps_before_its_windows():
    """The steps of a window are counted without the steps before it, and not in a static input."""
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(2, 3)), "b": rng.normal(size=(2, 11, 2))}
    windows = rs.Windows(x, length=4, batch_size=2, burn_in=5)
    own = as_windows(Reordered(windows, [0, 1, 2]), "x")
    assert (own.length, own.prefix, own.batch_size) == (4, 5, 2)
    plain = as_windows(Reordered(rs.Windows(x, length=11, batch_size=2), [0]), "x")
    assert (plain.length, plain.prefix) == (11, 0)


def test_predictions_for_a_dataset_of_ones_own_are_those_for_windows():
    """Outputs come by key and in time order, without padding, and the states at the ends with them; order matters."""
    windows, model = make_windows(), make()
    expected, state = model.predict(windows, verbose=0, return_state=True)
    actual, own_state = model.predict(Reordered(windows, [0, 1, 2]), verbose=0, return_state=True)
    assert own_state == state
    for key, outputs in expected.items():
        assert outputs.shape == (11, 3)
        np.testing.assert_array_equal(actual[key], outputs)
    assert np.abs(expected["a"][4:8] - expected["a"][:4]).max() > 1e-3
    given = {leaf: np.ones_like(rows) for leaf, rows in state.items()}
    started = model.predict(Reordered(windows, [0, 1, 2]), verbose=0, initial_state=given)
    np.testing.assert_array_equal(started["b"], model.predict(windows, verbose=0, initial_state=given)["b"])


class Uneven(keras.utils.PyDataset):
    """Two rows, then one; steps without data in the middle of a window; a key without a window."""

    def __init__(self, again=False):
        super().__init__()
        self.keys, self.again = ("a", "b", "none"), again

    def __len__(self):
        return 2

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        rows = 2 - index
        mask = np.ones((rows, 4), bool)
        mask[0, 1] = index == 1
        facts = {
            "slot": np.arange(rows),
            "first": np.full(rows, index == 0 or self.again),
            "start": np.full(rows, 4 * index),
        }
        return ({"x": rng.normal(size=(rows, 4, 2)).astype("float32"), "mask": mask, **facts},)


@pytest.mark.once
def test_batches_of_several_sizes_are_predicted_and_steps_without_data_have_no_output():
    """Each step with data has one output, and it is that of one pass over the whole sequence."""
    model = make()
    outputs = model.predict(Uneven(), verbose=0)
    assert {key: part.shape for key, part in outputs.items()} == {"a": (7, 3), "b": (4, 3), "none": (0, 3)}
    parts = [Uneven()[index][0] for index in (0, 1)]
    whole = np.concatenate([parts[0]["x"][:1], parts[1]["x"]], axis=1)
    mask = np.concatenate([parts[0]["mask"][:1], parts[1]["mask"]], axis=1)
    expected, _ = model.step(whole, model.initial_state(batch_size=1), mask=mask)
    np.testing.assert_allclose(outputs["a"], keras.ops.convert_to_numpy(expected)[mask], rtol=0, atol=1e-6)
    unmasked, _ = model.step(whole, model.initial_state(batch_size=1))
    assert np.abs(outputs["a"] - keras.ops.convert_to_numpy(unmasked)[mask]).max() > 1e-3


@pytest.mark.once
def test_a_sequence_that_begins_twice_has_no_one_prediction():
    """`fit` may begin a sequence again, and `predict` names the key and the batch."""
    with pytest.raises(rs.DataError, match=r"must begin once. Received: sequence 'a', which begins again in batch 1"):
        make().predict(Uneven(again=True), verbose=0)


class StopAt(keras.callbacks.Callback):
    """Stops a run after a number of batches, as an interrupt does."""

    def __init__(self, batches):
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_a_run_on_a_dataset_of_ones_own_goes_on_where_it_stopped(tmp_path):
    """The weights are those of the run that was not stopped, bit for bit; other values in the batches are refused."""
    policy = rs.Checkpoint(tmp_path / "run", every_batches=1)
    whole, stopped, resumed = make(), make(), make(seed=5)

    def fit(model, stop, windows):
        model.fit(Reordered(windows, [0, 1, 2]), epochs=3, verbose=0, checkpoint=policy, callbacks=[StopAt(stop)])

    whole.fit(Reordered(make_windows(), [0, 1, 2]), epochs=3, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, 5, make_windows())
    fit(resumed, 100, make_windows())
    for expected, other, actual in zip(*(m.get_weights() for m in (whole, stopped, resumed)), strict=True):
        np.testing.assert_array_equal(actual, expected)
        assert not np.array_equal(other, expected)
    x, y = ({key: np.zeros((11, size)) for key in ("a", "b")} for size in (2, 3))
    zeros = rs.Windows(x, y, length=4, batch_size=2)
    with pytest.raises(rs.SpecMismatchError, match=r"same run\. Expected: data="):
        fit(make(), 100, zeros)


class Changing(Reordered):
    """A dataset that may change at the end of an epoch."""

    def on_epoch_end(self):
        """Change nothing."""


def test_a_dataset_that_changes_cannot_be_resumed(tmp_path):
    """It trains, but a checkpoint is refused before a folder is made."""
    make().fit(Changing(make_windows(), [0, 1, 2]), verbose=0)
    with pytest.raises(rs.DataError, match=r"same batches in each epoch.*Received: Changing"):
        make().fit(Changing(make_windows(), [0, 1, 2]), verbose=0, checkpoint=tmp_path / "run")
    assert not list(tmp_path.iterdir())
