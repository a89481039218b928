"""One series for each key of a table, with its spans: the stretches without a gap. Pure NumPy.

A gap is a row in which a column that is used is empty, or a jump in a regular time column. It ends a sequence, and the
row after it starts another.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.forecasting.tables import Table
from rnnstate.forecasting.times import Kind, Ticks, is_jump, show_tick, usual_step
from rnnstate.messages import counted, quoted

Spans = NDArray[np.int64]


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
    """

    key: str
    rows: NDArray[np.int64]
    values: NDArray[np.float64]
    ticks: Ticks | None
    step: float | None
    spans: Spans
    kind: Kind = "number"

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
    ticks: Ticks | None = None
    kind: Kind = "number"
    if columns.time is not None:
        ticks, kind = table.ticks(columns.time)
    keys = None if columns.key is None else table.keys(columns.key)
    series = []
    for key, rows in _rows_by_key(keys, len(table)):
        if ticks is not None and table.options.sort:
            rows = rows[np.argsort(ticks[rows], kind="stable")]
        own = None if ticks is None else ticks[rows]
        if own is not None:
            _check_increasing(own, rows, key, kind, table)
        step = None if own is None else (steps or {}).get(key, usual_step(own))
        spans = find_spans(observed_rows(values[rows], own), jumps(own, step))
        series.append(Series(key, rows, values[rows], own, step, spans, kind))
    if not any(len(one.spans) for one in series):
        raise DataError(
            f"{table.source} must have rows with a value in {quoted(_used(columns))}. "
            f"Received: {counted(len(table), 'row')}, none of them complete."
        )
    return series


def observed_rows(values: NDArray[np.float64], ticks: Ticks | None) -> NDArray[np.bool_]:
    """Return which rows have all their values, and their time if there are times."""
    observed = np.asarray(~np.isnan(values).any(axis=1))
    return observed if ticks is None else observed & ~np.isnan(ticks)


def jumps(ticks: Ticks | None, step: float | None) -> NDArray[np.bool_] | None:
    """Return before which rows more than the usual step is missing."""
    return None if ticks is None else is_jump(np.diff(ticks, prepend=np.nan), step)


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


def _rows_by_key(keys: NDArray[Any] | None, count: int) -> list[tuple[str, NDArray[np.int64]]]:
    if keys is None:
        return [("", np.arange(count))]
    if not count:
        return []
    import pyarrow

    # Arrow numbers the keys in order of appearance.
    coded = pyarrow.array(keys, pyarrow.string()).dictionary_encode()
    code = coded.indices.to_numpy()
    order = np.argsort(code, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(code))[:-1])
    return list(zip(coded.dictionary.to_pylist(), groups, strict=True))


def _check_increasing(ticks: Ticks, rows: NDArray[np.int64], key: str, kind: Kind, table: Table) -> None:
    present = np.flatnonzero(~np.isnan(ticks))
    wrong = np.flatnonzero(np.diff(ticks[present]) <= 0)
    if not len(wrong):
        return
    before, after = ticks[present[wrong[0]]], ticks[present[wrong[0] + 1]]
    place = table.at(int(rows[present[wrong[0] + 1]]))
    hint = "Remove the row that is double" if before == after else "Sort the rows by time"
    hint += "." if key else ", or name the column of sequences with --key."
    if kind == "date" and -3600 <= after - before <= 0:
        hint += " If clocks were set back here, add a time zone to the times."
    raise DataError(
        f"Times must increase strictly{f' within key `{key}`' if key else ''}. "
        f"Received: {show_tick(after, kind)} after {show_tick(before, kind)} {place}. {hint}"
    )
