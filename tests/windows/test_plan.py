"""The plan of windows: every step once, in order, and never two windows of one sequence in a batch."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnstate.errors import DataError
from rnnstate.windows.plan import WindowPlan, cut_pieces, plan_lanes, plan_windows

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=23)
SIZE = st.integers(1, 31)


def steps_of(plan):
    """Return (batch, row, sequence, step) of every step, in the order in which batches meet them."""
    return [
        (batch, row, int(sequence), step)
        for batch in range(plan.num_batches)
        for row, sequence in enumerate(plan.sequence[batch])
        if sequence >= 0
        for step in range(plan.start[batch, row], plan.start[batch, row] + plan.steps[batch, row])
    ]


def check_cover(plan, lengths):
    """Assert the law that all tests of this file are about."""
    met = {}
    for _, _, sequence, step in steps_of(plan):
        met.setdefault(sequence, []).append(step)
    assert met == {i: list(range(length)) for i, length in enumerate(lengths)}


@given(LENGTHS, SIZE, SIZE)
@settings(deadline=None)
def test_every_step_once_and_in_order(lengths, length, batch_size):
    """A plan holds every step of every sequence exactly once, in time order."""
    check_cover(plan_lanes(lengths, length, batch_size), lengths)


def test_cover_check_sees_a_lost_window():
    """The law's own check fails for a plan that lost or repeated a window."""
    plan = plan_lanes([7, 5], 3, 2)
    lost = WindowPlan(plan.sequence[:-1], plan.start[:-1], plan.steps[:-1], 3)
    swapped = WindowPlan(plan.sequence[::-1], plan.start[::-1], plan.steps[::-1], 3)
    for wrong in (lost, swapped):
        with pytest.raises(AssertionError):
            check_cover(wrong, [7, 5])


@given(LENGTHS, SIZE, SIZE)
@settings(deadline=None)
def test_one_window_of_a_sequence_in_a_batch(lengths, length, batch_size):
    """No batch holds two windows of one sequence, and a sequence stays in its row, batch after batch."""
    plan = plan_lanes(lengths, length, batch_size)
    for batch in plan.sequence:
        taken = batch[batch >= 0]
        assert len(set(taken.tolist())) == len(taken)
    for i in range(len(lengths)):
        batches, rows = np.nonzero(plan.sequence == i)
        assert len(set(rows.tolist())) == 1
        assert batches.tolist() == list(range(batches[0], batches[0] + len(batches)))


@given(LENGTHS, SIZE, SIZE)
@settings(deadline=None)
def test_first_marks_beginnings(lengths, length, batch_size):
    """`first` is set at step 0 of each sequence and in empty rows, and nowhere else."""
    plan = plan_lanes(lengths, length, batch_size)
    begins = plan.first & (plan.sequence >= 0)
    assert sorted(plan.sequence[begins].tolist()) == list(range(len(lengths)))
    assert (plan.start[begins] == 0).all()
    assert plan.first[plan.sequence < 0].all()
    assert not plan.first[plan.start > 0].any()


@given(LENGTHS, SIZE, SIZE)
@settings(deadline=None)
def test_shapes_and_padding(lengths, length, batch_size):
    """Rows are at most the sequences, no batch is empty, and `padded` says whether anything is short."""
    plan = plan_lanes(lengths, length, batch_size)
    assert plan.rows == min(batch_size, len(lengths))
    assert (plan.sequence >= 0).any(axis=1).all()
    assert plan.padded == (plan.rows * plan.num_batches * length != sum(lengths))


def test_the_free_lane_takes_the_next_sequence():
    """The lane that ends first goes on with the next sequence in order."""
    plan = plan_lanes([9, 2, 4, 3], 3, 2)
    assert plan.sequence.tolist() == [[0, 1], [0, 2], [0, 2], [3, -1]]
    assert plan.start.tolist() == [[0, 0], [3, 0], [6, 3], [0, 0]]
    assert plan.steps.tolist() == [[3, 2], [3, 3], [3, 1], [3, 0]]
    assert plan.padded


def test_million_short_sequences():
    """A million sequences of 1 to 5 steps are all covered, one beginning each."""
    lengths = np.random.default_rng(3).integers(1, 6, size=1_000_000)
    plan = plan_lanes(lengths, 2, 1009)
    taken = plan.sequence >= 0
    covered = np.bincount(plan.sequence[taken], weights=plan.steps[taken], minlength=len(lengths))
    assert (covered == lengths).all()
    assert (np.bincount(plan.sequence[plan.first & taken]) == 1).all()


def test_one_sequence_of_a_million_windows():
    """One long sequence is one lane of consecutive windows."""
    plan = plan_lanes([2_999_999], 3, 7)
    assert plan.sequence.shape == (1_000_000, 1)
    assert (plan.start[:, 0] == 3 * np.arange(1_000_000)).all()
    assert plan.steps[-1, 0] == 2


def test_plan_is_read_only():
    """A plan cannot be changed under the dataset that uses it."""
    with pytest.raises(ValueError, match="read-only"):
        plan_lanes([3], 2, 1).start[0, 0] = 1


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=11), st.integers(1, 50))
@settings(deadline=None)
def test_pieces_are_contiguous_and_nearly_equal(lengths, pieces):
    """Pieces follow each other without a gap, none is empty, and sizes differ by one step at most."""
    lengths = [max(length, pieces) for length in lengths]
    bounds = cut_pieces(lengths, pieces)
    sizes = np.diff(bounds, axis=1)
    assert (bounds[:, 0] == 0).all()
    assert bounds[:, -1].tolist() == lengths
    assert sizes.min() >= 1
    assert (sizes.max(axis=1) - sizes.min(axis=1)).max() <= 1


@pytest.mark.parametrize("value", [0, -3, 2.0, True, "7", None])
@pytest.mark.parametrize("name", ["length", "batch_size"])
def test_sizes_must_be_counts(name, value):
    """A size that is not a whole number of at least 1 is refused by name."""
    sizes = {"length": 3, "batch_size": 2, name: value}
    with pytest.raises(DataError, match=rf"`{name}` must be a whole number of at least 1. Received: {name}={value!r}"):
        plan_lanes([5], **sizes)


def test_pieces_must_be_a_count():
    """`pieces` is checked as the other sizes are."""
    with pytest.raises(DataError, match=r"`pieces` must be a whole number of at least 1. Received: pieces=0"):
        cut_pieces([5], 0)


def test_more_pieces_than_steps():
    """A sequence that would give an empty piece is named."""
    with pytest.raises(DataError, match=r"Received: pieces=4, but sequence 1 has 3 steps"):
        cut_pieces([5, 3, 2], 4)


@pytest.mark.parametrize(
    ("lengths", "text"),
    [
        ([], "There must be at least one sequence"),
        ([3, 0], "Received: 0 steps in sequence 1"),
        ([2.5], "Lengths must be whole numbers. Received: dtype=float64"),
    ],
)
def test_lengths_are_checked(lengths, text):
    """Lengths must be whole, above zero, and there must be one."""
    with pytest.raises(DataError, match=text):
        plan_lanes(lengths, 2, 2)


def test_unknown_order_names_those_there_are():
    """An unknown order is refused with the names of the others."""
    with pytest.raises(
        DataError, match=r"`order` must be one of 'lanes', 'shuffled', 'buckets'. Received: order='sorted'"
    ):
        plan_windows([3], 2, 1, order="sorted")


def test_plan_needs_no_keras():
    """The plan is arithmetic: importing it starts neither Keras nor a backend."""
    code = "import sys, rnnstate.windows.plan; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
