"""Where windows begin and end in each sequence: arithmetic on lengths and cuts, before any batch is made.

A cut is a step at which a window must begin, so a gap or a reset at this step never lies inside a window. The steps
between two cuts are a run. All windows of a run are full, except for the last one:

    steps      0 1 2 3 4 5 6 | 7 8 9 10      cut at 7, length 3
    windows    [0 1 2][3 4 5][6] [7 8 9][10]
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError
from rnnstate.windows.counts import Lengths, check_count, check_lengths

Cuts = Sequence[NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Runs:
    """Stretches of steps without a cut, in time order of each sequence.

    Args:
        sequence: Index of the sequence; `(runs,)`.
        begin: First step in the sequence; `(runs,)`.
        steps: Number of steps; `(runs,)`.
    """

    sequence: NDArray[np.int64]
    begin: NDArray[np.int64]
    steps: NDArray[np.int64]

    @classmethod
    def of(cls, lengths: NDArray[np.int64], cuts: Cuts | None = None) -> "Runs":
        """Return the runs of sequences with these lengths; `cuts` are rising steps above 0, for each sequence."""
        if cuts is None:
            return cls(np.arange(len(lengths)), np.zeros(len(lengths), dtype=np.int64), lengths)
        sequence = np.repeat(np.arange(len(lengths)), [len(steps) + 1 for steps in cuts])
        begin = np.concatenate([np.append(0, steps) for steps in cuts]).astype(np.int64)
        end = np.concatenate([np.append(steps, length) for steps, length in zip(cuts, lengths, strict=True)])
        return cls(sequence, begin, end.astype(np.int64) - begin)


@dataclass(frozen=True, eq=False)
class WindowList:
    """All windows, in time order of each sequence; arrays `(windows,)`.

    Args:
        sequence: Index of the sequence.
        start: First step.
        steps: Number of steps.
        begin: First step of the run that the window belongs to.
        counts: Windows of each sequence; `(sequences,)`.
    """

    sequence: NDArray[np.int64]
    start: NDArray[np.int64]
    steps: NDArray[np.int64]
    begin: NDArray[np.int64]
    counts: NDArray[np.int64]


def cut_windows(lengths: NDArray[np.int64], length: int, cuts: Cuts | None = None) -> WindowList:
    """Cut sequences into windows of `length` steps.

    Args:
        lengths: Steps of each sequence.
        length: Steps of a full window.
        cuts: For each sequence, the rising steps above 0 at which a window must begin.

    Returns:
        The windows; every step of every sequence is in one of them.
    """
    runs = Runs.of(lengths, cuts)
    windows = count_windows(runs.steps, length)
    run = np.repeat(np.arange(len(windows)), windows)
    offset = length * (np.arange(len(run)) - np.repeat(np.cumsum(windows) - windows, windows))
    sequence = runs.sequence[run]
    return WindowList(
        sequence=sequence,
        start=runs.begin[run] + offset,
        steps=np.minimum(length, runs.steps[run] - offset),
        begin=runs.begin[run],
        counts=np.bincount(sequence, minlength=len(lengths)),
    )


def cut_pieces(lengths: Lengths, pieces: int, keys: Sequence[Hashable] | None = None) -> NDArray[np.int64]:
    """Cut each sequence into contiguous pieces whose lengths differ by one step at most.

    Args:
        lengths: Steps of each sequence.
        pieces: Pieces of each sequence.
        keys: Names of the sequences in error messages; by default their index.

    Returns:
        Bounds `(sequences, pieces + 1)`: piece `p` of sequence `i` holds the steps `[i, p]` up to `[i, p + 1]`.

    Raises:
        DataError: If a sequence has fewer steps than `pieces`.

    Example:

    >>> cut_pieces([10], 4).tolist()
    [[0, 2, 5, 7, 10]]
    """
    lengths = check_lengths(lengths)
    pieces = check_count("pieces", pieces)
    short = np.flatnonzero(lengths < pieces)
    if len(short):
        i = int(short[0])
        raise DataError(
            f"`pieces` must be at most the steps of each sequence. Received: pieces={pieces}, but sequence "
            f"{i if keys is None else keys[i]!r} has {lengths[i]} steps."
        )
    return lengths[:, None] * np.arange(pieces + 1) // pieces


def piece_cuts(cuts: Cuts, bounds: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the cuts inside each piece that `bounds` makes, counted from the piece's first step."""
    return [
        steps[(steps > a) & (steps < b)] - a
        for steps, bound in zip(cuts, bounds.tolist(), strict=True)
        for a, b in pairwise(bound)
    ]


def count_windows(lengths: NDArray[np.int64], length: int) -> NDArray[Any]:
    """Return how many windows cover each stretch of steps."""
    return -(-lengths // length)
