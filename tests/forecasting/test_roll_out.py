"""`roll_out`: a network on its own predictions, against a loop of single steps."""

from collections import deque

import numpy as np
import pytest

import rnnstate as rs
from rnnstate.forecasting.ahead import Outlook, look_ahead
from rnnstate.forecasting.forecast import roll_out
from rnnstate.forecasting.series import Series
from rnnstate.forecasting.settings import Settings
from rnnstate.forecasting.train import build_net
from rnnstate.windows.scaling import Scaling

KEYS, STEPS = 3, 11
SCALING = Scaling(np.array([5.0, -2.0, 40.0]), np.array([2.0, 0.5, 7.0]))


def numpy(value):
    """Return an array of the backend as NumPy."""
    return np.asarray(rs.State({"y": value}).numpy()["y"], dtype="float64")


@pytest.mark.parametrize("horizon", [1, 3])
def test_roll_out_is_a_loop_of_steps(horizon: int) -> None:
    """The prediction for each step is fed back when that step comes; the third column, no target, keeps its value."""
    settings = Settings(targets=("a", "b"), features=("c",), horizon=horizon, layers="lstm:3,gru:5")
    model = rs.StatefulModel(build_net(settings))
    rng = np.random.default_rng(horizon)
    start = rs.State(
        {name: rng.normal(size=(KEYS, *leaf.shape)).astype("f4") for name, leaf in model.state_spec.items()}
    )
    outlook = Outlook(rng.normal(5, 2, (KEYS, horizon, 2)), rng.normal(10, 9, (KEYS, 3)))
    found = roll_out(model, SCALING, start, outlook, STEPS)
    for key in range(KEYS):
        state, ahead, expected = start.rows([key]), deque(outlook.targets[key]), []
        for _ in range(STEPS):
            now = ahead.popleft()
            expected.append(now)
            x = SCALING.scale(np.concatenate([now, outlook.inputs[key, 2:]]))
            y, state = model.step(x[None, None].astype("float32"), state)
            ahead.append(SCALING.unscale(numpy(y)[0, 0]))
        np.testing.assert_allclose(found[key], expected, rtol=0, atol=1e-5)
    moved = roll_out(model, SCALING, model.initial_state(KEYS), outlook, STEPS)
    np.testing.assert_array_equal(moved[:, :horizon], found[:, :horizon])
    assert np.abs(moved - found)[:, horizon:].max() > 1e-3


@pytest.mark.once
def test_look_ahead() -> None:
    """The last predictions of the last span are those of the next steps; a series that continues has earlier ones too."""
    values = np.arange(10.0).reshape(5, 2)
    whole = Series("a", np.arange(5), values, None, None, np.array([[0, 5]]))
    gap = Series("b", np.arange(5), values, None, None, np.array([[0, 2], [3, 5]]))
    none = Series("c", np.arange(5), values, None, None, np.zeros((0, 2), np.int64))
    outputs = [np.arange(10.0, 15)[:, None]] * 3
    found = look_ahead([whole, gap, none], outputs, 3)
    expected = [[12, 13, 14], [np.nan, 13, 14], [np.nan] * 3]
    np.testing.assert_array_equal(found.targets[:, :, 0], expected)
    np.testing.assert_array_equal(found.inputs, [[8, 9], [8, 9], [np.nan, np.nan]])
    short = Series("a", np.arange(2), values[:2], None, None, np.array([[0, 2]]))
    longer = look_ahead([short], [np.array([[15.0], [16.0]])], 3, [0], found)
    np.testing.assert_array_equal(longer.targets[0, :, 0], [14, 15, 16])
    fresh = look_ahead([short], [np.array([[15.0], [16.0]])], 3, [-1], found)
    np.testing.assert_array_equal(fresh.targets[0, :, 0], [np.nan, 15, 16])
