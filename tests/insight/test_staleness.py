"""Staleness: the distance of stored states from those that the current weights give, and their refreshing."""

import pytest

import nets
import policies
import rnnstate as rs
from nets import difference
from rnnstate.insight.staleness import distance


def trained(rate, refresh=False, epochs=2):
    """Return a model, its windows and its history after `fit` with the callback."""
    model = nets.make(nets.two_layers)
    x, y = policies.data_of(model, (9, 5))
    windows = rs.Windows(x, y, length=3, batch_size=2)
    _, history = policies.trained(model, windows, epochs, rate, callbacks=[rs.Staleness(windows, refresh=refresh)])
    return model, windows, history


def test_staleness_is_the_distance_to_recomputed_states():
    """The value logged after the last epoch is the distance between the stored states and those of `predict`."""
    model, windows, history = trained(0.5)
    _, today = model.predict(windows, return_state=True, verbose=0)
    assert history["staleness"][-1] == pytest.approx(distance(model.states.read(windows.keys), today), abs=1e-7)
    assert min(history["staleness"]) > 1e-4


def test_frozen_weights_have_no_staleness():
    """If the weights do not move, stored states are not stale."""
    _, _, history = trained(0.0)
    assert max(history["staleness"]) < 1e-7


def test_larger_steps_make_states_staler():
    """Negative control: the measure grows with the learning rate."""
    assert trained(0.5, epochs=1)[2]["staleness"][0] > 5 * trained(0.02, epochs=1)[2]["staleness"][0]


def test_refresh_stores_recomputed_states():
    """With `refresh`, stored states equal those of `predict` bit for bit, and the weights are as without `refresh`."""
    model, windows, _ = trained(0.5, refresh=True)
    assert model.states.read(windows.keys) == model.predict(windows, return_state=True, verbose=0)[1]
    other, _, _ = trained(0.5)
    assert difference(policies.weights_of(model), policies.weights_of(other)) < policies.TOLERANCE
    assert difference(model.states.read(windows.keys), other.states.read(windows.keys)) > 1e-4


def test_distance_is_a_root_mean_square():
    """The distance gives each value the same weight, whatever its leaf."""
    one = {"a": nets.values(2, 3), "b": nets.values(2, 5, seed=1)}
    other = {"a": one["a"] + 3, "b": one["b"]}
    assert distance(one, other) == pytest.approx(3 * (6 / 16) ** 0.5, rel=1e-6)
    assert distance(one, one) == 0
