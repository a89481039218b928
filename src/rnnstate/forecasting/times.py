"""Times as ticks: float64 seconds since 1970 for dates, the numbers themselves for numbers, NaN where there is none."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rnnstate.windows.gaps import JUMP, lower_median, skipped_steps

Kind = Literal["date", "number"]
Ticks = NDArray[np.float64]

_EPOCH = datetime(1970, 1, 1)
# Months differ by a tenth of their length, and clocks jitter.
_JITTER = 0.1


def parse_date(text: str) -> tuple[float, bool]:
    """Return the tick of an ISO date or time, and whether it names a time zone; dates with one are put in UTC.

    Raises:
        ValueError: If `text` is no ISO date.

    Example:

    >>> parse_date("1970-01-02 00:15")
    (87300.0, False)
    """
    return date_tick(datetime.fromisoformat(text))


def date_tick(date: datetime) -> tuple[float, bool]:
    """Return the tick of a date, and whether it names a time zone."""
    if date.tzinfo is None:
        return (date - _EPOCH).total_seconds(), False
    return (date.astimezone(UTC).replace(tzinfo=None) - _EPOCH).total_seconds(), True


def show_tick(tick: float, kind: Kind) -> str:
    """Return a tick as a user writes it.

    Example:

    >>> show_tick(87300.0, "date")
    '1970-01-02 00:15:00'
    """
    if kind == "date":
        return (_EPOCH + timedelta(seconds=tick)).isoformat(sep=" ")
    return f"{tick:.15g}"


def read_tick(text: str, kind: Kind) -> float:
    """Return the tick that `show_tick` wrote."""
    return parse_date(text)[0] if kind == "date" else float(text)


def show_step(step: float, kind: Kind) -> str:
    """Return a difference of ticks as a user writes it."""
    return str(timedelta(seconds=step)) if kind == "date" else f"{step:.15g}"


def dates_to_ticks(dates: Sequence[Any] | NDArray[Any]) -> Ticks:
    """Return NumPy dates as ticks; not-a-time becomes NaN."""
    array = np.asarray(dates, dtype="datetime64[us]")
    return np.where(np.isnat(array), np.nan, array.astype(np.int64) / 1e6)


def usual_step(ticks: Ticks) -> float | None:
    """Return the median step of a regular time column; `None` when fewer than half of the steps are like it.

    Example:

    >>> usual_step(np.array([0.0, 15.0, 30.0, 90.0, 105.0]))
    15.0
    >>> usual_step(np.array([0.0, 1.0, 5.0, 5.5, 90.0])) is None
    True
    """
    steps = np.diff(ticks[~np.isnan(ticks)])
    if len(steps) < 1:
        return None
    median = lower_median(steps)
    alike = np.abs(steps - median) <= _JITTER * median
    return median if np.mean(alike) >= 0.5 else None


def is_jump(difference: Ticks, step: float | None) -> NDArray[np.bool_]:
    """Return where more than the usual step lies between two rows; nowhere in a column that is not regular."""
    if step is None:
        return np.zeros(len(difference), dtype=bool)
    # A difference to a row without a time is NaN, and no jump.
    return np.asarray(skipped_steps(np.nan_to_num(difference), step) > 0)


def follows(difference: float, step: float | None) -> bool:
    """True if a row that comes `difference` after another is the next one."""
    least = 0.0 if step is None else (2 - JUMP) * step
    return difference > least and not is_jump(np.array([difference]), step)[0]
