"""Tables: what is read from CSV and Parquet files, and how errors name line and column."""

import csv
import gzip
import io
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnstate.errors import DataError
from rnnstate.forecasting.tablefiles import read_csv, read_table, write_table
from rnnstate.forecasting.times import parse_date, read_tick, show_tick, usual_step

pytestmark = pytest.mark.once

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r", exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, width=64))


def table_of(text: str):
    """Read a CSV text as if it stood in `data.csv`."""
    return read_csv(text.encode(), "data.csv")


@given(st.lists(st.tuples(WORDS, NUMBERS, NUMBERS), max_size=13))
def test_csv_round_trip(rows: list[tuple[str, float | None, float | None]]) -> None:
    """Whatever is written as CSV is read as it was: text by cell, numbers bit for bit, empty cells as NaN."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(
        [("word", "a", "b"), *[(w, *("" if n is None else repr(n) for n in ns)) for w, *ns in rows]]
    )
    table = table_of(text.getvalue())
    assert list(table.cells("word")) == [word for word, *_ in rows]
    for name, column in (("a", 1), ("b", 2)):
        expected = np.array([np.nan if row[column] is None else row[column] for row in rows], dtype=np.float64)
        np.testing.assert_array_equal(table.numbers(name), expected)


@given(st.datetimes())
def test_dates_round_trip(date) -> None:
    """A date of year 1 to 9999 survives ticks to the microsecond where float64 holds one, to 0.1 ms anywhere."""
    tick, zoned = parse_date(date.isoformat())
    shown = read_tick(show_tick(tick, "date"), "date")
    assert not zoned
    assert shown == pytest.approx(tick, abs=1e-4, rel=0)


@pytest.mark.parametrize("empty", ["", " ", "NaN", "NA", "null", "None", "n/a"])
def test_empty_cells(empty: str) -> None:
    """Each usual spelling of a missing value is an empty cell."""
    np.testing.assert_array_equal(table_of(f"a,b\n1,{empty}\n 2 ,3\n").numbers("b"), [np.nan, 3])


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators(separator: str) -> None:
    """The separator is found from the header, a byte order mark and blank lines do no harm."""
    text = f"\ufefftime{separator}load\n\n1{separator}2.5\r\n\n2{separator}3.5\n"
    table = table_of(text)
    np.testing.assert_array_equal(table.numbers("load"), [2.5, 3.5])
    assert table.at(1) == "in line 5 of data.csv"


def test_blank_line_of_one_column() -> None:
    """Where there is one column a blank line is a missing value, except at the end of the file."""
    np.testing.assert_array_equal(table_of("\na\n1\n\n2\n\n\n").numbers("a"), [1, np.nan, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with a line of column names. Received: an empty file"),
        ("a,a\n1,2\n", "must name each column once. Received: `a` twice in line 1"),
        ("a,b\n1,2\n\n3\n", "must have 2 cells, as its header. Received: 1 in line 4"),
        ("a\n1\n" + "x" * 200_000 + "\n", "must be a CSV file. Received: field larger than field limit"),
    ],
)
def test_broken_csv(text: str, message: str) -> None:
    """A CSV file that is none is refused with the line."""
    with pytest.raises(DataError, match=message):
        table_of(text)


def test_not_utf8() -> None:
    """A file in another encoding is refused with byte and line."""
    with pytest.raises(DataError, match=r"must be text in UTF-8. Received: byte 0xb0 in line 2"):
        read_csv(b"a,b\n1,2\xb0\n", "data.csv")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1,5", "must hold a number. Received: '1,5' in line 4 of data.csv"),
        ("inf", "Received: inf in line 4 of data.csv"),
    ],
)
def test_not_a_number(cell: str, message: str) -> None:
    """A cell that is no finite number is named with column and line, counted through quoted line breaks."""
    text = f'note,load\n"two\nlines",2\nx,"{cell}"\n'
    with pytest.raises(DataError, match=f"Column `load` .*{message}"):
        table_of(text).numbers("load")


def test_unknown_column() -> None:
    """An unknown column is refused with the nearest name and the names there are."""
    table = table_of("active_kw,reactive_kvar,c,d\n")
    with pytest.raises(
        DataError, match=r"`active_kw`, `reactive_kvar`, `c`, ... \(4 in all\).*Did you mean `active_kw`"
    ):
        table.numbers("activ_kw")


def test_times() -> None:
    """Dates become seconds, with time zones in UTC; numbers stay; an empty cell is NaN."""
    ticks, kind = table_of("t\n1970-01-01\n \n1970-01-01 00:01:00.5\n").ticks("t")
    np.testing.assert_array_equal(ticks, [0, np.nan, 60.5])
    assert kind == "date"
    ticks, _ = table_of("t\n1970-01-01T01:00+01:00\n1970-01-01T00:00:07Z\n").ticks("t")
    np.testing.assert_array_equal(ticks, [0, 7])
    ticks, kind = table_of("t\n3\n5.5\n").ticks("t")
    np.testing.assert_array_equal(ticks, [3, 5.5])
    assert kind == "number"


@pytest.mark.parametrize("second", ["31/12/2010", "2010-01-02T00:00Z", "5"])
def test_wrong_times(second: str) -> None:
    """Times that are no ISO dates, or of two kinds, are refused with the line."""
    with pytest.raises(DataError, match=f"Column `t` must hold an ISO date .*Received: '{second}' in line 3"):
        table_of(f"t\n2010-01-01\n{second}\n").ticks("t")


def test_empty_key() -> None:
    """A row without a key is refused with its line."""
    with pytest.raises(DataError, match=r"Column `k` must name a sequence in each row. Received: .* in line 3"):
        table_of("k,v\na,1\n,2\n").keys("k")


def test_usual_step() -> None:
    """Months and jittered clocks are regular, events are not."""
    months = np.cumsum([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31.0])
    assert usual_step(months) == 31
    assert usual_step(np.cumsum([0, 1.0, 1.04, 0.97, 7, 1.01])) == pytest.approx(1.01)
    assert usual_step(np.cumsum(2.0 ** np.arange(11))) is None
    assert usual_step(np.array([5.0])) is None


def test_gzip_and_standard_input(tmp_path, monkeypatch) -> None:
    """The content says whether a file is compressed; `-` is standard input."""
    content = gzip.compress(b"a\n1\n2\n")
    (tmp_path / "data.csv").write_bytes(content)
    np.testing.assert_array_equal(read_table(str(tmp_path / "data.csv")).numbers("a"), [1, 2])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert read_table("-").at(0) == "in line 2 of standard input"
    (tmp_path / "data.csv").write_bytes(content[:-9])
    with pytest.raises(DataError, match=r"must be a whole gzip file. Received: .*[^.]\. Copy the file again\.$"):
        read_table(str(tmp_path / "data.csv"))


def test_missing_file(tmp_path) -> None:
    """A file that cannot be read is refused with the reason."""
    with pytest.raises(DataError, match=r"Received: .*none\.csv \(No such file or directory\)"):
        read_table(str(tmp_path / "none.csv"))


def test_parquet_round_trip(tmp_path) -> None:
    """Parquet keeps numbers, dates and text; nulls are empty cells; errors count rows."""
    path = tmp_path / "data.parquet"
    times = np.array(["2010-01-01T00:15", "NaT", "2010-01-02"], dtype="datetime64[us]")
    write_table(path, {"t": times, "load": np.array([1.5, np.nan, 2.0]), "n": [1, None, 3], "k": ["a", "b", "c"]})
    table = read_table(str(path))
    np.testing.assert_array_equal(table.numbers("load"), [1.5, np.nan, 2])
    np.testing.assert_array_equal(table.numbers("n"), [1, np.nan, 3])
    assert table.keys("k").tolist() == ["a", "b", "c"]
    ticks, kind = table.ticks("t")
    assert (show_tick(ticks[0], kind), np.isnan(ticks[1])) == ("2010-01-01 00:15:00", True)
    with pytest.raises(DataError, match=r"Column `k` must hold a number. Received: 'a' in row 1"):
        table.numbers("k")
    with pytest.raises(DataError, match=r"Column `t` of .* must hold numbers. Received: dtype=datetime64"):
        table.numbers("t")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match="must be a whole Parquet file"):
        read_table(str(path))


def test_parquet_without_pyarrow(tmp_path, monkeypatch) -> None:
    """Without pyarrow the error says what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r'pip install "rnnstate\[parquet\]"'):
        read_table(str(tmp_path / "data.parquet"))
    with pytest.raises(DataError, match=r'pip install "rnnstate\[parquet\]"'):
        write_table(tmp_path / "out.parquet", {"a": [1]})


def test_written_whole_or_not_at_all(tmp_path) -> None:
    """A file is never half written, and never replaced without `force`."""
    path = tmp_path / "out.csv"
    write_table(path, {"t": ["x", "y"], "a": np.array([1.25, np.nan])})
    assert path.read_text() == "t,a\nx,1.25\ny,\n"
    with pytest.raises(DataError, match=r"must not exist yet. Received: .*out\.csv. Give another name, or --force"):
        write_table(path, {"a": [1]})
    with pytest.raises(ValueError, match="shorter"):
        write_table(path, {"a": [1, 2], "b": [1]}, force=True)
    assert path.read_text() == "t,a\nx,1.25\ny,\n"
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]
    write_table(path, {"a": np.array(["2010-01-01T00:00", "NaT"], dtype="datetime64[us]")}, force=True)
    assert path.read_text() == 'a\n2010-01-01\n""\n'


@pytest.mark.parametrize(
    ("name", "message"), [("", "must be a file"), ("none/out.csv", "folder of the output must exist")]
)
def test_output_in_no_place(tmp_path, name: str, message: str) -> None:
    """A folder, or a file in a folder that does not exist, is no place to write."""
    with pytest.raises(DataError, match=message):
        write_table(tmp_path / name, {"a": [1]})
