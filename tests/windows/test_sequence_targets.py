"""Targets per sequence, in every form that `y` may have."""

import numpy as np
import pytest

import nets
import rnnstate as rs

pytestmark = pytest.mark.once
X = nets.series((7, 3))
STACK = nets.values(2, 7, 2)
FORMS = [
    (X, {"k0": 4, "k1": 5}),
    (X, {"k0": np.array(4), "k1": np.int64(5)}),
    ([X["k0"], X["k1"]], [4, 5]),
    ([X["k0"], X["k1"]], {0: 4, 1: 5}),
    (STACK, np.array([4, 5])),
    (STACK, (4, 5)),
]


def batches(x, y, **kwargs):
    """Return windows of 3 steps, two rows each."""
    return rs.Windows(x, y, length=3, batch_size=2, targets="sequence", **kwargs)


@pytest.mark.parametrize(("x", "y"), FORMS)
def test_forms(x, y):
    """A number per sequence belongs to each of its windows, and counts at the last one."""
    windows = batches(x, y)
    assert windows.targets == "sequence"
    inputs, target = windows[0]
    assert target.tolist() == [4, 5]
    ends = np.array([windows[i][0]["ends"] for i in range(len(windows))])
    assert ends.tolist() == windows.plan.ends.astype(float).tolist()
    assert ends.sum() == 2
    last = [int(np.flatnonzero(windows.plan.sequence[:, row] == row)[-1]) for row in range(2)]
    assert [ends[batch, row] for row, batch in enumerate(last)] == [1, 1]
    assert inputs["ends"].dtype == np.float32


def test_vectors_names_and_single_sequences():
    """Vectors stay vectors; names may have kinds of their own; one sequence has one entry."""
    assert batches(X, {"k0": [1.0, 2.0], "k1": [3.0, 4.0]})[0][1].tolist() == [[1, 2], [3, 4]]
    assert batches(STACK, np.ones((2, 5)))[0][1].shape == (2, 5)
    assert batches(X["k0"], 4)[0][1].tolist() == [4]
    y = {"label": {"k0": 4, "k1": 5}, "next": {key: x[:, :1] for key, x in X.items()}}
    mixed = rs.Windows(X, y, length=3, batch_size=2, targets={"label": "sequence"})
    assert mixed.targets == {"label": "sequence", "next": "steps"}
    inputs, target = mixed[0]
    assert target["label"].tolist() == [4, 5]
    assert list(inputs["ends"]) == ["label"]


def test_columns_that_repeat_the_label():
    """A table holds the label of a sequence in each of its rows; a label that changes is refused."""
    import pandas as pd

    frame = pd.DataFrame({"key": list("aaab"), "x": [1.0, 2.0, 3.0, 4.0], "label": [1, 1, 1, 0]})
    read = {"key": "key", "features": ["x"], "targets": ["label"], "length": 2, "batch_size": 2}
    windows = rs.Windows.from_frame(frame, target_kind="sequence", **read)
    assert windows[0][1].tolist() == [[1], [0]]
    frame.loc[1, "label"] = 2
    with pytest.raises(rs.DataError, match=r"`y\['a'\]` must have one value in all rows.*\[2\] in row 1 after \[1\]"):
        rs.Windows.from_frame(frame, target_kind="sequence", **read)


@pytest.mark.parametrize(
    ("y", "arguments", "text"),
    [
        ({"k0": 1}, {}, r"must have the keys of `x`. Received: no 'k1'"),
        ({"k0": [1, 2], "k1": [1, 2, 3]}, {}, r"one shape per step"),
        ({"k0": np.nan, "k1": 1.0}, {}, r"`y` must be finite. Received: nan in sequence 'k0'"),
        ({"k0": 0, "k1": 1}, {"pieces": 2}, r"`targets='sequence'` belongs to whole sequences. Received: `pieces`"),
        (
            {"k0": 0, "k1": 1},
            {"sample_weight": {"k0": [1.0, 2.0], "k1": [1.0, 2.0]}},
            r"must be one number for each entry",
        ),
    ],
)
def test_wrong_targets_are_refused(y, arguments, text):
    """Missing keys, ragged vectors, values that are not finite, and pieces are refused."""
    with pytest.raises(rs.DataError, match=text):
        batches(X, y, **arguments)


def test_unknown_kinds_are_refused():
    """A kind that does not exist, or belongs to no target, is refused."""
    with pytest.raises(rs.DataError, match=r"`targets` must be one of 'auto', .*'sequence'. Received: targets='word'"):
        rs.Windows(X, X, length=3, batch_size=2, targets="word")
    with pytest.raises(rs.DataError, match=r"`targets` must have names of `y`: y has none. Received: 'label'"):
        rs.Windows(X, X, length=3, batch_size=2, targets={"label": "steps"})
