"""Frames of pandas, polars, pyarrow and duckdb give the same batches as arrays, and errors name column, key and step."""

import datetime
import subprocess
import sys
import warnings

import duckdb
import keras
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from rnnstate.errors import DataError, KeyWarning
from rnnstate.forecasting.series import Columns, read_series
from rnnstate.forecasting.tablefiles import read_frame, read_table
from rnnstate.windows.windows import Windows

pytestmark = pytest.mark.once

RNG = np.random.default_rng(17)
SITES = ["m", "m", "k", "k", "k", "m", "k", "m", "m", "k", "k"]
DATA = {
    "site": SITES,
    "hour": list(range(11)),
    "load": RNG.normal(size=11),
    "temp": RNG.normal(size=11),
    "count": RNG.integers(0, 9, size=11),
    "weight": RNG.uniform(size=11),
}


def relation(columns):
    """Return a relation of duckdb, in a connection of the test alone."""
    return duckdb.connect().from_arrow(pa.table(columns))


MAKERS = pytest.mark.parametrize(
    "make", [pd.DataFrame, pl.DataFrame, pa.table, relation], ids=["pandas", "polars", "pyarrow", "duckdb"]
)
SIZES = {"length": 3, "batch_size": 2}


def by_site(*columns):
    """Return the columns of each site, cut by hand."""
    table = np.stack([np.asarray(DATA[column], dtype="float64") for column in columns], axis=1)
    return {site: table[np.array(SITES) == site] for site in ("m", "k")}


def check_equal(left, right):
    """Assert that two datasets have the same keys and the same batches."""
    assert left.keys == right.keys
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        keras.tree.assert_same_structure(a, b)
        for leaf, other in zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True):
            assert leaf.dtype == other.dtype
            np.testing.assert_array_equal(leaf, other)


@MAKERS
def test_frame_equals_arrays(make):
    """Columns grouped by key, interleaved or not, are the same batches as arrays by key."""
    windows = Windows.from_frame(
        make(DATA),
        key="site",
        time="hour",
        features=["load", "temp"],
        targets=["count"],
        sample_weight="weight",
        **SIZES,
    )
    weights = {site: rows[:, 0] for site, rows in by_site("weight").items()}
    counts = {site: rows.astype(int) for site, rows in by_site("count").items()}
    check_equal(windows, Windows(by_site("load", "temp"), counts, sample_weight=weights, **SIZES))


@MAKERS
def test_grouped_frame_without_a_copy_order(make):
    """A frame whose keys stand together gives the same as one whose keys are interleaved."""
    order = np.argsort([site == "k" for site in SITES], kind="stable")
    grouped = {name: np.asarray(values)[order].tolist() for name, values in DATA.items()}
    wanted = {"key": "site", "time": "hour", "features": ["load"], **SIZES}
    check_equal(Windows.from_frame(make(grouped), **wanted), Windows.from_frame(make(DATA), **wanted))


@MAKERS
def test_frame_without_key(make):
    """Without a key the frame is one sequence; by default all columns without another use are inputs."""
    frame = make({name: DATA[name] for name in ("hour", "load", "temp")})
    table = np.stack([DATA["load"], DATA["temp"]], axis=1)
    check_equal(Windows.from_frame(frame, time="hour", **SIZES), Windows(table, **SIZES))
    check_equal(
        Windows.from_frame(frame, time="hour", targets="temp", **SIZES), Windows(table[:, :1], table[:, 1:], **SIZES)
    )


@MAKERS
def test_several_inputs_and_outputs(make):
    """Mappings name inputs and outputs, with and without a key."""
    names = {"features": {"p": ["load", "temp"], "q": "count"}, "targets": {"out": "temp"}}
    pq, out = (lambda part: {"p": part[:, :2], "q": part[:, 2:].astype(int)}), by_site("temp")
    x = {site: pq(rows) for site, rows in by_site("load", "temp", "count").items()}
    y = {site: {"out": rows} for site, rows in out.items()}
    check_equal(Windows.from_frame(make(DATA), key="site", **names, **SIZES), Windows(x, y, **SIZES))
    table = np.stack([DATA["load"], DATA["temp"], DATA["count"]], axis=1)
    one = Windows(pq(table), {"out": table[:, 1:2]}, by="input", **SIZES)
    check_equal(Windows.from_frame(make(DATA), **names, **SIZES), one)


@MAKERS
def test_last_step_targets(make):
    """`target_kind` is the argument `targets` of the class."""
    windows = Windows.from_frame(make(DATA), key="site", features=["load"], targets="temp", target_kind="last", **SIZES)
    check_equal(windows, Windows(by_site("load"), by_site("temp"), targets="last", **SIZES))


@MAKERS
def test_frame_as_x(make):
    """A frame given as `x` is one sequence, and a frame or series works as `y`, or under a key."""
    table = np.stack([DATA["load"], DATA["temp"]], axis=1)
    frame = make({"load": DATA["load"], "temp": DATA["temp"]})
    plain = Windows(table, DATA["temp"], **SIZES)
    select = {pa.table: lambda: frame.select(["temp"]), relation: lambda: frame.select("temp")}
    one_column = select.get(make, lambda: frame[["temp"]])()
    check_equal(Windows(frame, one_column, **SIZES), Windows(table, table[:, 1:], **SIZES))
    if make is not relation:  # duckdb has no series
        check_equal(Windows(frame, frame["temp"], **SIZES), plain)
    check_equal(Windows({"a": frame}, **SIZES), Windows({"a": table}, **SIZES))


def test_nullable_and_narrow_dtypes():
    """pandas' nullable numbers without a null, booleans and small integers are numbers."""
    frame = pd.DataFrame({"a": pd.array([1, 2, 3], dtype="Int64"), "b": np.array([1, 2, 3], dtype="uint8")})
    check_equal(Windows(frame, **SIZES), Windows(np.array([[1, 1], [2, 2], [3, 3]]), **SIZES))
    flags = pd.DataFrame({"a": [True, False]})
    assert Windows(flags, **SIZES)[0][0]["x"][0, :, 0].tolist() == [1.0, 0.0, 0.0]


@MAKERS
def test_dates_and_keys(make):
    """Dates are times, also with a zone, and keys are plain Python values."""
    start = datetime.datetime(2013, 1, 1, tzinfo=datetime.UTC)
    times = [start + datetime.timedelta(hours=i) for i in range(4)]
    frame = make({"id": [7, 7, 3, 3], "at": times, "v": [1.0, 2.0, 3.0, 4.0]})
    windows = Windows.from_frame(frame, key="id", time="at", **SIZES)
    assert windows.keys == (7, 3)
    assert all(type(key) is int for key in windows.keys)


def changed(**columns):
    """Return the data with columns replaced."""
    return {**DATA, **columns}


def put(name, index, value):
    """Return a column as a list, with one value replaced."""
    values = list(DATA[name])
    values[index] = value
    return values


REFUSED = [
    (DATA, {"features": ["laod"]}, r"Unknown columns: 'laod'. Did you mean 'load'\?"),
    (DATA, {"targets": ["zzz"]}, r"Unknown columns: 'zzz'. Its columns are 'site', 'hour', 'load', ... \(6 in all\)"),
    (DATA, {"features": ["site"], "key": None}, r"Column `site` must hold numbers. Received: dtype=.*features="),
    (DATA, {"features": []}, r"`features` must name at least one column. Received: none"),
    (changed(load=put("load", 6, np.inf)), {}, r"Column `load` must be finite. Received: inf in sequence 'k', step 3"),
    (changed(load=put("load", 7, np.nan)), {}, r"Column `load` must have a finite value.*in sequence 'm', step 3"),
    (changed(load=put("load", 4, None)), {}, r"Column `load` .*no value \(null or NaN\) in sequence 'k', step 2"),
    (changed(count=put("count", 4, None)), {}, r"Column `count` .*no value \(null or NaN\) in sequence 'k', step 2"),
    (
        changed(temp=put("temp", 0, 1e39)),
        {},
        r"Column `temp` must fit float32. Received: 1e\+39 in sequence 'm', step 0",
    ),
    (changed(site=put("site", 4, None)), {}, r"Column `site` must name a sequence in each row.*row 4"),
    (changed(hour=put("hour", 4, None)), {}, r"Column `hour` must have a time in each row. Received: none in row 4"),
    (
        changed(hour=put("hour", 5, 0)),
        {},
        r"`hour` must increase. Received: `0(\.0)?` after `1.* in sequence 'm', step 2",
    ),
    (
        changed(hour=put("hour", 6, 4)),
        {},
        r"Received: `4(\.0)?` twice in sequence 'k', step 3. Drop or merge the rows",
    ),
    (changed(hour=[str(hour) for hour in DATA["hour"]]), {}, r"`hour` must hold dates or numbers. Received: text such"),
    (
        changed(hour=[20240125 + day if day < 7 else 20240194 + day for day in range(11)]),
        {},
        r"`hour` must hold dates, .*dates without marks, such as 20240125\. Convert .*format=.%Y%m%d",
    ),
    ({name: values[:0] for name, values in DATA.items()}, {}, r"A frame must have at least one row. Received: none"),
]


@MAKERS
@pytest.mark.parametrize(("data", "changes", "text"), REFUSED, ids=range(len(REFUSED)))
def test_refused_with_column_key_and_step(make, data, changes, text):
    """A frame that cannot be right is refused with column, key and step."""
    wanted = {"key": "site", "time": "hour", "features": ["load", "temp", "count"], **changes}
    with pytest.raises(DataError, match=text):
        Windows.from_frame(make(data), **wanted, **SIZES)


@MAKERS
def test_frame_as_x_names_its_columns(make):
    """Text and missing values in a frame given as `x` are named by column."""
    with pytest.raises(DataError, match=r"Column `b` must hold numbers.*from_frame"):
        Windows(make({"a": [1.0, 2.0], "b": ["p", "q"]}), **SIZES)
    with pytest.raises(DataError, match=r"Column `a` must have a finite value.*in `x` in sequence 'u', step 1"):
        Windows({"u": make({"a": [1.0, None]})}, **SIZES)


def test_other_objects_are_no_frames():
    """`from_frame` says what it takes, and what to do with a lazy frame."""
    with pytest.raises(
        DataError, match=r"`frame` must be a pandas or polars DataFrame, .* duckdb relation. Received: ndarray"
    ):
        Windows.from_frame(np.ones((3, 2)), **SIZES)
    lazy = pl.DataFrame({"a": [1.0]}).lazy()
    with pytest.raises(DataError, match=r"Received: LazyFrame. Call `.collect\(\)` on it"):
        Windows.from_frame(lazy, **SIZES)
    with pytest.raises(DataError, match=r"Received: a LazyFrame. Call `.collect\(\)` on it"):
        Windows(lazy, **SIZES)


def test_two_columns_of_one_name():
    """pandas allows two columns of one name; a frame with them is refused."""
    frame = pd.DataFrame(np.ones((3, 2)), columns=["a", "a"])
    with pytest.raises(DataError, match=r"Columns must have different names. Received twice: 'a'"):
        Windows(frame, **SIZES)


def test_frames_import_nothing():
    """polars and narwhals are not imported for users who have no frame. Keras imports pandas, which imports pyarrow."""
    code = "import sys, rnnstate.windows.frames; sys.exit(not {'polars', 'narwhals'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@MAKERS
def test_observed_and_resets_are_columns(make):
    """Columns by name are what the same arrays by key are; they are no inputs, and values may be missing elsewhere."""
    known = [0.5, 1.5, 2.5, None, 4.5, 5.5, 6.5, 7.5, None, 9.5, None]
    flags = [row in (6, 8) for row in range(11)]
    frame = make({**DATA, "known": known, "start": flags})
    wanted = {"key": "site", "time": "hour", "targets": "count", "sample_weight": "weight", **SIZES}
    windows = Windows.from_frame(frame, observed=["temp", "known"], resets="start", **wanted)
    table = np.stack([DATA["temp"], np.array(known, dtype="float64")], axis=1)
    groups = {site: np.array(SITES) == site for site in ("m", "k")}
    arrays = {
        "observed": {site: table[rows] for site, rows in groups.items()},
        "resets": {site: np.array(flags)[rows] for site, rows in groups.items()},
    }
    weights = {site: rows[:, 0] for site, rows in by_site("weight").items()}
    counts = {site: rows.astype(int) for site, rows in by_site("count").items()}
    check_equal(windows, Windows(by_site("load"), counts, sample_weight=weights, **arrays, **SIZES))
    plain = make({name: values for name, values in DATA.items() if name != "temp"})
    check_equal(windows, Windows.from_frame(plain, **arrays, **wanted))


@MAKERS
def test_an_observed_value_that_a_window_needs_is_named(make):
    """A missing value, as NaN or null, is an error with key and step where a window begins after it."""
    known = [0.5] * 11
    for missing in (None, float("nan")):
        known[6] = missing  # step 3 of k: a window begins at step 3 after row 2, and at step 0 with row 0
        Windows.from_frame(make({**DATA, "known": known}), key="site", observed="known", **SIZES)
        known[4] = missing
        with pytest.raises(DataError, match=r"`observed` must have finite.*\[nan\] at step 2 of sequence 'k'"):
            Windows.from_frame(make({**DATA, "known": known}), key="site", observed="known", **SIZES)
        known[4] = 0.5


@MAKERS
def test_wrong_columns_of_facts_are_refused(make):
    """Unknown names, text, flags that are none or missing, and no column at all."""
    frame = make({**DATA, "flag": [0, 2] + [0] * 9, "hole": [True, None] + [False] * 9})
    for arguments, message in (
        ({"observed": "knwon"}, "Unknown columns: 'knwon'"),
        ({"observed": ["temp", "site"]}, "Column `site` must hold numbers"),
        ({"observed": []}, "`observed` must name at least one column. Received: none."),
        ({"resets": "falg"}, "Unknown columns: 'falg'. Did you mean 'flag'"),
        ({"resets": "flag"}, "`resets` must be flags.*Received: 2 in sequence 'm', step 1"),
        ({"resets": "hole"}, "Column `hole` must have a finite value in each row.*sequence 'm', step 1"),
    ):
        with pytest.raises(DataError, match=message):
            Windows.from_frame(frame, key="site", features=["load"], **arguments, **SIZES)


KEYED_TIMES = {
    "site": ["b", "a", "b", "a", "b", " a", "b"],
    "at": [datetime.datetime(2020, 1, 1, hour) for hour in (0, 0, 1, 1, 5, 2, 6)],
    "load": [1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5],
    "count": [3, 1, 4, 1, 5, 9, 2],
}


@MAKERS
def test_frames_and_the_command_line_read_the_same_sequences(make, tmp_path):
    """Keys, order and gaps of a frame are those of the same rows as CSV and as a series of the command line."""
    columns = Columns(("load",), ("count",), key="site", time="at")
    path = tmp_path / "data.csv"
    pd.DataFrame(KEYED_TIMES).to_csv(path, index=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", KeyWarning)
        expected = read_series(read_table(str(path)), columns)
        actual = read_series(read_frame(make(KEYED_TIMES), "frame"), columns)
        windows = Windows.from_frame(make(KEYED_TIMES), key="site", time="at", gap="reset", **SIZES)
    assert [warning.category for warning in caught] == [KeyWarning] * 3
    assert {warning.filename for warning in caught} == {__file__}
    assert all("2 keys differ only by white space: 'a', ' a'" in str(warning.message) for warning in caught)
    assert [one.key for one in actual] == [one.key for one in expected] == list(windows.keys) == ["b", "a", " a"]
    for one, other in zip(actual, expected, strict=True):
        assert (one.kind, one.step, one.last) == (other.kind, other.step, other.last)
        for name in ("rows", "values", "ticks", "spans"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert expected[0].spans.tolist() == [[0, 2], [2, 4]]
    # The same rows of the first sequence, in windows that the gap cuts in the same place.
    first = [(inputs["x"][0], inputs["mask"][0], inputs["keep"][0]) for (inputs,) in windows]
    assert [int(mask.sum()) for _, mask, _ in first[:2]] == [2, 2]
    assert [float(keep) for *_, keep in first[:2]] == [1.0, 0.0]
    np.testing.assert_array_equal(np.concatenate([x[mask] for x, mask, _ in first[:2]]), expected[0].values)


def test_keys_of_a_mapping_get_the_same_warning():
    """The warning comes once for a mapping too, names the keys, and stays away where keys differ by more."""
    with pytest.warns(KeyWarning, match=r"3 keys differ only by white space: 'a b', 'ab', 'a\\tb'") as caught:
        windows = Windows({key: np.ones((3, 1)) for key in ("a b", "ab", "c", "a\tb")}, **SIZES)
    assert len(caught) == 1
    assert windows.keys == ("a b", "ab", "c", "a\tb")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Windows({"a b": np.ones((3, 1)), "a c": np.ones((3, 1)), 7: np.ones((3, 1))}, **SIZES)
