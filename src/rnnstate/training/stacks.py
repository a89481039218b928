"""Stacks: the batches of one call of the training function, cut from the data together.

To cut a small batch takes longer than to copy its numbers. So the batches of a call are cut at once, into arrays with one
axis more, and each batch is a view of these arrays:

    x of the stack     (batches, batch, time, features)
    x of batch b       stack[b]                            (batch, time, features)

Keras passes the batches on one by one. The training function asks for the stack again, and copies nothing.
"""

from collections.abc import Sequence
from typing import Any


class Stack:
    """Consecutive batches of one epoch, each of which is handed out once.

    Args:
        epoch: The epoch.
        begin: The number of the first batch.
        arrays: The batches along a new first axis: a tuple of arrays, and of mappings of arrays.
    """

    def __init__(self, epoch: int, begin: int, arrays: tuple[Any, ...]) -> None:
        self.arrays = arrays
        self._batches = _rows(arrays)
        self._next, self._end = (epoch, begin), begin + len(self._batches)

    def take(self, epoch: int, index: int) -> Any:
        """Return a batch if it is the next one of this stack, else `None`."""
        if self._next != (epoch, index) or index == self._end:
            return None
        self._next = epoch, index + 1
        return self._batches[index - self._end]  # counted from the end

    def is_of(self, batches: Sequence[Any]) -> bool:
        """Return whether these are all batches of this stack, in order."""
        try:
            # Python takes an object for equal to itself, and compares two arrays only if they are not the same one.
            return list(batches) == self._batches
        except ValueError:  # NumPy does not say whether two arrays are equal
            return False


def _rows(part: Any) -> list[Any]:
    """Return the rows of arrays along their first axis, in the structure of the arrays."""
    if isinstance(part, dict):
        columns = zip(*map(_rows, part.values()), strict=True)
        return [dict(zip(part, column, strict=True)) for column in columns]
    if isinstance(part, tuple):
        return list(zip(*map(_rows, part), strict=True))
    return list(part)
