"""The table of a `MemoryStore`: one array per field, and a dict from keys to rows.

Arrays grow by an eighth, in place where the system can extend them, so that at most an eighth of a table is unused. Freed
rows are used again. The token of a row also says when it was written: tokens rise with every write.
"""

from collections.abc import Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.streaming.stores.places import Places, Rows
from rnnstate.streaming.stores.records import MODEL_DTYPE, Extra, Records
from rnnstate.streaming.stores.store import Gathered

ROW_BYTES = 200  # the key, its place in the dict, and the counters of a row
_QUEUE = 4096  # how many of the oldest rows are sorted at once


class Table:
    """Rows of records by key.

    Args:
        leaves: Name, shape of one row and dtype of each leaf.
        last: The shape of the output of one step, or `None`.
    """

    def __init__(self, leaves: Sequence[tuple[str, tuple[int, ...], str]], last: tuple[int, ...] | None = None) -> None:
        self._slots: dict[str, int] = {}
        self._keys: list[str | None] = []
        self._free: list[int] = []
        self._extras: dict[int, Extra] = {}
        self._count, self._number = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._updated, self._tokens = np.zeros(0, np.float64), np.zeros(0, np.int64)
        self._leaves = {name: np.zeros((0, *shape), dtype) for name, shape, dtype in leaves}
        self._last = None if last is None else np.zeros((0, *last), np.float32)
        arrays = [*self._leaves.values(), *([] if self._last is None else [self._last])]
        self.row_bytes = sum(array.dtype.itemsize * int(np.prod(array.shape[1:])) for array in arrays)
        self._extra_bytes = 0
        self._known = Places()  # the rows of keys that have a state alone
        self._version = 0  # how often a row has changed
        self._queue: list[tuple[int, int]] = []  # token and row of the oldest rows, the oldest at the end

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def nbytes(self) -> int:
        """The bytes of all rows in use."""
        return len(self._slots) * (self.row_bytes + ROW_BYTES) + self._extra_bytes

    @property
    def allocated(self) -> int:
        """The bytes of all arrays, with the rows that are not in use."""
        return sum(array.nbytes for array in self._arrays())

    def keys(self) -> list[str]:
        """Return all keys."""
        return list(self._slots)

    def find(self, keys: Sequence[str]) -> list[int]:
        """Return the row of each key, or -1."""
        get = self._slots.get
        return [get(key, -1) for key in keys]

    def gather(self, keys: Sequence[str], rows: int) -> Gathered | None:
        """Return the states of sessions, or `None` if one is not here or has more than a state. See `Store.gather`."""
        places = self._places(keys)
        if places is None:
            return None
        leaves = [_taken(leaf, places, len(keys), rows) for leaf in self._leaves.values()]
        return Gathered(places, len(keys), self._version, leaves)

    def scatter(
        self, rows: Gathered, leaves: Sequence[NDArray[Any]], steps: int, last: Any, now: float, token: int
    ) -> bool:
        """Write the next states of rows, with new tokens after `token`, unless the table has changed meanwhile."""
        if rows.version != self._version:
            return False
        self._version += 1
        places = rows.places
        self._tokens[places] = np.arange(token + 1, token + 1 + rows.count)
        self._count[places] += steps
        self._updated[places] = now
        for leaf, new in zip(self._leaves.values(), leaves, strict=True):
            leaf[places] = new
        if self._last is not None and last is not None:
            self._last[places] = last
        return True

    def _places(self, keys: Sequence[str]) -> Rows | None:
        """Return the rows of keys that have a state alone, or `None` if one has none, a number or an extra.

        Rows that lie one after the other, as those of sessions that began together, are a slice: one block of memory.
        """
        if len(keys) == 1:
            return self._place(keys[0])
        known = self._known.find(keys)
        if known is not None:
            return known
        try:
            places = np.fromiter(map(self._slots.__getitem__, keys), np.int64, len(keys))
        except KeyError:
            return None
        if self._number[places].max() >= 0:
            return None
        if self._extras and not self._extras.keys().isdisjoint(places.tolist()):
            return None
        first, n = int(places[0]), len(places)
        block = int(places[-1]) - first == n - 1 and bool((places == np.arange(first, first + n)).all())
        rows = slice(first, first + n) if block else places
        self._known.keep(keys, rows, len(self._tokens))
        return rows

    def _place(self, key: str) -> slice | None:
        slot = self._slots.get(key, -1)
        if slot < 0 or self._number[slot] >= 0 or slot in self._extras:
            return None
        return slice(slot, slot + 1)

    def _changed(self) -> None:
        """Note that records have changed."""
        self._known.clear()
        self._version += 1

    def tokens(self, slots: list[int]) -> NDArray[np.int64]:
        """Return the token of each row, 0 for keys without a row."""
        if not len(self._tokens):
            return np.zeros(len(slots), np.int64)
        places = np.array(slots, np.int64)
        return np.where(places >= 0, self._tokens[places], 0)

    def read(self, slots: list[int], model: str) -> Records:
        """Return copies of some rows."""
        places = np.array(slots, np.int64)
        extras = {at: self._extras[slot] for at, slot in enumerate(slots) if slot in self._extras}
        return Records(
            [self._keys[slot] or "" for slot in slots],
            self._count[places],
            self._number[places],
            self._updated[places],
            np.full(len(slots), model.encode(), MODEL_DTYPE),
            {name: leaf[places] for name, leaf in self._leaves.items()},
            None if self._last is None else self._last[places],
            extras if self._extras else {},
        )

    def write(self, records: Records, token: int, slots: list[int] | None = None) -> int:
        """Write records, with one new token for each of them, and return the last token. `slots` are their rows, or -1."""
        self._changed()
        slots = self.find(records.keys) if slots is None else slots
        if -1 in slots:
            slots = [self._slot(key) for key in records.keys]
        places = np.array(slots, np.int64)
        self._count[places], self._number[places] = records.count, records.number
        self._updated[places] = records.updated
        self._tokens[places] = np.arange(token + 1, token + 1 + len(slots))
        for name, leaf in self._leaves.items():
            leaf[places] = records.leaves[name]
        if self._last is not None and records.last is not None:
            self._last[places] = records.last
        if records.extras or self._extras:
            for at, slot in enumerate(slots):
                self._put_extra(slot, records.extras.get(at))
        return token + len(slots)

    def drop(self, keys: Sequence[str]) -> None:
        """Free the rows of some keys."""
        self._changed()
        for key in keys:
            slot = self._slots.pop(key)
            self._put_extra(slot, None)
            self._keys[slot], self._tokens[slot] = None, 0
            self._free.append(slot)

    def rename(self, names: Sequence[str]) -> None:
        """Give the leaves other names, in order."""
        self._leaves = dict(zip(names, self._leaves.values(), strict=True))

    def extras_of(self, slots: list[int]) -> int:
        """Return the bytes of the rarely used parts of some rows."""
        return sum(extra_bytes(self._extras[slot]) for slot in slots if slot in self._extras) if self._extras else 0

    def oldest(self, nbytes: int, kept: Set[str]) -> list[int]:
        """Return the rows that were written longest ago and take a number of bytes together, without the keys in `kept`."""
        chosen: list[int] = []
        seen: dict[int, int] = {}  # token by row, of all rows that were taken from the queue
        found = 0
        while found < nbytes and (one := self._pop_oldest(seen)) is not None:
            token, slot = one
            seen[slot] = token
            if self._keys[slot] not in kept:
                chosen.append(slot)
                found += self.row_bytes + ROW_BYTES + self.extras_of([slot])
        # Rows that are not evicted after all stay in the queue. Rows that are dropped get another token.
        self._queue.extend(sorted(((token, slot) for slot, token in seen.items()), reverse=True))
        return chosen

    def older_than(self, moment: float, kept: Set[str]) -> list[int]:
        """Return the rows that were last written before a moment, without the keys in `kept`."""
        if not len(self._slots):
            return []
        used = self._tokens > 0
        idle = np.flatnonzero(used & (self._updated < moment))
        return [slot for slot in idle.tolist() if self._keys[slot] not in kept]

    def _pop_oldest(self, seen: dict[int, int]) -> tuple[int, int] | None:
        """Return token and row of the oldest row that is not in `seen`. Rows written meanwhile are passed over."""
        while True:
            if not self._queue and not self._fill_queue(seen):
                return None
            token, slot = self._queue.pop()
            if self._tokens[slot] == token:
                return token, slot

    def _fill_queue(self, seen: dict[int, int]) -> bool:
        used = np.flatnonzero(self._tokens > 0)
        size = _QUEUE + len(seen)
        if len(used) > size:
            used = used[np.argpartition(self._tokens[used], size)[:size]]
        rows = [(int(self._tokens[slot]), slot) for slot in used.tolist() if slot not in seen]
        self._queue = sorted(rows, reverse=True)
        return bool(rows)

    def _slot(self, key: str) -> int:
        slot = self._slots.get(key)
        if slot is None:
            if not self._free and len(self._keys) == len(self._tokens):
                self._grow()
            if self._free:
                slot = self._free.pop()
                self._keys[slot] = key
            else:
                slot = len(self._keys)
                self._keys.append(key)
            self._slots[key] = slot
        return slot

    def _grow(self) -> None:
        rows = len(self._tokens) + max(8, len(self._tokens) // 8)
        for array in self._arrays():
            array.resize((rows, *array.shape[1:]), refcheck=False)

    def _arrays(self) -> list[NDArray[Any]]:
        counters = [self._count, self._number, self._updated, self._tokens]
        return [*counters, *self._leaves.values(), *([] if self._last is None else [self._last])]

    def _put_extra(self, slot: int, extra: Extra | None) -> None:
        old = self._extras.pop(slot, None)
        self._extra_bytes -= extra_bytes(old) if old else 0
        if extra is not None:
            self._extras[slot] = extra
            self._extra_bytes += extra_bytes(extra)


def _taken(leaf: NDArray[Any], places: Rows, count: int, rows: int) -> NDArray[Any]:
    """Return copies of some rows of a leaf. The first one fills the rows after them."""
    taken = np.empty((rows, *leaf.shape[1:]), leaf.dtype)
    if isinstance(places, slice):
        taken[:count] = leaf[places]
    else:  # `take` reads rows that lie anywhere in a third of the time of an index; `clip` lets it write to `out` at once
        leaf.take(places, axis=0, out=taken[:count], mode="clip")
    taken[count:] = taken[:1]
    return taken


def extra_bytes(extra: Extra) -> int:
    """Return about how many bytes an `Extra` takes."""
    answer = sum(part.nbytes + 112 for part in extra.answer or ())
    return 200 + answer + sum(len(name) + 64 for name in extra.checkpoints)
