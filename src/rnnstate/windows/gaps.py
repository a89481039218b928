"""Missing steps between two steps: the only definition of a gap; and how much of a carried state survives a gap.

Steps are missing where times jump by more than the usual step. `Windows` and the series of the command line both count
missing steps with `skipped_steps`. The usual step is the median difference, `lower_median`. Times whose differences do
not agree have no usual step for the command line, `usual_step`; there, such times have no gaps. A user who gives `times` to
`Windows` asks for gaps, so there the median always counts.

A policy turns the number of missing steps into a factor. The factor 1 carries the state as it is. The factor 0 returns
the state to its initial state. A factor between them moves the state toward its initial state.
"""

import math
from collections.abc import Hashable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.windows.arrays import Array
from rnnstate.windows.frames import is_series
from rnnstate.windows.times import (
    are_dates,
    check_times,
    differences,
    find_step_back,
    in_sequence,
    missing_times,
    order_error,
)

Policy = str | float

# A difference of times that is this many usual steps, or more, skips at least one step.
_JUMP = 1.5
# Months differ by a tenth of their length, and clocks jitter.
_JITTER = 0.1


def lower_median(jumps: NDArray[np.float64]) -> float:
    """Return the usual difference. Of two differences it is the shorter one, so the longer one is the gap.

    Example:

    >>> lower_median(np.array([1.0, 3.0]))
    1.0
    """
    return float(np.sort(jumps)[(len(jumps) - 1) // 2])


def skipped_steps(jumps: NDArray[np.float64], usual: float) -> NDArray[np.float64]:
    """Return how many steps are missing in each difference of times.

    Example:

    >>> skipped_steps(np.array([1.0, 1.4, 1.5, 4.0]), 1.0).tolist()
    [0.0, 0.0, 1.0, 3.0]
    """
    # Half a step rounds to the even number, so 1.5 becomes 2 steps, and `_JUMP` is the bound.
    steps: NDArray[np.float64] = np.maximum(np.rint(jumps / usual) - 1, 0)
    return steps


def usual_step(differences: NDArray[np.float64]) -> float | None:
    """Return the median difference of regular times; `None` when fewer than half of the differences are like it.

    Example:

    >>> usual_step(np.array([15.0, 15.0, 60.0, 15.0]))
    15.0
    >>> usual_step(np.array([1.0, 4.0, 0.5, 84.5])) is None
    True
    """
    if not len(differences):
        return None
    median = lower_median(differences)
    alike = np.abs(differences - median) <= _JITTER * median
    return median if np.mean(alike) >= 0.5 else None


def follows(difference: float, usual: float | None) -> bool:
    """Return whether a row that comes `difference` after another row is the next row.

    Example:

    >>> follows(15.0, 15.0), follows(30.0, 15.0), follows(2.0, 15.0), follows(30.0, None)
    (True, False, False, True)
    """
    if usual is None:
        return difference > 0
    return difference > (2 - _JUMP) * usual and not skipped_steps(np.array([difference]), usual).any()


def missing_before_steps(
    times: Sequence[Array] | None,
    gaps: Sequence[Array] | None,
    usual_step: Any,
    keys: Sequence[Hashable],
    lengths: NDArray[np.int64],
) -> list[NDArray[np.int64]]:
    """Return how many steps are missing before each step, `(time,)` for each sequence.

    Args:
        times: Times of the steps, numbers or dates, `(time,)` for each sequence; or `None`.
        gaps: Instead of `times`, the missing steps themselves.
        usual_step: Usual difference of the times; by default the median of each sequence.
        keys: Identity of each sequence.
        lengths: Steps of each sequence.

    Raises:
        DataError: If times do not increase, or a number of missing steps is not a whole number of at least 0.
    """
    if usual_step is not None and times is None:
        raise DataError(f"`step` is the usual step of `times`. Received: step={usual_step!r} without `times`.")
    label, arrays, count = ("gaps", gaps or [], whole) if times is None else ("times", times, _count)
    check_steps(arrays, lengths, keys, label)
    return [count(array, key, usual_step) for key, array in zip(keys, arrays, strict=True)]


def read_policy(gap: Any) -> Policy:
    """Return the argument `gap` of `Windows`: a name or a half-life; the default is `"reset"`.

    Raises:
        DataError: If it is neither.
    """
    gap = "reset" if gap is None else gap
    number = isinstance(gap, int | float | np.number) and not isinstance(gap, bool)
    if gap in ("reset", "keep") or (number and 0 < gap < math.inf):
        return float(gap) if number else str(gap)
    raise DataError(f"`gap` must be 'reset', 'keep' or a half-life in steps, above 0. Received: gap={gap!r}.")


def kept(missing: Any, policy: Policy) -> Any:
    """Return how much of a state survives that many missing steps.

    Example:

    >>> kept(np.array([0, 3, 6]), 3.0).tolist()
    [1.0, 0.5, 0.25]
    """
    if isinstance(policy, str):
        return np.where(missing > 0, float(policy == "keep"), 1.0)
    return 0.5 ** (missing / policy)


def check_steps(rows: Sequence[Array], lengths: NDArray[np.int64], keys: Sequence[Hashable], label: str) -> None:
    """Raise a `DataError` unless there is one row for each key, with one value for each step."""
    if len(rows) != len(keys):
        raise DataError(f"`{label}` must have {len(keys)} sequences, as `x`. Received: {len(rows)}.")
    for key, row, length in zip(keys, rows, lengths.tolist(), strict=True):
        if row.shape != (length,):
            raise DataError(
                f"`{label}` must have one value for each step, shape ({length},) in sequence {key!r}. "
                f"Received: shape {row.shape}."
            )


def whole(row: Array, key: Hashable, step: Any = None, begin: int = 0) -> NDArray[np.int64]:
    """Return numbers of missing steps, if they are whole numbers. The first of them belongs to the step `begin`.

    Raises:
        DataError: If they are not, or one is below 0.
    """
    wrong = np.arange(len(row)) if row.dtype.kind not in "iu" else np.flatnonzero(row < 0)
    if len(wrong):
        raise DataError(
            "`gaps` must be whole numbers of missing steps, at least 0. "
            f"Received: {row[wrong[0]]} in sequence {key!r}, step {begin + wrong[0]}."
        )
    return row.astype(np.int64)


def _count(times: Array, key: Hashable, step: Any) -> NDArray[np.int64]:
    """Return the missing steps before each step of one sequence."""
    _check_order(times, key)
    missing = np.zeros(len(times), dtype=np.int64)
    if len(times) > 1:
        apart = differences(times)
        missing[1:] = skipped_steps(apart, lower_median(apart) if step is None else read_step(step, are_dates(times)))
    return missing


def _check_order(times: Array, key: Hashable) -> None:
    gone = np.flatnonzero(missing_times(times))
    if len(gone):
        raise DataError(f"`times` must have a time at each step. Received: none {in_sequence(key, int(gone[0]))}.")
    back = find_step_back(times, np.array([0, len(times)]))
    if back is not None:
        raise order_error("`times`", times[back.before], times[back.now], in_sequence(key, back.now))


def read_step(step: Any, dates: bool) -> float:
    """Return the usual step as a number, seconds where times are dates.

    Raises:
        DataError: If it is no number above 0, or no duration where times are dates.
    """
    value: Any = step / np.timedelta64(1, "s") if isinstance(step, np.timedelta64) else step
    value = value.total_seconds() if isinstance(value, timedelta) else value
    duration = isinstance(step, np.timedelta64 | timedelta)
    if duration != dates or isinstance(value, bool) or not isinstance(value, int | float | np.number) or not value > 0:
        kind = (
            "a `datetime.timedelta` or `numpy.timedelta64`, as times are dates" if dates else "a number, as times are"
        )
        raise DataError(f"`step` must be {kind}, above 0. Received: step={step!r}.")
    return float(value)


def times_array(data: Any, label: str, key: Hashable) -> Array:
    """Return times as an array of numbers or dates."""
    times = np.asarray(data.to_numpy() if is_series(data) else data)
    return check_times(times, f"`{label}`" if key is None else f"`{label}` of sequence {key!r}")
