"""Networks whose input has a fixed number of steps: windows that would run in other numbers are refused before training."""

import keras
import numpy as np
import pytest
from keras import layers

import nets
import rnnstate as rs
from policies import TOLERANCE
from rnnstate.windows.lead_in import run_lengths

STEPS = 6


def fixed(steps=STEPS, **kwargs):
    """Return a compiled model of a network that takes windows of `steps` alone, or of any length."""
    gru = layers.GRU(3, return_sequences=True, name="gru")
    net = keras.Sequential([keras.Input((steps, 2), name="x"), gru, layers.Dense(1)])
    model = rs.StatefulModel(nets.randomized(net), **kwargs)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def windows(**kwargs):
    """Return windows of two sequences."""
    x, y = nets.values(2, 23, 2), nets.values(2, 23, 1, seed=1)
    return rs.Windows(x, y, **{"length": STEPS, "batch_size": 2, **kwargs})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 4}, r"must be 6 steps long for input `x`.*Received: length=4. Use `length=6`"),
        ({"vary": rs.Vary(low=3, std=1.0)}, r"6 steps.*Received: length=6 with `vary`, up to 10 steps"),
        ({"burn_in": 4}, r"takes 6 steps, so 6 or 12 .*Received: `burn_in` or `back` with 4.* parts of 2, 4. Build"),
        ({"back": 9}, r"takes 6 steps.*Received: `burn_in` or `back` with 3, which are run in parts of 3"),
        ({"burn_in": 18}, r"takes 6 steps.*with 18, which are run in parts of 12"),
    ],
    ids=["length", "vary", "burn_in", "back", "long burn_in"],
)
def test_windows_that_run_in_other_numbers_of_steps_are_refused(arguments, message):
    """The error says which input takes how many, and which windows give others; no weight is changed."""
    model = fixed()
    before = model.get_weights()
    with pytest.raises(rs.DataError, match=message):
        model.fit(windows(**arguments), verbose=0)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"length": 2, "vary": rs.Vary(low=2, std=1.0)}, {"burn_in": 6}, {"back": 12}, {"burn_in": 12}],
    ids=["plain", "vary", "burn_in", "back", "long burn_in"],
)
def test_windows_that_run_in_its_number_of_steps_train_as_in_a_network_of_any(arguments):
    """Where every run has the fixed number of steps, the result is that of the network for any number."""
    one, other = fixed(), fixed(None)
    losses = [model.fit(windows(**arguments), verbose=0).history["loss"][0] for model in (one, other)]
    assert losses[0] == pytest.approx(losses[1], abs=TOLERANCE)
    assert nets.difference(one.states.read(), other.states.read()) < TOLERANCE


def test_inference_leaves_out_the_steps_before_a_window():
    """`predict` and `evaluate` take burn-in of any length, unless each window starts from an initial state."""
    data = windows(burn_in=4)
    assert fixed().predict(data, verbose=0)[0].shape == (23, 1)
    model = fixed(initial_state=rs.initial.Zeros(at="window"))
    for method in (model.predict, model.evaluate):
        with pytest.raises(rs.DataError, match="run in parts of 2, 4"):
            method(data, verbose=0)


@pytest.mark.parametrize(("length", "lead"), [(5, 2), (5, 5), (5, 7), (5, 10), (5, 13), (1, 3), (4, 0)])
def test_runs_are_those_that_training_makes(length, lead, monkeypatch):
    """What is checked is what happens: the lengths of all runs of a training step."""
    seen = set()
    model = fixed(None)
    call = type(model._carrier).call

    def recorded(self, x, *args, **kwargs):
        seen.add(int(keras.tree.flatten(x)[0].shape[1]))
        return call(self, x, *args, **kwargs)

    monkeypatch.setattr(type(model._carrier), "call", recorded)
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(windows(length=length, burn_in=lead), verbose=0)
    assert seen == run_lengths(length, lead)
