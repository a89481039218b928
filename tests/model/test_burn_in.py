"""Burn-in: steps before a window refresh its state, and carry neither loss nor gradient."""

import numpy as np
import pytest
from keras import layers

import nets
import policies
import rnnstate as rs
from nets import difference
from policies import TOLERANCE


@pytest.mark.parametrize("burn_in", [2, 3, 5])
def test_burn_in_equals_a_loop_by_hand(burn_in):
    """Loss and gradient come from the windows alone, and states are those of a loop that refreshes them first."""
    model, other = nets.make(nets.two_layers), nets.make(nets.two_layers)
    x, y = policies.data_of(model)
    windows = rs.Windows(x, y, length=3, batch_size=2, burn_in=burn_in)
    _, history = policies.trained(model, windows)
    loop = policies.Lead(other, burn_in, through=False)
    final = loop.epoch(policies.stacked(x), policies.stacked(y), 3)
    assert difference(policies.weights_of(model), policies.weights_of(other)) < TOLERANCE
    assert difference(model.states.read(windows.keys), final) < TOLERANCE
    assert history["loss"][0] == pytest.approx(np.mean(loop.losses), abs=TOLERANCE)


def test_burn_in_refreshes_and_stops_gradients():
    """Negative control: burn-in is neither plain carrying nor `back`, from the second window on."""
    ways = []
    for way in ({}, {"burn_in": 3}, {"back": 6}):
        model = nets.make(nets.gru)
        x, y = policies.data_of(model)
        policies.trained(model, rs.Windows(x, y, length=3, batch_size=2, **way), rate=0.5)
        ways.append(policies.weights_of(model))
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert difference(ways[one], ways[other]) > 1e-5


def test_without_learning_burn_in_changes_nothing():
    """With frozen weights all ways of running are one: states, losses and predictions agree, ragged ends included."""
    model = nets.make(nets.gru)
    x, y = policies.data_of(model, (11, 4, 8))
    cut = {"length": 3, "batch_size": 2}
    _, plain = policies.trained(model, rs.Windows(x, y, **cut), rate=0.0)
    expected = model.states.read(tuple(x))
    outputs = model.predict(rs.Windows(x, **cut), verbose=0)
    for way in ({"burn_in": 2}, {"burn_in": 4}, {"back": 5}):
        windows = rs.Windows(x, y, **cut, **way)
        _, history = policies.trained(model, windows, rate=0.0)
        assert difference(model.states.read(windows.keys), expected) < TOLERANCE
        assert history["loss"] == pytest.approx(plain["loss"], abs=TOLERANCE)
        assert difference(model.predict(rs.Windows(x, **cut, **way), verbose=0), outputs) < TOLERANCE


@pytest.mark.parametrize("way", [{"burn_in": 2}, {"back": 5}], ids=["burn_in", "back"])
def test_a_window_stays_whole(way):
    """A window is run in one piece: its backward direction meets all of it, and one output comes from its last step."""
    model = rs.StatefulModel(
        nets.randomized(
            nets.one(layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both")),
        )
    )
    x, y = policies.data_of(model)
    _, plain = policies.trained(model, rs.Windows(x, y, length=3, batch_size=2), rate=0.0)
    _, history = policies.trained(model, rs.Windows(x, y, length=3, batch_size=2, **way), rate=0.0)
    assert history["loss"] == pytest.approx(plain["loss"], abs=TOLERANCE)


def test_zero_state_and_burn_in():
    """With an initial state at every window, burn-in starts from it: the zero-start strategy of R2D2, in serving too."""
    net = nets.randomized(nets.gru())
    model = rs.StatefulModel(net, initial_state=rs.initial.Zeros(at="window"))
    x, _ = policies.data_of(model)
    outputs = model.predict(rs.Windows(x, length=3, batch_size=2, burn_in=2), verbose=0)
    for key, series in x.items():
        expected = nets.host(net(series[None, 4:9]))[0, 2:]
        assert difference(outputs[key][6:9], expected) < TOLERANCE


def test_wrong_burn_in_is_refused():
    """A number of steps below zero is no burn-in."""
    with pytest.raises(rs.DataError, match="`burn_in` must be"):
        rs.Windows(nets.values(9, 2), length=3, batch_size=1, burn_in=-1)
