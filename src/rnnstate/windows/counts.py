"""Checks of the whole numbers from which a plan is made."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import DataError

Lengths = Sequence[int] | NDArray[np.integer[Any]]


def check_count(name: str, value: object, least: int = 1) -> int:
    """Return `value` as an int of at least `least`, or raise a `DataError` that names the argument.

    Example:

    >>> check_count("length", np.int64(3))
    3
    """
    try:
        count = least - 1 if isinstance(value, bool | np.bool_) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        count = least - 1
    if count < least:
        raise DataError(f"`{name}` must be a whole number of at least {least}. Received: {name}={value!r}.")
    return count


def check_lengths(lengths: Lengths) -> NDArray[np.int64]:
    """Return lengths as int64, or raise a `DataError` when there are none or one is below 1."""
    array = np.asarray(lengths)
    if array.ndim != 1 or not array.size:
        raise DataError(f"There must be at least one sequence. Received: lengths of shape {array.shape}.")
    if array.dtype.kind not in "iu":
        raise DataError(f"Lengths must be whole numbers. Received: dtype={array.dtype}.")
    empty = np.flatnonzero(array < 1)
    if len(empty):
        raise DataError(
            f"Each sequence must have at least one step. Received: {array[empty[0]]} steps in sequence {empty[0]}."
        )
    return array.astype(np.int64)
