"""How a step changes with the state before it: Jacobians by central differences, on any backend and for any layer.

The network computes in its own precision, float32 as a rule. Each number of the state is moved by a hundredth of the size of
its leaf, which keeps the error of the differences of a smooth layer near one in ten thousand. Their sums are float64.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from rnnstate.errors import DataError, UnsupportedModelError
from rnnstate.insight.watched import Watched, side_by_side
from rnnstate.state.state import State, to_numpy

Array = NDArray[Any]

LARGEST = 400
_MOVE = 1e-2
_NUMBERS_AT_ONCE = 4_000_000


@dataclass(frozen=True, eq=False)
class Jacobians:
    """The derivatives of a step along one sequence.

    Args:
        state: The state after a step by the state before it, `(time, n, n)`.
        output: The output of a step by the state before it, `(time, outputs, n)`.
        row: The row of the sequence in `Watched`.
        first: The first step.
    """

    state: Array
    output: Array
    row: int
    first: int


def state_size(leaves: Mapping[str, Array]) -> int:
    """Return how many numbers a row of a state has, from leaves `(rows, time, *shape)`."""
    return sum(int(np.prod(leaf.shape[2:])) for leaf in leaves.values())


def jacobians(model: Any, watched: Watched, row: int = 0, steps: int = 128) -> Jacobians:
    """Return the derivatives of the last `steps` steps of a sequence before it ends or is reset.

    Args:
        model: A `StatefulModel`.
        watched: The run of some sequences.
        row: Which sequence.
        steps: How many steps at most.

    Raises:
        DataError: If the state has more than 400 numbers, whose Jacobians would be too large.
        UnsupportedModelError: If a layer runs backward.
    """
    sample, before = watched.sample, watched.before
    if sample is None or before is None:
        raise DataError("Derivatives need a model and `windows`. Received: a trace. Give the model that made it.")
    if watched.runs is not None:
        raise UnsupportedModelError(
            "Every layer must run forward to be derived step by step. Received: a network with a layer that runs backward."
        )
    size = state_size(before)
    if size > LARGEST:
        raise DataError(f"Jacobians need a state of at most {LARGEST} numbers. Received: {size}.")
    first, stop = _stretch(watched, row, steps)
    moves = _moves(before)
    parts = []
    for at in _chunks(first, stop, size):
        x = sample.map_x(
            lambda part, at=at: np.repeat(part[row, at], 2 * size, axis=0)[:, None],
            lambda part, at=at: np.repeat(part[row : row + 1], 2 * size * len(at), axis=0),
        )
        parts.append(_differences(model, x, {name: leaf[row, at] for name, leaf in before.items()}, moves))
    state, output = (np.concatenate(one)[: stop - first] for one in zip(*parts, strict=True))
    return Jacobians(state, output, row, first)


def _stretch(watched: Watched, row: int, steps: int) -> tuple[int, int]:
    """Return the longest stretch of a row that no reset interrupts, cut to its last `steps` steps."""
    stop = int(watched.valid[row].sum())
    bounds = np.concatenate([[0], np.flatnonzero(watched.resets[row, :stop]), [stop]])
    longest = int(np.argmax(np.diff(bounds)))
    first, stop = int(bounds[longest]), int(bounds[longest + 1])
    return max(first, stop - steps), stop


def _moves(before: Mapping[str, Array]) -> Array:
    """Return how far each number of the state is moved, `(n,)`."""
    sizes = [max(float(np.sqrt(np.mean(np.square(leaf, dtype=np.float64)))), 0.1) for leaf in before.values()]
    counts = [int(np.prod(leaf.shape[2:])) for leaf in before.values()]
    return _MOVE * np.repeat(sizes, counts)


def _chunks(first: int, stop: int, size: int) -> Iterator[Array]:
    """Yield steps in groups of one size, so that a step is compiled once. The last step may come several times."""
    count = int(np.clip(_NUMBERS_AT_ONCE // (2 * size * size), 1, stop - first))
    for start in range(first, stop, count):
        yield np.minimum(np.arange(start, start + count), stop - 1)


def _differences(model: Any, x: Any, before: Mapping[str, Array], moves: Array) -> tuple[Array, Array]:
    """Return the derivatives of states `(steps, n, n)` and outputs `(steps, outputs, n)` by the states before."""
    steps, size = len(next(iter(before.values()))), len(moves)
    # (steps, 2, n, n): one row for each number moved down, then one for each number moved up
    shift = np.stack([-np.diag(moves), np.diag(moves)])
    moved = side_by_side({name: leaf[:, None] for name, leaf in before.items()})[:, :, None] + shift[None]
    y, after = model.step(x, _unpacked(moved.reshape(-1, size), before))
    states = side_by_side({name: to_numpy(leaf)[:, None] for name, leaf in after.items()})
    outputs = np.concatenate([to_numpy(one).reshape(len(moved) * 2 * size, -1) for one in tree.flatten(y)], axis=1)
    both = (array.reshape(steps, 2, size, -1).astype(np.float64) for array in (states, outputs))
    by_number = [(array[:, 1] - array[:, 0]) / (2 * moves[:, None]) for array in both]  # (steps, n moved, n)
    return np.swapaxes(by_number[0], 1, 2), np.swapaxes(by_number[1], 1, 2)


def _unpacked(rows: Array, like: Mapping[str, Array]) -> State:
    """Return rows `(rows, n)` as leaves with the shapes and dtypes of `like`, `(steps, *shape)`."""
    sizes = np.cumsum([int(np.prod(leaf.shape[1:])) for leaf in like.values()])[:-1]
    parts = np.split(rows, sizes, axis=1)
    leaves = zip(like.items(), parts, strict=True)
    return State({name: part.reshape(-1, *leaf.shape[1:]).astype(leaf.dtype) for (name, leaf), part in leaves})
