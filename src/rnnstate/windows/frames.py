"""Data frames as arrays: frames of pandas and polars, tables of pyarrow, relations of duckdb.

narwhals reads all of them in one way. It is imported when a frame comes. A frame is recognised by the module of its class,
so no other library is imported.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.messages import listed
from rnnstate.windows.arrays import REPAIR, Array, explain, first_bad
from rnnstate.windows.keys import Groups
from rnnstate.windows.times import check_times, find_step_back, in_sequence, order_error

_LIBRARIES = ("pandas", "polars", "pyarrow", "duckdb", "_duckdb")
_FRAMES = ("DataFrame", "Table", "DuckDBPyRelation")
_SERIES = ("Series", "ChunkedArray")

Columns = str | Sequence[str] | Mapping[str, str | Sequence[str]]


def is_frame(data: object) -> bool:
    """Return whether `data` is a data frame; a lazy frame of polars counts as one."""
    return _is(data, *_FRAMES, "LazyFrame")


def is_series(data: object) -> bool:
    """Return whether `data` is a series of pandas or polars, or a column of a pyarrow table."""
    return _is(data, *_SERIES)


def _is(data: object, *names: str) -> bool:
    classes = type(data).__mro__
    return any(c.__name__ in names and c.__module__.split(".")[0] in _LIBRARIES for c in classes)


def wrap_frame(frame: Any) -> Any:
    """Return a frame as a frame of narwhals; refuse two columns of one name."""
    import narwhals as nw

    names = getattr(frame, "column_names", None) or frame.columns
    check_columns([name if isinstance(name, str) else str(name) for name in names], [])
    if _is(frame, "DataFrame") and not all(isinstance(name, str) for name in names):
        frame = frame.set_axis([str(name) for name in names], axis=1)  # only pandas has other names than text
    wrapped = nw.from_native(frame)
    return wrapped.collect() if isinstance(wrapped, nw.LazyFrame) else wrapped


def frame_array(frame: Any, where: str) -> Array:
    """Return all columns of a frame as `(time, columns)`; `where` names the sequence in errors."""
    if _is(frame, "LazyFrame"):
        raise DataError("A frame must hold its data. Received: a LazyFrame. Call `.collect()` on it.")
    frame = wrap_frame(frame)
    return Rows.of(frame, None, where).matrix(frame.columns)


def series_array(series: Any) -> Array:
    """Return a series as `(time,)`; a null among numbers becomes NaN."""
    return _plain(np.asarray(series.to_numpy()))


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a frame, grouped into sequences.

    Args:
        frame: A frame of narwhals.
        groups: Which rows belong to which sequence.
        where: The name of the frame in error messages; by default they name the sequence.
    """

    frame: Any
    groups: Groups
    where: str | None = None

    @classmethod
    def of(cls, frame: Any, key: str | None, where: str | None = None) -> "Rows":
        """Group the rows of `frame` by the column `key`; without one, all rows are sequence 0."""
        if not len(frame):
            raise DataError("A frame must have at least one row. Received: none.")
        if key is None:
            return cls(frame, Groups.single(len(frame)), where)
        column = _values(frame, key)
        missing = _missing(frame, key, column)
        if missing is not None:
            raise DataError(f"Column `{key}` must name a sequence in each row. Received: no value in row {missing}.")
        return cls(frame, Groups.of(column), where)

    def split(self, array: Array) -> dict[Hashable, Array]:
        """Return views of an ordered array, one for each key."""
        return self.groups.split(array)

    def matrix(self, columns: Sequence[Any]) -> Array:
        """Return numeric columns as `(rows, columns)`, with the rows of each key together."""
        return np.stack([self.numbers(column) for column in columns], axis=1)

    def measured(self, columns: Sequence[str]) -> Array:
        """Return columns as `(rows, columns)`, ordered, with NaN where a value is missing: not each row needs one."""
        parts = []
        for column in columns:
            values = _values(self.frame, column)
            null = _nulls(self.frame, column, values)
            known = self._checked(column, _plain(values[~null]))
            parts.append(np.full(len(values), np.nan))
            parts[-1][~null] = known
        return self.groups.ordered(np.stack(parts, axis=1))

    def numbers(self, column: Any) -> Array:
        """Return one numeric column, ordered; refuse text, missing values, and values that are not finite."""
        values = _values(self.frame, column)
        nulls = self.groups.ordered(_nulls(self.frame, column, values))
        if nulls.any():
            raise DataError(
                f"Column `{column}` must have a finite value in each row. Received: no value (null or NaN) "
                f"{self._at(int(nulls.argmax()))}. {REPAIR}"
            )
        values = self.groups.ordered(self._checked(column, _plain(values)))
        bad = first_bad(values)
        if bad is not None:
            raise DataError(f"Column `{column}` {explain(values[bad])} {self._at(bad[0])}. {REPAIR}")
        return values

    def times(self, column: str) -> Array:
        """Return the times of a column, ordered; refuse text, missing times, and times that do not increase."""
        times = _values(self.frame, column)
        missing = _missing(self.frame, column, times)
        if missing is not None:
            raise DataError(f"Column `{column}` must have a time in each row. Received: none in row {missing}.")
        times = self.groups.ordered(check_times(times, f"Column `{column}`"))
        back = find_step_back(times, self.groups.bounds)
        if back is not None:
            raise order_error(
                f"Times of column `{column}`",
                times[back.before],
                times[back.now],
                self._at(back.now),
                "" if len(self.groups.keys) > 1 else "Or name the sequences with `key=`.",
                zoned=getattr(self.frame[column].dtype, "time_zone", None) is not None,
            )
        return times

    def _checked(self, column: Any, values: Array) -> Array:
        if len(values) and values.dtype.kind not in "fiub":
            raise DataError(
                f"Column `{column}` must hold numbers. Received: dtype={self.frame[column].dtype}. "
                "Name the columns to use with `Windows.from_frame(frame, features=[...])`."
            )
        return values

    def _at(self, position: int) -> str:
        key, step = self.groups.place(position)
        return f"in {self.where}, step {step}" if self.where else in_sequence(key, step)


def split_frame(
    frame: Any,
    key: str | None,
    time: str | None,
    features: Columns | None,
    targets: Columns | None,
    sample_weight: str | None = None,
    observed: str | Sequence[str] | None = None,
    resets: str | None = None,
) -> dict[str, Any]:
    """Return the arguments of `Windows` that a frame holds, as mappings by key (as arrays without `key`).

    The order of the times is checked in any case. `Windows` takes them only where gaps are asked for.
    """
    if not _is(frame, *_FRAMES):
        raise DataError(
            "`frame` must be a pandas or polars DataFrame, a pyarrow Table or a duckdb relation. "
            f"Received: {type(frame).__name__}." + (" Call `.collect()` on it." if _is(frame, "LazyFrame") else "")
        )
    frame = wrap_frame(frame)
    single = [name for name in (key, time, sample_weight, resets) if name is not None]
    others = [*_flat(targets), *_flat(observed), *single]
    check_columns(frame.columns, [*_flat(features), *others])
    if features is None:
        features = [name for name in frame.columns if name not in others]
    rows = Rows.of(frame, key)
    parts = {
        "times": None if time is None else rows.split(rows.times(time)),
        "x": _take(rows, features, "features"),
        "y": _take(rows, targets, "targets"),
        "sample_weight": None if sample_weight is None else rows.split(rows.numbers(sample_weight)),
        "observed": None if observed is None else rows.split(rows.measured(_named(observed))),
        "resets": None if resets is None else rows.split(rows.numbers(resets)),
    }
    return {name: part if part is None or key is not None else part[0] for name, part in parts.items()}


def needed_times(times: Any) -> Any:
    """Return the times of `split_frame`, which gaps need."""
    if times is None:
        raise DataError("`gap` is about jumps of a time column. Received: no `time`. Name the column with `time=`.")
    return times


def names_columns(data: Any) -> bool:
    """Return whether `data` is the name of a column, or a list of names, and no data themselves."""
    return isinstance(data, str) or (isinstance(data, list | tuple) and all(isinstance(name, str) for name in data))


def _named(columns: str | Sequence[str]) -> list[str]:
    if not _flat(columns):
        raise DataError("`observed` must name at least one column. Received: none.")
    return _flat(columns)


def _take(rows: Rows, columns: Columns | None, name: str) -> dict[Hashable, Any] | None:
    if columns is None:
        return None
    if isinstance(columns, Mapping):
        parts = {part: rows.split(rows.matrix(_flat(names))) for part, names in columns.items()}
        return {key: {part: arrays[key] for part, arrays in parts.items()} for key in rows.groups.keys}
    if not _flat(columns):
        raise DataError(f"`{name}` must name at least one column. Received: none.")
    return rows.split(rows.matrix(_flat(columns)))


def _flat(columns: Columns | None) -> list[str]:
    if columns is None:
        return []
    if isinstance(columns, Mapping):
        return [name for names in columns.values() for name in _flat(names)]
    return [columns] if isinstance(columns, str) else list(columns)


def check_columns(columns: Sequence[str], names: Sequence[str]) -> None:
    """Raise a `DataError` unless `names` are among the columns of a frame, and no two columns have one name."""
    unknown = [name for name in names if name not in columns]
    if unknown:
        near = get_close_matches(str(unknown[0]), columns, n=3)
        advice = f"Did you mean {listed(near)}?" if near else f"Its columns are {listed(columns)}."
        raise DataError(f"Unknown columns: {listed(unknown)}. {advice}")
    doubled = sorted({column for column in columns if columns.count(column) > 1})
    if doubled:
        raise DataError(f"Columns must have different names. Received twice: {listed(doubled)}.")


def _values(frame: Any, column: Any) -> Array:
    return np.asarray(frame[column].to_numpy())


def _missing(frame: Any, column: Any, values: Array) -> int | None:
    """Return the first row that holds no value: null, NA, NaT or NaN."""
    null = _nulls(frame, column, values)
    return int(null.argmax()) if null.any() else None


def _nulls(frame: Any, column: Any, values: Array) -> Array:
    # pandas counts NaN as null, the other libraries do not.
    null = np.asarray(frame[column].is_null().to_numpy(), dtype=bool)
    return null | np.isnan(values) if values.dtype.kind == "f" else null


def _plain(values: Array) -> Array:
    """Return nullable numbers without a null, which pandas hands over as objects, as a plain array."""
    if values.dtype.kind != "O":
        return values
    plain = np.array(values.tolist())
    return plain if plain.dtype.kind in "fiub" and plain.ndim == 1 else values
