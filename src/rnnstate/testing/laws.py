"""The laws of `step`: windows equal the whole, `step` is explicit, a reset acts before the step."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from rnnstate.model.stateful_model import StatefulModel
from rnnstate.state.state import State, to_numpy
from rnnstate.testing.closeness import assert_close, assert_states_close


def assert_windows_equal_whole(
    model: StatefulModel, x: Any, lengths: Iterable[int] = (1, 2, 5), atol: float = 1e-6, control: float | None = 1e-2
) -> None:
    """Law 1: carried windows of any length give the outputs and the final state of one pass over the whole sequence.

    Args:
        model: A `StatefulModel`.
        x: Input `(batch, time, features)` with at least 2 steps.
        lengths: The window lengths to try.
        atol: The largest difference allowed.
        control: Without carrying, the outputs must differ by more than this number. `None` turns the control off.

    Raises:
        AssertionError: If windows differ from the whole, or the model gives the same without carrying.
        ValueError: If there is a control, and every window is as long as the whole.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 1)), keras.layers.RNN(testing.CountingCell(), return_sequences=True)])
    >>> assert_windows_equal_whole(StatefulModel(net), np.ones((3, 7, 1)))
    """
    lengths = tuple(lengths)
    if control is not None and not any(length < x.shape[1] for length in lengths):
        raise ValueError(
            f"`lengths` must have one below the {x.shape[1]} steps of `x`, or nothing is carried. Received: {lengths}."
        )
    initial = model.initial_state(x.shape[0])
    whole, final = model.step(x, initial)
    for length in lengths:
        y, state = _in_windows(model, x, initial, length, carry=True)
        assert_close(y, whole, atol, f"outputs of windows of {length}")
        assert_states_close(state, final, atol)
        if control is None or length >= x.shape[1]:  # a single window carries nothing
            continue
        dropped, _ = _in_windows(model, x, initial, length, carry=False)
        if not np.abs(dropped - to_numpy(whole)).max() > control:
            raise AssertionError(
                f"Without carry, outputs must differ by more than {control}: this model remembers nothing."
            )


def _in_windows(model: StatefulModel, x: Any, initial: State, length: int, carry: bool) -> tuple[Any, State]:
    """Return the joined outputs of all windows, and the final state of the last window."""
    state, outputs = initial, []
    for begin in range(0, x.shape[1], length):
        y, final = model.step(x[:, begin : begin + length], state)
        state = final if carry else initial
        outputs.append(to_numpy(y))
    return np.concatenate(outputs, axis=1), final


def assert_explicit(model: StatefulModel, x: Any) -> None:
    """Law 4: `step` is pure. The same call gives the same result, and changes neither the given state nor the model.

    Args:
        model: A `StatefulModel`.
        x: Input `(batch, time, features)`.

    Raises:
        AssertionError: If two equal calls differ, or a call changes the given state or a variable.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 1)), keras.layers.RNN(testing.CountingCell(), return_sequences=True)])
    >>> assert_explicit(StatefulModel(net), np.ones((3, 7, 1)))
    """
    # Add 0.125 so that the state is not the initial one, which a layer might fall back to.
    state = State({name: to_numpy(leaf) + 0.125 for name, leaf in model.initial_state(x.shape[0]).items()})
    given = state.numpy()
    variables = [np.array(to_numpy(variable)) for variable in model.variables]
    first, after = model.step(x, state)
    second, again = model.step(x, state)
    assert_close(second, first, 0.0, "the second of two equal calls")
    assert_states_close(again, after, 0.0)
    assert_states_close(state, given, 0.0)
    for before, variable in zip(variables, model.variables, strict=True):
        assert_close(variable, before, 0.0, f"variable `{variable.path}`")


def assert_reset_first(model: StatefulModel, x: Any, reset: Any, atol: float = 1e-6) -> None:
    """Law 8: a reset acts before the step, and returns every leaf of its row, and of no other row, to the initial state.

    Args:
        model: A `StatefulModel`.
        x: Input `(batch, time, features)`.
        reset: Boolean `(batch, time)`; true at the steps before which a row is reset.
        atol: The largest difference allowed.

    Raises:
        AssertionError: If the result differs from single steps with resets by hand.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 1)), keras.layers.RNN(testing.CountingCell(5.0), return_sequences=True)])
    >>> assert_reset_first(StatefulModel(net), np.ones((2, 4, 1)), np.eye(2, 4, k=1) > 0)
    """
    initial = State({name: to_numpy(leaf) for name, leaf in model.initial_state(x.shape[0]).items()})
    # Start elsewhere than at the initial state; otherwise a missing reset at the first step would change nothing.
    start = initial.map(lambda leaf: leaf + np.float32(0.125))
    y, final = model.step(x, start, reset=reset)
    state, outputs = start, []
    for t in range(x.shape[1]):
        chosen = {name: to_numpy(leaf).copy() for name, leaf in state.items()}
        for name, leaf in chosen.items():
            leaf[reset[:, t]] = initial[name][reset[:, t]]
        y_t, state = model.step(x[:, t : t + 1], chosen)
        outputs.append(to_numpy(y_t))
    assert_close(y, np.concatenate(outputs, axis=1), atol, "outputs with resets")
    assert_states_close(final, state, atol)
