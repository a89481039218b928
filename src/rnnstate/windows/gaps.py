"""Missing steps between two steps, and how much of a carried state survives them.

Steps are missing where times jump by more than the usual step. A policy turns their number into a factor: 1 carries
the state as it is, 0 puts it back to its initial state, and in between it decays toward that.
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

Policy = str | float

# A difference of times that is this many usual steps, or more, skips at least one step.
JUMP = 1.5


def lower_median(jumps: NDArray[np.float64]) -> float:
    """Return the usual difference. Of two differences it is the shorter one, so the longer one is the gap.

    Example:

    >>> lower_median(np.array([1.0, 3.0]))
    1.0
    """
    return float(np.sort(jumps)[(len(jumps) - 1) // 2])


def skipped_steps(jumps: NDArray[np.float64], usual: float) -> NDArray[np.float64]:
    """Return how many steps are missing in each difference of times: the only definition of a gap.

    Example:

    >>> skipped_steps(np.array([1.0, 1.4, 1.5, 4.0]), 1.0).tolist()
    [0.0, 0.0, 1.0, 3.0]
    """
    # Half a step rounds to the even number, so 1.5 becomes 2 steps, and `JUMP` is the bound.
    return np.maximum(np.rint(jumps / usual) - 1, 0)


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
    label, arrays, count = ("gaps", gaps or [], _whole) if times is None else ("times", times, _count)
    _check_steps(arrays, lengths, keys, label)
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


def _check_steps(rows: Sequence[Array], lengths: NDArray[np.int64], keys: Sequence[Hashable], label: str) -> None:
    if len(rows) != len(keys):
        raise DataError(f"`{label}` must have {len(keys)} sequences, as `x`. Received: {len(rows)}.")
    for key, row, length in zip(keys, rows, lengths.tolist(), strict=True):
        if row.shape != (length,):
            raise DataError(
                f"`{label}` must have one value for each step, shape ({length},) in sequence {key!r}. "
                f"Received: shape {row.shape}."
            )


def _whole(row: Array, key: Hashable, step: Any) -> NDArray[np.int64]:
    wrong = np.arange(len(row)) if row.dtype.kind not in "iu" else np.flatnonzero(row < 0)
    if len(wrong):
        raise DataError(
            "`gaps` must be whole numbers of missing steps, at least 0. "
            f"Received: {row[wrong[0]]} in sequence {key!r}, step {wrong[0]}."
        )
    return row.astype(np.int64)


def _count(times: Array, key: Hashable, step: Any) -> NDArray[np.int64]:
    """Return the missing steps before each step of one sequence."""
    _check_missing(times, key)
    missing = np.zeros(len(times), dtype=np.int64)
    if len(times) > 1:
        jumps, dates = _differences(times)
        _check_increase(jumps, times, key)
        missing[1:] = skipped_steps(jumps, lower_median(jumps) if step is None else _step(step, dates))
    return missing


def _differences(times: Array) -> tuple[NDArray[np.float64], bool]:
    """Return the differences, seconds where times are dates, and whether they are."""
    jumps = times[1:] - times[:-1]
    if jumps.dtype.kind == "m":
        return jumps / np.timedelta64(1, "s"), True
    if jumps.dtype.kind == "O" and isinstance(jumps[0], timedelta):
        return np.array([jump.total_seconds() for jump in jumps]), True
    return jumps.astype(np.float64), False


def _check_missing(times: Array, key: Hashable) -> None:
    # Only a value that is missing differs from itself; None says so by its type.
    wrong = [i for i, t in enumerate(times) if t is None or t != t] if times.dtype.kind in "OfM" else []
    if wrong:
        raise DataError(f"`times` must have a time at each step. Received: none in sequence {key!r}, step {wrong[0]}.")


def _check_increase(jumps: NDArray[np.float64], times: Array, key: Hashable) -> None:
    wrong = np.flatnonzero(~(jumps > 0))
    if len(wrong):
        before, now = times[wrong[0] : wrong[0] + 2]
        fault = f"`{now}` twice" if before == now else f"`{now}` after `{before}`"
        advice = "Drop or merge duplicates." if before == now else "Sort the sequence by time."
        raise DataError(f"`times` must increase. Received: {fault} in sequence {key!r}, step {wrong[0] + 1}. {advice}")


def _step(step: Any, dates: bool) -> float:
    """Return the usual step as a number, seconds where times are dates."""
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
    where = "" if key is None else f" in sequence {key!r}"
    if times.dtype.kind not in "iufMO" or (times.dtype.kind == "O" and any(isinstance(t, str) for t in times.flat)):
        raise DataError(f"`times` must be dates or numbers. Received: dtype={times.dtype}{where}.")
    if times.dtype.kind == "M" and np.datetime_data(times.dtype)[0] in ("Y", "M"):
        return times.astype("datetime64[s]")
    return times.astype(np.int64) if times.dtype.kind == "u" else times
