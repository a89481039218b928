"""How the values of an array are distributed: mean, spread, extremes and a histogram, at a small cost.

`StateLog` takes these numbers after each epoch. For the few values of a small state, `np.histogram` takes longer than
everything here together.
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


def distribution(values: Array) -> Distribution:
    """Return the statistics of all values of an array.

    Example:

    >>> found = distribution(np.array([[0.0, 1.0], [2.0, np.inf]]))
    >>> found.mean, found.min, found.max, found.not_finite
    (1.0, 0.0, 2.0, 1)
    >>> found.counts.nonzero()[0].tolist()
    [0, 10, 19]
    """
    given = np.ravel(values).astype(np.float64)
    finite = given if np.isfinite(given).all() else given[np.isfinite(given)]
    others = given.size - finite.size
    if not finite.size:
        nothing = np.zeros(BINS, np.int64), np.zeros(BINS + 1)
        return Distribution(np.nan, np.nan, np.nan, np.nan, others, 0, *nothing)
    mean, low, high = float(finite.mean()), float(finite.min()), float(finite.max())
    centred = finite - mean
    std = float(centred @ centred / finite.size) ** 0.5
    return Distribution(mean, std, low, high, others, finite.size, *_histogram(finite, low, high))


def _histogram(values: Array, low: float, high: float) -> tuple[Array, Array]:
    """Return what `np.histogram` returns. Its many checks are left out."""
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    bins = ((values - low) * (BINS / (high - low))).astype(np.int64)
    np.minimum(bins, BINS - 1, out=bins)  # the greatest value lies in the last bin
    # Rounding has put a value that lies at an edge into the neighbour of its bin.
    bins -= values < edges[bins]
    bins += (values >= edges[bins + 1]) & (bins < BINS - 1)
    return np.bincount(bins, minlength=BINS), edges
