"""How the values of arrays are distributed: mean, spread, extremes and a histogram, at a small cost.

`StateLog` takes these numbers of each leaf and epoch. For the few values of a small state, `np.histogram` takes longer
than everything here together.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BINS = 20


class Distribution(NamedTuple):
    """The statistics of the finite values of an array; NaN if there are none.

    Args:
        mean: Their mean.
        std: Their standard deviation.
        min: The least of them.
        max: The greatest of them.
        not_finite: How many other values the array has.
        size: How many finite values there are.
        counts: How many of them lie in each of 20 bins of equal width, int `(20,)`. The last bin includes its right end.
        edges: The ends of the bins, `(21,)`: from `min` to `max`, or half a unit around the only value.
    """

    mean: float
    std: float
    min: float
    max: float
    not_finite: int
    size: int
    counts: Array
    edges: Array


def distributions(arrays: Array) -> list[Distribution]:
    """Return the statistics of all values of each array in a stack.

    A call of NumPy takes longer than it computes where arrays are small, so the arrays of a stack share the calls.

    Args:
        arrays: `(arrays, ...)`.

    Example:

    >>> found, other = distributions(np.array([[0.0, 1.0, 2.0, np.inf], [3.0, 3.0, 3.0, 3.0]]))
    >>> found.mean, found.min, found.max, found.not_finite
    (1.0, 0.0, 2.0, 1)
    >>> found.counts.nonzero()[0].tolist()
    [0, 10, 19]
    >>> other.std, other.edges[[0, -1]].tolist()
    (0.0, [2.5, 3.5])
    """
    rows = np.reshape(arrays, (len(arrays), -1)).astype(np.float64)
    finite = np.isfinite(rows)
    if finite.all():
        return _finite(rows)
    # Rows with other values keep different numbers of values, so each is a stack of one.
    return [_finite(row[None, known], row.size - int(known.sum()))[0] for row, known in zip(rows, finite, strict=True)]


def _finite(rows: Array, others: int = 0) -> list[Distribution]:
    """Return the statistics of each row. All values are finite; `others` counts the values that were left out before."""
    size = rows.shape[1]
    if not size:
        nothing = np.zeros(BINS, np.int64), np.zeros(BINS + 1)
        return [Distribution(np.nan, np.nan, np.nan, np.nan, others, 0, *nothing) for _ in rows]
    means, lows, highs = rows.mean(1), rows.min(1), rows.max(1)
    stds = np.sqrt(np.square(rows - means[:, None]).mean(1))
    counts, edges = _histograms(rows, lows, highs)
    four = np.stack([means, stds, lows, highs], 1).tolist()
    return [
        Distribution(mean, std, low, high, others, size, count, edge)
        for (mean, std, low, high), count, edge in zip(four, counts, edges, strict=True)
    ]


def _histograms(rows: Array, lows: Array, highs: Array) -> tuple[Array, Array]:
    """Return what `np.histogram` returns for each row. Its many checks are left out."""
    half = np.where(lows == highs, 0.5, 0.0)
    edges = np.linspace(lows - half, highs + half, BINS + 1, axis=1)
    low, width = edges[:, :1], edges[:, -1:] - edges[:, :1]
    bins = ((rows - low) * (BINS / width)).astype(np.int64)
    np.minimum(bins, BINS - 1, out=bins)  # the greatest value lies in the last bin
    # Rounding has put a value that lies at an edge into the neighbour of its bin.
    bins -= rows < np.take_along_axis(edges, bins, 1)
    bins += (rows >= np.take_along_axis(edges, bins + 1, 1)) & (bins < BINS - 1)
    first = BINS * np.arange(len(rows))[:, None]  # row 0 counts in bins 0 to 19, row 1 in bins 20 to 39, ...
    return np.bincount((bins + first).ravel(), minlength=BINS * len(rows)).reshape(-1, BINS), edges
