"""Tables of measured data: named columns, read as numbers, times or keys, with errors that name line and column."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.forecasting.times import Kind, Ticks, dates_to_ticks, parse_date
from rnnstate.messages import quoted

# How common tools write a cell without a value; compared in lower case.
EMPTY = frozenset({"", "nan", "na", "n/a", "null", "none"})


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of one file.

    Args:
        source: How errors call the file.
        columns: Column name to cells: text as it stands in a CSV file, or an array of numbers or dates.
        lines: For each row, where it stands in the file.
        unit: What `lines` counts: `"line"` of a text file, `"row"` of any other.
    """

    source: str
    columns: Mapping[str, Sequence[str] | NDArray[Any]]
    lines: Sequence[int]
    unit: str = "line"

    def __len__(self) -> int:
        return len(self.lines)

    def cells(self, name: str) -> Sequence[str] | NDArray[Any]:
        """Return a column as it is.

        Raises:
            DataError: If there is no such column; the text suggests the nearest name.
        """
        if name in self.columns:
            return self.columns[name]
        near = get_close_matches(name, self.columns, n=1)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        raise DataError(
            f"Column `{name}` must be in {self.source}, which has the columns {quoted(self.columns)}. "
            f"Received: no such column.{hint}"
        )

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column as float64 `(rows,)`, NaN where a cell is empty.

        Raises:
            DataError: If a cell is no finite number; names line and column.
        """
        cells = self.cells(name)
        if isinstance(cells, np.ndarray):
            values = self._plain_numbers(name, cells)
        else:
            values = self._convert(name, cells, float, "a number")
        infinite = np.flatnonzero(np.isinf(values))
        if len(infinite):
            raise DataError(
                f"Column `{name}` must hold finite numbers. Received: {values[infinite[0]]} {self.at(infinite[0])}. "
                "Leave the cell empty if nothing was measured."
            )
        return values

    def ticks(self, name: str) -> tuple[Ticks, Kind]:
        """Return a time column as ticks, NaN where a cell is empty, and whether it holds dates or numbers.

        Raises:
            DataError: If a cell is neither, or they are mixed; names line and column.
        """
        cells = self.cells(name)
        if isinstance(cells, np.ndarray):
            return (dates_to_ticks(cells), "date") if cells.dtype.kind == "M" else (self.numbers(name), "number")
        first = next((cell for cell in cells if not is_empty(cell)), "")
        if _is_number(first):
            return self.numbers(name), "number"
        zoned = _zone_of(first)

        def tick(text: str) -> float:
            value, has_zone = parse_date(text)
            if has_zone != zoned:
                raise ValueError(text)
            return value

        expected = "an ISO date such as 2010-11-26 21:00, with a time zone in all rows or in none"
        return self._convert(name, cells, tick, expected), "date"

    def keys(self, name: str) -> NDArray[np.str_]:
        """Return a column as text.

        Raises:
            DataError: If a cell is empty.
        """
        keys = np.array([str(cell).strip() for cell in self.cells(name)], dtype=np.str_)
        empty = np.flatnonzero(keys == "")
        if len(empty):
            raise DataError(
                f"Column `{name}` must name a sequence in each row. Received: an empty cell {self.at(int(empty[0]))}."
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
        try:
            return np.array([convert(cell) if cell else np.nan for cell in cells], dtype=np.float64)
        except (ValueError, OverflowError):
            values = [self._cell(name, row, cell, convert, expected) for row, cell in enumerate(cells)]
            return np.array(values, dtype=np.float64)

    def _cell(self, name: str, row: int, cell: str, convert: Callable[[str], float], expected: str) -> float:
        if is_empty(cell):
            return np.nan
        try:
            return convert(cell.strip())
        except (ValueError, OverflowError):
            raise DataError(f"Column `{name}` must hold {expected}. Received: {cell!r} {self.at(row)}.") from None


def is_empty(cell: str) -> bool:
    """True if a text cell holds no value."""
    return cell.strip().lower() in EMPTY


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _zone_of(cell: str) -> bool:
    try:
        return parse_date(cell.strip())[1]
    except (ValueError, OverflowError):
        return False
