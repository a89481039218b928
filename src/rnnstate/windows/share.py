"""The rows of each batch that one of several processes trains on.

A share keeps whole rows of the batches, and with them whole sequences: `lanes` and `buckets` put all windows of a sequence
into one row. Rank `r` of `R` takes the rows `r, r + R, r + 2R`:

    rows of the batch     a  b  c  d  e
    rank                  0  1  0  1  0      the rows of rank 0: a c e, of rank 1: b d (empty)

All shares have the same number of rows and batches, so no process waits for a batch that another one does not have. All
processes together train on the batches of one process, so the number of processes does not change the result.
"""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.windows.epochs import Schedule
from rnnstate.windows.plan import WindowPlan
from rnnstate.windows.windows import Windows


@dataclass(frozen=True, eq=False)
class SharedSchedule:
    """The plans of a dataset, of which one rank takes its rows.

    Args:
        whole: The plans of all ranks.
        rank: The number of this rank.
        ranks: How many there are.
    """

    whole: Schedule
    rank: int
    ranks: int

    @property
    def changes(self) -> bool:
        """Whether one epoch differs from another."""
        return self.whole.changes

    @property
    def vary(self) -> Any:
        """How window lengths are drawn, or `None`."""
        return self.whole.vary

    def plan(self, epoch: int) -> tuple[WindowPlan, NDArray[np.float64]]:
        """Return the rows of this rank in the plan of an epoch, and the steps of its batches in relation to `length`."""
        plan, scales = self.whole.plan(epoch)
        return rows_of(plan, self.rank, self.ranks), scales


def share(windows: Any, rank: int, ranks: int) -> Windows:
    """Return the part of windows that one of several processes trains on. It has the keys of all.

    Args:
        windows: The same `Windows` in each process.
        rank: The number of this process, from 0 on.
        ranks: How many processes there are.

    Raises:
        DataError: If they are no `Windows` of arrays, or their order puts the windows of a sequence into different rows.

    Example:

    >>> windows = Windows({"a": np.ones((5, 1)), "b": np.ones((3, 1)), "c": np.ones((2, 1))}, length=3, batch_size=3)
    >>> [share(windows, rank, 2)[0][0]["slot"].tolist() for rank in range(2)]
    [[0, 2], [1, -1]]
    """
    if type(windows) is not Windows:
        raise DataError(
            "Several processes share `rnnstate.Windows` of arrays, whose plan each of them knows. Received: "
            f"{type(windows).__name__}. Read the data into arrays, which may be memory-mapped."
        )
    if windows.order == "shuffled":
        raise DataError(
            "Several processes share the rows of a batch, so all windows of a sequence must be in one row. Received: "
            "order='shuffled'. Use order='lanes' or order='buckets'."
        )
    part = copy.copy(windows)
    part.whole = windows
    part._schedule = SharedSchedule(windows._schedule, rank, ranks)
    part._masked = True  # a rank may have empty rows where another has none
    del part.plan
    part.epoch = windows.epoch
    part.batch_size = part.plan.rows
    return part


def rows_of(plan: WindowPlan, rank: int, ranks: int) -> WindowPlan:
    """Return the rows of a rank, with empty rows up to the number that the rank with the most rows has."""
    empty = -(-plan.rows // ranks) - len(range(rank, plan.rows, ranks))

    def take(array: Any, fill: int) -> Any:
        if not isinstance(array, np.ndarray):
            return array
        return np.pad(array[:, rank::ranks], ((0, 0), (0, empty)), constant_values=fill)

    return WindowPlan(
        take(plan.sequence, -1), take(plan.start, 0), take(plan.steps, 0), plan.length, take(plan.begin, 0), plan.prefix
    )


def own_sequences(windows: Any) -> NDArray[np.int64]:
    """Return the index of each sequence that a share holds, in the order of `keys`."""
    held: NDArray[np.int64] = np.unique(windows.plan.sequence[windows.plan.sequence >= 0]).astype(np.int64)
    return held
