"""Parts of sequences by time: the first share of each for training, and later shares for validation and test."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from rnnstate.errors import DataError
from rnnstate.messages import listed


def part_bounds(rows: int, fractions: Sequence[float]) -> list[tuple[int, int]]:
    """Return the first row of each part of a sequence and the row after its last.

    Example:

    >>> part_bounds(10, (0.7, 0.1, 0.2))
    [(0, 7), (7, 8), (8, 10)]
    """
    inner = [round(rows * sum(fractions[:count])) for count in range(1, len(fractions))]
    return list(pairwise([0, *inner, rows]))


def split_by_time(data: Any, fractions: Sequence[float] = (0.7, 0.1, 0.2)) -> tuple[Any, ...]:
    """Cut each sequence at the same shares of its steps, so that no part sees a later one.

    The command line splits in this way. Split `x` and `y` alike, before `Windows(..., horizon=)` pairs them: then no target
    lies in another part.

    Args:
        data: An array `(time, ...)`, a stack `(sequences, time, features)`, a list of arrays, or a mapping of these by key
            or by name.
        fractions: Share of each part, in time order. They add up to 1.

    Returns:
        For each fraction the part, in the form of `data`. Arrays are views.

    Raises:
        DataError: If the fractions do not add up to 1, or a part of a sequence would be empty; with its key.

    Example:

    >>> train, test = split_by_time({"north": np.arange(10), "south": np.arange(5)}, (0.8, 0.2))
    >>> test["north"].tolist(), test["south"].tolist()
    ([8, 9], [4])
    """
    shares = [float(share) for share in fractions]
    if not shares or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise DataError(
            f"`fractions` must be above 0 and add up to 1. Received: {listed(shares, 6)}. Write for example (0.7, 0.1, 0.2)."
        )
    return tuple(_parts(data, shares, ""))


def _parts(data: Any, shares: list[float], place: str) -> list[Any]:
    if isinstance(data, Mapping):
        split = {name: _parts(part, shares, f" in {name!r}") for name, part in data.items()}
        return [{name: parts[index] for name, parts in split.items()} for index in range(len(shares))]
    if isinstance(data, list | tuple):
        rows = [_parts(part, shares, f" in sequence {index}") for index, part in enumerate(data)]
        return [[parts[index] for parts in rows] for index in range(len(shares))]
    array = np.asarray(data)
    steps = array.shape[1] if array.ndim > 2 else len(array)
    bounds = part_bounds(steps, shares)
    if any(begin == end for begin, end in bounds):
        raise DataError(
            f"Each part must have at least one step. Received: {steps} steps{place}, for fractions {listed(shares, 6)}. "
            "Leave out short sequences, or use fewer parts."
        )
    return [array[:, begin:end] if array.ndim > 2 else array[begin:end] for begin, end in bounds]
