"""The laws as assertions, for whoever writes a port, a cell or a model of their own.

Each raises `AssertionError` with the largest difference and where it is. Each has a control: it fails, too, if the answer
would have been the same without carrying, so that it cannot pass by accident.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from rnnstate.errors import RnnStateError
from rnnstate.model.stateful_model import StatefulModel
from rnnstate.state.state import State, to_numpy
from rnnstate.windows.windows import Windows


@keras.saving.register_keras_serializable("rnnstate")
class CountingCell(keras.layers.Layer):
    """A cell whose right answer can be written by hand: it counts steps and adds up its first input.

    Leaves are `count` and `total`, both `(1,)`; the output is both, `(batch, 2)`.

    Args:
        start: Count at the start of a sequence, so that a reset to zero can be told from a reset to the initial state.

    Example:

    >>> layer = keras.layers.RNN(CountingCell(start=100), return_sequences=True)
    >>> ops.convert_to_numpy(layer(np.ones((1, 3, 1))))[0].tolist()
    [[101.0, 1.0], [102.0, 2.0], [103.0, 3.0]]
    """

    state_names = ("count", "total")

    def __init__(self, start: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start = start
        self.state_size = [1, 1]
        self.output_size = 2
        self.built = True

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        return [ops.full((batch_size, 1), self.start), ops.zeros((batch_size, 1))]

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        count, total = states[0] + 1, states[1] + inputs[:, :1]
        return ops.concatenate([count, total], axis=-1), [count, total]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "start": self.start}


def assert_close(actual: Any, expected: Any, atol: float = 1e-6, where: str = "value") -> None:
    """Raise if two arrays differ in shape, or by more than `atol` anywhere.

    Example:

    >>> assert_close(np.ones(3), np.ones(3))
    """
    one, other = np.asarray(to_numpy(actual)), np.asarray(to_numpy(expected))
    if one.shape != other.shape:
        raise AssertionError(f"{where} must have shape {other.shape}. Received: shape={one.shape}.")
    difference = np.abs(one.astype("float64") - other.astype("float64"))
    if one.size and not difference.max() <= atol:
        place = np.unravel_index(np.nanargmax(np.where(np.isnan(difference), np.inf, difference)), one.shape)
        raise AssertionError(
            f"{where} must agree within {atol}. Received: a difference of {difference[place]:.3g} at "
            f"{tuple(int(i) for i in place)} of {one.shape}: {one[place]!r} instead of {other[place]!r}."
        )


def assert_states_close(actual: Mapping[str, Any], expected: Mapping[str, Any], atol: float = 1e-6) -> None:
    """Raise if two states differ in their leaves, or by more than `atol` in one.

    Example:

    >>> assert_states_close({"gru/h": np.ones((2, 3))}, {"gru/h": np.ones((2, 3))})
    """
    if set(actual) != set(expected):
        raise AssertionError(f"The state must have the leaves {sorted(expected)}. Received: {sorted(actual)}.")
    for name in expected:
        assert_close(actual[name], expected[name], atol, f"leaf `{name}`")


def assert_windows_equal_whole(
    model: Any, x: Any, lengths: Iterable[int] = (1, 2, 5), atol: float = 1e-6, control: float | None = 1e-2
) -> None:
    """Law 1: any split into windows, carried, gives the outputs and the final state of one pass over the whole.

    Args:
        model: A `StatefulModel`.
        x: Input `(batch, time, features)` with at least 2 steps.
        lengths: Window lengths to try.
        atol: Largest difference allowed.
        control: Without carrying, outputs must differ by more than this; `None` turns the control off.

    Raises:
        ValueError: If there is a control, and every window is as long as the whole.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 1)), keras.layers.RNN(CountingCell(), return_sequences=True)])
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


def _in_windows(model: Any, x: Any, initial: Any, length: int, carry: bool) -> tuple[Any, Any]:
    state, outputs = initial, []
    for begin in range(0, x.shape[1], length):
        y, final = model.step(x[:, begin : begin + length], state)
        state = final if carry else initial
        outputs.append(to_numpy(y))
    return np.concatenate(outputs, axis=1), final


def assert_explicit(model: Any, x: Any) -> None:
    """Law 4: `step` is pure. The same call gives the same result, and changes neither its state nor the model.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 1)), keras.layers.RNN(CountingCell(), return_sequences=True)])
    >>> assert_explicit(StatefulModel(net), np.ones((3, 7, 1)))
    """
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


def assert_isolated(
    model: Any, x: Mapping[Any, Any], length: int = 5, batch_size: int = 2, atol: float = 1e-6, **windows: Any
) -> None:
    """Law 2: a sequence's result depends on that sequence alone; `predict` never touches the training states.

    Args:
        model: A `StatefulModel`.
        x: Inputs by key, `(time, features)` each.
        length: Steps of a window.
        batch_size: Rows of a batch.
        atol: Largest difference allowed between a sequence predicted alone and beside others.
        windows: Further arguments of `Windows`.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 1)), keras.layers.RNN(CountingCell(), return_sequences=True)])
    >>> assert_isolated(StatefulModel(net), {"a": np.ones((7, 1)), "b": np.ones((3, 1)), "c": np.ones((11, 1))})
    """
    before = model.states.read()
    together = _predicted(model, x, length, batch_size, windows)
    backwards = _predicted(model, dict(reversed(list(x.items()))), length, batch_size, windows)
    for key in x:
        alone = _predicted(model, {key: x[key]}, length, batch_size, windows)
        for others in (together, backwards):
            assert_close(others[key][0], alone[key][0], atol, f"outputs of `{key}` beside others")
            assert_states_close(others[key][1], alone[key][1], atol)
    assert_states_close(model.states.read(), before, 0.0)


def _predicted(model: Any, x: Mapping[Any, Any], length: int, batch_size: int, windows: Any) -> dict[Any, Any]:
    cut = Windows(x, length=length, batch_size=batch_size, by="key", **windows)
    outputs, states = model.predict(cut, return_state=True, verbose=0)
    return {key: (outputs[key], states.rows([index])) for index, key in enumerate(cut.keys)}


def assert_reset_first(model: Any, x: Any, reset: Any, atol: float = 1e-6) -> None:
    """Law 8: a reset acts before the step, on every leaf of the row, to the initial state, and on no other row.

    Args:
        model: A `StatefulModel`.
        x: Input `(batch, time, features)`.
        reset: Boolean `(batch, time)`.
        atol: Largest difference allowed.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 1)), keras.layers.RNN(CountingCell(5.0), return_sequences=True)])
    >>> assert_reset_first(StatefulModel(net), np.ones((2, 4, 1)), np.eye(2, 4, k=1) > 0)
    """
    initial = State({name: to_numpy(leaf) for name, leaf in model.initial_state(x.shape[0]).items()})
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


def assert_nothing_silent(model: Any, batch_size: int = 3) -> None:
    """Law 3: wrong structure, shape, dtype or values raise, and change nothing.

    Args:
        model: A `StatefulModel`; its states are written to under keys of their own.
        batch_size: Rows to try with.
    """
    keys = [f"rnnstate.testing/{row}" for row in range(batch_size)]
    good = State({name: to_numpy(leaf) for name, leaf in model.initial_state(batch_size).items()})
    model.states.write(keys, good)
    for what, bad in _mistakes(good):
        try:
            model.states.write(keys, bad)
        except RnnStateError:
            assert_states_close(model.states.read(keys), good, 0.0)
        else:
            raise AssertionError(f"A state with {what} must raise. Received: silence.")


def _mistakes(good: State) -> Iterable[tuple[str, Mapping[str, Any]]]:
    name, leaf = list(good.items())[-1]
    yield "an unknown leaf", {**good, "no/such/leaf": leaf}
    yield "another size in one leaf", {**good, name: np.zeros((*leaf.shape[:-1], leaf.shape[-1] + 1), leaf.dtype)}
    yield "another batch in one leaf", {**good, name: np.zeros((leaf.shape[0] + 1, *leaf.shape[1:]), leaf.dtype)}
    yield "integers in one leaf", {**good, name: np.zeros(leaf.shape, "int32")}
    yield "a NaN in one leaf", {**good, name: np.full(leaf.shape, np.nan, leaf.dtype)}


def assert_resumes(train: Callable[[Callable[[int], None]], Any], stop_at: Iterable[int]) -> None:
    """Law 6: training that is stopped and started again ends with the weights and states of an uninterrupted run.

    Args:
        train: Trains with a checkpoint in a folder that it keeps until it returns a trained `StatefulModel`, and calls
            its argument with the number of each batch that is finished. Called again after an interruption, it resumes.
        stop_at: Numbers of batches after which it is interrupted.
    """
    expected = train(lambda batch: None)
    for stop in stop_at:
        interrupted = _interrupted(train, stop)
        if not interrupted:
            raise AssertionError(f"Training must reach batch {stop} to be stopped there. Received: it ended before.")
        _check_equal(train(lambda batch: None), expected, stop)


class _Stopped(BaseException):
    """Raised in the middle of training, where no handler of ordinary errors catches it."""


def _interrupted(train: Callable[[Callable[[int], None]], Any], stop: int) -> bool:
    def finish(batch: int) -> None:
        if batch == stop:
            raise _Stopped

    try:
        train(finish)
    except _Stopped:
        return True
    return False


def _check_equal(actual: StatefulModel, expected: StatefulModel, stop: int) -> None:
    for one, other in zip(actual.get_weights(), expected.get_weights(), strict=True):
        assert_close(one, other, 0.0, f"weights after a stop at batch {stop}")
    assert_states_close(actual.states.read(), expected.states.read(), 0.0)
