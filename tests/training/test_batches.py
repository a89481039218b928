"""`train_on_batch`, `test_on_batch` and `predict_on_batch`: a loop over the batches of `Windows` does as `fit` does."""

import keras
import numpy as np
import pytest

import nets
import rnnstate as rs
from fitting import targets_of, weights_of, windows_of
from nets import difference

TOLERANCE = 1e-6


def compiled():
    """Return a compiled model."""
    model = nets.make(nets.small)
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    return model


@pytest.fixture(scope="module")
def looped():
    """Return a model that a loop has trained for two epochs, its windows, and the results of the last batch."""
    model, windows = compiled(), windows_of(1)
    for _ in range(2):
        for index in range(len(windows)):
            results = model.train_on_batch(*windows[index], return_dict=True)
    return model, windows, results


def test_a_loop_trains_as_fit_does(looped):
    """Weights, and the state of each key, are those of `fit`; a loop that forgets the states has others."""
    model, windows, results = looped
    fitted, forgetful = compiled(), compiled()
    fitted.fit(windows, epochs=2, verbose=0)
    assert difference(weights_of(model), weights_of(fitted)) < TOLERANCE
    assert model.states.keys == fitted.states.keys == windows.keys
    assert difference(model.states.read(), fitted.states.read()) < TOLERANCE
    assert set(results) == {"loss", "mae"}
    for index in list(range(len(windows))) * 2:
        forgetful.train_on_batch(*windows[index])
        forgetful.states.reset()
    assert difference(weights_of(model), weights_of(forgetful)) > 1e-4


def test_a_loop_predicts_and_evaluates_as_a_whole(looped):
    """The outputs of all batches are those of `predict`; the training states stay, and the last call ends a loop."""
    model, windows, _ = looped
    before = model.states.read()
    outputs = [model.predict_on_batch(*windows[index]) for index in range(len(windows))]
    whole = model.predict(windows, verbose=0)
    assert difference(windows.assemble(outputs), whole) < TOLERANCE
    alone = windows_of(1, (windows.length,) * 4)  # windows of one batch each: the loss of a batch is that of the whole
    loss, mae = model.evaluate(alone, verbose=0)
    losses = [model.test_on_batch(*alone[index], return_dict=True) for index in range(len(alone))]
    assert np.isfinite([part["loss"] for part in losses]).all()
    filled = [(alone[index][0]["slot"] >= 0).sum() for index in range(len(alone))]
    assert abs(np.average([part["mae"] for part in losses], weights=filled) - mae) < TOLERANCE
    assert loss > 0
    assert model.states.read() == before


def test_a_batch_out_of_turn_is_refused():
    """A window whose predecessor was not run, or was run twice, is refused with key and step; nothing changes."""
    model, windows = compiled(), windows_of(1)
    late = r"in time order. Received: the window from step 5 of sequence 'k0', where the loop has not begun it"
    with pytest.raises(rs.DataError, match=f"`train_on_batch` must get the windows of a sequence {late}"):
        model.train_on_batch(*windows[1])
    assert model.states.keys == ()
    model.predict_on_batch(windows[0][0])
    model.predict_on_batch(windows[1][0])
    with pytest.raises(rs.DataError, match=r"`test_on_batch` must .*step 5 of sequence 'k0', .* that before step 10"):
        model.test_on_batch(*windows[1])
    other = windows_of(1)
    with pytest.raises(rs.DataError, match=late.replace("step 5", "step 10")):
        model.predict_on_batch(*other[2])
    model.predict(windows, verbose=0)
    with pytest.raises(rs.DataError, match=late.replace("step 5", "step 10")):
        model.predict_on_batch(*windows[2])


def test_given_states_start_any_window():
    """After `states.write` or `states.reset`, training goes on with a later window from that state."""
    model, windows = compiled(), windows_of(1)
    given = {name: nets.values(4, *leaf.shape, seed=i) for i, (name, leaf) in enumerate(model.state_spec.items())}
    model.states.write(windows.keys, given)
    inputs, y = windows[1]
    slot = np.asarray(inputs["slot"])  # the sequence of each row
    expected, _ = model.step(inputs["x"], {name: rows[slot] for name, rows in given.items()})
    loss = model.train_on_batch(inputs, y, return_dict=True)["loss"]
    valid = inputs["mask"]
    assert abs(loss - np.square(nets.host(expected) - y)[valid].mean()) < TOLERANCE


PLAIN = np.ones((3, 5, nets.FEATURES), "float32")
REFUSED = [
    (lambda w: (PLAIN, PLAIN[..., :1]), r"takes a batch of `rnnstate.Windows`.*shape \(3, 5, 2\).*`fit`.*`step`"),
    (lambda w: (w[0],), r"takes a batch of `rnnstate.Windows`.*Received: tuple. Write `model.{}\(\*windows\[0\]\)`"),
    (lambda w: ({**w[0][0], "slot": np.array([0, 1, 2])}, w[0][1]), r".*does not know its windows.*own"),
    (lambda w: ({**w[0][0], "slot": w[0][0]["slot"][:3] * 1}, w[0][1]), r".*does not know its windows"),
]


@pytest.mark.parametrize("method", ["train_on_batch", "test_on_batch", "predict_on_batch"])
@pytest.mark.parametrize(("data", "text"), REFUSED)
def test_other_batches_are_refused(method, data, text, looped):
    """Plain arrays, a batch that was not unpacked, and slots of another dataset are refused with what to write."""
    model, windows, _ = looped
    with pytest.raises(rs.DataError, match=f"`{method}` {text.format(method)}"):
        getattr(model, method)(*data(windows))


def test_targets_that_do_not_fit_are_refused(looped):
    """Missing targets and targets per window are refused, as in `fit`; so is a call of the model on a batch."""
    model, windows, _ = looped
    with pytest.raises(rs.DataError, match=r"`test_on_batch` must get targets. Received: no `y`"):
        model.test_on_batch(windows[0][0])
    data = nets.series((5, 3))
    last = rs.Windows(data, targets_of(data, 1), length=5, batch_size=2, targets="last")
    with pytest.raises(rs.DataError, match=r"one output per step, so targets must be per step"):
        model.train_on_batch(*last[0])
    with pytest.raises(rs.DataError, match=r"A call of the model takes plain inputs.*`predict_on_batch"):
        model(windows[0][0])
