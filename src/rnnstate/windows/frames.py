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


def _wrapped(frame: Any) -> Any:
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
    frame = _wrapped(frame)
    return Groups.of(frame, None).matrix(frame, frame.columns, where)


def series_array(series: Any) -> Array:
    """Return a series as `(time,)`; a null among numbers becomes NaN."""
    return _plain(np.asarray(series.to_numpy()))


@dataclass(frozen=True, eq=False)
class Groups:
    """Which rows of a frame belong to which sequence.

    Args:
        keys: Key of each sequence, in order of appearance.
        bounds: Bounds of the sequences among the ordered rows; `(sequences + 1,)`.
        order: Row numbers that bring the rows of a key together, or `None` when they stand together already.
    """

    keys: tuple[Hashable, ...]
    bounds: Array
    order: Array | None

    @classmethod
    def of(cls, frame: Any, key: str | None) -> "Groups":
        """Group the rows of `frame` by the column `key`; without one, all rows are sequence 0."""
        if not len(frame):
            raise DataError("A frame must have at least one row. Received: none.")
        if key is None:
            return cls((0,), np.array([0, len(frame)]), None)
        column = _values(frame, key)
        missing = _missing(frame, key, column)
        if missing is not None:
            raise DataError(f"Column `{key}` must name a sequence in each row. Received: no value in row {missing}.")
        begins = np.flatnonzero(np.r_[True, column[1:] != column[:-1]])
        runs = _items(column[begins])
        codes: dict[Hashable, int] = {}
        code_of_run = [codes.setdefault(name, len(codes)) for name in runs]
        sizes = np.diff(np.r_[begins, len(column)])
        if len(codes) == len(runs):
            return cls(tuple(codes), np.r_[0, np.cumsum(sizes)], None)
        code = np.repeat(code_of_run, sizes)
        return cls(tuple(codes), np.r_[0, np.cumsum(np.bincount(code))], np.argsort(code, kind="stable"))

    def ordered(self, column: Array) -> Array:
        """Return a column with the rows of each key together."""
        return column if self.order is None else column[self.order]

    def place(self, position: int) -> tuple[Hashable, int]:
        """Return key and step of a position among the ordered rows."""
        group = int(np.searchsorted(self.bounds, position, side="right")) - 1
        return self.keys[group], position - int(self.bounds[group])

    def split(self, array: Array) -> dict[Hashable, Array]:
        """Return views of an ordered array, one for each key."""
        cuts = self.bounds.tolist()
        return {key: array[a:b] for key, a, b in zip(self.keys, cuts, cuts[1:], strict=False)}

    def matrix(self, frame: Any, columns: Sequence[Any], where: str | None = None) -> Array:
        """Return numeric columns as `(rows, columns)`, with the rows of each key together."""
        return np.stack([self.numbers(frame, column, where) for column in columns], axis=1)

    def measured(self, frame: Any, columns: Sequence[str]) -> Array:
        """Return columns as `(rows, columns)`, ordered, with NaN where a value is missing: not each row needs one."""
        parts = []
        for column in columns:
            values = _values(frame, column)
            null = _nulls(frame, column, values)
            known = self._checked(frame, column, _plain(values[~null]))
            parts.append(np.full(len(values), np.nan))
            parts[-1][~null] = known
        return self.ordered(np.stack(parts, axis=1))

    def numbers(self, frame: Any, column: Any, where: str | None = None) -> Array:
        """Return one numeric column, ordered; refuse what is no number, missing or not finite."""
        values = _values(frame, column)
        missing = _missing(frame, column, values)
        if missing is not None:
            position = missing if self.order is None else int(np.flatnonzero(self.order == missing)[0])
            raise DataError(
                f"Column `{column}` must have a finite value in each row. Received: no value (null or NaN) "
                f"{self._at(position, where)}. {REPAIR}"
            )
        values = self.ordered(self._checked(frame, column, _plain(values)))
        bad = first_bad(values)
        if bad is not None:
            raise DataError(f"Column `{column}` {explain(values[bad])} {self._at(bad[0], where)}. {REPAIR}")
        return values

    def _checked(self, frame: Any, column: Any, values: Array) -> Array:
        if len(values) and values.dtype.kind not in "fiub":
            raise DataError(
                f"Column `{column}` must hold numbers. Received: dtype={frame[column].dtype}. "
                "Name the columns to use with `Windows.from_frame(frame, features=[...])`."
            )
        return values

    def _at(self, position: int, where: str | None) -> str:
        key, step = self.place(position)
        return f"in {where or f'sequence {key!r}'}, step {step}"

    def check_times(self, frame: Any, column: str) -> None:
        """Raise a `DataError` unless times increase from row to row of each sequence."""
        times = _values(frame, column)
        missing = _missing(frame, column, times)
        if missing is not None:
            raise DataError(f"Column `{column}` must have a time in each row. Received: none in row {missing}.")
        if times.dtype.kind in "SUT" or isinstance(times[0], str):
            raise DataError(f"Column `{column}` must hold dates or numbers. Received: text such as {str(times[0])!r}.")
        times = self.ordered(times)
        within = np.ones(len(times) - 1, dtype=bool)
        within[self.bounds[1:-1] - 1] = False
        wrong = np.flatnonzero(within & ~(times[1:] > times[:-1]).astype(bool))
        if len(wrong):
            self._refuse_time(times, int(wrong[0]) + 1, column)

    def _refuse_time(self, times: Array, position: int, column: str) -> None:
        key, step = self.place(position)
        now, before = times[position], times[position - 1]
        if now == before:
            fault, advice = f"`{now}` twice", "Drop or merge duplicates, or name the sequences with `key=`."
        else:
            fault, advice = f"`{now}` after `{before}`", "Sort the frame by time."
        raise DataError(
            f"Times of column `{column}` must increase. Received: {fault} in sequence {key!r}, step {step}. {advice}"
        )


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
    """Return the arguments of `Windows` that a frame holds, as mappings by key (as arrays without `key`)."""
    if not _is(frame, *_FRAMES):
        raise DataError(
            "`frame` must be a pandas or polars DataFrame, a pyarrow Table or a duckdb relation. "
            f"Received: {type(frame).__name__}." + (" Call `.collect()` on it." if _is(frame, "LazyFrame") else "")
        )
    frame = _wrapped(frame)
    single = [name for name in (key, time, sample_weight, resets) if name is not None]
    others = [*_flat(targets), *_flat(observed), *single]
    check_columns(frame.columns, [*_flat(features), *others])
    if features is None:
        features = [name for name in frame.columns if name not in others]
    rows = Groups.of(frame, key)
    if time is not None:
        rows.check_times(frame, time)
    parts = {
        "x": _take(rows, frame, features, "features"),
        "y": _take(rows, frame, targets, "targets"),
        "sample_weight": None if sample_weight is None else rows.split(rows.numbers(frame, sample_weight)),
        "observed": None if observed is None else rows.split(rows.measured(frame, _named(observed))),
        "resets": None if resets is None else rows.split(rows.numbers(frame, resets)),
    }
    return {name: part if part is None or key is not None else part[0] for name, part in parts.items()}


def names_columns(data: Any) -> bool:
    """Return whether `data` is the name of a column, or a list of names, and no data themselves."""
    return isinstance(data, str) or (isinstance(data, list | tuple) and all(isinstance(name, str) for name in data))


def _named(columns: str | Sequence[str]) -> list[str]:
    if not _flat(columns):
        raise DataError("`observed` must name at least one column. Received: none.")
    return _flat(columns)


def frame_times(frame: Any, key: str | None, time: str | None) -> Any:
    """Return the times of a frame's rows, as a mapping by key (as an array without `key`)."""
    if time is None:
        raise DataError("`gap` is about jumps of a time column. Received: no `time`. Name the column with `time=`.")
    frame = _wrapped(frame)
    rows = Groups.of(frame, key)
    times = rows.split(rows.ordered(_values(frame, time)))
    return times[0] if key is None else times


def _take(rows: Groups, frame: Any, columns: Columns | None, name: str) -> dict[Hashable, Any] | None:
    if columns is None:
        return None
    if isinstance(columns, Mapping):
        parts = {part: rows.split(rows.matrix(frame, _flat(names))) for part, names in columns.items()}
        return {key: {part: arrays[key] for part, arrays in parts.items()} for key in rows.keys}
    if not _flat(columns):
        raise DataError(f"`{name}` must name at least one column. Received: none.")
    return rows.split(rows.matrix(frame, _flat(columns)))


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


def _items(values: Array) -> list[Hashable]:
    # Dates stay NumPy's: `tolist` would turn nanoseconds into plain integers.
    return list(values) if values.dtype.kind in "mM" else values.tolist()
