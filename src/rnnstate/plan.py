"""Which steps of which sequence each row of each batch holds: arithmetic on lengths alone.

A plan knows no data and no Keras. It says, for batch `b` and row `r`, the sequence, its first step and the number of
steps. Whoever has a plan can cut arrays, put outputs back in time order, or prove that nothing was left out.
"""

import operator
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from heapq import heapreplace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError

Lengths = Sequence[int] | NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """The windows of a dataset, one for each row of each batch.

    Args:
        sequence: int32 `(batches, rows)`, index of the sequence; -1 is an empty row.
        start: int64 `(batches, rows)`, the window's first step in its sequence.
        steps: int32 `(batches, rows)`, how many steps of the window are data; the rest is padding.
        length: Steps of a full window.
    """

    sequence: NDArray[np.int32]
    start: NDArray[np.int64]
    steps: NDArray[np.int32]
    length: int

    def __post_init__(self) -> None:
        for array in (self.sequence, self.start, self.steps):
            array.flags.writeable = False

    @property
    def num_batches(self) -> int:
        """Number of batches."""
        return int(self.sequence.shape[0])

    @property
    def rows(self) -> int:
        """Rows of each batch."""
        return int(self.sequence.shape[1])

    @property
    def first(self) -> NDArray[np.bool_]:
        """True where a sequence begins, and in empty rows; `(batches, rows)`."""
        first: NDArray[np.bool_] = self.start == 0
        return first

    @property
    def padded(self) -> bool:
        """Whether any window is shorter than `length` or any row is empty."""
        return bool((self.steps < self.length).any())


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
    lengths = check_lengths(lengths)
    length = check_count("length", length)
    rows = min(check_count("batch_size", batch_size), len(lengths))
    windows = count_windows(lengths, length)
    lane, begin = _take_lanes(windows, rows)
    return _fill(lengths, windows, lane, begin, length, rows)


ORDERS: dict[str, Callable[[Lengths, int, int], WindowPlan]] = {"lanes": plan_lanes}


def plan_windows(lengths: Lengths, length: int, batch_size: int, order: str = "lanes") -> WindowPlan:
    """Plan windows in the order of that name.

    Args:
        lengths: Steps of each sequence.
        length: Steps of a window.
        batch_size: Rows of a batch at most.
        order: Name of an order.

    Returns:
        The plan.

    Raises:
        DataError: If there is no such order, or the sizes make no plan.
    """
    if order not in ORDERS:
        raise DataError(f"`order` must be one of {', '.join(map(repr, ORDERS))}. Received: order={order!r}.")
    return ORDERS[order](lengths, length, batch_size)


def cut_pieces(lengths: Lengths, pieces: int, keys: Sequence[Hashable] | None = None) -> NDArray[np.int64]:
    """Cut each sequence into contiguous pieces whose lengths differ by one step at most.

    Args:
        lengths: Steps of each sequence.
        pieces: Pieces of each sequence.
        keys: What errors call the sequences; by default their index.

    Returns:
        Bounds `(sequences, pieces + 1)`: piece `p` of sequence `i` holds the steps `[i, p]` up to `[i, p + 1]`.

    Raises:
        DataError: If a sequence has fewer steps than `pieces`.

    Example:

    >>> cut_pieces([10], 4).tolist()
    [[0, 2, 5, 7, 10]]
    """
    lengths = check_lengths(lengths)
    pieces = check_count("pieces", pieces)
    short = np.flatnonzero(lengths < pieces)
    if len(short):
        i = int(short[0])
        raise DataError(
            f"`pieces` must be at most the steps of each sequence. Received: pieces={pieces}, but sequence "
            f"{i if keys is None else keys[i]!r} has {lengths[i]} steps."
        )
    return lengths[:, None] * np.arange(pieces + 1) // pieces


def count_windows(lengths: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Return how many windows cover each sequence."""
    return -(-lengths // length)


def check_count(name: str, value: object) -> int:
    """Return `value` as an int of at least 1, or raise a `DataError` that names the argument."""
    try:
        count = -1 if isinstance(value, bool | np.bool_) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        count = -1
    if count < 1:
        raise DataError(f"`{name}` must be a whole number of at least 1. Received: {name}={value!r}.")
    return count


def check_lengths(lengths: Lengths) -> NDArray[np.int64]:
    """Return lengths as int64, or raise a `DataError` when there are none or one is below 1."""
    array = np.asarray(lengths)
    if array.ndim != 1 or not array.size:
        raise DataError(f"There must be at least one sequence. Received: lengths of shape {array.shape}.")
    if array.dtype.kind not in "iu":
        raise DataError(f"Lengths must be whole numbers. Received: dtype={array.dtype}.")
    empty = np.flatnonzero(array < 1)
    if len(empty):
        raise DataError(
            f"Each sequence must have at least one step. Received: {array[empty[0]]} steps in sequence {empty[0]}."
        )
    return array.astype(np.int64)


def _take_lanes(windows: NDArray[np.int64], rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each sequence's lane and the batch in which it begins."""
    free = [(0, lane) for lane in range(rows)]  # (batch, lane): sorted, so it is a heap already
    taken = []
    for count in windows.tolist():
        batch, lane = free[0]
        taken.append((lane, batch))
        heapreplace(free, (batch + count, lane))
    lane_of, begin = np.array(taken, dtype=np.int64).T
    return lane_of, begin


def _fill(
    lengths: NDArray[np.int64],
    windows: NDArray[np.int64],
    lane: NDArray[np.int64],
    begin: NDArray[np.int64],
    length: int,
    rows: int,
) -> WindowPlan:
    """Write all windows of all sequences at once, at (batch, lane)."""
    index = np.repeat(np.arange(len(lengths)), windows)
    offset = np.arange(len(index)) - np.repeat(np.cumsum(windows) - windows, windows)
    at = begin[index] + offset, lane[index]
    shape = int((begin + windows).max()), rows
    sequence = np.full(shape, -1, dtype=np.int32)
    start = np.zeros(shape, dtype=np.int64)
    steps = np.zeros(shape, dtype=np.int32)
    sequence[at] = index
    start[at] = offset * length
    steps[at] = np.minimum(length, lengths[index] - offset * length)
    return WindowPlan(sequence, start, steps, length)
