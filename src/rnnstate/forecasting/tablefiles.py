"""CSV and Parquet files: read into a `Table`, written whole or not at all.

The content of a file says what it is, not its name, so standard input and compressed files need no option.
"""

import csv
import gzip
import io
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.forecasting.tables import Table

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"


def read_table(path: str) -> Table:
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
    return read_parquet(content, source) if content.startswith(_PARQUET) else read_csv(content, source)


def read_csv(content: bytes, source: str) -> Table:
    """Read the bytes of a CSV file: one header line, then a cell for each column in each row; blank lines are skipped.

    The separator is the one of comma, semicolon and tab that is most frequent in the header.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{source} must be text in UTF-8. Received: byte {content[error.start]:#04x} in line {line}. "
            "Save the file as UTF-8, as gzip of it, or as Parquet."
        ) from None
    text = text.rstrip("\r\n")
    header = text.lstrip("\r\n").split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            # A blank line is nothing, but a value that is missing where there is one column.
            if row or (rows and len(rows[0]) == 1):
                rows.append(row or [""])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{source} must be a CSV file. Received: {error} in line {reader.line_num}.") from error
    if not rows:
        raise DataError(f"{source} must begin with a line of column names. Received: an empty file.")
    return _columns(rows, lines, source)


def read_parquet(content: bytes, source: str) -> Table:
    """Read the bytes of a Parquet file, which needs pyarrow."""
    pyarrow = _pyarrow()
    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{source} must be a whole Parquet file. Received: {error}") from error
    columns = {name: _arrow_cells(column) for name, column in zip(table.column_names, table.columns, strict=True)}
    return Table(source, columns, range(1, table.num_rows + 1), unit="row")


def write_table(path: Path, columns: Mapping[str, Sequence[Any]], *, force: bool = False) -> None:
    """Write columns as CSV, or as Parquet if the name ends with `.parquet`; empty strings and NaN are empty cells.

    Raises:
        DataError: If the file exists and `force` is false.
    """
    check_free(path, force)
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(temporary, columns)
        else:
            _write_csv(temporary, columns, compress=path.suffix == ".gz")


def check_free(path: Path, force: bool) -> None:
    """Raise a `DataError` if something stands at `path` that may not be overwritten, or its folder is missing."""
    if path.suffix == ".parquet":
        _pyarrow()
    if path.is_dir():
        raise DataError(f"The output must be a file. Received: {path}, which is a folder.")
    if path.exists() and not force:
        raise DataError(f"The output must not exist yet. Received: {path}. Give another name, or --force.")
    if not path.absolute().parent.is_dir():
        raise DataError(f"The folder of the output must exist. Received: {path.parent}. Create it first.")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a temporary sibling that takes the place of `path` if the body succeeds."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files for their owner alone; what a user asked for gets the usual rights.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: str, source: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"DATA must be a file that can be read. Received: {source} ({reason}).") from error


def _columns(rows: list[list[str]], lines: list[int], source: str) -> Table:
    names = [name.strip() for name in rows[0]]
    double = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if double is not None:
        raise DataError(f"{source} must name each column once. Received: `{double}` twice in line {lines[0]}.")
    wrong = next((index for index, row in enumerate(rows) if len(row) != len(names)), None)
    if wrong is not None:
        raise DataError(
            f"Each row of {source} must have {len(names)} cells, as its header. "
            f"Received: {len(rows[wrong])} in line {lines[wrong]}."
        )
    body = list(zip(*rows[1:], strict=True)) or [()] * len(names)
    return Table(source, dict(zip(names, body, strict=True)), lines[1:])


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
    pyarrow = _pyarrow()
    arrays = {name: pyarrow.array(column, from_pandas=True) for name, column in columns.items()}
    pyarrow.parquet.write_table(pyarrow.table(arrays), path)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            "Parquet files need pyarrow, which is not installed. "
            'Install it with: pip install "rnnstate[parquet]", or use CSV.'
        ) from error
    return pyarrow


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
    return ["" if value is None else str(value) for value in column.to_pylist()]
