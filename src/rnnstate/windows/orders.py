"""Which batch and row each window goes to.

An order knows how many windows each sequence has, and nothing else. It returns batch and row of every window, listed
sequence by sequence in time order. Every order keeps two promises: windows of a sequence come in rising batches, and
the number of batches does not depend on the epoch, which Keras' `fit` reads once.
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
    """Let each row take one sequence after another, as they come; the row that is free first takes the next."""
    lane, begin = take_lanes(counts, rows)
    offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(begin, counts) + offset, np.repeat(lane, counts)


def buckets(counts: Counts, rows: int, rng: np.random.Generator) -> Places:
    """Let each row take the longest sequence that is left, so that rows run alike and end together."""
    longest = np.argsort(-counts, kind="stable")
    batch, row = lanes(counts[longest], rows, rng)
    # Windows are back in the order of the sequences as given.
    back = np.argsort(np.repeat(longest, counts[longest]), kind="stable")
    return batch[back], row[back]


def shuffled(counts: Counts, rows: int, rng: np.random.Generator) -> Places:
    """Put windows of random sequences in each batch, in as few batches as any order needs.

    Each window draws a random moment of the epoch, and a sequence's moments are dealt to its windows in time order. A
    batch takes the earliest windows of different sequences, but first those of sequences that need every batch left.
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
    """The next window of each sequence, by its moment. Plain lists: one number at a time, they are faster than arrays."""

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
            # A sequence that went first because it had to has left its window in the heap.
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
