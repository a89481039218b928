"""Comparisons of arrays and of states that say where the largest difference is."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnstate.state.state import to_numpy


def assert_close(actual: Any, expected: Any, atol: float = 1e-6, where: str = "value") -> None:
    """Raise if two arrays differ in shape, or by more than `atol` at any place.

    Args:
        actual: The array to check, of any backend.
        expected: The right array.
        atol: The largest difference allowed.
        where: The name of the array in the message.

    Raises:
        AssertionError: If the arrays differ. NaN differs from every number.

    Example:

    >>> assert_close(np.ones(3), np.ones(3))
    """
    one, other = np.asarray(to_numpy(actual)), np.asarray(to_numpy(expected))
    if one.shape != other.shape:
        raise AssertionError(f"{where} must have shape {other.shape}. Received: shape={one.shape}.")
    difference = np.abs(one.astype("float64") - other.astype("float64"))
    if one.size and not difference.max() <= atol:
        # A NaN counts as an infinite difference, so that it is the place that the message names.
        place = np.unravel_index(np.nanargmax(np.where(np.isnan(difference), np.inf, difference)), one.shape)
        raise AssertionError(
            f"{where} must agree within {atol}. Received: a difference of {difference[place]:.3g} at "
            f"{tuple(int(i) for i in place)} of {one.shape}: {one[place]!r} instead of {other[place]!r}."
        )


def assert_states_close(actual: Mapping[str, Any], expected: Mapping[str, Any], atol: float = 1e-6) -> None:
    """Raise if two states differ in their leaves, or by more than `atol` at any place.

    Args:
        actual: The state to check.
        expected: The right state.
        atol: The largest difference allowed.

    Raises:
        AssertionError: If the states differ.

    Example:

    >>> assert_states_close({"gru/h": np.ones((2, 3))}, {"gru/h": np.ones((2, 3))})
    """
    if set(actual) != set(expected):
        raise AssertionError(f"The state must have the leaves {sorted(expected)}. Received: {sorted(actual)}.")
    for name in expected:
        assert_close(actual[name], expected[name], atol, f"leaf `{name}`")
