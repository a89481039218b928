"""Windows of random length, one length for each batch, as in AWD-LSTM: no step is always the last of its window.

Keras' `fit` reads the number of batches once, so the number must not depend on the draws. It is the number of batches
that windows of the mean length need. A batch has its drawn length as long as the remaining steps still fit exactly into
the remaining batches. Otherwise the window becomes as much shorter or longer as needed. This happens in the last batches.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.windows.counts import Lengths, check_count, check_lengths
from rnnstate.windows.cuts import Cuts, Runs, WindowList, count_windows
from rnnstate.windows.orders import take_lanes
from rnnstate.windows.plan import WindowPlan, place


@dataclass(frozen=True)
class Vary:
    """How window lengths are drawn.

    A batch has `length` steps, or with probability `half` half of them, plus normal noise, but never fewer than `low`
    nor more than `length + 4 * std`. All are shifted by the same fraction of a step, so that each epoch has equal sums.

    Args:
        low: Fewest steps of a window.
        std: Standard deviation of the noise, in steps.
        half: Probability of half a window.

    Raises:
        DataError: If a value is out of range.

    Example:

    >>> Vary(low=4, std=1.0, half=0.0).max_length(12)
    16

    References:
        - AWD-LSTM: Merity et al. (2017), arXiv:1708.02182, section 5 (variable length back-propagation sequences).
    """

    low: int = 5
    std: float = 5.0
    half: float = 0.05

    def __post_init__(self) -> None:
        check_count("low", self.low)
        for name, value, high in (("std", self.std, math.inf), ("half", self.half, 1.0)):
            if not (isinstance(value, int | float) and 0 <= value <= high and math.isfinite(value)):
                limit = "at least 0" if high == math.inf else "from 0 to 1"
                raise DataError(f"`{name}` of `Vary` must be a number {limit}. Received: {name}={value!r}.")

    def max_length(self, length: int) -> int:
        """Return the most steps that a window may have."""
        return length + math.ceil(4 * self.std)

    def mean(self, length: int) -> float:
        """Return the mean of the draws."""
        return max(self.low, length * (1 - self.half / 2))

    def draw(self, length: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw the steps of `count` windows, with the same sum whatever is drawn."""
        centre = np.where(rng.random(count) < self.half, length / 2, length)
        drawn = self._clip(rng.normal(centre, self.std), length)
        # Spread the excess of the draws over all windows; in a long epoch, this is less than a step for each.
        excess = drawn.sum() - round(count * self.mean(length))
        spread = np.diff(np.rint(np.linspace(0, excess, count + 1)))
        return self._clip(drawn - spread, length)

    def _clip(self, steps: NDArray[Any], length: int) -> NDArray[np.int64]:
        clipped: NDArray[np.int64] = np.clip(np.rint(steps), self.low, self.max_length(length)).astype(np.int64)
        return clipped


def read_vary(vary: object, length: int, order: str) -> Vary | None:
    """Return the argument `vary` of `Windows` as a `Vary`, or `None` where it is off.

    Raises:
        DataError: If it is something else, its shortest window is longer than `length`, or the order is not lanes.
    """
    if vary is None or vary is False:
        return None
    vary = Vary(low=min(Vary.low, length)) if vary is True else vary
    if not isinstance(vary, Vary):
        raise DataError(f"`vary` must be True, False or a `Vary`. Received: vary={vary!r}.")
    if vary.low > length:
        raise DataError(f"`low` of `Vary` must be at most `length`, {length}. Received: low={vary.low}.")
    if order != "lanes":
        raise DataError(
            f"`vary` draws one length for all rows of a batch, so `order` must be 'lanes'. Received: order={order!r}."
        )
    return vary


def plan_varying(
    lengths: Lengths,
    length: int,
    batch_size: int,
    vary: Vary,
    *,
    cuts: Cuts | None = None,
    seed: int = 0,
    epoch: int = 0,
) -> tuple[WindowPlan, NDArray[np.int64]]:
    """Plan lanes whose windows have another number of steps in each batch.

    Args:
        lengths: Steps of each sequence.
        length: Steps of a window before noise.
        batch_size: Lanes; there are never more of them than sequences.
        vary: How the steps are drawn.
        cuts: For each sequence, the rising steps above 0 at which a window must begin.
        seed: With `epoch` it decides all draws.
        epoch: Number of the epoch; it never changes the number of batches.

    Returns:
        The plan, whose `length` is the most steps that any window may have, and the steps of each batch `(batches,)`.
    """
    lengths = check_lengths(lengths)
    rows = min(check_count("batch_size", batch_size), len(lengths))
    runs = Runs.of(lengths, cuts)
    per_run = np.ceil(runs.steps / vary.mean(length)).astype(np.int64)
    per_sequence = np.bincount(runs.sequence, per_run, minlength=len(lengths)).astype(np.int64)
    lane, _ = take_lanes(per_sequence, rows)
    lanes = _Lanes(runs, lane[runs.sequence], rows, vary.low, vary.max_length(length))
    batches = int(np.bincount(lane[runs.sequence], per_run).max())
    drawn = vary.draw(length, batches, np.random.default_rng([seed, epoch]))
    for batch in range(batches):
        drawn[batch] = lanes.feasible(int(drawn[batch]), batches - batch - 1)
        lanes.advance(int(drawn[batch]), batch)
    return place(*lanes.windows(len(lengths)), rows, lanes.high), drawn


class _Lanes:
    """Rows that advance together, each along its own queue of runs."""

    def __init__(self, runs: Runs, lane: NDArray[np.int64], rows: int, low: int, high: int) -> None:
        self.runs, self.low, self.high = runs, low, high
        # `queue` holds the runs of lane 0, then of lane 1, and so on: lane `r` has the places `at[r]` up to `end[r]`.
        self.queue = np.argsort(lane, kind="stable")
        sizes = np.bincount(lane, minlength=rows)
        self.end = np.cumsum(sizes)
        self.at = self.end - sizes
        self.left = runs.steps[self.queue[self.at]].copy()
        self.after = {size: self._windows_after(size, lane) for size in (low, high)}
        self.met: list[tuple[NDArray[np.int64], ...]] = []

    def _windows_after(self, size: int, lane: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each place in the queue how many windows of that size its lane needs for later runs."""
        windows = count_windows(self.runs.steps[self.queue], size)
        total = np.cumsum(windows)
        return np.append(total[self.end - 1][lane[self.queue]] - total, 0)

    def _batches(self, size: int, taken: int) -> int:
        """Return the batches that are needed with windows of `size`, after one of `taken` steps."""
        alive = self.at < self.end
        left = np.maximum(self.left[alive] - taken, 0)
        return int((count_windows(left, size) + self.after[size][self.at[alive]]).max(initial=0))

    def feasible(self, steps: int, batches: int) -> int:
        """Return the number of steps nearest to `steps` after which the rest can end in exactly `batches`.

        Longest windows need fewest batches and shortest windows need most, and one step more changes either by one
        batch at most, so some number of steps from `low` to `high` always serves.
        """
        while self._batches(self.high, steps) > batches:
            steps += 1
        while self._batches(self.low, steps) < batches:
            steps -= 1
        return steps

    def advance(self, steps: int, batch: int) -> None:
        """Take a window of that many steps, or what is left of the run, from each lane."""
        row = np.flatnonzero(self.at < self.end)
        run = self.queue[self.at[row]]
        taken = np.minimum(steps, self.left[row])
        self.met.append((run, self.runs.steps[run] - self.left[row], taken, np.full(len(row), batch), row))
        self.left[row] -= taken
        done = row[self.left[row] == 0]
        self.at[done] += 1
        more = done[self.at[done] < self.end[done]]
        self.left[more] = self.runs.steps[self.queue[self.at[more]]]

    def windows(self, sequences: int) -> tuple[WindowList, NDArray[np.int64], NDArray[np.int64]]:
        """Return all windows that were taken, with batch and row of each."""
        run, offset, steps, batch, row = (np.concatenate(parts) for parts in zip(*self.met, strict=True))
        sequence, begin = self.runs.sequence[run], self.runs.begin[run]
        counts = np.bincount(sequence, minlength=sequences)
        return WindowList(sequence, begin + offset, steps, begin, counts), batch, row
