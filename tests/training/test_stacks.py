"""Law: batches that are cut together are those that are cut one by one, and training on them is the same, bit for bit."""

import importlib

import keras
import numpy as np
import pytest

import nets
import rnnstate as rs
from fitting import KERAS, refuses_many_steps
from nets import difference
from rnnstate.training.stacks import Stack

LENGTH, ROWS = 5, 3
FULL, RAGGED, MANY = [35, 35, 35], [17, 23, 9, 31], [LENGTH] * 11


def data(lengths, features, seed=0):
    """Return random sequences as one array, or as a list if their lengths differ."""
    rows = [*nets.series(lengths, features=features, seed=seed).values()]
    return np.stack(rows) if len({*lengths}) == 1 else rows


def windows(lengths, **kwargs):
    """Return windows with targets."""
    x, y = data(lengths, nets.FEATURES), kwargs.pop("y", None)
    y = data(lengths, 1, seed=50) if y is None else y
    return rs.Windows(x, y, length=LENGTH, batch_size=ROWS, **kwargs)


def named(lengths):
    """Return windows of two inputs, two targets and their weights."""
    x = {"left": data(lengths, 2), "right": data(lengths, 3, seed=1)}
    y = {"one": data(lengths, 1, seed=2), "two": data(lengths, 2, seed=3)}
    weights = {name: [np.ones(steps) for steps in lengths] for name in y}
    return rs.Windows(x, y, sample_weight=weights, length=LENGTH, batch_size=ROWS, by="input")


def flags(lengths):
    """Return the flag of a reset at every seventh step."""
    return [np.arange(steps) % 7 == 3 for steps in lengths]


KINDS = {
    "full": lambda: windows(FULL),
    "one window each": lambda: windows(MANY),
    "padded": lambda: windows([34] * 3),
    "ragged": lambda: windows(RAGGED),
    "shuffled": lambda: windows(RAGGED, order="shuffled", seed=3),
    "integers": lambda: rs.Windows(np.arange(105).reshape(3, 35, 1), data(FULL, 1), length=LENGTH, batch_size=ROWS),
    "two inputs": lambda: named(RAGGED),
    "weights": lambda: windows(FULL, sample_weight=np.ones((3, 35))),
    "resets": lambda: windows(RAGGED, resets=flags(RAGGED)),
    "observed": lambda: windows(RAGGED, observed=[np.full(2, i) for i in range(4)]),
    "gaps": lambda: windows(RAGGED, gaps=[np.where(flag, 2, 0) for flag in flags(RAGGED)], gap=3.0),
    "burn-in": lambda: windows(RAGGED, burn_in=3),
    "back": lambda: windows(FULL, back=LENGTH + 2),
    "varied": lambda: windows(FULL, vary=True, seed=1),
    "one target each": lambda: windows(RAGGED, y=np.arange(4.0), targets="sequence"),
    "last": lambda: windows(RAGGED, targets="last"),
    "pieces": lambda: windows(FULL, pieces=2),
}


def same(one, other):
    """Return whether two structures have the same arrays, with the same dtypes."""
    keras.tree.assert_same_structure(one, other)
    pairs = list(zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True))
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


@pytest.mark.once
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("begin", [0, 1])
def test_batches_cut_together_are_those_cut_one_by_one(make, begin):
    """For every kind of data, also if the stack begins in the middle."""
    made = make()
    places = range(begin, len(made))
    stack = Stack(0, begin, made.stacked(places))
    assert all(same(stack.take(0, index), made[index]) for index in places)
    assert stack.take(0, len(made)) is None


@pytest.mark.once
def test_other_batches_differ():
    """The comparison above can fail: the batches of a stack that begins one batch later are others."""
    made = windows(FULL)
    later = Stack(0, 0, made.stacked(range(1, 3)))
    assert not same(later.take(0, 0), made[0])


@pytest.mark.once
def test_a_stack_hands_out_each_batch_once_and_in_order():
    """So nothing that was cut in an earlier epoch, or before the data changed, is handed out later."""
    made = windows(FULL)

    def stack():
        return Stack(2, 1, made.stacked(range(1, 4)))

    assert stack().take(1, 1) is None
    assert stack().take(2, 0) is None
    assert stack().take(2, 2) is None
    used = stack()
    assert [used.take(2, index) is None for index in (1, 1, 2, 3, 4)] == [False, True, False, False, True]


@pytest.mark.once
def test_a_stack_knows_its_batches():
    """All of them, in order, and the very arrays. Equal arrays, another order, or some of them are no stack."""
    made = windows(FULL)
    stack = Stack(0, 0, made.stacked(range(3)))
    batches = [stack.take(0, index) for index in range(3)]
    again = keras.tree.map_structure(lambda array: array, batches)
    assert stack.is_of(batches)
    assert stack.is_of(again)
    assert not stack.is_of(batches[:2])
    assert not stack.is_of([batches[0], batches[2], batches[1]])
    assert not stack.is_of([*batches[:2], made[2]])
    assert not stack.is_of([*batches[:2], (batches[2][0], batches[2][1] + 1)])


class Own(rs.Windows):
    """Windows of a user, who may have changed how batches are made."""


def trained(made, count, **kwargs):
    """Return what training leaves: weights, states and logs."""
    keras.utils.set_random_seed(3)
    layers = [keras.layers.LSTM(5, return_sequences=True, name="lstm"), keras.layers.Dense(1)]
    model = rs.StatefulModel(keras.Sequential([nets.series_input(), *layers]))
    model.compile("adam", "mse", metrics=["mae"], steps_per_execution=count)
    history = model.fit(made, epochs=3, verbose=0, **kwargs).history
    return [*model.get_weights(), *model.states.read().values(), *map(np.array, history.values())]


@pytest.mark.parametrize("kind", ["full", "one window each", "ragged", "shuffled", "burn-in", "weights", "resets"])
@pytest.mark.parametrize("steps", [None, 2])
def test_training_on_stacks_is_training_on_batches(kind, steps, backend):
    """Weights, states and logs are those of batches cut one by one, also if an epoch begins in the middle of the data."""
    count = 1 if refuses_many_steps(backend) else 2
    apart = KINDS[kind]()
    apart.__class__ = Own  # not plain `Windows`, so no batches are cut together
    apart.workers = 0
    results = [trained(made, count, steps_per_epoch=steps) for made in (KINDS[kind](), apart)]
    assert max(difference(*pair) for pair in zip(*results, strict=True)) == 0


@pytest.mark.parametrize("units", [3, 2003])
def test_nothing_is_stacked_again(units, backend, monkeypatch):
    """On JAX a call takes the stack as it is, for small and for large batches; batches of other datasets are stacked."""
    if backend != "jax" or KERAS >= (3, 16):
        pytest.skip("rnnstate stacks the batches of a call itself on JAX with Keras 3.15 alone")
    step, stacked = importlib.import_module("rnnstate.kernels.step.jax"), []
    first = step._stacked
    monkeypatch.setattr(step, "_stacked", lambda *parts: stacked.append(len(parts)) or first(*parts))
    x = np.ones((3, 30, units), "float32")
    plain, own = (kind(x, x[..., :1], length=LENGTH, batch_size=ROWS) for kind in (rs.Windows, Own))
    layers = [keras.layers.GRU(2, return_sequences=True), keras.layers.Dense(1)]
    model = rs.StatefulModel(keras.Sequential([keras.Input((None, units)), *layers]))
    model.compile("sgd", "mse", steps_per_execution=3)
    model.fit(plain, epochs=2, verbose=0)
    assert stacked == []
    model.fit(own, verbose=0)
    assert stacked


class Doubling(keras.callbacks.Callback):
    """Doubles data before each epoch but the first."""

    def __init__(self, array):
        super().__init__()
        self.array = array

    def on_epoch_begin(self, epoch, logs=None):
        """Double them in place."""
        if epoch:
            self.array *= 2


def test_data_that_change_between_epochs_are_read_again(backend):
    """Nothing of an epoch is cut in the epoch before: weights are those of a run that makes each batch by itself."""
    count = 1 if refuses_many_steps(backend) else 7
    results = []
    for kind in (rs.Windows, Own):
        x, y = data(FULL, nets.FEATURES), data(FULL, 1, seed=50)
        made = kind(x, y, length=LENGTH, batch_size=ROWS)
        results.append(trained(made, count, callbacks=[Doubling(x)]))
    unchanged = trained(windows(FULL), count)
    assert max(difference(*pair) for pair in zip(*results, strict=True)) == 0
    assert difference(results[0][0], unchanged[0]) > 1e-4
