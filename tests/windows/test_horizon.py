"""With `horizon=h`, each step is paired with the target h steps later in its own sequence, and never with another's."""

import keras
import numpy as np
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnnstate as rs

LENGTHS = {"a": 13, "b": 7}


def series(width, seed=0):
    """Return arrays `(time, width)` by key."""
    rng = np.random.default_rng(seed)
    return {key: rng.normal(size=(steps, width)).astype("float32") for key, steps in LENGTHS.items()}


def by_key(windows):
    """Return inputs and targets of all batches, by key in time order."""
    batches = list(windows)
    return windows.assemble(inputs["x"] for inputs, *_ in batches), windows.assemble(batch[1] for batch in batches)


@pytest.mark.once
@settings(max_examples=30)
@given(
    st.integers(0, 6), st.integers(1, 5), st.sampled_from([{}, {"order": "shuffled"}, {"burn_in": 2}, {"pieces": 1}])
)
def test_the_target_of_a_step_is_the_value_that_many_steps_later(horizon, length, other):
    """Key by key, the targets are the shifted series; without `horizon` they are the series itself."""
    x, y = series(2), series(3, seed=1)
    windows = rs.Windows(x, y, length=length, batch_size=2, horizon=horizon, **other)
    outputs = [batch[1] for batch in windows]
    for key, targets in zip(x, windows.assemble(outputs).values(), strict=True):
        np.testing.assert_array_equal(targets, y[key][horizon:])
    assert windows.lengths.tolist() == [13 - horizon, 7 - horizon]


@pytest.mark.once
def test_without_targets_a_series_is_its_own_target():
    """Also with weights, which belong to the target, and for an array of sequences."""
    x = series(2)
    inputs, targets = by_key(rs.Windows(x, length=4, batch_size=2, horizon=3))
    for key in x:
        np.testing.assert_array_equal(inputs[key], x[key][:-3])
        np.testing.assert_array_equal(targets[key], x[key][3:])
    weights = {key: np.arange(len(part)) for key, part in x.items()}
    batch = rs.Windows(x, sample_weight=weights, length=4, batch_size=2, horizon=3)[0]
    assert batch[2].tolist() == [[3, 4, 5, 6]] * 2
    stack = np.stack([x["b"], x["a"][:7]])
    inputs, targets = by_key(rs.Windows(stack, length=4, batch_size=2, horizon=3))
    np.testing.assert_array_equal(targets[1], x["a"][3:7])
    last = rs.Windows(x, length=4, batch_size=2, horizon=3, targets="last")
    np.testing.assert_array_equal(last[0][1], [x["a"][6], x["b"][6]])


@pytest.mark.once
def test_a_frame_and_a_source_are_paired_as_arrays_are():
    """Rows of two keys in turn: no target is that of another key."""
    rows = [(key, step, 100.0 * (key == "b") + step) for step in range(6) for key in "ab"]
    frame = polars.DataFrame(rows, schema=["key", "hour", "load"], orient="row")
    windows = rs.Windows.from_frame(
        frame, key="key", time="hour", features=["load"], targets=["load"], length=2, batch_size=2, horizon=2
    )
    inputs, targets = by_key(windows)
    assert targets["a"][:, 0].tolist() == [2, 3, 4, 5]
    assert targets["b"][:, 0].tolist() == [102, 103, 104, 105]
    chunks = [(key, np.array([[value]])) for key, _, value in rows]
    streamed = rs.Windows.from_iterable(lambda: chunks, length=2, batch_size=2, horizon=2)
    for expected, actual in zip((inputs, targets), by_key(streamed), strict=True):
        for key in "ab":
            np.testing.assert_array_equal(actual[key], expected[key])


@pytest.mark.once
def test_a_network_that_copies_an_older_input_scores_zero_at_its_own_horizon_alone():
    """The independent oracle: a convolution that returns the input of two steps ago, on a series of period five."""
    net = keras.Sequential(
        [
            keras.Input((None, 1)),
            keras.layers.Conv1D(1, 4, padding="causal", use_bias=False, kernel_initializer="zeros"),
            keras.layers.SimpleRNN(1, activation=None, return_sequences=True, use_bias=False),
        ]
    )
    kernel = np.zeros((4, 1, 1), "float32")
    kernel[1] = 1.0  # the input of two steps ago; with period five, also that of three steps ahead
    net.set_weights([kernel, np.ones((1, 1)), np.zeros((1, 1))])
    model = rs.StatefulModel(net)
    model.compile(loss="mse")
    x = np.tile(np.array([[3.0], [1.0], [4.0], [1.5], [9.0]]), (7, 1))
    losses = [
        model.evaluate(rs.Windows(x, length=8, batch_size=1, horizon=horizon), verbose=0) for horizon in (2, 3, 4)
    ]
    first = (x[3] ** 2 + x[4] ** 2).item() / 32  # nothing lies before the first two of 32 steps
    assert abs(losses[1] - first) < 1e-5
    assert min(losses[0], losses[2]) > first + 1


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"horizon": 7}, r"more than `horizon` steps. Received: 7 steps in sequence 'b', with horizon=7"),
        ({"horizon": -1}, r"`horizon` must be a whole number of at least 0"),
        (
            {"horizon": 2, "gaps": {key: np.zeros(n) for key, n in LENGTHS.items()}},
            r"Received: `horizon` with `resets`",
        ),
        ({"horizon": 2, "resets": {key: np.zeros(n) for key, n in LENGTHS.items()}}, r"key of its own"),
        ({"horizon": 2, "targets": "sequence"}, r"must be 'auto', 'steps' or 'last'. Received: targets='sequence'"),
        (
            {"horizon": 2, "y": {"a": np.zeros((11, 1)), "b": np.zeros((5, 1))}},
            r"one entry for each step: 13 in sequence 'a'",
        ),
        ({"horizon": 2, "x": {"u": series(2)["a"], "v": series(2)["a"]}, "by": "input"}, r"the targets must be given"),
    ],
)
def test_what_cannot_be_paired_is_refused(arguments, match):
    """Short sequences, jumps in time, targets at no step, and targets that were shifted already."""
    with pytest.raises(rs.DataError, match=match):
        rs.Windows(**{"x": series(2), "length": 4, "batch_size": 2, **arguments})
