"""Times of steps, and the order in which they must come: the only definition of both.

`Windows.from_frame`, the argument `times` of `Windows` and the series of the command line all check their times here.
Times are numbers or dates, in the dtype in which the user gave them, so a date in nanoseconds stays exact. `gaps` says
which differences of times are gaps.
"""

from collections.abc import Callable, Hashable
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.windows.arrays import Array

# Clocks are set back by an hour at most where daylight saving ends.
_CLOCK_CHANGE = 3600.0
# Parts of a date that is written without marks, after the year, with their least and greatest values.
_PARTS = (("%m", 1, 12), ("%d", 1, 31), ("%H", 0, 23), ("%M", 0, 59), ("%S", 0, 59))


class StepBack(NamedTuple):
    """Two rows of one sequence whose times do not increase.

    Args:
        before: Position of the earlier row among the ordered rows.
        now: Position of the later row.
    """

    before: int
    now: int


def check_times(times: Array, where: str) -> Array:
    """Return times as an array of numbers or dates.

    Args:
        times: The times, `(time,)`.
        where: What the times are, as the subject of an error message.

    Raises:
        DataError: If they are text, or other objects that are neither numbers nor dates, or dates written as numbers.
    """
    text = next((time for time in times.flat if isinstance(time, str)), None) if times.dtype.kind in "SUTO" else None
    if text is not None:
        raise DataError(
            f"{where} must hold dates or numbers. Received: text such as {str(text)!r}. "
            "Convert the text to dates first, for example with `pandas.to_datetime`."
        )
    if times.dtype.kind not in "iufMO":
        raise DataError(f"{where} must hold dates or numbers. Received: dtype={times.dtype}.")
    layout = compact_layout(times) if times.dtype.kind in "iuf" else None
    if layout is not None:
        first = times[np.isfinite(times)][0]
        raise DataError(
            f"{where} must hold dates, or numbers whose differences are times. Received: dates without marks, such as "
            f'{first:.15g}. Convert them first, for example with `pandas.to_datetime(..., format="{layout}")`.'
        )
    if times.dtype.kind == "M" and np.datetime_data(times.dtype)[0] in ("Y", "M"):
        return times.astype("datetime64[s]")
    # The difference of two unsigned numbers would wrap around.
    return times.astype(np.int64) if times.dtype.kind == "u" else times


def compact_layout(times: NDArray[Any]) -> str | None:
    """Return the format of dates without marks, if numbers are such dates and not a regular series of numbers.

    Example:

    >>> compact_layout(np.array([20240130.0, 20240131.0, 20240201.0]))
    '%Y%m%d'
    >>> compact_layout(np.array([20240129.0, 20240130.0, 20240131.0]))  # a regular series: both readings agree
    """
    numbers = times[np.isfinite(times)]
    layouts = ["%Y" + "".join(name for name, _, _ in _PARTS[:parts]) for parts in range(2, 6)]
    layout = next((layout for layout in layouts if _are_written(numbers[:1], layout)), None)
    if layout is None or not _are_written(numbers, layout):
        return None
    irregular = len(np.unique(np.diff(np.unique(numbers)))) > 1
    return layout if irregular else None


def _are_written(numbers: NDArray[np.float64], layout: str) -> bool:
    """Return whether all numbers are dates of the years 1900 to 2100 in a format, such as 202401311530."""
    rest, whole = numbers, bool((numbers % 1 == 0).all())
    for _, least, greatest in reversed(_PARTS[: layout.count("%") - 1]):
        rest, part = np.divmod(rest, 100)
        whole = whole and bool(((part >= least) & (part <= greatest)).all())
    return whole and bool(((rest >= 1900) & (rest <= 2100)).all())


def missing_times(times: Array) -> NDArray[np.bool_]:
    """Return at which steps there is no time: NaN, not-a-time or None.

    Example:

    >>> missing_times(np.array([0.0, np.nan])).tolist()
    [False, True]
    """
    if times.dtype.kind in "fM":
        return np.asarray(np.isnan(times))
    if times.dtype.kind == "O":
        # Only a missing value differs from itself. None says so by its type.
        return np.array([time is None or time != time for time in times.tolist()], dtype=bool)
    return np.zeros(len(times), dtype=bool)


def differences(times: Array) -> NDArray[np.float64]:
    """Return the differences of neighbouring times: seconds for dates, and numbers for numbers.

    Example:

    >>> differences(np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]")).tolist()
    [86400.0]
    """
    parts = times[1:] - times[:-1]
    if parts.dtype.kind == "m":
        return np.asarray(parts / np.timedelta64(1, "s"), dtype=np.float64)
    if parts.dtype.kind == "O" and len(parts) and isinstance(parts[0], timedelta):
        return np.array([part.total_seconds() for part in parts])
    return parts.astype(np.float64)


def are_dates(times: Array) -> bool:
    """Return whether times are dates, so that their differences are seconds."""
    return times.dtype.kind == "M" or (times.dtype.kind == "O" and len(times) > 0 and isinstance(times[0], date))


def find_step_back(times: Array, bounds: NDArray[np.int64]) -> StepBack | None:
    """Return the first two rows of one sequence whose times do not increase, or `None` if all times increase.

    Args:
        times: Times of the ordered rows, `(rows,)`. Missing times are passed over.
        bounds: Bounds of the sequences among the ordered rows, `(sequences + 1,)`.

    Example:

    >>> find_step_back(np.array([0, 1, 0, 5, 5]), np.array([0, 2, 5]))
    StepBack(before=3, now=4)
    """
    present = np.flatnonzero(~missing_times(times))
    shown = times[present]
    same = np.ones(max(len(present) - 1, 0), dtype=bool)
    # Between the last row of a sequence and the first row of the next, times may go back.
    borders = np.searchsorted(present, bounds[1:-1]) - 1
    same[borders[(borders >= 0) & (borders < len(same))]] = False
    wrong = np.flatnonzero(same & ~(shown[1:] > shown[:-1]).astype(bool))
    if not len(wrong):
        return None
    return StepBack(int(present[wrong[0]]), int(present[wrong[0] + 1]))


def order_error(
    what: str,
    before: Any,
    now: Any,
    place: str,
    advice: str = "",
    *,
    show: Callable[[Any], str] = str,
    zoned: bool = False,
) -> DataError:
    """Return the error about times that do not increase.

    Args:
        what: What must increase, as the subject of the message.
        before: The earlier row's time.
        now: The later row's time.
        place: Where the later row is.
        advice: A further piece of advice, as a sentence.
        show: Writes a time as a user does.
        zoned: Whether the times name their time zone, so that clocks cannot have been set back.
    """
    if now == before:
        fault, repair = f"`{show(now)}` twice", "Drop or merge the rows with this time."
    else:
        fault, repair = f"`{show(now)}` after `{show(before)}`", "Sort the rows by time."
    hints = [repair, advice, "" if zoned else _clock_hint(before, now)]
    return DataError(f"{what} must increase. Received: {fault} {place}. {' '.join(filter(None, hints))}")


def in_sequence(key: Hashable, step: int) -> str:
    """Return the place of a step, as the end of a sentence."""
    return f"in sequence {key!r}, step {step}"


def _clock_hint(before: Any, now: Any) -> str:
    """Return a hint if two dates without a time zone can be the hour that clocks repeat when daylight saving ends."""
    if not _is_naive_time(before):
        return ""
    back = differences(np.array([now, before]))[0]
    whole_days = np.datetime64(before, "s") == np.datetime64(before, "D")
    if whole_days or not 0 <= back <= _CLOCK_CHANGE:
        return ""
    return "If clocks were set back here at the end of daylight saving, add a time zone to the times."


def _is_naive_time(time: Any) -> bool:
    return isinstance(time, np.datetime64) or (isinstance(time, datetime) and time.tzinfo is None)
