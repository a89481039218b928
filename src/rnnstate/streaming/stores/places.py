"""The rows of the keys of recent pushes, so that a push of the same keys looks up none of them.

Live sources are often pushed in the same groups at every tick. Two lists of the same text objects are compared by their
addresses, in a tenth of the time that a dict takes to find each key:

    ("north", "south", ...)   rows 0, 1, ...        the sensors of one group
    ("west", "up", ...)       rows 256, 257, ...    the sensors of the next group
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64] | slice
_GROUPS = 256  # the largest number of groups


class Places:
    """The rows of groups of keys, while no record is written and no row is dropped."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, int], tuple[Sequence[str], Rows]] = {}
        self._keys = 0  # how many keys all groups have

    def find(self, keys: Sequence[str]) -> Rows | None:
        """Return the rows of keys, or `None` if no group has just these keys in this order."""
        found = self._groups.get((keys[0], len(keys)))
        return found[1] if found is not None and found[0] == keys else None

    def keep(self, keys: Sequence[str], rows: Rows, limit: int) -> None:
        """Remember the rows of keys. All groups together have at most `limit` keys; a single group may have more."""
        if len(self._groups) >= _GROUPS or self._keys + len(keys) > limit:
            self.clear()
        self._groups[keys[0], len(keys)] = [*keys], rows  # the caller may change its list
        self._keys += len(keys)

    def clear(self) -> None:
        """Forget all groups."""
        if self._groups:
            self._groups, self._keys = {}, 0
