"""Laws of the rows that one of several processes trains on: together they are the batches of one process."""

import numpy as np
import pytest

import rnnstate as rs
from rnnstate.windows.share import own_sequences, share

pytestmark = pytest.mark.once
LENGTHS = (13, 5, 17, 3, 11, 7, 2)


def windows_of(**kwargs):
    """Return windows of sequences whose values are their numbers."""
    x = {f"k{index}": np.full((length, 2), index, np.float32) for index, length in enumerate(LENGTHS)}
    return rs.Windows(x, x, **{"length": 4, "batch_size": 5, **kwargs})


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("options", [{}, {"order": "buckets"}, {"vary": True}, {"burn_in": 3}, {"pieces": 2}])
def test_shares_are_a_partition_of_each_batch(ranks, options):
    """Each window is in the same batch as in one process, in one share. All shares have the same shapes."""
    windows = windows_of(**options)
    for epoch in range(2):
        windows.epoch = epoch
        shares = [share(windows, rank, ranks) for rank in range(ranks)]
        assert len({(len(one), one.batch_size) for one in shares}) == 1
        for batch in range(len(windows)):
            whole = place(windows, batch)
            assert sorted(whole) == sorted(row for one in shares for row in place(one, batch))


def place(windows, batch):
    """Return the windows in a batch: sequence, first step, steps, and whether they end the sequence."""
    plan = windows.plan
    parts = plan.sequence[batch], plan.start[batch], plan.steps[batch], plan.ends[batch], plan.before[batch]
    return [tuple(row) for row in np.array(parts).T.tolist() if row[0] >= 0]


def test_no_sequence_crosses_a_rank():
    """In any epoch, all windows of a sequence are in one share."""
    windows = windows_of(vary=True)
    for epoch in range(3):
        windows.epoch = epoch
        owned = [own_sequences(share(windows, rank, 3)).tolist() for rank in range(3)]
        assert sorted(index for one in owned for index in one) == list(range(len(LENGTHS)))


def test_batches_hold_the_data_of_their_rows():
    """The arrays of a share are rows of those of the whole batch, and empty rows are masked."""
    windows = windows_of()
    for rank in range(2):
        part = share(windows, rank, 2)
        for batch in range(len(windows)):
            own, whole = part[batch][0], windows[batch][0]
            rows = len(whole["slot"][rank::2])
            assert np.array_equal(own["x"][:rows], whole["x"][rank::2])
            assert own["slot"][:rows].tolist() == whole["slot"][rank::2].tolist()
            assert not own["mask"][rows:].any()


def test_rows_are_not_cut_by_time():
    """Negative control: batches dealt in turn, as Keras shards datasets, put one sequence into several processes."""
    plan = windows_of().plan
    dealt = [set(plan.sequence[rank::2].ravel().tolist()) - {-1} for rank in range(2)]
    assert dealt[0] & dealt[1]


def test_what_cannot_be_shared_is_refused():
    """Windows of one sequence in several rows, and windows of a source, are refused by name."""
    with pytest.raises(rs.DataError, match=r"one row\. Received: order='shuffled'.*'lanes' or order='buckets'"):
        share(windows_of(order="shuffled"), 0, 2)
    streamed = rs.Windows.from_iterable(lambda: [("a", np.ones((4, 1)))], length=3, batch_size=1, horizon=1)
    with pytest.raises(rs.DataError, match=r"`rnnstate\.Windows` of arrays.*StreamedWindows.*memory-mapped"):
        share(streamed, 0, 2)
