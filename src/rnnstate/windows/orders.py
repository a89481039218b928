"""Which batch and row each window goes to.

An order knows only how many windows each sequence has. It returns the batch and the row of every window, sequence by
sequence in time order. Every order keeps two promises. The windows of a sequence come in rising batches. The number of
batches is the same in every epoch, because Keras' `fit` reads it once.

    two rows, sequences a (3 windows), b (2), c (1)      batch   0   1   2
                                             lanes:      row 0   a0  a1  a2
                                                         row 1   b0  b1  c0
"""

from collections import defaultdict
from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Places = tuple[NDArray[np.int64], NDArray[np.int64]]
Order = Callable[[Counts, int, np.random.Generator], Places]


def lanes(counts: Counts, rows: int, rng: np.random.Generator) -> Places:
    """Let each row take one sequence after another, in the given order. The first free row takes the next sequence."""
    lane, begin = take_lanes(counts, rows)
    offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(begin, counts) + offset, np.repeat(lane, counts)


def buckets(counts: Counts, rows: int, rng: np.random.Generator) -> Places:
    """Let the first free row take the longest remaining sequence, so rows hold similar lengths and end together."""
    longest = np.argsort(-counts, kind="stable")
    batch, row = lanes(counts[longest], rows, rng)
    # Return the windows in the given order of the sequences.
    back = np.argsort(np.repeat(longest, counts[longest]), kind="stable")
    return batch[back], row[back]


def shuffled(counts: Counts, rows: int, rng: np.random.Generator) -> Places:
    """Put windows of random sequences in each batch, in as few batches as any order needs.

    Each window draws a random moment of the epoch. The moments of a sequence are sorted, so its windows keep their time
    order. A batch first takes windows of the sequences that need every remaining batch, then the earliest windows of
    other sequences.
    """
    left = int(max(counts.max(), -(-counts.sum() // rows)))
    first = np.cumsum(counts) - counts
    sequence = np.repeat(np.arange(len(counts)), counts)
    moments = rng.random(len(sequence))
    moments = moments[np.lexsort((moments, sequence))]
    queue = _Queue(counts, first, moments)
    batch, row = np.empty(len(sequence), dtype=np.int64), np.empty(len(sequence), dtype=np.int64)
    for index in range(left):
        taken = queue.take(rows, left - index)
        batch[taken], row[taken] = index, np.arange(len(taken))
    return batch, row


class _Queue:
    """The next window of each sequence, by its moment. Plain lists are faster than arrays for single numbers."""

    def __init__(self, counts: Counts, first: NDArray[np.int64], moments: NDArray[np.float64]) -> None:
        self.moments: list[float] = moments.tolist()
        self.next: list[int] = first.tolist()
        self.left: list[int] = counts.tolist()
        self.heap = [(self.moments[window], i, window) for i, window in enumerate(self.next)]
        heapify(self.heap)
        self.having: defaultdict[int, set[int]] = defaultdict(set)  # sequences by the number of windows left
        for i, left in enumerate(self.left):
            self.having[left].add(i)

    def take(self, rows: int, batches_left: int) -> list[int]:
        """Take the windows of one batch."""
        known = self.having.pop(batches_left, set())
        taken = sorted(known)
        while len(taken) < rows and self.heap:
            _, i, window = heappop(self.heap)
            # A window that was taken because it needed every batch is still in the heap: skip it.
            if window == self.next[i] and i not in known:
                taken.append(i)
        return [self._take_next(i) for i in taken]

    def _take_next(self, i: int) -> int:
        window, left = self.next[i], self.left[i]
        self.next[i], self.left[i] = window + 1, left - 1
        self.having[left].discard(i)
        if left > 1:
            self.having[left - 1].add(i)
            heappush(self.heap, (self.moments[window + 1], i, window + 1))
        return window


ORDERS: dict[str, Order] = {"lanes": lanes, "shuffled": shuffled, "buckets": buckets}


def take_lanes(counts: Counts, rows: int) -> Places:
    """Return each sequence's lane and the batch in which it begins."""
    free = [(0, lane) for lane in range(rows)]  # (batch, lane): sorted, so it is a heap already
    taken = []
    for count in counts.tolist():
        batch, lane = free[0]
        taken.append((lane, batch))
        heapreplace(free, (batch + count, lane))
    lane_of, begin = np.array(taken, dtype=np.int64).T
    return lane_of, begin
