"""Tables: what is read from CSV and Parquet files, and how errors name line and column."""

import csv
import gzip
import io
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnstate.errors import DataError, KeyWarning
from rnnstate.forecasting.read_options import ReadOptions
from rnnstate.forecasting.series import Columns, read_series
from rnnstate.forecasting.tablefiles import read_csv, read_table, write_table
from rnnstate.forecasting.times import parse_date, read_tick, show_tick
from rnnstate.windows.gaps import usual_step

pytestmark = pytest.mark.once

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r", exclude_categories=["Cs"]), max_size=8)
# Larger numbers are refused, because the model computes in float32.
NUMBERS = st.one_of(st.none(), st.floats(min_value=-1e37, max_value=1e37, allow_nan=False))


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
    ],
)
def test_broken_csv(text: str, message: str) -> None:
    """A CSV file that is none is refused with the line."""
    with pytest.raises(DataError, match=message):
        table_of(text)


def test_long_cell() -> None:
    """A cell may be longer than the limit of the module `csv`, and lines after it are still counted."""
    table = table_of('a,b\n1,"' + "x\n" * 200_000 + '"\n2,y\n')
    assert [len(cell) for cell in table.cells("b")] == [400_000, 1]
    assert table.at(1) == "in line 200003 of data.csv"


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
    ticks, kind, _ = table_of("t\n1970-01-01\n \n1970-01-01 00:01:00.5\n").ticks("t")
    np.testing.assert_array_equal(ticks, [0, np.nan, 60.5])
    assert kind == "date"
    ticks, *_ = table_of("t\n1970-01-01T01:00+01:00\n1970-01-01T00:00:07Z\n").ticks("t")
    np.testing.assert_array_equal(ticks, [0, 7])
    ticks, kind, _ = table_of("t\n3\n5.5\n").ticks("t")
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
    months = np.array([28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31.0])
    assert usual_step(months) == 31
    assert usual_step(np.array([1.0, 1.04, 0.97, 7, 1.01])) == pytest.approx(1.01)
    assert usual_step(2.0 ** np.arange(10)) is None
    assert usual_step(np.array([])) is None


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
    ticks, kind, _ = table.ticks("t")
    assert (show_tick(ticks[0], kind), np.isnan(ticks[1])) == ("2010-01-01 00:15:00", True)
    with pytest.raises(DataError, match=r"Column `k` must hold a number. Received: 'a' in row 1"):
        table.numbers("k")
    with pytest.raises(DataError, match=r"Column `t` of .* must hold numbers. Received: dtype=datetime64"):
        table.numbers("t")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match="must be a whole Parquet file"):
        read_table(str(path))


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


@given(
    st.lists(st.tuples(WORDS, NUMBERS, NUMBERS), max_size=9),
    st.sampled_from([(",", "."), (";", "."), (";", ","), ("\t", ".")]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_dialects(rows, marks, quoting, ends) -> None:
    """A table reads back equal from each separator, decimal mark, way of quoting and line end."""
    separator, decimal = marks
    text = io.StringIO(newline="")
    shown = [(w, *("" if n is None else repr(n).replace(".", decimal) for n in ns)) for w, *ns in rows]
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=ends)
    writer.writerows([("word", "a", "b"), *shown])
    table = read_csv(text.getvalue().encode(), "data.csv", ReadOptions(decimal=decimal))
    assert table.cells("word") == [word for word, *_ in rows]
    for name, column in (("a", 1), ("b", 2)):
        expected = np.array([np.nan if row[column] is None else row[column] for row in rows], dtype=np.float64)
        np.testing.assert_array_equal(table.numbers(name), expected)


def test_hints() -> None:
    """A decimal comma and an unknown word for a missing value name the option that reads them."""
    with pytest.raises(DataError, match=r"Received: '0,0126' in line 2 .*A decimal comma\? Use --decimal ,"):
        table_of("a;b\n0,0126;1\n").numbers("a")
    with pytest.raises(DataError, match=r"Received: '-' in line 2 .*missing value are `nan`, `na`.*with --na"):
        table_of("a,b\n-,1\n").numbers("a")
    table = read_csv(b"a;b\n-;1\n1,5;2\n", "data.csv", ReadOptions(decimal=",", na=("-",)))
    np.testing.assert_array_equal(table.numbers("a"), [np.nan, 1.5])
    with pytest.raises(DataError, match=r"must hold a number. Received: '1.000,5'"):
        read_csv(b"a;b\n1.000,5;1\n", "data.csv", ReadOptions(decimal=",")).numbers("a")


@pytest.mark.parametrize(
    ("layout", "times"),
    [("%d.%m.%Y %H:%M", ("02.01.1970 00:15", "NA")), ("%d/%m/%Y %H:%M:%S.%f", ("02/01/1970 00:15:00.0", ""))],
)
def test_time_format(layout: str, times: tuple[str, str]) -> None:
    """Times in another format than ISO need it; a time that does not follow it is named."""
    options = ReadOptions(time_format=layout)
    ticks, kind, _ = read_csv("\n".join(["t,v", *(f"{t},1" for t in times)]).encode(), "data.csv", options).ticks("t")
    np.testing.assert_array_equal(ticks, [87300, np.nan])
    assert kind == "date"
    with pytest.raises(DataError, match=r"must hold a time in the format %d.*Received: '1970-01-01' in line 2"):
        read_csv(b"t,v\n1970-01-01,1\n", "data.csv", options).ticks("t")


def test_encoding() -> None:
    """A file in another encoding is read by its name; an unknown name is refused."""
    assert read_csv("a,b\n°,2\n".encode("latin-1"), "data.csv", ReadOptions(encoding="latin-1")).cells("a") == ["°"]
    with pytest.raises(DataError, match=r"`--encoding` must be an encoding .*Received: 'latin-x'"):
        ReadOptions(encoding="latin-x")
    with pytest.raises(DataError, match=r"`--decimal` must be"):
        ReadOptions(decimal=";")


def test_keys_as_they_are() -> None:
    """Keys that differ by white space are different sequences."""
    with pytest.warns(KeyWarning, match="2 keys differ only by white space: ' a', 'a'.") as caught:
        series = read_series(table_of("k,v\n a,1\na,2\n a,3\nb,4\n"), Columns(("v",), key="k"))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    series = series[:2]
    assert {one.key: one.values[:, 0].tolist() for one in series} == {" a": [1, 3], "a": [2]}


def test_sort_and_repeated_times() -> None:
    """Rows are sorted by time on request; a local time that clocks repeat gets a hint."""
    data = b"t,v\n3,30\n1,10\n2,20\n"
    [one] = read_series(read_csv(data, "data.csv", ReadOptions(sort=True)), Columns(("v",), time="t"))
    assert (one.values[:, 0].tolist(), one.rows.tolist()) == ([10, 20, 30], [1, 2, 0])
    repeated = "t,v\n2020-10-25 02:45,1\n2020-10-25 02:00,2\n"
    with pytest.raises(
        DataError, match="If clocks were set back here at the end of daylight saving, add a time zone to the times"
    ):
        read_series(table_of(repeated), Columns(("v",), time="t"))


@pytest.mark.parametrize("name", ["a b", "größe", 'the "a"', "a,b"])
def test_odd_column_names(name: str) -> None:
    """Names with spaces, umlauts, quotes and separators work."""
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([(name, "x"), (1, 2)])
    np.testing.assert_array_equal(table_of(text.getvalue()).numbers(name), [1])


@pytest.mark.parametrize(
    "text",
    [
        '\ufeff"t";"v"\r\n"1";"2,5"\r\n"2";"3,5"\r\n',
        "sep=;\r\nt;v\r\n1;2,5\r\n2;3,5\r\n",
        "t|v\n1|2,5\n2|3,5\n",
        "t;;v;;\n1;x;2,5;;\n2;y;3,5;;\n",
        'v,t\r"2,5",1\r"3,5",2\r',
    ],
    ids=["excel", "sep", "pipe", "trailing", "mac"],
)
def test_files_of_other_programs(text: str) -> None:
    """Byte order marks, quotes, line ends, a `sep=` line, bars, and columns without a name are read."""
    [one] = read_series(read_csv(text.encode(), "data.csv", ReadOptions(decimal=",")), Columns(("v",), time="t"))
    assert (one.values.ravel().tolist(), one.last) == ([2.5, 3.5], "2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t,v\n1,2,\n", "Received: 3 in line 2. The row ends with a separator, and the header does not"),
        ("t,v\n1,2,5\n", "Received: 3 in line 2. A cell with a comma in it needs quotes"),
        ("Station 5\n\nt,v\n1,2\n", "Received: 2 in line 3. If lines of text come before the line of column names"),
        ("t v\n1 2\n", "has the columns `t v`. .* separate the cells by comma, semicolon, tab or |"),
        ("t,v\n1,missing\n", "Received: 'missing' in line 2 .*Add a word with --na"),
        ("t,v\n1,#DIV/0!\n", "Received: '#DIV/0!' in line 2 .*Add a word with --na"),
        ('t,v\n1,"1,234.5"\n', "Received: '1,234.5' in line 2 .*Marks between thousands"),
        ("t,v\n31/12/2020 10:00,1\n", "Received: '31/12/2020 10:00' in line 2 .*--time-format"),
        ("t,v\n20240130,1\n20240131,2\n20240201,3\n", 'dates without marks, such as 20240130 in line 2.*"%Y%m%d"'),
        (
            "t,v\n202401302300,1\n202401310000,2\n202401310100,3\n",
            'dates without marks, such as 202401302300 in line 2.*--time-format "%Y%m%d%H%M"',
        ),
        ("t,v\n1600000000,1\n1600000060000,2\n", "one unit. Received: 1600000060000 after 1600000000 in line 3"),
        ("t,v\n", "Received: no rows at all"),
        ("t,v\n2020-10-25 02:00,1\n2020-10-25 02:00,2\n", "`2020-10-25 02:00:00` twice in line 3.* add a time zone"),
    ],
)
def test_one_clear_line(text: str, message: str) -> None:
    """Files that cannot be read are refused with the line and with advice."""
    with pytest.raises(DataError, match=message):
        read_series(table_of(text), Columns(("v",), time="t"))


def test_no_advice_where_it_would_be_wrong() -> None:
    """Times with a zone need none, and a day that comes twice is no change of clocks."""
    for text in ("2020-10-25 02:45Z,1\n2020-10-25 02:00Z,2\n", "2020-10-25,1\n2020-10-25,2\n"):
        with pytest.raises(DataError, match="must increase") as caught:
            read_series(table_of("t,v\n" + text), Columns(("v",), time="t"))
        assert "time zone" not in str(caught.value)


def test_keys_that_are_missing_in_parquet(tmp_path) -> None:
    """A null among whole numbers is no key, and does not turn the other keys into fractions."""
    path = tmp_path / "data.parquet"
    write_table(path, {"k": [7, None, 8], "v": [1.0, 2.0, 3.0]})
    with pytest.raises(
        DataError, match=r"Column `k` must name a sequence in each row. Received: an empty cell in row 2"
    ):
        read_series(read_table(str(path)), Columns(("v",), key="k"))
