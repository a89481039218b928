"""From a table to training data: gaps, split, scaling, horizon, pieces, and where data continue."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnstate.errors import DataError
from rnnstate.forecasting.continuation import Place, Standing, find_starts
from rnnstate.forecasting.errors_table import score_ways
from rnnstate.forecasting.examples import (
    Examples,
    fill_rows,
    make_examples,
    measure,
    parse_split,
    scored_rows,
    split_bounds,
)
from rnnstate.forecasting.series import Columns, clip_spans, count_gaps, find_spans, read_series
from rnnstate.forecasting.settings import Settings, parse_layers
from rnnstate.forecasting.tablefiles import read_csv
from rnnstate.messages import text_table
from rnnstate.state.state import State
from rnnstate.windows.scaling import Scaling

pytestmark = pytest.mark.once

SPLIT = (0.7, 0.1, 0.2)
FLAGS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=31)


def series_of(text: str, *targets: str, **columns):
    """Read the series of a CSV text."""
    return read_series(read_csv(text.encode(), "data.csv"), Columns(targets or ("v",), **columns))


def counting(rows: int, gaps: tuple[int, ...] = ()):
    """Return one series whose value is its row number, with empty rows at `gaps`."""
    return series_of("v,w\n" + "".join(f"{'' if row in gaps else row},7\n" for row in range(rows)))


@given(FLAGS)
def test_spans_hold_every_observed_row_once(flags: list[tuple[bool, bool]]) -> None:
    """Spans are ordered, hold each observed row once and no other, and none holds a jump inside."""
    observed, jump = np.array(flags, dtype=bool).reshape(-1, 2).T
    spans = find_spans(observed, jump)
    rows = [row for start, stop in spans for row in range(start, stop)]
    assert rows == np.flatnonzero(observed).tolist()
    for start, stop in spans:
        assert start < stop
        assert not jump[start + 1 : stop].any()
    ends = {(int(stop), int(begin)) for (_, stop), (begin, _) in pairwise(spans)}
    assert all(stop < begin or jump[begin] for stop, begin in ends), "neighbours are apart by an empty row or a jump"


@given(FLAGS, st.integers(0, 31), st.integers(0, 31))
def test_clipped_spans_are_the_rows_between(flags: list[tuple[bool, bool]], low: int, high: int) -> None:
    """Clipping keeps the rows from `low` up to `high` and no other."""
    observed, jump = np.array(flags, dtype=bool).reshape(-1, 2).T
    clipped = clip_spans(find_spans(observed, jump), low, high)
    rows = {row for start, stop in clipped for row in range(start, stop)}
    assert rows == {row for row in np.flatnonzero(observed) if low <= row < high}


@given(FLAGS, st.integers(1, 5))
def test_no_target_crosses_a_gap_or_the_split(flags: list[tuple[bool, bool]], horizon: int) -> None:
    """Each input meets the value `horizon` rows later, all of it in one part and without a gap between."""
    observed = np.array([seen for seen, _ in flags] + [True], dtype=bool)
    gaps = tuple(np.flatnonzero(~observed).tolist())
    series = counting(len(observed), gaps)
    scaling = Scaling(np.zeros(1), np.ones(1))
    seen = []
    for part, (low, high) in split_bounds(len(observed), SPLIT).items():
        examples = make_examples(series, SPLIT, part, scaling, 1, horizon)
        for x, y in zip(examples.x, examples.y, strict=True):
            np.testing.assert_array_equal(x + horizon, y)
            assert low <= x.min()
            assert y.max() < high
            assert observed[int(x.min()) : int(y.max()) + 1].all()
        seen += [*np.concatenate(examples.x).ravel()] if examples.x else []
    assert len(seen) == len(set(seen))


def test_left_out_rows_are_counted() -> None:
    """A sequence shorter than horizon + 2 rows is left out, and its rows are counted."""
    series = counting(40, gaps=(3, 10))
    examples = make_examples(series, (1, 0, 0), "train", measure(series, (1, 0, 0)), 1, 2)
    assert ([len(x) for x in examples.x], examples.left_out) == ([4, 27], 3)
    assert count_gaps(series) == (2, 2)


def test_scaling_uses_the_training_part_only() -> None:
    """Whatever stands in validation and test leaves mean and deviation as they are; a training value does not."""
    values = np.random.default_rng(5).normal(3, 7, size=53)

    def scaling(changed: int | None = None) -> tuple[float, float]:
        cells = [1e6 if row == changed else value for row, value in enumerate(values.tolist())]
        found = measure(series_of("v,w\n" + "".join(f"{cell!r},1\n" for cell in cells)), SPLIT)
        return float(found.mean[0]), float(found.std[0])

    bound = round(53 * 0.7)
    assert scaling() == pytest.approx((values[:bound].mean(), values[:bound].std()))
    assert scaling(bound) == scaling(52) == scaling()
    assert scaling(bound - 1) != scaling()


def test_scaling_round_trip() -> None:
    """Scaled targets come back in the data's own units; a constant column is divided by 1."""
    series = series_of("v,w\n" + "".join(f"{row * row},0.1\n" for row in range(11)), "v", "w")
    scaling = measure(series, (1, 0, 0))
    assert scaling.std[1] == 1
    scaled = scaling.scale(series[0].values)
    assert scaled[:, 0].std() == pytest.approx(1)
    np.testing.assert_allclose(scaling.unscale(scaled[:, :1]), series[0].values[:, :1])


def test_training_part_of_gaps() -> None:
    """Without a complete row in the training part there is nothing to scale with."""
    with pytest.raises(DataError, match=r"training part must have complete rows. Received: gaps alone"):
        measure(counting(10, gaps=(0, 1, 2, 3, 4, 5, 6)), SPLIT)


@given(st.integers(0, 999))
def test_split_covers_all_rows(rows: int) -> None:
    """The parts follow one another and cover every row."""
    bounds = list(split_bounds(rows, SPLIT).values())
    assert [bounds[0][0], bounds[2][1]] == [0, rows]
    assert (bounds[0][1], bounds[1][1]) == (bounds[1][0], bounds[2][0])


@pytest.mark.parametrize("text", ["0.7,0.3", "0.7,0.2,0.2", "0,0.5,0.5", "a,b,c", "1.2,-0.1,-0.1"])
def test_wrong_split(text: str) -> None:
    """The split must be three fractions that add up to 1."""
    with pytest.raises(
        DataError, match=f"must be three fractions that add up to 1.* Received: {text}. Write for example"
    ):
        parse_split(text)


@pytest.mark.parametrize("text", ["lstm", "lstm:0", "lstm:8,", "conv:8", "lstm:8;gru:4", ""])
def test_wrong_layers(text: str) -> None:
    """Layers must be known kinds, each with its units."""
    with pytest.raises(DataError, match=r"must be a list of lstm, gru or rnn.*Write for example lstm:8,lstm:16"):
        parse_layers(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "`epochs` must be a whole number of at least 1"),
        ({"learning_rate": 0.0}, "`--learning-rate` must be above 0. Received: 0.0"),
        ({"seed": -1}, "`--seed` must be a whole number from 0"),
        ({"key": "v"}, "Each column must have one use. Received: `v` for two"),
        ({"targets": ()}, "at least one target"),
        ({"targets": ("v", "v")}, "Each column must have one use. Received: `v`"),
    ],
)
def test_wrong_settings(arguments: dict, message: str) -> None:
    """Arguments that make no sense are refused before any data are read."""
    with pytest.raises(DataError, match=message):
        Settings(**{"targets": ("v",), **arguments})


def test_targets_are_inputs() -> None:
    """Inputs are the targets, then the features that are none, each once."""
    assert Columns(("a", "b"), ("c", "b", "c")).inputs == ("a", "b", "c")


def test_settings_round_trip() -> None:
    """Settings come back from JSON as they were."""
    settings = Settings(("a",), ("b",), key="k", horizon=3, layers="gru:7")
    assert Settings.from_json(settings.to_json()) == settings


@given(st.lists(st.integers(1, 97), min_size=1, max_size=7), st.integers(1, 11), st.integers(1, 13))
def test_pieces_are_the_sequences(lengths: list[int], window: int, batch_size: int) -> None:
    """Pieces hold the steps of the sequences, start at whole windows, and are no longer than a row's share."""
    x = [np.arange(length)[:, None] + 1000.0 * index for index, length in enumerate(lengths)]
    pieces = fill_rows(Examples(x, [-array for array in x]), window, batch_size)
    in_order = sorted(pieces.x, key=lambda piece: piece[0, 0])
    np.testing.assert_array_equal(np.concatenate(in_order), np.concatenate(x))
    for inputs, targets in zip(pieces.x, pieces.y, strict=True):
        np.testing.assert_array_equal(inputs, -targets)
    assert all(piece[0, 0] % 1000 % window == 0 for piece in pieces.x)
    if len(lengths) < batch_size:
        assert max(map(len, pieces.x)) < sum(lengths) / batch_size + window


def test_long_enough_sequences_stay_whole() -> None:
    """Nothing is cut when the sequences fill the rows of a batch."""
    examples = Examples([np.zeros((length, 1)) for length in (50, 40, 60)], [], 0)
    assert fill_rows(examples, 10, 3) is examples


def test_keys_and_gaps_in_time() -> None:
    """Interleaved keys are told apart; a jump in the times of one is a gap of that key alone."""
    rows = [("a", 0, 1), ("b", 0, 2), ("a", 1, 3), ("b", 1, 4), ("a", 3, 5), ("b", 2, 6), ("a", 4, 7)]
    text = "k,t,v\n" + "".join(f"{key},{tick},{value}\n" for key, tick, value in rows)
    a, b = series_of(text, key="k", time="t")
    assert (a.key, a.rows.tolist(), a.spans.tolist(), a.step) == ("a", [0, 2, 4, 6], [[0, 2], [2, 4]], 1)
    assert (b.key, b.values.ravel().tolist(), b.spans.tolist()) == ("b", [2, 4, 6], [[0, 3]])
    assert (a.last, b.last) == ("4", "2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "k,t,v\na,2,1\nb,1,1\nb,1,1\n",
            "Times in column `t` of key 'b' must increase. Received: `1` twice in line 4 of data.csv. Drop or",
        ),
        (
            "k,t,v\na,2,1\na,1,1\n",
            "of key 'a' must increase. Received: `1` after `2` in line 3 of data.csv. Sort the rows by time. Or use --sort",
        ),
        ("k,t,v\na,1,\na,2,\n", r"must have rows with a value in `v`, `t`. Received: 2 rows, none of them complete"),
        ("k,t,v\n", "Received: no rows at all"),
    ],
)
def test_refused_tables(text: str, message: str) -> None:
    """Times that do not increase, and tables without a complete row, are refused with key and line."""
    with pytest.raises(DataError, match=message):
        series_of(text, key="k", time="t")


def test_times_without_key() -> None:
    """Where times repeat and no key is named, the hint names --key."""
    with pytest.raises(
        DataError,
        match=r"Received: `2010-01-01 00:00:00` after `2010-01-02.*column that tells sequences apart with --key",
    ):
        series_of("t,v\n2010-01-02,1\n2010-01-01,2\n", time="t")


def test_persistence_by_hand() -> None:
    """The errors of persistence are those of NumPy on the rows whose target is known."""
    values = np.random.default_rng(7).normal(size=(19, 2))
    cells = [["" if row == 11 else f"{value!r}" for value in line] for row, line in enumerate(values.tolist())]
    series = series_of("v,w\n" + "".join(",".join(line) + "\n" for line in cells), "v", "w")
    scores, count = score_ways(series, {}, ["v", "w"], [4], horizon=2)
    moved = np.concatenate([values[6:11] - values[4:9], values[14:19] - values[12:17]])
    assert count == len(moved)
    assert [s.mae for s in scores] == pytest.approx(np.abs(moved).mean(axis=0).tolist())
    assert [s.rmse for s in scores] == pytest.approx(np.sqrt((moved**2).mean(axis=0)).tolist())
    assert [s.ratio for s in scores] == [1, 1]
    perfect = np.full_like(values, np.nan)
    perfect[:-2] = values[2:]
    assert [s.mae for s in score_ways(series, {"perfect": [perfect]}, ["v", "w"], [4], 2)[0]][1::2] == [0, 0]


def test_nothing_to_score() -> None:
    """Where no target is known there is no score."""
    assert score_ways(counting(2), {}, ["v"], [0], horizon=1) == ([], 0)
    assert scored_rows(counting(3)[0], 0, 1).tolist() == [0, 1]


def test_text_table() -> None:
    """Columns are as wide as their widest cell, numbers flush right."""
    assert text_table(("a", "n"), [("xyz", "1"), ("b", "23")], right=[1]) == [
        "a     n",
        "---  --",
        "xyz   1",
        "b    23",
    ]


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("2010-01-01 01:15", None),
        ("2010-01-01 01:16", None),
        (
            "2010-01-01 01:30",
            "it begins at 2010-01-01 01:30:00, the kept data end at 2010-01-01 01:00:00, the usual step is",
        ),
        ("2010-01-01 01:00", "it begins at 2010-01-01 01:00:00"),
        ("2009-01-01", "it begins at 2009-01-01 00:00:00"),
    ],
)
def test_data_continue_one_step_after_the_kept_ones(first: str, reason: str | None) -> None:
    """Data continue if their first time is one usual step after the last kept one, and say why not otherwise."""
    standing = Standing((Place("", "2010-01-01 01:00:00", 900.0, True),), State({"h": np.ones((1, 2))}))
    starts = find_starts(series_of(f"t,v\n{first},1\n", time="t"), standing)
    assert starts.rows.tolist() == [-1 if reason else 0]
    assert starts.reasons.get("", "").startswith(reason or "")
    assert starts.continued == (reason is None)


@pytest.mark.parametrize(
    ("text", "is_open", "always", "reason"),
    [
        ("1\n", True, False, "there is no time column to tell"),
        ("1\n", True, True, None),
        ("1\n", False, True, "the kept data end in a gap"),
        ('""\n1\n', True, True, "it begins with a gap"),
    ],
)
def test_data_without_times(text: str, is_open: bool, always: bool, reason: str | None) -> None:
    """Data without times continue only if the user says so, and never over a gap."""
    standing = Standing((Place("", None, None, is_open),), State({"h": np.ones((1, 2))}))
    starts = find_starts(series_of("v\n" + text), standing, always)
    assert starts.rows.tolist() == [-1 if reason else 0]
    assert starts.reasons.get("", "").startswith(reason or "")


def test_keys_that_are_not_kept() -> None:
    """Each key continues from its own row; an unknown one starts fresh."""
    places = tuple(Place(key, "5", 1.0, True) for key in "abc")
    series = series_of("k,t,v\nc,6,1\nx,6,1\na,6,1\n", key="k", time="t")
    starts = find_starts(series, Standing(places, State({"h": np.ones((3, 2))})))
    assert starts.rows.tolist() == [2, -1, 0]
    assert starts.reasons == {"x": "no state is kept for it"}


def test_irregular_times_continue_whenever_later() -> None:
    """Where no step is usual nothing can be missing: any later time continues."""
    standing = Standing((Place("", "5", None, True),), State({"h": np.ones((1, 2))}))
    assert find_starts(series_of("t,v\n99,1\n", time="t"), standing).rows.tolist() == [0]
    assert find_starts(series_of("t,v\n5,1\n", time="t"), standing).rows.tolist() == [-1]
