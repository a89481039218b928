"""The plan: which steps of which sequence each row of each batch holds. It is arithmetic on lengths alone.

A plan knows no data and no Keras. It says, for batch `b` and row `r`, the sequence, its first step and the number of
steps. A plan is enough to cut arrays, to sort outputs by time, and to prove that no step is missing.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.windows.counts import Lengths, check_count, check_lengths
from rnnstate.windows.cuts import Cuts, WindowList, count_windows, cut_pieces, cut_windows
from rnnstate.windows.orders import ORDERS

__all__ = [
    "Index",
    "Lengths",
    "WindowPlan",
    "check_count",
    "check_lengths",
    "count_windows",
    "cut_pieces",
    "of_batches",
    "plan_lanes",
    "plan_windows",
]


# The number of a batch, or the numbers of several consecutive ones.
Index = int | range


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """The windows of a dataset, one for each row of each batch.

    Args:
        sequence: int32 `(batches, rows)`, index of the sequence; -1 is an empty row.
        start: int64 `(batches, rows)`, the window's first step in its sequence.
        steps: int32 `(batches, rows)`, how many steps of the window are data; the rest is padding.
        length: Steps of a full window.
        begin: int64 `(batches, rows)`, first step of the run of steps without a cut that the window belongs to.
        prefix: How many steps before the window belong to its inputs.
    """

    sequence: NDArray[np.int32]
    start: NDArray[np.int64]
    steps: NDArray[np.int32]
    length: int
    begin: NDArray[np.int64] | int = 0
    prefix: int = 0

    def __post_init__(self) -> None:
        for array in (self.sequence, self.start, self.steps, self.begin):
            if isinstance(array, np.ndarray):
                array.flags.writeable = False

    @property
    def num_batches(self) -> int:
        """Number of batches."""
        return int(self.sequence.shape[0])

    @property
    def rows(self) -> int:
        """Rows of each batch."""
        return int(self.sequence.shape[1])

    @cached_property
    def first(self) -> NDArray[np.bool_]:
        """True where a sequence begins, and in empty rows; `(batches, rows)`."""
        first: NDArray[np.bool_] = self.start == 0
        return first

    @property
    def padded(self) -> bool:
        """Whether any window is shorter than `length` or any row is empty."""
        return bool((self.steps < self.length).any())

    @cached_property
    def blocks(self) -> list[tuple[int, int] | None]:
        """For each batch, the first sequence and the first step if its windows are full and lie side by side, else `None`.

        sequence   3 | s ... s + length |       batch `(3, s)`: rows 3, 4, 5, ... of the data from step s on
        sequence   4 | s ... s + length |
        """
        rows = np.arange(self.rows)
        beside = (self.sequence == self.sequence[:, :1] + rows) & (self.start == self.start[:, :1])
        whole = (beside & (self.sequence >= 0) & (self.steps == self.length)).all(axis=1).tolist()
        corners = zip(self.sequence[:, 0].tolist(), self.start[:, 0].tolist(), strict=True)
        return [corner if full else None for corner, full in zip(corners, whole, strict=True)]

    def moves(self, batches: range) -> tuple[int, int] | None:
        """Return how many sequences and steps lie between one batch and the next, if all are blocks equally far apart.

        sequence   3 | s ... s + length | ... s + 2 * length |      batches `(3, s)`, `(3, s + length)`: `(0, length)`
        sequence   4 | s ... s + length | ... s + 2 * length |
        """
        blocks = self.blocks[batches.start : batches.stop]
        first, second = blocks[0], blocks[min(1, len(blocks) - 1)]
        if first is None or second is None:
            return None
        (row, start), rows, steps = first, second[0] - first[0], second[1] - first[1]
        evenly = [(row + rows * place, start + steps * place) for place in range(len(blocks))]
        return (rows, steps) if blocks == evenly else None

    @cached_property
    def before(self) -> NDArray[np.int64]:
        """How many of the `prefix` steps before each window exist; they never reach across a cut; `(batches, rows)`."""
        before: NDArray[np.int64] = np.minimum(self.prefix, self.start - self.begin)
        return before

    @cached_property
    def number(self) -> NDArray[np.int64]:
        """Which window of its sequence each one is, from 0; `(batches, rows)`."""
        sequence = self.sequence.ravel()[self._in_time]
        counts = np.bincount(sequence)
        return self._spread(np.arange(len(sequence)) - np.repeat(np.cumsum(counts) - counts, counts))

    @cached_property
    def last(self) -> NDArray[np.bool_]:
        """True where a run of steps ends, at a cut or with the sequence; `(batches, rows)`."""
        order = self._in_time
        sequence, start = self.sequence.ravel()[order], self.start.ravel()[order]
        begin = np.broadcast_to(self.begin, self.start.shape).ravel()[order]
        return self._spread(np.append((sequence[1:] != sequence[:-1]) | (begin[1:] == start[1:]), True))

    @cached_property
    def ends(self) -> NDArray[np.bool_]:
        """True at the last window of each sequence; `(batches, rows)`."""
        sequence = self.sequence.ravel()[self._in_time]
        return self._spread(np.append(sequence[1:] != sequence[:-1], True))

    @cached_property
    def _in_time(self) -> NDArray[np.int64]:
        """Places of all windows, sequence by sequence in time order."""
        taken = np.flatnonzero(self.sequence.ravel() >= 0)
        return taken[np.lexsort((self.start.ravel()[taken], self.sequence.ravel()[taken]))]

    def _spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """Put values that are in time order at the places of their windows; zero in empty rows."""
        flat = np.zeros(self.sequence.size, dtype=values.dtype)
        flat[self._in_time] = values
        return flat.reshape(self.sequence.shape)

    def counts(self, sequences: int) -> NDArray[np.int64]:
        """Return how many windows each of the first `sequences` sequences has."""
        return np.bincount(self.sequence[self.sequence >= 0], minlength=sequences)


def of_batches(array: NDArray[Any], index: Index) -> NDArray[Any]:
    """Return the part of an array `(batches, rows)` of a plan for one batch, `(rows,)`, or for several."""
    part: NDArray[Any] = array[index.start : index.stop] if isinstance(index, range) else array[index]
    return part


def plan_lanes(lengths: Lengths, length: int, batch_size: int) -> WindowPlan:
    """Plan batches whose rows are lanes: each takes one sequence after another, in time order.

    The lane that becomes free first takes the next sequence, so all lanes end at about the same time.

    Args:
        lengths: Steps of each sequence.
        length: Steps of a window.
        batch_size: Lanes; there are never more of them than sequences.

    Returns:
        A plan that holds every step of every sequence once, and never two windows of one sequence in a batch.

    Raises:
        DataError: If there is no sequence, one is empty, or a size is not a whole number of at least 1.

    Example:

    >>> plan_lanes([5, 2], length=3, batch_size=2).steps.tolist()
    [[3, 2], [2, 0]]
    """
    return plan_windows(lengths, length, batch_size)


def plan_windows(
    lengths: Lengths,
    length: int,
    batch_size: int,
    order: str = "lanes",
    *,
    cuts: Cuts | None = None,
    seed: int = 0,
    epoch: int = 0,
    prefix: int = 0,
) -> WindowPlan:
    """Plan windows in the order of that name.

    Args:
        lengths: Steps of each sequence.
        length: Steps of a window.
        batch_size: Rows of a batch at most.
        order: Name of an order.
        cuts: For each sequence, the rising steps above 0 at which a window must begin.
        seed: With `epoch` it decides everything that is random.
        epoch: Number of the epoch; it never changes the number of batches.
        prefix: How many steps before each window belong to its inputs.

    Returns:
        The plan.

    Raises:
        DataError: If there is no such order, or the sizes make no plan.
    """
    check_order_name(order)
    lengths = check_lengths(lengths)
    length = check_count("length", length)
    rows = min(check_count("batch_size", batch_size), len(lengths))
    windows = cut_windows(lengths, length, cuts)
    batch, row = ORDERS[order](windows.counts, rows, np.random.default_rng([seed, epoch]))
    return place(windows, batch, row, rows, length, prefix)


def check_order_name(order: str) -> None:
    """Raise a `DataError` unless there is an order of that name."""
    if order not in ORDERS:
        raise DataError(f"`order` must be one of {', '.join(map(repr, ORDERS))}. Received: order={order!r}.")


def place(
    windows: WindowList, batch: NDArray[np.int64], row: NDArray[np.int64], rows: int, length: int, prefix: int = 0
) -> WindowPlan:
    """Write all windows at once, each at its batch and row.

    Args:
        windows: The windows.
        batch: Batch of each window.
        row: Row of each window.
        rows: Rows of each batch.
        length: Steps of a full window.
        prefix: How many steps before each window belong to its inputs.

    Returns:
        The plan; places without a window are empty rows.
    """
    shape = int(batch.max()) + 1, rows
    sequence = np.full(shape, -1, dtype=np.int32)
    start, begin = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    steps = np.zeros(shape, dtype=np.int32)
    for array, values in (
        (sequence, windows.sequence),
        (start, windows.start),
        (begin, windows.begin),
        (steps, windows.steps),
    ):
        array[batch, row] = values
    return WindowPlan(sequence, start, steps, length, begin, prefix)
