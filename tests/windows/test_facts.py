"""Known values, resets, gaps and steps before a window: each exactly where a loop over single steps puts it."""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnstate.errors import DataError
from rnnstate.windows.gaps import kept
from rnnstate.windows.windows import Windows

pytestmark = pytest.mark.once

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=7)
SIZES = {"length": 3, "batch_size": 2}


def facts_of(lengths, late, seed):
    """Return random x, resets, gaps and observed values by key; `late` values are known after their step."""
    rng = np.random.default_rng(seed)
    keys = [f"k{i}" for i in range(len(lengths))]
    each = list(zip(keys, lengths, strict=True))
    return {
        "x": {key: rng.uniform(1, 2, size=(n, 2)).astype("float32") for key, n in each},
        "resets": {key: rng.random(n) < 0.2 for key, n in each},
        "gaps": {key: rng.integers(1, 5, n) * (rng.random(n) < 0.2) for key, n in each},
        "observed": {key: rng.uniform(1, 2, size=(n + (not late), 3)).astype("float32") for key, n in each},
    }


def begin_of_run(data, key, step, cut_at_resets):
    """Return where the steps without a cut before `step` begin, found by walking back."""
    while step and not data["gaps"][key][step] and not (cut_at_resets and data["resets"][key][step]):
        step -= 1
    return step


@given(
    LENGTHS,
    st.integers(1, 11),
    st.integers(1, 5),
    st.sampled_from(["lanes", "shuffled", "buckets"]),
    st.sampled_from(["burn_in", "context"]),
    st.integers(0, 17),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
)
@settings(deadline=None, max_examples=80)
def test_everything_at_once(lengths, length, batch_size, order, name, before, known, late, epoch):
    """Every value of every batch is what a loop over the steps of each sequence says."""
    data = facts_of(lengths, late, seed=epoch)
    observed = data["observed"] if known else data.pop("observed")
    prefix = {"burn_in": before} if name == "burn_in" else {"back": length + before}
    windows = Windows(**data, y=data["x"], length=length, batch_size=batch_size, order=order, gap=2.0, **prefix)
    windows.epoch = epoch
    assert windows.prefix == before
    stands = dict.fromkeys(data["x"], 0)
    for inputs, y in windows:
        assert y.shape[1] == length
        assert inputs["x"].shape[1] == inputs["reset"].shape[1] == before + length
        for row in np.flatnonzero(inputs["slot"] >= 0):
            key = windows.keys[inputs["slot"][row]]
            start, steps = stands[key], int((y[row] != 0).all(axis=-1).sum())
            begin = begin_of_run(data, key, start, cut_at_resets=known)
            exist = min(before, start - begin)
            part = slice(before - exist, before + steps)
            shown = slice(start - exist, start + steps)
            np.testing.assert_array_equal(inputs["x"][row, part], data["x"][key][shown])
            np.testing.assert_array_equal(inputs["reset"][row, part], data["resets"][key][shown])
            outside = np.ones(before + length, dtype=bool)
            outside[part] = False
            assert not inputs["x"][row, outside].any()
            assert not inputs["reset"][row, outside].any()
            np.testing.assert_array_equal(y[row, :steps], data["x"][key][start : start + steps])
            missing = data["gaps"][key][start]
            assert inputs["keep"][row] == np.float32(0.5 ** (missing / 2))
            if known:
                at = max(start - exist - late, 0)
                np.testing.assert_array_equal(inputs["observed"][row], observed[key][at])
            stands[key] += steps
            if before:
                np.testing.assert_array_equal(inputs["mask"][row], ~outside)
                np.testing.assert_array_equal(inputs[name][row], ~outside[:before])
                end = stands[key] == len(data["x"][key])
                assert inputs["last"][row] == (end or begin_of_run(data, key, stands[key], known) == stands[key])
        empty = inputs["slot"] < 0
        assert not known or not inputs["observed"][empty].any()
        assert not inputs["reset"][empty].any()
        assert (inputs["keep"][empty] == 1).all()
        assert not before or not (inputs[name][empty].any() or inputs["last"][empty].any())
    assert list(stands.values()) == lengths


@given(LENGTHS, st.integers(1, 11), st.integers(1, 4), st.booleans())
@settings(deadline=None, max_examples=40)
def test_pieces_keep_their_facts(lengths, length, pieces, late):
    """A piece has the facts of its own steps, and knows the observed row before it."""
    lengths = [max(n, pieces) for n in lengths]
    data = facts_of(lengths, late, seed=1)
    windows = Windows(**data, length=length, batch_size=3, pieces=pieces, gap="reset")
    origins = {(key, piece): len(data["x"][key]) * piece // pieces for key in data["x"] for piece in range(pieces)}
    stands = dict(origins)
    for (inputs,) in windows:
        for row in np.flatnonzero(inputs["slot"] >= 0):
            key = windows.keys[inputs["slot"][row]]
            start, steps = stands[key], int((inputs["x"][row] != 0).all(axis=-1).sum())
            known = max(start - late, 0)
            np.testing.assert_array_equal(inputs["observed"][row], data["observed"][key[0]][known])
            np.testing.assert_array_equal(inputs["reset"][row, :steps], data["resets"][key[0]][start : start + steps])
            assert inputs["keep"][row] == (data["gaps"][key[0]][start] == 0)
            stands[key] += steps
    assert sum(stands.values()) - sum(origins.values()) == sum(lengths)


def test_keys_are_there_only_if_used():
    """A batch has the key of a feature only where the feature is used, and then in every batch."""
    x = np.ones((2, 7, 1))
    plain = {"x", "slot", "first", "mask"}
    used = {
        "observed": {"observed": np.ones((2, 3))},
        "reset": {"resets": np.zeros((2, 7), dtype=bool)},
        "keep": {"gaps": np.zeros((2, 7), dtype=int)},
        "burn_in last": {"burn_in": 2},
        "context last": {"back": 4},
    }
    for names, arguments in used.items():
        for (inputs,) in Windows(x, **arguments, **SIZES):
            assert set(inputs) == plain | set(names.split())
    assert set(Windows(x, burn_in=0, **SIZES)[0][0]) == set(Windows(x, back=3, **SIZES)[0][0]) == plain


def test_dtypes_and_shapes():
    """Facts have the dtypes and shapes that models rely on."""
    data = facts_of([7, 5], late=True, seed=3)
    inputs = Windows(**data, gap="keep", burn_in=2, **SIZES)[0][0]
    shapes = {name: (part.dtype.name, part.shape) for name, part in inputs.items()}
    assert shapes == {
        "x": ("float32", (2, 5, 2)),
        "slot": ("int32", (2,)),
        "first": ("bool", (2,)),
        "mask": ("bool", (2, 5)),
        "burn_in": ("bool", (2, 2)),
        "last": ("bool", (2,)),
        "observed": ("float32", (2, 3)),
        "reset": ("bool", (2, 5)),
        "keep": ("float32", (2,)),
    }


def test_burn_in_by_hand():
    """Steps before a window come with it, zeros and unmasked where there are none; static inputs and targets do not."""
    x = {"a": np.arange(1.0, 8.0)[None, :, None], "s": np.array([[5.0]])}
    windows = Windows(x, x["a"], length=3, batch_size=1, burn_in=2)
    assert [batch[0]["x"]["a"][0, :, 0].tolist() for batch in windows] == [
        [0, 0, 1, 2, 3],
        [2, 3, 4, 5, 6],
        [5, 6, 7, 0, 0],
    ]
    assert [batch[0]["burn_in"][0].tolist() for batch in windows] == [[False, False], [True, True], [True, True]]
    assert [batch[0]["last"].tolist() for batch in windows] == [[False], [False], [True]]
    assert windows[2][0]["mask"].tolist() == [[True, True, True, False, False]]
    assert windows[0][0]["x"]["s"].tolist() == [[5.0]]
    assert [batch[1][0, :, 0].tolist() for batch in windows] == [[1, 2, 3], [4, 5, 6], [7, 0, 0]]


def test_gap_by_hand():
    """A window begins after each gap, and its state is reset, kept or decayed by the number of missing steps."""
    times = np.array([0, 1, 2, 3, 7, 8, 9, 10, 11, 12.1])
    for gap, expected in (("reset", [1, 1, 0, 1]), ("keep", [1, 1, 1, 1]), (3, [1, 1, 0.5, 1]), (1.5, [1, 1, 0.25, 1])):
        windows = Windows(np.arange(10.0), times=times, gap=gap, length=3, batch_size=1)
        starts = [(0, 3), (3, 1), (4, 3), (7, 3)]
        assert [(int(a[0]), int(b[0])) for a, b in zip(windows.plan.start, windows.plan.steps, strict=True)] == starts
        assert [float(batch[0]["keep"][0]) for batch in windows] == expected
        assert [bool(batch[0]["first"][0]) for batch in windows] == [True, False, False, False]


def test_gap_before_the_first_step():
    """`gaps` at step 0 concern a state that was given, and cut nothing."""
    windows = Windows(np.ones(4), gaps=np.array([2, 0, 0, 0]), gap=2, length=4, batch_size=1)
    assert len(windows) == 1
    assert windows[0][0]["keep"].tolist() == [0.5]


HOURS = np.array([0, 1, 2, 5, 6], dtype="int64")
DATES = np.datetime64("2024-03-01T00", "h") + HOURS.astype("timedelta64[h]")


@pytest.mark.parametrize(
    ("times", "step"),
    [
        (HOURS, None),
        (HOURS * 0.25, 0.25),
        (HOURS.astype("uint8"), 1),
        (DATES, None),
        (DATES, np.timedelta64(60, "m")),
        (DATES.astype("datetime64[ns]"), datetime.timedelta(hours=1)),
        (DATES.tolist(), pd.Timedelta("1h")),
        (pd.Series(DATES), None),
        (pd.Series(DATES).dt.tz_localize("Europe/Vienna"), None),
        (pl.Series(DATES.astype("datetime64[us]")), None),
        (np.datetime64("2024-01") + HOURS.astype("timedelta64[M]"), None),
    ],
    ids=range(11),
)
def test_kinds_of_times(times, step):
    """Numbers and dates of every kind give the same gaps."""
    for shape in (times, {0: times}, {"k": times}):
        x = {"k": np.arange(5.0)} if isinstance(shape, dict) and "k" in shape else np.arange(5.0)
        windows = Windows(x, times=shape, step=step, gap=2, length=4, batch_size=1)
        assert [float(batch[0]["keep"][0]) for batch in windows] == [1.0, 0.5]


def test_stacked_times_and_gaps():
    """Times and gaps beside a stack of sequences are stacked or a list."""
    x = np.ones((2, 5, 1))
    for times in (np.stack([HOURS, HOURS * 2]), [HOURS, DATES]):
        windows = Windows(x, times=times, length=5, batch_size=2)
        assert windows.plan.start.tolist() == [[0, 0], [3, 3]]
    gaps = np.array([[0, 0, 0, 2, 0], [0, 4, 0, 0, 0]])
    assert Windows(x, gaps=gaps, length=5, batch_size=2).plan.start.tolist() == [[0, 0], [3, 1]]


def test_usual_step_of_two_differences():
    """Of two differences the longer one is the gap."""
    assert len(Windows(np.ones(3), times=np.array([0, 1, 40]), length=3, batch_size=1)) == 2


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_gaps_of_a_frame(make):
    """`from_frame` takes the times from its column, by key or not, and does nothing without `gap`."""
    frame = make({"site": ["a"] * 5 + ["b"] * 5, "at": [*HOURS, *(HOURS * 3)], "load": np.arange(10.0)})
    windows = Windows.from_frame(frame, key="site", time="at", gap=2, length=5, batch_size=2)
    assert [batch[0]["keep"].tolist() for batch in windows] == [[1, 1], [0.5, 0.5]]
    one = Windows.from_frame(frame[:5], time="at", features="load", gap="reset", length=5, batch_size=2)
    assert [batch[0]["keep"].tolist() for batch in one] == [[1], [0]]
    assert len(Windows.from_frame(frame, key="site", time="at", length=5, batch_size=2)) == 1
    with pytest.raises(DataError, match=r"`gap` is about jumps of a time column. Received: no `time`.*`time=`"):
        Windows.from_frame(frame, key="site", features="load", gap="reset", length=5, batch_size=2)


def test_kept():
    """The policies agree where nothing is missing."""
    missing = np.array([0, 1, 4])
    assert [kept(missing, policy).tolist() for policy in ("reset", "keep", 2.0)] == [
        [1, 0, 0],
        [1, 1, 1],
        [1, 0.5**0.5, 0.25],
    ]


def test_targets_per_window_with_gaps():
    """Targets per window are counted with the windows that gaps cut, and come with theirs."""
    gaps = np.array([0, 1, 0, 0, 0, 0, 0])
    windows = Windows(np.ones(7), np.arange(3.0), gaps=gaps, length=5, batch_size=1)
    assert [(batch[0]["mask"].sum(), batch[1].tolist()) for batch in windows] == [(1, [0]), (5, [1]), (1, [2])]
    with pytest.raises(DataError, match=r"`y` must have 7 entries.*or 3 entries .* Received: 2"):
        Windows(np.ones(7), np.arange(2.0), gaps=gaps, length=5, batch_size=1)


@pytest.mark.parametrize(
    ("x", "observed", "expected"),
    [
        (np.ones((5, 2)), np.array([1.0, 2.0]), [[1, 2], [1, 2]]),
        (np.ones((5, 2)), np.arange(10.0).reshape(5, 2), [[0, 1], [4, 5]]),
        (np.ones((5, 2)), np.arange(12.0).reshape(6, 2), [[0, 1], [6, 7]]),
        (np.ones((5, 2)), {0: np.array([1.0])}, [[1], [1]]),
        (np.ones((1, 5, 2)), np.array([[7.0]]), [[7], [7]]),
        (np.ones((1, 5, 2)), np.arange(5.0).reshape(1, 5, 1), [[0], [2]]),
        (np.ones((1, 5, 2)), [np.arange(6.0).reshape(6, 1)], [[0], [3]]),
        ({"a": np.ones((5, 2))}, {"a": [3.0, 4.0]}, [[3, 4], [3, 4]]),
        ({"a": np.ones((5, 2))}, {"a": pd.DataFrame({"p": np.arange(5.0)})}, [[0], [2]]),
    ],
    ids=range(9),
)
def test_forms_of_observed(x, observed, expected):
    """The form of `x` says whether rows are sequences or steps."""
    windows = Windows(x, observed=observed, length=3, batch_size=1)
    assert [batch[0]["observed"][0].tolist() for batch in windows] == expected


def test_missing_observed_values():
    """A missing value is an error only where a window begins; the sequence and the step are named."""
    observed = np.full((7, 2), np.nan)
    observed[[0, 2, 5]] = 1.0
    windows = Windows(np.ones((7, 1)), observed=observed, length=3, batch_size=1)
    assert all((batch[0]["observed"] == 1).all() for batch in windows)
    observed[2, 1] = np.nan
    with pytest.raises(DataError, match=r"Received: \[1.0, nan\] at step 2 of sequence 0. A .* known after this step"):
        Windows(np.ones((7, 1)), observed=observed, length=3, batch_size=1)
    before = np.full((8, 2), 1.0)
    before[3] = np.inf
    with pytest.raises(DataError, match=r"\[inf, inf\] at step 3 of sequence 'k'.*known before this step"):
        Windows({"k": np.ones((7, 1))}, observed={"k": before}, length=3, batch_size=1)
    with pytest.raises(DataError, match=r"Received: \[nan\] at sequence 1"):
        Windows(np.ones((2, 7, 1)), observed=np.array([[1.0], [np.nan]]), length=3, batch_size=1)


def test_missing_observed_values_of_changing_windows():
    """Where windows are drawn, one may begin anywhere, so every row must be there but for the last."""
    observed = np.ones((40, 1))
    observed[39] = np.nan
    Windows(np.ones((40, 1)), observed=observed, length=9, batch_size=1, vary=True)
    observed[38] = np.nan
    with pytest.raises(DataError, match=r"at step 38 of sequence 0"):
        Windows(np.ones((40, 1)), observed=observed, length=9, batch_size=1, vary=True)


def test_resets_cut_only_beside_a_series_of_observed_values():
    """A reset lies inside a window, unless the initial state comes from a series, whose row must be that of the reset."""
    resets = np.array([1, 0, 1, 0, 0, 0])
    series = np.arange(7.0)[:, None]
    for observed, starts in ((None, [0]), ([5.0], [0]), (series, [0, 2])):
        windows = Windows(np.ones(6), resets=resets, observed=observed, length=6, batch_size=1)
        assert windows.plan.start[:, 0].tolist() == starts
    assert [batch[0]["observed"].tolist() for batch in windows] == [[[0.0]], [[2.0]]]
    assert [batch[0]["reset"][0, 0] for batch in windows] == [True, True]


REFUSED = [
    ({"observed": np.ones(3), "x": np.ones((2, 7))[..., None]}, r"`observed` must have one row for each of the 2 seq"),
    ({"observed": np.ones((3, 2)), "x": np.ones((2, 7, 1))}, r"`observed` must have 2 sequences, as `x`. Received: 3"),
    (
        {"observed": np.ones((5, 2))},
        r"must have 7 rows, each known after its step, or 8, .* in sequence 0. Received: 5",
    ),
    (
        {"observed": np.ones((1, 2))},
        r"Received: 1. One vector for each sequence is \(values,\), or \(sequences, values",
    ),
    ({"observed": np.ones((1, 7, 2))}, r"one vector .* or a series \(time, values\). Received: shape \(1, 7, 2\)"),
    ({"observed": np.ones((7, 0))}, r"Received: shape \(7, 0\) in sequence 0"),
    ({"observed": ["p"]}, r"`observed` must hold numbers"),
    (
        {"x": {"a": np.ones(7), "b": np.ones(5)}, "observed": {"a": np.ones(7), "b": np.ones(5)}},
        r"as many values in each sequence: shape \(7,\).*Received: shape \(5,\) in sequence 'b'.*one value per step is",
    ),
    ({"x": {"a": np.ones(7)}, "observed": np.ones(2)}, r"`observed` must be a mapping by key.*Received: ndarray"),
    ({"x": {"a": np.ones(7)}, "observed": {"b": np.ones(2)}}, r"keys of `x`. Received: no 'a' and also 'b'"),
    ({"resets": np.zeros(6)}, r"`resets` must have one flag for each step, shape \(7,\) .* Received: shape \(6,\)"),
    ({"resets": np.zeros((7, 1))}, r"`resets` must have one flag for each step.*Received: shape \(7, 1\)"),
    ({"resets": np.array([0, 1, 0, 2, 0, 0, 0])}, r"`resets` must be flags.*Received: 2 in sequence 0, step 3"),
    ({"times": np.arange(6)}, r"`times` must have one value for each step, shape \(7,\).*Received: shape \(6,\)"),
    ({"times": np.array([0, 1, 2, 4, 3, 5, 6])}, r"`times` must increase. Received: `3` after `4` in seq.* 0, step 4"),
    ({"times": np.array([0, 1, 1, 3, 4, 5, 6])}, r"Received: `1` twice in sequence 0, step 2. Drop or merge"),
    ({"times": np.array([0, 1, np.nan, 3, 4, 5, 6])}, r"a time at each step. Received: none in sequence 0, step 2"),
    ({"times": [*DATES, None, DATES[-1]]}, r"`times` must have a time at each step.*sequence 0, step 5"),
    ({"times": np.array([*DATES, "NaT", "NaT"], "datetime64[h]")}, r"a time at each step.*sequence 0, step 5"),
    ({"times": list("abcdefg")}, r"`times` of sequence 0 must hold dates or numbers. Received: text such as 'a'"),
    ({"times": np.arange(7), "step": 0}, r"`step` must be a number, as times are, above 0. Received: step=0"),
    ({"times": np.arange(7), "step": np.timedelta64(1, "h")}, r"`step` must be a number.*Received: step=.*timedelta64"),
    ({"times": DATES[0] + np.arange(7), "step": 1}, r"`step` must be a `datetime.timedelta` or.*Received: step=1"),
    ({"step": 2}, r"`times` or `gaps` must say where steps are missing, not both. Received: none of them"),
    ({"gap": "reset"}, r"`times` or `gaps` must say where steps are missing, not both. Received: none of them"),
    ({"times": np.arange(7), "gaps": np.zeros(7, int)}, r"where steps are missing, not both. Received: both"),
    ({"gaps": np.zeros(7, int), "step": 2}, r"`step` is the usual step of `times`. Received: step=2 without"),
    ({"gaps": np.zeros(7)}, r"`gaps` must be whole numbers of missing steps.*Received: 0.0 in sequence 0, step 0"),
    ({"gaps": np.array([0, 0, -3, 0, 0, 0, 0])}, r"`gaps` must be whole.*Received: -3 in sequence 0, step 2"),
    ({"gaps": np.zeros((2, 7), int), "x": np.ones((3, 7, 1))}, r"`gaps` must have 3 sequences, as `x`. Received: 2"),
    *(
        ({"gaps": np.zeros(7, int), "gap": gap}, rf"'reset', 'keep' or a half-life in steps.*Received: gap={gap!r}")
        for gap in ("drop", 0, -2.0, float("inf"), True)
    ),
    ({"burn_in": 1.5}, r"`burn_in` must be a whole number of at least 0. Received: burn_in=1.5"),
    ({"burn_in": -1}, r"`burn_in` must be a whole number of at least 0. Received: burn_in=-1"),
    ({"back": 2}, r"`back` must be at least `length`, 3. Received: back=2. It counts the steps of the window"),
    ({"back": 3.0}, r"`back` must be a whole number of at least 1. Received: back=3.0"),
    ({"back": 4, "burn_in": 1}, r"`burn_in` and `back` exclude each other. Received: burn_in=1, back=4"),
    (
        {"gaps": np.zeros(7, int), "pieces": 2, "y": np.ones(4), "targets": "windows"},
        r"`targets` must be per step with `pieces` together with gaps or resets. Received: targets='windows'",
    ),
]


@pytest.mark.parametrize(("arguments", "text"), REFUSED, ids=range(len(REFUSED)))
def test_refused(arguments, text):
    """Facts that belong nowhere are refused with key and step."""
    with pytest.raises(DataError, match=text):
        Windows(**{"x": np.ones((7, 2)), **SIZES, **arguments})
