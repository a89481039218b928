"""The order of windows that arrive: which batch each window goes to, from the moments at which windows are complete.

A batch is made as soon as enough sequences have a complete window: as many as a batch has rows, or all sequences that have
windows left. It takes the window that was complete first, then the next, but never two of one sequence.

    two rows, windows of a and b complete in this order     a0  a1  b0  a2  b1
                                                batch 0     a0      b0               a1 waits for b1
                                                batch 1         a1          b1       then a2 goes alone, as b has ended
"""

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.windows.chunk_gaps import Gaps
from rnnstate.windows.chunks import Chunk, Layout, Make, read_chunks
from rnnstate.windows.cuts import WindowList, cut_windows
from rnnstate.windows.horizon import check_steps
from rnnstate.windows.keys import warn_of_white_space
from rnnstate.windows.plan import WindowPlan, place


@dataclass(frozen=True, eq=False)
class Survey:
    """What one pass over a source has found.

    Args:
        keys: Key of each sequence, in order of appearance.
        lengths: Steps of each sequence, `(sequences,)`.
        complete: For each window, sequence by sequence in time order, how many steps of the whole source had come when
            the window was complete, `(windows,)`.
        layout: Parts, shapes and dtypes of the chunks.
        gaps: How many steps are missing before the steps of each sequence.
    """

    keys: tuple[Hashable, ...]
    lengths: NDArray[np.int64]
    complete: NDArray[np.int64]
    layout: Layout
    gaps: tuple[Gaps, ...]

    @classmethod
    def of(cls, make: Make, layout: Layout, length: int, horizon: int) -> "Survey":
        """Read the source once, check every chunk, and keep none.

        Raises:
            DataError: If the source is empty, or a sequence or a chunk is not as it must be.
        """
        number, come = 0, 0
        found: dict[Hashable, _Progress] = {}
        for chunk in read_chunks(make, layout):
            number, come = chunk.number + 1, come + chunk.steps
            found.setdefault(chunk.key, _Progress(length, horizon)).add(chunk, come)
        layout.fixed = True
        _check_any({key: progress.steps for key, progress in found.items()}, number)
        warn_of_white_space(tuple(found))
        lengths = np.array([progress.steps for progress in found.values()], np.int64)
        check_steps(lengths, horizon, tuple(found))
        for progress in found.values():
            progress.end()
        complete = np.array([moment for progress in found.values() for moment in progress.moments], np.int64)
        return cls(tuple(found), lengths, complete, layout, tuple(progress.gaps for progress in found.values()))

    @cached_property
    def cuts(self) -> list[NDArray[np.int64]]:
        """For each sequence, the rising steps at which a window must begin, because steps are missing before them."""
        return [np.array(list(gaps), np.int64) for gaps in self.gaps]


class _Progress:
    """How far one sequence has come, and when its windows were complete."""

    def __init__(self, length: int, horizon: int) -> None:
        self._length, self._horizon = length, horizon
        self.steps = 0
        self.gaps = Gaps()
        self.moments: list[int] = []  # of each complete window, the steps of the whole source that had come
        # The steps since the latest gap are a run: its first step, and how many of its windows are complete.
        self._run, self._windows = 0, 0
        self._latest = 0  # the moment of the latest step

    def add(self, chunk: Chunk, come: int) -> None:
        """Add a chunk, with which `come` steps of the whole source have come."""
        missing = np.zeros(0, np.int64) if chunk.missing is None else chunk.missing
        for i in np.flatnonzero(missing).tolist():
            step = chunk.begin + i
            if step:
                # The window before the gap was complete with its last step, which may have been in an earlier chunk.
                self._complete(-(-(step - self._run) // self._length), self._latest if i == 0 else come)
                self.gaps[step] = int(missing[i])
                self._run, self._windows = step, 0
        self.steps = chunk.begin + chunk.steps
        self._complete(max(self.steps - self._horizon - self._run, 0) // self._length, come)
        self._latest = come if chunk.steps else self._latest

    def end(self) -> None:
        """Complete the last window, which may be shorter than the others."""
        self._complete(-(-(self.steps - self._horizon - self._run) // self._length), self._latest)

    def _complete(self, windows: int, moment: int) -> None:
        self.moments += [moment] * (windows - self._windows)
        self._windows = max(windows, self._windows)


def _check_any(steps: dict[Hashable, int], chunks: int) -> None:
    if not steps:
        raise DataError("A source must yield at least one chunk. Received: none from `make()`.")
    for key, count in steps.items():
        if not count:
            raise DataError(
                f"Each sequence must have at least one step. Received: none in {chunks} chunks for sequence {key!r}. "
                "Leave empty sequences out."
            )


def plan_arrivals(
    survey: Survey, length: int, batch_size: int, horizon: int = 0, prefix: int = 0, buffer: int | None = None
) -> WindowPlan:
    """Plan the batches of a source.

    Args:
        survey: What a pass over the source has found.
        length: Steps of a window.
        batch_size: Rows of a batch at most.
        horizon: How many steps ahead the targets lie.
        prefix: How many steps before each window belong to its inputs.
        buffer: How many steps may wait for their batch. By default there is no bound.

    Returns:
        The plan. It holds every step with a target once, and never two windows of one sequence in a batch.

    Raises:
        DataError: If more steps than `buffer` would wait. The message names the sequence that runs ahead.
    """
    windows = cut_windows(survey.lengths - horizon, length, survey.cuts)
    rows = min(batch_size, len(survey.keys))
    queue = _Waiting(windows, survey.complete, rows, horizon)
    for window in np.lexsort((windows.start, windows.sequence, survey.complete)).tolist():
        queue.add(window)
    if buffer is not None and queue.most > buffer:
        _refuse(survey, windows, queue, buffer)
    return place(windows, queue.batch, queue.row, rows, length, prefix)


class _Waiting:
    """The windows that are complete and wait for a batch."""

    def __init__(self, windows: WindowList, complete: NDArray[np.int64], rows: int, horizon: int) -> None:
        self.sequence, self.steps = windows.sequence.tolist(), windows.steps.tolist()
        self.complete = complete.tolist()
        self.left = windows.counts.tolist()
        self.unfinished, self.rows, self.horizon = len(self.left), rows, horizon
        self.queues: list[deque[int]] = [deque() for _ in self.left]
        self.heads: list[tuple[int, int]] = []  # (moment, sequence) of the first waiting window of each sequence
        self.batch = np.zeros(len(self.sequence), np.int64)
        self.row = np.zeros(len(self.sequence), np.int64)
        self.batches, self.gone = 0, 0
        # The most steps that wait, when they do (in steps of the source), and for which batch.
        self.most, self.moment, self.most_at = 0, 0, 0

    def add(self, window: int) -> None:
        """Let a window wait, and make each batch that is possible now."""
        sequence = self.sequence[window]
        self.queues[sequence].append(window)
        if len(self.queues[sequence]) == 1:
            heappush(self.heads, (self.complete[window], sequence))
        if self.complete[window] - self.gone > self.most:
            self.moment, self.most_at = self.complete[window], self.batches
            self.most = self.moment - self.gone
        while self.heads and len(self.heads) >= min(self.rows, self.unfinished):
            self._make([heappop(self.heads)[1] for _ in range(min(self.rows, self.unfinished))])

    def _make(self, sequences: list[int]) -> None:
        for sequence, row in _rows_of(sequences, self.rows):
            window = self.queues[sequence].popleft()
            self.batch[window], self.row[window] = self.batches, row
            self.left[sequence] -= 1
            self.unfinished -= not self.left[sequence]
            # The last steps of a sequence are targets alone, and go with its last window.
            self.gone += self.steps[window] + (0 if self.left[sequence] else self.horizon)
            if self.queues[sequence]:
                heappush(self.heads, (self.complete[self.queues[sequence][0]], sequence))
        self.batches += 1


def _rows_of(sequences: Sequence[int], rows: int) -> Iterable[tuple[int, int]]:
    """Return the sequences of a batch with their rows: a sequence has the same row in each batch, if this row is free."""
    free, placed = set(range(rows)), []
    for sequence in sorted(sequences):
        row = sequence % rows
        if row in free:
            free.remove(row)
            placed.append((sequence, row))
    known = {sequence for sequence, _ in placed}
    others = [sequence for sequence in sorted(sequences) if sequence not in known]
    return sorted([*placed, *zip(others, sorted(free), strict=False)])


def _refuse(survey: Survey, windows: WindowList, queue: _Waiting, buffer: int) -> None:
    # The windows that are complete at that moment and not in an earlier batch.
    waiting = (survey.complete <= queue.moment) & (queue.batch >= queue.most_at)
    steps = np.bincount(windows.sequence[waiting], windows.steps[waiting], len(survey.keys)).astype(int)
    ahead = int(steps.argmax())
    raise DataError(
        f"At most {buffer} steps may wait for their batch, as `buffer` says. Received: {queue.most} before batch "
        f"{queue.most_at}, {steps[ahead]} of them of sequence {survey.keys[ahead]!r}, which runs ahead of the others. Pass "
        f"`buffer={queue.most}`, let the source interleave its sequences, yield shorter chunks, or use a smaller "
        "`batch_size`."
    )
