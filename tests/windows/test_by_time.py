"""Parts of sequences by time, and scaling: the definitions of the command line, for arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnnstate as rs
from rnnstate.forecasting.examples import split_bounds

pytestmark = pytest.mark.once


@given(st.integers(10, 97), st.sampled_from([(0.7, 0.1, 0.2), (0.5, 0.25, 0.25), (0.6, 0.2, 0.2)]))
def test_the_parts_are_those_of_the_command_line_and_give_the_whole(steps, fractions):
    """Each step is in one part; no part begins before the one before it ends."""
    x = np.arange(steps * 2.0).reshape(steps, 2)
    parts = rs.split_by_time({"a": x, "b": x[::-1]}, fractions)
    np.testing.assert_array_equal(np.concatenate([part["a"] for part in parts]), x)
    np.testing.assert_array_equal(np.concatenate([part["b"] for part in parts]), x[::-1])
    for part, (begin, end) in zip(parts, split_bounds(steps, fractions).values(), strict=True):
        np.testing.assert_array_equal(part["a"], x[begin:end])
        assert np.shares_memory(part["a"], x)


def test_the_form_of_the_data_is_kept():
    """A stack is cut along its time axis, and lists and mappings part by part."""
    stack = np.arange(2 * 5 * 3).reshape(2, 5, 3)
    train, test = rs.split_by_time({"u": stack, "v": [stack[0], stack[1, :, 0]]}, (0.8, 0.2))
    np.testing.assert_array_equal(train["u"], stack[:, :4])
    np.testing.assert_array_equal(test["v"][1], stack[1, 4:, 0])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (({"a": np.ones(10), "b": np.ones(2)},), r"at least one step. Received: 2 steps in 'b', for fractions 0.7"),
        ((np.ones(10), (0.7, 0.2)), r"above 0 and add up to 1. Received: 0.7, 0.2"),
        ((np.ones(10), (1.2, -0.2)), r"above 0"),
    ],
)
def test_wrong_splits_are_refused(arguments, match):
    """A part without a step, and shares that are no split."""
    with pytest.raises(rs.DataError, match=match):
        rs.split_by_time(*arguments)


def test_scaling_gives_mean_0_and_deviation_1_and_returns_to_the_units_of_the_data():
    """Against NumPy; a constant column is not divided by a rounding error; outputs are the first columns."""
    rng = np.random.default_rng(0)
    data = {"a": rng.normal(3, 5, size=(31, 3)), "b": rng.normal(-2, 1, size=(7, 3))}
    for part in data.values():
        part[:, 2] = 0.1
    scaling = rs.Scaling.of(data)
    scaled = np.concatenate(list(scaling.scale(data).values()))
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(axis=0), [1, 1, 0], atol=1e-12)
    np.testing.assert_allclose(scaling.unscale(scaling.scale(data)["b"][:, :2]), data["b"][:, :2])
    with pytest.raises(rs.DataError, match="at least one row"):
        rs.Scaling.of([])
    with pytest.raises(rs.DataError, match="a value that is not finite"):
        rs.Scaling.of(np.array([[np.nan]]))
