"""Which rows of a table belong to which sequence: the only definition of a key.

`Windows.from_frame` and the series of the command line both group their rows here. Two rows belong to one sequence if
their keys are equal as Python compares them. Nothing is stripped or converted, and sequences keep their order of appearance.
"""

import re
import sys
import warnings
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from rnnstate.errors import KeyWarning
from rnnstate.messages import counted, listed
from rnnstate.windows.arrays import Array


@dataclass(frozen=True, eq=False)
class Groups:
    """Which rows belong to which sequence.

    Args:
        keys: Key of each sequence, in order of appearance.
        bounds: Bounds of the sequences among the ordered rows; `(sequences + 1,)`.
        order: Row numbers that bring the rows of a key together, or `None` if they are together already.

    Example:

    >>> groups = Groups.of(np.array(["b", "a", "b"]))
    >>> groups.keys, [rows.tolist() for rows in groups.rows()]
    (('b', 'a'), [[0, 2], [1]])
    """

    keys: tuple[Hashable, ...]
    bounds: Array
    order: Array | None

    @classmethod
    def of(cls, column: Array) -> "Groups":
        """Group rows by a column of keys `(rows,)`, in which no key is missing."""
        begins = np.flatnonzero(np.r_[True, column[1:] != column[:-1]]) if len(column) else np.zeros(0, np.int64)
        runs = _items(column[begins])
        codes = {name: code for code, name in enumerate(dict.fromkeys(runs))}
        sizes = np.diff(np.r_[begins, len(column)])
        if len(codes) == len(runs):
            return cls(tuple(codes), np.r_[0, np.cumsum(sizes)].astype(np.int64), None)
        code = np.repeat(np.fromiter(map(codes.__getitem__, runs), np.int64, len(runs)), sizes)
        return cls(tuple(codes), np.r_[0, np.cumsum(np.bincount(code))], np.argsort(code, kind="stable"))

    @classmethod
    def single(cls, count: int, key: Hashable = 0) -> "Groups":
        """Return all rows as one sequence."""
        return cls((key,), np.array([0, count]), None)

    def sorted_by(self, times: Array) -> "Groups":
        """Return the same sequences with their rows in the order of `times` `(rows,)`. Missing times come last."""
        sequence = np.repeat(np.arange(len(self.keys)), np.diff(self.bounds))
        order = np.lexsort((self.ordered(times), sequence))
        return replace(self, order=self.ordered(order) if self.order is None else self.order[order])

    def ordered(self, column: Array) -> Array:
        """Return a column with the rows of each key together."""
        return column if self.order is None else column[self.order]

    def row(self, position: int) -> int:
        """Return the row number of a position among the ordered rows."""
        return position if self.order is None else int(self.order[position])

    def rows(self) -> list[Array]:
        """Return the row numbers of each sequence."""
        order = np.arange(self.bounds[-1]) if self.order is None else self.order
        return list(self.split(order).values())

    def place(self, position: int) -> tuple[Hashable, int]:
        """Return key and step of a position among the ordered rows."""
        group = int(np.searchsorted(self.bounds, position, side="right")) - 1
        return self.keys[group], position - int(self.bounds[group])

    def split(self, array: Array) -> dict[Hashable, Array]:
        """Return views of an ordered array, one for each key."""
        cuts = self.bounds.tolist()
        return {key: array[a:b] for key, a, b in zip(self.keys, cuts, cuts[1:], strict=False)}


def warn_of_white_space(keys: Iterable[Hashable]) -> None:
    """Warn once of keys that differ by white space alone. They stay different sequences.

    Example:

    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warn_of_white_space(["north", " north", "south"])
    >>> str(caught[0].message).partition(".")[0]
    "2 keys differ only by white space: 'north', ' north'"
    """
    alike = differ_by_white_space(keys)
    if alike:
        text = (
            f"{counted(len(alike), 'key')} differ only by white space: {listed(alike, limit=4)}. "
            "Each is a sequence of its own. If they name one sequence, write its key in one way."
        )
        warnings.warn(text, KeyWarning, stacklevel=_levels_to_the_caller())


def differ_by_white_space(keys: Iterable[Hashable]) -> list[str]:
    """Return the keys that equal another key if white space is left out, next to each other.

    Example:

    >>> differ_by_white_space(["a", "b", "a ", 7])
    ['a', 'a ']
    """
    texts = [key for key in keys if isinstance(key, str)]
    if not re.search(r"\s", "".join(texts)):
        return []
    alike: dict[str, list[str]] = {}
    for text in texts:
        alike.setdefault(bare_key(text), []).append(text)
    return [text for group in alike.values() if len(group) > 1 for text in group]


def bare_key(key: str) -> str:
    """Return a key without its white space, for hints alone: keys with and without it are different keys."""
    return "".join(key.split())


def _levels_to_the_caller() -> int:
    """Return the `stacklevel` of the first frame outside this package, for a warning in the calling function."""
    level = 1
    while sys._getframe(level).f_globals.get("__name__", "").startswith("rnnstate.") and sys._getframe(level).f_back:
        level += 1
    return level


def _items(values: Array) -> list[Hashable]:
    # Dates stay NumPy's: `tolist` would turn nanoseconds into plain integers.
    return list(values) if values.dtype.kind in "mM" else values.tolist()
