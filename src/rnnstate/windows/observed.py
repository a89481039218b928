"""Known values from which the state before a window is computed: one vector for each window.

The user gives one vector for each sequence, or a series in time:

- A series with as many rows as steps: row `t` is known after step `t`. A window that begins at step `s` gets row `s - 1`.
  The first window gets row 0, the earliest row.
- A series with one row more than steps: row `t` is known before step `t`. A window that begins at step `s` gets row `s`.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.windows.arrays import Array
from rnnstate.windows.plan import WindowPlan


@dataclass(frozen=True, eq=False)
class KnownValues:
    """Known values of every sequence.

    Args:
        arrays: For each sequence `(k,)`, or `(time, k)` or `(time + 1, k)`.
        lengths: Steps of each sequence.
        series: Whether the values are series.
    """

    arrays: Sequence[Array]
    lengths: NDArray[np.int64]
    series: bool

    @classmethod
    def of(cls, arrays: Sequence[Array], keys: Sequence[Hashable], lengths: NDArray[np.int64]) -> "KnownValues":
        """Return the known values in these arrays, one for each sequence, after checking their shapes.

        Raises:
            DataError: If the arrays are neither one vector for each sequence nor series as long as `x`.
        """
        if len(arrays) != len(keys):
            raise DataError(f"`observed` must have {len(keys)} sequences, as `x`. Received: {len(arrays)}.")
        _check_alike(arrays, keys)
        series = arrays[0].ndim == 2
        if series:
            _check_steps(arrays, lengths, keys)
        return cls(arrays, lengths, series)

    def pieces(self, bounds: NDArray[np.int64]) -> "KnownValues":
        """Return the values of each piece; a piece inside a sequence also has the row before its first step."""
        lengths = np.diff(bounds, axis=1).ravel()
        if not self.series:
            return replace(
                self, arrays=[row for row in self.arrays for _ in range(bounds.shape[1] - 1)], lengths=lengths
            )
        rows = []
        for values, length, cut in zip(self.arrays, self.lengths.tolist(), bounds.tolist(), strict=True):
            late = int(len(values) == length)
            rows += [values[max(a - late, 0) : b - late + 1] if a else values[: b - late + 1] for a, b in pairwise(cut)]
        return replace(self, arrays=rows, lengths=lengths)

    def check(self, plan: WindowPlan | None, keys: Sequence[Hashable]) -> None:
        """Raise a `DataError` for a value that is missing where a window needs it; without a plan, any may need it."""
        needed = None if plan is None or not self.series else self._needed(plan)
        for i, (key, values) in enumerate(zip(keys, self.arrays, strict=True)):
            good = np.isfinite(np.atleast_2d(values)).all(axis=1)
            asked = self._row(i, np.arange(self.lengths[i])) if needed is None else needed[i]
            wrong = asked[~good[asked]] if self.series else np.flatnonzero(~good)
            if len(wrong):
                self._refuse(key, i, int(wrong.min()))

    def batch(self, plan: WindowPlan, index: int) -> Array:
        """Return the values of batch `index`, `(batch, k)`; zeros in empty rows."""
        out = np.zeros((plan.rows, self.arrays[0].shape[-1]), dtype=keras.config.floatx())
        begin = plan.start[index] - plan.before[index]
        for row, i in enumerate(plan.sequence[index].tolist()):
            if i >= 0:
                out[row] = self.arrays[i][self._row(i, begin[row])] if self.series else self.arrays[i]
        return out

    def _row(self, i: int, step: Any) -> Any:
        """Return the row that is known before a step of sequence `i`."""
        return step if len(self.arrays[i]) > self.lengths[i] else np.maximum(step - 1, 0)

    def _needed(self, plan: WindowPlan) -> list[NDArray[np.int64]]:
        """Return the rows that some window needs, for each sequence."""
        taken = plan.sequence >= 0
        sequence, begin = plan.sequence[taken], (plan.start - plan.before)[taken]
        order = np.argsort(sequence, kind="stable")
        steps = np.split(begin[order], np.cumsum(plan.counts(len(self.arrays)))[:-1])
        return [self._row(i, part) for i, part in enumerate(steps)]

    def _refuse(self, key: Hashable, i: int, row: int) -> None:
        values = self.arrays[i] if not self.series else self.arrays[i][row]
        place = f"step {row} of sequence {key!r}" if self.series else f"sequence {key!r}"
        after = int(len(self.arrays[i]) == self.lengths[i])
        need = f" A window needs the values known {'after' if after else 'before'} this step." if self.series else ""
        raise DataError(
            f"`observed` must have finite values where a window begins. Received: {values.tolist()} at {place}.{need} "
            "Fill it, or choose another `length`, so that no window begins there."
        )


def _check_alike(rows: Sequence[Array], keys: Sequence[Hashable]) -> None:
    for key, row in zip(keys, rows, strict=True):
        if row.ndim not in (1, 2) or not row.size:
            raise DataError(
                "`observed` must be one vector for each sequence, or a series (time, values). "
                f"Received: shape {row.shape} in sequence {key!r}."
            )
        if row.ndim != rows[0].ndim or row.shape[-1] != rows[0].shape[-1]:
            raise DataError(
                f"`observed` must have as many values in each sequence: shape {rows[0].shape} in sequence {keys[0]!r}. "
                f"Received: shape {row.shape} in sequence {key!r}. A series of one value per step is (time, 1)."
            )


def _check_steps(rows: Sequence[Array], lengths: NDArray[np.int64], keys: Sequence[Hashable]) -> None:
    for key, row, length in zip(keys, rows, lengths.tolist(), strict=True):
        if len(row) not in (length, length + 1):
            raise DataError(
                f"`observed` must have {length} rows, each known after its step, or {length + 1}, each known before "
                f"it, in sequence {key!r}. Received: {len(row)}. One vector for each sequence is (values,)"
                f"{', or (sequences, values) for several sequences' if len(keys) == 1 else ''}."
            )
