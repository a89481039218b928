"""The laws of `fit`, `predict` and `states`: isolation, nothing silent, resuming."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from rnnstate.errors import RnnStateError
from rnnstate.model.stateful_model import StatefulModel
from rnnstate.state.state import State, to_numpy
from rnnstate.testing.closeness import assert_close, assert_states_close
from rnnstate.windows.windows import Windows

Train = Callable[[Callable[[int], None]], StatefulModel]


def assert_isolated(
    model: StatefulModel, x: Mapping[Any, Any], length: int = 5, batch_size: int = 2, atol: float = 1e-6, **windows: Any
) -> None:
    """Law 2: the result of a sequence depends on that sequence alone, and `predict` never touches the training states.

    Args:
        model: A `StatefulModel`.
        x: Inputs by key, each `(time, features)`.
        length: The number of steps of a window.
        batch_size: The number of rows of a batch.
        atol: The largest difference allowed between a sequence predicted alone and together with others.
        windows: Further arguments of `Windows`.

    Raises:
        AssertionError: If a sequence gives another result together with others, or a training state changes.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 1)), keras.layers.RNN(testing.CountingCell(), return_sequences=True)])
    >>> assert_isolated(StatefulModel(net), {"a": np.ones((7, 1)), "b": np.ones((3, 1)), "c": np.ones((11, 1))})
    """
    before = model.states.read()
    together = _predicted(model, x, length, batch_size, windows)
    backwards = _predicted(model, dict(reversed(list(x.items()))), length, batch_size, windows)
    for key in x:
        alone = _predicted(model, {key: x[key]}, length, batch_size, windows)
        for others in (together, backwards):
            assert_close(others[key][0], alone[key][0], atol, f"outputs of `{key}` together with others")
            assert_states_close(others[key][1], alone[key][1], atol)
    assert_states_close(model.states.read(), before, 0.0)


def _predicted(
    model: StatefulModel, x: Mapping[Any, Any], length: int, batch_size: int, windows: Any
) -> dict[Any, Any]:
    cut = Windows(x, length=length, batch_size=batch_size, by="key", **windows)
    outputs, states = model.predict(cut, return_state=True, verbose=0)
    return {key: (outputs[key], states.rows([index])) for index, key in enumerate(cut.keys)}


def assert_nothing_silent(model: StatefulModel, batch_size: int = 3) -> None:
    """Law 3: a wrong structure, shape, dtype or value raises, and changes nothing.

    Args:
        model: A `StatefulModel`. The check writes states under keys that begin with `rnnstate.testing/`.
        batch_size: The number of rows to try.

    Raises:
        AssertionError: If a wrong state is accepted, or changes a stored state.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 1)), keras.layers.GRU(3, return_sequences=True)])
    >>> assert_nothing_silent(StatefulModel(net))
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
    """Yield wrong states, each with a description of its mistake."""
    name, leaf = list(good.items())[-1]
    yield "an unknown leaf", {**good, "no/such/leaf": leaf}
    yield "another size in one leaf", {**good, name: np.zeros((*leaf.shape[:-1], leaf.shape[-1] + 1), leaf.dtype)}
    yield "another batch in one leaf", {**good, name: np.zeros((leaf.shape[0] + 1, *leaf.shape[1:]), leaf.dtype)}
    yield "integers in one leaf", {**good, name: np.zeros(leaf.shape, "int32")}
    yield "a NaN in one leaf", {**good, name: np.full(leaf.shape, np.nan, leaf.dtype)}


def assert_resumes(train: Train, stop_at: Iterable[int]) -> None:
    """Law 6: training that is stopped and started again ends with the weights and states of an uninterrupted run.

    Args:
        train: A function that trains with a checkpoint and returns a trained `StatefulModel`. It calls its argument with
            the number of each finished batch. After an interruption, the next call resumes from the checkpoint. Once it
            has returned a model, the next call starts from the beginning.
        stop_at: The numbers of the batches after which training is interrupted.

    Raises:
        AssertionError: If resumed training ends differently, or training never reaches one of the batches.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 1)), keras.layers.GRU(3)])
    >>> kept = []  # stands for the checkpoint: the batches that are done
    >>> def train(finished):
    ...     while len(kept) < 3:
    ...         kept.append(len(kept) + 1)
    ...         finished(kept[-1])
    ...     kept.clear()
    ...     return StatefulModel(net)
    >>> assert_resumes(train, stop_at=[2])
    """
    expected = train(lambda batch: None)
    for stop in stop_at:
        interrupted = _interrupted(train, stop)
        if not interrupted:
            raise AssertionError(f"Training must reach batch {stop} to be stopped there. Received: it ended before.")
        _check_equal(train(lambda batch: None), expected, stop)


class _Stopped(BaseException):
    """Raised in the middle of training, where no handler of ordinary errors catches it."""


def _interrupted(train: Train, stop: int) -> bool:
    """Train until batch `stop`, and return whether training got that far."""

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
