"""CSV and Parquet files: read into a `Table`, written whole or not at all.

The content of a file says what it is, not its name, so standard input and compressed files need no option.
"""

import csv
import gzip
import io
import os
import re
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate.durable import replacing
from rnnstate.errors import DataError
from rnnstate.forecasting.read_options import ReadOptions
from rnnstate.forecasting.tables import Table
from rnnstate.windows.frames import wrap_frame

DEFAULT = ReadOptions()
_SEPARATOR_LINE = re.compile(r"sep=(?P<mark>[,;|\t])(\r\n|\r|\n)", re.IGNORECASE)
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"


def read_table(path: str, options: ReadOptions = DEFAULT) -> Table:
    """Read a CSV (gzip too) or Parquet file; `-` is standard input.

    Raises:
        DataError: If the file cannot be read as a table; names the line.
    """
    source = "standard input" if path == "-" else path
    content = _read(path, source)
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            reason = str(error).rstrip(".")
            raise DataError(f"{source} must be a whole gzip file. Received: {reason}. Copy the file again.") from error
    return (
        read_parquet(content, source, options) if content.startswith(_PARQUET) else read_csv(content, source, options)
    )


def read_csv(content: bytes, source: str, options: ReadOptions = DEFAULT) -> Table:
    """Read the bytes of a CSV file: one header line, then a cell for each column in each row; blank lines are skipped.

    The separator is the one of comma, semicolon, tab and | that is most frequent in the header, or the one that a line
    such as `sep=;` before the header names, as Excel writes it. Columns without a name are left out.
    """
    text = _decode(content, source, options).rstrip("\r\n")
    stripped = text.lstrip("\r\n")
    blank = _line_ends(text[: len(text) - len(stripped)])
    if not stripped:
        raise DataError(f"{source} must begin with a line of column names. Received: an empty file.")
    named = _SEPARATOR_LINE.match(stripped)
    if named is not None:
        stripped, blank = stripped[named.end() :], blank + 1
    first = stripped.replace("\r", "\n").split("\n", 1)[0]
    separator = named["mark"] if named is not None else max(",;\t|", key=first.count)
    stream = io.StringIO(stripped, newline="")
    reader = csv.reader(stream, delimiter=separator)
    try:
        names = [name.strip() for name in next(reader)]
    except csv.Error as error:
        raise DataError(f"{source} must be a CSV file. Received: {error} in line {blank + 1}.") from error
    header = blank + reader.line_num
    double = next((name for index, name in enumerate(names) if name and name in names[:index]), None)
    if double is not None:
        raise DataError(f"{source} must name each column once. Received: `{double}` twice in line {header}.")
    body = stripped[stream.tell() :]
    columns = _parse(body, names, separator, source, header)
    lines = _Lines(body, separator, len(names), header, len(columns[0]))
    cells = {name: column for name, column in zip(names, columns, strict=True) if name}
    return Table(source, cells, lines, options=options)


def read_parquet(content: bytes, source: str, options: ReadOptions = DEFAULT) -> Table:
    """Read the bytes of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{source} must be a whole Parquet file. Received: {error}") from error
    return read_frame(table, source, options)


def read_frame(frame: Any, source: str, options: ReadOptions = DEFAULT) -> Table:
    """Read a frame of pandas or polars, a table of pyarrow or a relation of duckdb.

    Raises:
        DataError: If two columns have one name.
    """
    table = wrap_frame(frame).to_arrow()
    fields = {field.name: field.type for field in table.schema}
    columns = {name: _arrow_cells(table[name]) for name in fields}
    zoned = frozenset(name for name, kind in fields.items() if getattr(kind, "tz", None) is not None)
    return Table(source, columns, range(1, table.num_rows + 1), unit="row", options=options, zoned=zoned)


def write_table(path: Path, columns: Mapping[str, Sequence[Any]], *, force: bool = False) -> None:
    """Write columns as CSV, or as Parquet if the name ends with `.parquet`; empty strings and NaN are empty cells.

    Raises:
        DataError: If the file exists and `force` is false, or its name ends as another format.
    """
    check_suffix(path)
    check_free(path, force)
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(temporary, columns)
        else:
            _write_csv(temporary, columns, compress=path.suffix == ".gz")


def check_suffix(path: Path) -> None:
    """Raise a `DataError` unless the name of a table ends as CSV or Parquet does."""
    if path.suffix.lower() not in ("", ".csv", ".txt", ".gz", ".parquet"):
        raise DataError(
            f"The output must end in .csv, .csv.gz or .parquet. Received: {path}. Other formats are unknown."
        )


def check_free(path: Path, force: bool) -> None:
    """Raise a `DataError` if something stands at `path` that may not be overwritten, or its folder is missing."""
    if path.is_dir():
        raise DataError(f"The output must be a file. Received: {path}, which is a folder.")
    if path.exists() and not path.is_file():
        raise DataError(f"The output must be a regular file. Received: {path}. Use - for standard output.")
    if path.exists() and not force:
        raise DataError(f"The output must not exist yet. Received: {path}. Give another name, or --force.")
    if not path.absolute().parent.is_dir():
        raise DataError(f"The folder of the output must exist. Received: {path.parent}. Create it first.")
    if not os.access(path.absolute().parent, os.W_OK):
        raise DataError(f"The folder of the output must be writable. Received: {path.parent}. Give another place.")


def _read(path: str, source: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"DATA must be a file that can be read. Received: {source} ({reason}).") from error


class _Lines(Sequence[int]):
    """Line of each row of a CSV text. They are counted when an error asks for one."""

    def __init__(self, body: str, separator: str, width: int, before: int, count: int) -> None:
        self._body, self._separator, self._width = body, separator, width
        self._before, self._count = before, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: Any) -> Any:
        return next(islice(_scan(self._body, self._separator, self._width), int(row), None))[0] + self._before


def _scan(body: str, separator: str, width: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of each row."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        reader = csv.reader(io.StringIO(body, newline=""), delimiter=separator)
        for row in reader:
            # A blank line is nothing, but a value that is missing where there is one column.
            if row or width == 1:
                yield reader.line_num, row or [""]
    finally:
        csv.field_size_limit(limit)


def _parse(body: str, names: Sequence[str], separator: str, source: str, header: int) -> list[Any]:
    """Return the columns of a CSV text without its header, as text."""
    import pyarrow
    from pyarrow import csv as arrow_csv

    if not body:
        return [pyarrow.array([], pyarrow.string())] * len(names)
    content = body.encode()
    places = [str(index) for index in range(len(names))]
    try:
        table = arrow_csv.read_csv(
            pyarrow.BufferReader(content),
            # A row must lie in one block, and the last block must not be empty.
            arrow_csv.ReadOptions(column_names=places, block_size=min(len(content) + 1, 2**31 - 1)),
            arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True, ignore_empty_lines=len(names) > 1),
            arrow_csv.ConvertOptions(column_types=dict.fromkeys(places, pyarrow.string()), strings_can_be_null=False),
        )
    except pyarrow.ArrowInvalid as error:
        for line, row in _scan(body, separator, len(names)):
            if len(row) != len(names):
                raise DataError(
                    f"Each row of {source} must have {len(names)} cells, as its header. "
                    f"Received: {len(row)} in line {line + header}.{_width_hint(row, len(names), separator)}"
                ) from None
        raise DataError(f"{source} must be a CSV file. Received: {error}.") from error
    return list(table.columns)


def _width_hint(row: Sequence[str], width: int, separator: str) -> str:
    if len(row) == width + 1 and not row[-1].strip():
        return " The row ends with a separator, and the header does not. Add one to the header, or remove it."
    if width == 1 and len(row) > 1:
        return " If lines of text come before the line of column names, remove them."
    return " A cell with a comma in it needs quotes." if len(row) > width and separator == "," else ""


def _decode(content: bytes, source: str, options: ReadOptions) -> str:
    name = options.encoding
    try:
        return content.decode("utf-8-sig" if name.lower() in ("utf-8", "utf8") else name)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{source} must be text in {name.upper()}. Received: byte {content[error.start]:#04x} in line {line}. "
            "Name its encoding with --encoding, or save the file as UTF-8, as gzip of it, or as Parquet."
        ) from None


def _line_ends(text: str) -> int:
    return len(text.splitlines())


def _write_csv(path: Path, columns: Mapping[str, Sequence[Any]], compress: bool) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(_text(column) for column in columns.values()), strict=True))
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content, mtime=0) if compress else content)


def _text(column: Sequence[Any]) -> Sequence[Any]:
    if isinstance(column, np.ndarray) and column.dtype.kind == "f":
        return ["" if value != value else f"{value:.8g}" for value in column.tolist()]
    if isinstance(column, np.ndarray) and column.dtype.kind == "M":
        times = np.datetime_as_string(column, unit="auto").tolist()
        return ["" if time == "NaT" else time.replace("T", " ") for time in times]
    return column


def _write_parquet(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    arrays = {name: pyarrow.array(column, from_pandas=True) for name, column in columns.items()}
    pyarrow.parquet.write_table(pyarrow.table(arrays), path)


def _arrow_cells(column: Any) -> Any:
    """Return a column of numbers or dates as an array, and anything else as text."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_timestamp(kind) or pyarrow.types.is_date(kind):
        return column.cast(pyarrow.timestamp("us"), safe=False).to_numpy()
    if pyarrow.types.is_decimal(kind) or (pyarrow.types.is_boolean(kind) and column.null_count):
        column = column.cast(pyarrow.float64())
    if pyarrow.types.is_integer(kind) and column.null_count:
        return column.to_numpy().astype(np.float64)
    if pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_boolean(kind):
        return column.to_numpy()
    return pyarrow.array(["" if value is None else str(value) for value in column.to_pylist()], pyarrow.string())
