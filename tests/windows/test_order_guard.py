"""The order of datasets that users make themselves: right ones pass, wrong ones are refused with key and step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnstate.errors import DataError
from rnnstate.windows.own_dataset import OrderGuard, check_order
from rnnstate.windows.windows import Windows

pytestmark = pytest.mark.once

KEYS = ["north", "south", "east"]


def batch(slot, first, start=None):
    """Return the facts of a batch."""
    facts = {"slot": np.array(slot), "first": np.array(first, dtype=bool)}
    return facts if start is None else {**facts, "start": np.array(start)}


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=5),
    st.integers(1, 7),
    st.integers(1, 4),
    st.sampled_from(["lanes", "shuffled", "buckets"]),
)
@settings(deadline=None, max_examples=40)
def test_windows_pass(lengths, length, batch_size, order):
    """Every order of `Windows` passes, for one epoch after the other; without the steps, windows that continue do not."""
    windows = Windows([np.ones((n, 1)) for n in lengths], length=length, batch_size=batch_size, order=order)
    guard = OrderGuard(windows.keys)
    for epoch in range(2):
        windows.epoch = epoch
        for (inputs,), start in zip(windows, windows.plan.start, strict=True):
            guard.check(inputs["slot"], inputs["first"], start)
        facts = [{**inputs, "start": start} for (inputs,), start in zip(windows, windows.plan.start, strict=True)]
        check_order(facts, windows.keys)
        if all(inputs["first"][inputs["slot"] >= 0].all() for (inputs,) in windows):
            check_order((inputs for (inputs,) in windows), windows.keys)
        else:
            with pytest.raises(DataError, match="Received: no `start`, sequence"):
                check_order((inputs for (inputs,) in windows), windows.keys)


GOOD = batch([0, 2, -1], [True, True, True], [0, 0, 0])
WRONG = [
    (
        [GOOD, batch([2, 1, 2], [False, True, False], [5, 0, 10])],
        r"one window of a sequence at most.*two of sequence 'east', from steps 5 and 10, batch 1, rows 0 and 2",
    ),
    ([batch([1, 1], [True, True])], r"Received: two of sequence 'south', batch 0, rows 0 and 1"),
    (
        [GOOD, batch([0, 1], [False, False], [5, 15])],
        r"must have `first` set.*a window from step 15 without it, sequence 'south', batch 1, row 1",
    ),
    ([batch([1], [False])], r"Received: a window without it, sequence 'south', batch 0, row 0"),
    (
        [GOOD, batch([0], [False], [7]), batch([2, 0], [False, False], [3, 5])],
        r"time order. Received: the window from step 5 after the window from step 7, sequence 'north', batch 2, row 1",
    ),
    (
        [GOOD, batch([2], [False], [0])],
        r"the window from step 0 after the window from step 0, sequence 'east', batch 1",
    ),
    (
        [batch([3], [True])],
        r"`slot` must be at least 0 and below 3.* or -1 in empty rows. Received: 3 in batch 0, row 0",
    ),
    ([batch([0, -2], [True, True])], r"`slot` must be at least 0.*Received: -2 in batch 0, row 1"),
    ([batch([0.0], [True])], r"`slot` must be whole numbers \(batch,\). Received: dtype=float64, shape \(1,\)"),
    ([batch([0, 1], [True])], r"`first` must have the shape of `slot`, \(2,\). Received: shape \(1,\)"),
    ([batch([0], [True], [0, 1])], r"`start` must have the shape of `slot`, \(1,\). Received: shape \(2,\)"),
    ([batch([0], [True], [0.5])], r"`start` must be whole numbers \(batch,\). Received: dtype=float64"),
    (
        [batch([1], [True]), batch([1], [False])],
        r"must have `start`, their first step.*Received: no `start`, sequence 'south', batch 1, row 0",
    ),
    (
        [batch([1], [True]), batch([1], [False], [7])],
        r"Received: no `start`, sequence 'south', batch 1, row 0. Add `\"start\"`",
    ),
    (
        [{**batch([1], [True], [0]), "x": np.ones((1, 4, 1))}, batch([1], [False], [3])],
        r"must not overlap.*the window from step 3 after the window of steps 0 to 3, sequence 'south', batch 1, row 0",
    ),
    ([[0, 1]], r"must be a dict with `x`, `slot`, `first` and `start`. Received: list in batch 0"),
    ([{"slot": [0]}], r"must tell `slot` and `first`. Received: no `first` in batch 0"),
]


@pytest.mark.parametrize(("batches", "text"), WRONG, ids=range(len(WRONG)))
def test_wrong_order_is_refused(batches, text):
    """Each way to get it wrong is refused with key, step, batch and row."""
    with pytest.raises(DataError, match=text):
        check_order(batches, KEYS)


def test_steps_of_padding_do_not_overlap():
    """A window may begin where the data of the window before it end, even if that window is padded beyond this step."""
    short = {**batch([0], [True], [0]), "x": np.ones((1, 4, 1)), "mask": np.array([[1, 1, 0, 0]])}
    check_order([short, batch([0], [False], [2])])
    with pytest.raises(DataError, match=r"must not overlap.*step 1 after the window of steps 0 to 1"):
        check_order([short, batch([0], [False], [1])])


def test_shuffled_batches_are_refused():
    """Batches of `Windows` in another order, which Keras' `fit` makes by default, do not pass."""
    windows = Windows([np.ones((9, 1)), np.ones((7, 1))], length=2, batch_size=2)
    facts = [{**inputs, "start": start} for (inputs,), start in zip(windows, windows.plan.start, strict=True)]
    check_order(facts)
    for wrong in ([1, 0, 2, 3, 4], [0, 2, 1, 3, 4]):
        with pytest.raises(DataError, match=r"`first` set|time order"):
            check_order([facts[index] for index in wrong])


def test_a_refused_batch_is_forgotten():
    """After an error the guard stands where it stood."""
    guard = OrderGuard(KEYS)
    guard.check(**GOOD)
    with pytest.raises(DataError):
        guard.check([1, 0], [True, False], [0, 0])
    with pytest.raises(DataError, match=r"sequence 'south', batch 1, row 0"):
        guard.check([1], [False], [5])
    guard.check([0], [False], [5])


def test_sequences_begin_anew():
    """`first` begins a sequence again at any step; `restart` wants it of all."""
    guard = OrderGuard()
    guard.check([7], [True], [0])
    guard.check([7], [False], [5])
    guard.check([7], [True], [0])
    guard.restart()
    with pytest.raises(DataError, match=r"sequence 7, batch 0"):
        guard.check([7], [False], [5])
