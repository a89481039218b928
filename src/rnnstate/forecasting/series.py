"""One series for each key of a table, with its spans: the stretches without a gap. Pure NumPy.

Keys, the order of times and gaps are defined in `windows/` (`keys`, `times`, `gaps`), for `Windows.from_frame` too.
A gap here is a jump in a regular time column, or a row in which a column that is used is empty. A gap ends a span, and
the next complete row starts another span.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.forecasting.tables import Table
from rnnstate.forecasting.times import Kind, Ticks, TimeColumn, show_tick, show_value, tick_value
from rnnstate.messages import counted, quoted
from rnnstate.windows.gaps import skipped_steps, usual_step
from rnnstate.windows.keys import Groups, warn_of_white_space
from rnnstate.windows.times import compact_layout, find_step_back, order_error

Spans = NDArray[np.int64]

# Seconds since 1970 have been above this number since 1973.
_SECONDS_SINCE_1970 = 1e8


@dataclass(frozen=True)
class Columns:
    """Which column of a table is what.

    Args:
        targets: Columns to predict; they are always inputs too.
        features: Further inputs.
        key: Column that names the sequence; without it there is one.
        time: Column of dates or numbers.

    Raises:
        DataError: If there is no target, or a column has two uses.
    """

    targets: tuple[str, ...]
    features: tuple[str, ...] = ()
    key: str | None = None
    time: str | None = None

    def __post_init__(self) -> None:
        if not self.targets:
            raise DataError("There must be at least one target. Received: none. Name a column with --target.")
        names = [*self.inputs, *(name for name in (self.key, self.time) if name is not None)]
        double = next((name for index, name in enumerate(names) if name in names[:index]), None)
        if double is not None or len(set(self.targets)) < len(self.targets):
            raise DataError(f"Each column must have one use. Received: {quoted([double or self.targets[0]])} for two.")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The targets, then the features that are no targets."""
        return (*self.targets, *(name for name in dict.fromkeys(self.features) if name not in self.targets))


@dataclass(frozen=True, eq=False)
class Series:
    """All rows of one key, in time order.

    Args:
        key: Its name; empty in a table without keys.
        rows: Row numbers in the table `(time,)`.
        values: Inputs in the data's own units `(time, inputs)`, NaN where a cell is empty.
        ticks: Times `(time,)`, if there is a time column.
        step: Usual step of the times, if they are regular.
        spans: First row of each span and the row after its last `(spans, 2)`.
        kind: Whether the times are dates or numbers.
        zoned: Whether dates name their time zone; the ticks are in UTC then.
    """

    key: str
    rows: NDArray[np.int64]
    values: NDArray[np.float64]
    ticks: Ticks | None
    step: float | None
    spans: Spans
    kind: Kind = "number"
    zoned: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def last(self) -> str | None:
        """Time of the last row that is no gap, as a user writes it."""
        if self.ticks is None or not len(self.spans):
            return None
        return show_tick(float(self.ticks[self.spans[-1, 1] - 1]), self.kind)


def read_series(table: Table, columns: Columns, steps: Mapping[str, float | None] | None = None) -> list[Series]:
    """Return a series for each key of a table, in order of appearance.

    Args:
        table: The data.
        columns: Which column is what.
        steps: Usual step by key where it is known already; others are measured.

    Raises:
        DataError: If a column is missing or holds other things, times do not increase within a key, or no row has a
            value in every column that is used.
    """
    values = np.stack([table.numbers(name) for name in columns.inputs], axis=1)
    times = None if columns.time is None else table.ticks(columns.time)
    groups = Groups.single(len(table), "") if columns.key is None else Groups.of(table.keys(columns.key))
    warn_of_white_space(groups.keys)
    if times is not None:
        groups = groups.sorted_by(times.ticks) if table.options.sort else groups
        _check_order(times, groups, table, columns)
        _check_unit(times, groups, table, columns)
    series = [
        _one_series(str(key), rows, values[rows], times, steps or {})
        for key, rows in zip(groups.keys, groups.rows(), strict=True)
    ]
    if not any(len(one.spans) for one in series):
        received = f"{counted(len(table), 'row')}, none of them complete" if len(table) else "no rows at all"
        raise DataError(
            f"{table.source} must have rows with a value in {quoted(_used(columns))}. Received: {received}."
        )
    return series


def observed_rows(values: NDArray[np.float64], ticks: Ticks | None) -> NDArray[np.bool_]:
    """Return which rows have all their values, and their time if there are times."""
    observed = np.asarray(~np.isnan(values).any(axis=1))
    return observed if ticks is None else observed & ~np.isnan(ticks)


def jumps(ticks: Ticks | None, step: float | None) -> NDArray[np.bool_] | None:
    """Return before which rows more than the usual step is missing; before no row if the times are not regular."""
    if ticks is None or step is None:
        return None
    # A difference to a row without a time is NaN, and no jump.
    apart = np.nan_to_num(np.diff(ticks, prepend=np.nan))
    return np.asarray(skipped_steps(apart, step) > 0)


def find_spans(observed: NDArray[np.bool_], jump: NDArray[np.bool_] | None = None) -> Spans:
    """Return the stretches of observed rows between which there is a gap.

    Args:
        observed: Whether a row has all its values `(time,)`.
        jump: Whether time is missing before a row `(time,)`.

    Returns:
        First row of each span and the row after its last `(spans, 2)`.

    Example:

    >>> find_spans(np.array([True, True, False, True])).tolist()
    [[0, 2], [3, 4]]
    """
    before = np.r_[False, observed[:-1]] if len(observed) else observed
    starts = observed & (~before if jump is None else (~before | jump))
    after_last = before & (~observed if jump is None else (~observed | jump))
    stops = np.flatnonzero(np.r_[after_last, bool(observed[-1])]) if len(observed) else np.zeros(0, np.int64)
    return np.stack([np.flatnonzero(starts), stops], axis=1).astype(np.int64)


def clip_spans(spans: Spans, low: int, high: int) -> Spans:
    """Return what lies of the spans in the rows `low` up to `high`."""
    clipped = np.clip(spans, low, high)
    return clipped[clipped[:, 0] < clipped[:, 1]]


def count_gaps(series: Iterable[Series]) -> tuple[int, int]:
    """Return the number of gaps between spans, and of rows that belong to no span."""
    listed = list(series)
    gaps = sum(max(len(one.spans) - 1, 0) for one in listed)
    return gaps, sum(len(one) - int(np.diff(one.spans).sum()) for one in listed)


def _used(columns: Columns) -> list[str]:
    return [*columns.inputs, *([] if columns.time is None else [columns.time])]


def _one_series(
    key: str,
    rows: NDArray[np.int64],
    values: NDArray[np.float64],
    times: TimeColumn | None,
    steps: Mapping[str, float | None],
) -> Series:
    if times is None:
        return Series(key, rows, values, None, None, find_spans(observed_rows(values, None)))
    ticks = times.ticks[rows]
    step = steps[key] if key in steps else usual_step(np.diff(ticks[~np.isnan(ticks)]))
    spans = find_spans(observed_rows(values, ticks), jumps(ticks, step))
    return Series(key, rows, values, ticks, step, spans, times.kind, times.zoned)


def _check_order(times: TimeColumn, groups: Groups, table: Table, columns: Columns) -> None:
    ticks = groups.ordered(times.ticks)
    back = find_step_back(ticks, groups.bounds)
    if back is None:
        return
    before, now = (tick_value(tick, times.kind) for tick in (ticks[back.before], ticks[back.now]))
    key, _ = groups.place(back.now)
    raise order_error(
        f"Times in column `{columns.time}`" + (f" of key {key!r}" if columns.key else ""),
        before,
        now,
        table.at(groups.row(back.now)),
        _advice(now < before, columns),
        show=show_value,
        zoned=times.zoned,
    )


def _check_unit(times: TimeColumn, groups: Groups, table: Table, columns: Columns) -> None:
    """Refuse numbers whose differences are no times: dates without marks, and seconds that turn into milliseconds."""
    if times.kind != "number":
        return
    layout = compact_layout(times.ticks)
    if layout is not None:
        row = int(np.isfinite(times.ticks).argmax())
        raise DataError(
            f"Times in column `{columns.time}` must be ISO dates, or numbers whose differences are times. Received: dates "
            f"without marks, such as {show_tick(times.ticks[row], 'number')} {table.at(row)}. "
            f'Give their format: --time-format "{layout}".'
        )
    ticks = groups.ordered(times.ticks)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = ticks[1:] / ticks[:-1]
    wrong = np.flatnonzero((ticks[:-1] > _SECONDS_SINCE_1970) & (ratio > 900) & (ratio < 1100))
    if len(wrong):
        now = int(wrong[0]) + 1
        raise DataError(
            f"Times in column `{columns.time}` must have one unit. Received: {show_tick(ticks[now], 'number')} after "
            f"{show_tick(ticks[now - 1], 'number')} {table.at(groups.row(now))}. Write both in seconds or in milliseconds."
        )


def _advice(sortable: bool, columns: Columns) -> str:
    sort = "use --sort" if sortable else ""
    key = "" if columns.key else "name the column that tells sequences apart with --key"
    ways = ", or ".join(filter(None, (sort, key)))
    return f"Or {ways}." if ways else ""
