"""Tables of measured data: named columns, read as numbers, times or keys, with errors that name line and column."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.forecasting.read_options import ReadOptions
from rnnstate.forecasting.times import Ticks, TimeColumn, date_tick, dates_to_ticks, parse_date
from rnnstate.messages import quoted
from rnnstate.windows.times import missing_times

# The network computes in float32. Above a tenth of its range, a deviation of the column would overflow.
_LARGEST = 1e37
_NUMBER, _ISO = "a number", "an ISO date"


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of one file.

    Args:
        source: How errors call the file.
        columns: Column name to cells: text as it stands in a CSV file (an Arrow array), or an array of numbers or
            dates.
        lines: For each row, where it stands in the file.
        unit: What `lines` counts: `"line"` of a text file, `"row"` of any other.
        options: How the file is written.
        zoned: Names of the date columns whose dates name their time zone; the dates are in UTC.
    """

    source: str
    columns: Mapping[str, Any]
    lines: Sequence[int]
    unit: str = "line"
    options: ReadOptions = field(default_factory=ReadOptions)
    zoned: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.lines)

    def cells(self, name: str) -> Sequence[str] | NDArray[Any]:
        """Return a column as it is: a list of text, or an array.

        Raises:
            DataError: If there is no such column; the text suggests the nearest name.
        """
        column = self._column(name)
        return column if isinstance(column, np.ndarray) else list(column.to_pylist())

    def _column(self, name: str) -> Any:
        if name in self.columns:
            return self.columns[name]
        near = get_close_matches(name, self.columns, n=1)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        if not near and len(self.columns) == 1 and self.unit == "line":
            hint = " If this is one name, separate the cells by comma, semicolon, tab or |."
        raise DataError(
            f"Column `{name}` must be in {self.source}, which has the columns {quoted(self.columns)}. "
            f"Received: no such column.{hint}"
        )

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column as float64 `(rows,)`, NaN where a cell is empty.

        Raises:
            DataError: If a cell is no finite number; names line and column.
        """
        column = self._column(name)
        if isinstance(column, np.ndarray):
            values = self._plain_numbers(name, column)
        else:
            fast = fast_numbers(column, self.options)
            values = self._convert(name, column.to_pylist(), self._number, _NUMBER) if fast is None else fast
        infinite = np.flatnonzero(np.isinf(values))
        if len(infinite):
            raise DataError(
                f"Column `{name}` must hold finite numbers. Received: {values[infinite[0]]} {self.at(infinite[0])}. "
                "Leave the cell empty if nothing was measured."
            )
        large = np.flatnonzero(np.abs(values) > _LARGEST)
        if len(large):
            raise DataError(
                f"Column `{name}` must hold numbers up to {_LARGEST:.0e}. Received: {values[large[0]]} "
                f"{self.at(large[0])}. Use a larger unit."
            )
        return values

    def ticks(self, name: str) -> TimeColumn:
        """Return a time column as ticks, NaN where a cell is empty.

        Raises:
            DataError: If a cell is neither a date nor a number, or they are mixed; names line and column.
        """
        column, layout = self._column(name), self.options.time_format
        if isinstance(column, np.ndarray):
            if column.dtype.kind == "M":
                return TimeColumn(dates_to_ticks(column), "date", name in self.zoned)
            if layout is None or column.dtype.kind not in "iuf":
                return TimeColumn(self.numbers(name), "number")
            column = digits(column)
        first = next((cell.as_py() for cell in column if not self.options.is_empty(cell.as_py())), "")
        if layout is None and self._is_number(first):
            return TimeColumn(self.numbers(name), "number")
        zoned = _zone_of(first, layout)
        fast = fast_ticks(column, self.options, zoned)
        if fast is not None:
            return TimeColumn(fast, "date", zoned)

        def tick(text: str) -> float:
            value, has_zone = _parse(text, layout)
            if has_zone != zoned:
                raise ValueError(text)
            return value

        pattern = f"{_ISO} such as 2010-11-26 21:00" if layout is None else f"a time in the format {layout}"
        expected = f"{pattern}, with a time zone in all rows or in none"
        return TimeColumn(self._convert(name, column.to_pylist(), tick, expected), "date", zoned)

    def keys(self, name: str) -> NDArray[np.object_]:
        """Return a column as text, with its white space.

        Raises:
            DataError: If a cell is empty.
        """
        column = self._column(name)
        if isinstance(column, np.ndarray):
            missing = missing_times(column)
            keys = np.array([str(cell) for cell in column.tolist()], dtype=np.object_)
            keys[missing] = ""
        else:
            keys = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.object_)
        if any(not key.strip() for key in set(keys)):
            empty = next(row for row, key in enumerate(keys) if not key.strip())
            raise DataError(
                f"Column `{name}` must name a sequence in each row. Received: an empty cell {self.at(empty)}."
            )
        return keys

    def at(self, row: int) -> str:
        """Return where a row stands, as the end of a sentence."""
        return f"in {self.unit} {self.lines[row]} of {self.source}"

    def _plain_numbers(self, name: str, cells: NDArray[Any]) -> NDArray[np.float64]:
        if cells.dtype.kind not in "fiub":
            raise DataError(f"Column `{name}` of {self.source} must hold numbers. Received: dtype={cells.dtype}.")
        return cells.astype(np.float64)

    def _convert(
        self, name: str, cells: Sequence[str], convert: Callable[[str], float], expected: str
    ) -> NDArray[np.float64]:
        values = [self._cell(name, row, cell, convert, expected) for row, cell in enumerate(cells)]
        return np.array(values, dtype=np.float64)

    def _cell(self, name: str, row: int, cell: str, convert: Callable[[str], float], expected: str) -> float:
        if self.options.is_empty(cell):
            return np.nan
        try:
            return convert(cell.strip())
        except (ValueError, OverflowError):
            raise DataError(
                f"Column `{name}` must hold {expected}. Received: {cell!r} {self.at(row)}.{self._hint(cell, expected)}"
            ) from None

    def _hint(self, cell: str, expected: str) -> str:
        if not any(character.isdigit() for character in cell) or cell.strip().startswith("#"):
            # No date and no number: an error value of Excel, or a word for a missing value.
            return f" Words for a missing value are {self.options.words()} or an empty cell. Add a word with --na."
        if self.options.decimal == "." and re.fullmatch(r"\s*[+-]?\d*,\d+\s*", cell):
            return " A decimal comma? Use --decimal ,"
        if expected.startswith(_ISO):
            return ' Are the times written in another way? Give their format, as in --time-format "%d.%m.%Y %H:%M".'
        if expected == _NUMBER and re.fullmatch(r"\s*[+-]?\d{1,3}([ .,'\xa0\u202f]\d{3})+([.,]\d+)?\s*", cell):
            return " Marks between thousands cannot be read. Write the number without them."
        return ""

    def _number(self, text: str) -> float:
        return float(text if self.options.decimal == "." else swap_comma(text))

    def _is_number(self, cell: str) -> bool:
        try:
            self._number(cell)
        except ValueError:
            return False
        return True


def digits(numbers: NDArray[Any]) -> Any:
    """Return whole numbers as a text column, empty where a number is missing: dates such as 20240131 in a Parquet file."""
    import pyarrow

    return pyarrow.array(["" if np.isnan(number) else f"{number:.15g}" for number in numbers], pyarrow.string())


def swap_comma(text: str) -> str:
    """Return a number with a decimal comma as Python writes it.

    Raises:
        ValueError: If `text` has a point, which may separate thousands.
    """
    if "." in text:
        raise ValueError(text)
    return text.replace(",", ".")


def fast_numbers(column: Any, options: ReadOptions) -> NDArray[np.float64] | None:
    """Return a text column as numbers at once, NaN where a cell is empty; `None` if a cell needs a closer look."""
    import pyarrow
    import pyarrow.compute as pc

    column = _without_empty(column, options)
    if options.decimal == ",":
        if pc.any(pc.match_substring(column, ".")).as_py():
            return None
        column = pc.replace_substring(column, ",", ".")
    try:
        numbers = column.cast(pyarrow.float64())
    except pyarrow.ArrowInvalid:
        return None
    return np.array(pc.fill_null(numbers, np.nan).to_numpy(), dtype=np.float64)


def fast_ticks(column: Any, options: ReadOptions, zoned: bool) -> Ticks | None:
    """Return a text column of dates as ticks at once, NaN where a cell is empty; `None` if a cell needs a closer look."""
    import pyarrow
    import pyarrow.compute as pc

    layout = options.time_format
    if layout is not None and (zoned or "%f" in layout):  # Arrow ignores zones here and knows no fractions
        return None
    column = _without_empty(column, options)
    try:
        if layout is not None:
            times = pc.strptime(column, format=layout, unit="us")
        else:
            times = column.cast(pyarrow.timestamp("us", "UTC" if zoned else None))
    except pyarrow.ArrowInvalid:
        return None
    seconds = pc.divide(times.cast(pyarrow.int64()).cast(pyarrow.float64(), safe=False), 1e6)
    return np.array(pc.fill_null(seconds, np.nan).to_numpy(), dtype=np.float64)


def _without_empty(column: Any, options: ReadOptions) -> Any:
    import pyarrow
    import pyarrow.compute as pc

    column = pc.utf8_trim_whitespace(column)
    empty = pc.is_in(pc.utf8_lower(column), value_set=pyarrow.array(options.empty, pyarrow.string()))
    return pc.if_else(empty, pyarrow.scalar(None, pyarrow.string()), column)


def _parse(text: str, layout: str | None) -> tuple[float, bool]:
    return parse_date(text) if layout is None else date_tick(datetime.strptime(text, layout))


def _zone_of(cell: str, layout: str | None) -> bool:
    try:
        return _parse(cell.strip(), layout)[1]
    except (ValueError, OverflowError):
        return False
