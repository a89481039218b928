"""Times as text and as ticks: float64 seconds since 1970 for dates, numbers as they are, NaN where there is no time.

The order of times is defined in `windows/times.py`, and gaps between them in `windows/gaps.py`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Kind = Literal["date", "number"]
Ticks = NDArray[np.float64]

_EPOCH = datetime(1970, 1, 1)


class TimeColumn(NamedTuple):
    """A column of times.

    Args:
        ticks: The times, `(rows,)`.
        kind: Whether they are dates or numbers.
        zoned: Whether dates name their time zone.
    """

    ticks: Ticks
    kind: Kind
    zoned: bool = False


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


def tick_value(tick: float, kind: Kind) -> Any:
    """Return a tick as what it stands for: a NumPy date, or a number."""
    return np.datetime64(round(tick * 1e6), "us") if kind == "date" else tick


def show_value(value: Any) -> str:
    """Return a date or a number of `tick_value` as a user writes it."""
    if isinstance(value, np.datetime64):
        return show_tick(float(value.astype(np.int64)) / 1e6, "date")
    return show_tick(value, "number")


def show_step(step: float, kind: Kind) -> str:
    """Return a difference of ticks as a user writes it."""
    return str(timedelta(seconds=step)) if kind == "date" else f"{step:.15g}"


def dates_to_ticks(dates: Sequence[Any] | NDArray[Any]) -> Ticks:
    """Return NumPy dates as ticks; not-a-time becomes NaN."""
    array = np.asarray(dates, dtype="datetime64[us]")
    return np.where(np.isnat(array), np.nan, array.astype(np.int64) / 1e6)
