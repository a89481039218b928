"""Arrays that do not fit a network are refused before anything runs, with the input, the shape and the place."""

import numpy as np
import pytest
from keras import ops

import nets
import rnnstate as rs
from rnnstate.errors import DataError

GOOD = nets.values(3, 5, 2)


def with_value(value):
    """Return a good input with another value in row 1, step 2, feature 0."""
    x = GOOD.copy()
    x[1, 2, 0] = value
    return x


WRONG = {
    "rank": (
        GOOD[:, 0],
        r"must have shape \(batch, time, 2\)\. Received: shape=\(3, 2\)\. One step .* is `x\[:, None\]`",
    ),
    "features": (GOOD[..., :1], r"must have shape \(batch, time, 2\)\. Received: shape=\(3, 5, 1\)\."),
    "no step": (GOOD[:, :0], r"Received: shape=\(3, 0, 2\)\. A window must have at least one step"),
    "text": (np.full(GOOD.shape, "a"), r"must hold numbers\. Received: dtype=<U1"),
    "nan": (with_value(np.nan), r"must be finite\. Received: nan in row 1, at \[2, 0\]"),
    "infinite": (with_value(np.inf), r"must be finite\. Received: inf in row 1, at \[2, 0\]"),
}


@pytest.mark.parametrize(("x", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("call", ["step", "training_step", "trace"])
def test_wrong_inputs_of_a_step(call, x, message):
    """`step`, `training_step` and `trace` name the input, and the good input runs."""
    model = nets.make(nets.small)
    run = getattr(model, call)
    assert len(run(GOOD, model.initial_state(3))) >= 2
    with pytest.raises(DataError, match=message):
        run(x, model.initial_state(3))


def test_windows_with_other_features_are_refused_before_training():
    """`fit` and `predict` refuse windows whose features the network does not take; no key gets a state."""
    model = nets.make(nets.small)
    model.compile("adam", "mse")
    windows = rs.Windows(GOOD[..., :1], GOOD[..., :1], length=4, batch_size=3)
    for call in (model.fit, model.predict):
        with pytest.raises(DataError, match=r"must have shape \(batch, time, 2\)\. Received: shape=\(3, 4, 1\)"):
            call(windows, verbose=0)
    assert model.states.keys == ()


def test_other_forms_of_good_inputs():
    """Lists, whole numbers and tensors of the backend run as before; a tensor with NaN is not searched."""
    model = nets.make(nets.small)
    state = model.initial_state(3)
    for x in (GOOD.tolist(), np.ones(GOOD.shape, int), ops.convert_to_tensor(GOOD)):
        assert model.step(x, state)[0].shape[:2] == (3, 5)
    y, _ = model.step(ops.convert_to_tensor(with_value(np.nan)), state)
    assert np.isnan(nets.host(y)).any()
