"""A store in the memory of this process: a table with one row per session."""

import math
from collections.abc import Callable, Iterator, Sequence, Set
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import StoreError, StoreFullError
from rnnstate.messages import counted
from rnnstate.streaming.stores.expiry import check_clock, reason_of
from rnnstate.streaming.stores.records import MODEL_DTYPE, Card, Records
from rnnstate.streaming.stores.store import Gathered, Reading, Store
from rnnstate.streaming.stores.table import ROW_BYTES, Table, extra_bytes


class MemoryStore(Store):
    """Keeps sessions in a table of NumPy arrays, one array per leaf. It is the default store, and ends with the process.

    A session takes the bytes of its state, up to 1.25 times that while the table grows, and up to 200 bytes for its key and
    its counters. The answer to a push with a sequence number and the output from which a model runs free come on top.

    A limit evicts the sessions that were written longest ago. It needs `on_evict`, `spill`, or both, so that no state is
    lost in silence. Without them, a full store refuses new sessions.

    Args:
        capacity: The largest number of bytes. The default is no limit.
        idle: The number of seconds after which a session that nobody wrote is evicted. Each commit evicts; `expire()` does
            it at any time.
        on_evict: Function that gets the records of the evicted sessions and the reason: `"capacity"`, `"idle"`, or
            `"event time"`. The store calls it before it forgets the sessions. If it raises, they stay.
        spill: A store to which evicted sessions go. A read brings them back.
        clock: The clock of `idle`. `"wall"` is the clock of this machine. `"event"` is the time that the data carry: the
            `times` of a push. A session is idle if its last time is `idle` seconds before the latest time of all.

    Raises:
        ValueError: If `capacity` or `idle` is not positive, `idle` has no `on_evict` and no `spill`, or `clock` is unknown.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
    >>> evicted = []
    >>> store = MemoryStore(capacity=500, on_evict=lambda records, reason: evicted.extend(records.keys))
    >>> streamer = rs.Streamer(rs.StatefulModel(net), store)
    >>> for key in ("north", "south", "west"):
    ...     y = streamer.push({key: np.ones(2)})
    >>> streamer.keys(), evicted
    (['south', 'west'], ['north'])
    """

    def __init__(
        self,
        capacity: int | None = None,
        idle: float | None = None,
        on_evict: Callable[[Records, str], Any] | None = None,
        spill: Store | None = None,
        clock: str = "wall",
    ) -> None:
        check_clock(clock)
        for name, limit in (("capacity", capacity), ("idle", idle)):
            if limit is not None and not limit > 0:
                raise ValueError(f"`{name}` must be positive. Received: {name}={limit!r}.")
        if idle is not None and on_evict is None and spill is None:
            raise ValueError(
                "`idle` evicts sessions, so it needs `on_evict` or `spill`. Received: neither. Without them, states would "
                "be lost in silence."
            )
        self._capacity, self._idle, self._on_evict, self._spill = capacity, idle, on_evict, spill
        self._lock, self._card, self._token = RLock(), None, 0
        self._table, self._next_look = Table(()), -math.inf
        self.clock, self._latest = clock, -math.inf

    _card: Card | None
    _model = b""

    def read_card(self) -> Card | None:
        return self._card or (self._spill.read_card() if self._spill else None)

    def write_card(self, card: Card) -> None:
        with self._lock:
            if self._spill is not None:
                self._spill.write_card(card)
            if self._card is None or not len(self._table):
                self._table = Table(card.leaves, card.last)
            else:
                self._table.rename([name for name, _, _ in card.leaves])
            self._card, self._model = card, np.array(card.model.encode(), MODEL_DTYPE).tobytes()

    def now(self) -> float:
        """Return the time of a change that comes without one: with event time, the latest time of any session."""
        return super().now() if self.clock == "wall" else max(self._latest, 0.0)

    @property
    def nbytes(self) -> int:
        """The bytes that the sessions take, as `capacity` counts them."""
        return self._table.nbytes

    def read(self, keys: Sequence[str], lease: bool = False) -> Reading:
        with self._lock:
            slots = self._table.find(keys)
            if self._spill is not None and -1 in slots:
                self._bring_back([key for key, slot in zip(keys, slots, strict=True) if slot < 0])
                slots = self._table.find(keys)
            found = [slot for slot in slots if slot >= 0]
            there = len(found) == len(keys)
            rows = list(range(len(keys))) if there else (np.cumsum(np.array(slots) >= 0) - 1).tolist()
            if not there:
                rows = [row if slot >= 0 else -1 for row, slot in zip(rows, slots, strict=True)]
            return Reading(rows, self._records(found), self._table.tokens(slots))

    def commit(self, records: Records, tokens: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        with self._lock:
            self._check_model(records)
            written = np.ones(len(records), np.bool_)
            slots = self._table.find(records.keys)
            if tokens is not None:
                written = self._table.tokens(slots) == tokens
            if not written.all():
                taken = np.flatnonzero(written).tolist()
                records, slots = records.take(taken), [slots[row] for row in taken]
            if records.keys:
                self._write(records, slots)
            if tokens is None and self._spill is not None:  # nobody has brought back an older record of these keys
                self._spill.delete(records.keys)
            return written

    def gather(self, keys: Sequence[str], rows: int, model: str) -> Gathered | None:
        with self._lock:
            if not self._only_states or self._card is None or self._card.model != model:
                return None
            if self._capacity is not None and self._table.nbytes > self._capacity:
                return None
            if self._idle is not None and self.now() >= self._next_look:
                return None
            return self._table.gather(keys, rows)

    def scatter(
        self, rows: Gathered, leaves: Sequence[NDArray[Any]], steps: int, last: NDArray[np.float32] | None
    ) -> bool:
        with self._lock:
            written = self._table.scatter(rows, leaves, steps, last, self.now(), self._token)
            self._token += rows.count
            return written

    @property
    def _only_states(self) -> bool:
        """Whether a push may write states alone. A subclass that writes records in another way must see them all."""
        kind = type(self)
        return self.clock == "wall" and kind.commit is MemoryStore.commit and kind.read is MemoryStore.read

    def delete(self, keys: Sequence[str]) -> int:
        with self._lock:
            there = [key for key, slot in zip(keys, self._table.find(keys), strict=True) if slot >= 0]
            spilled = self._spill.delete([key for key in keys if key not in set(there)]) if self._spill else 0
            self._table.drop(there)
            return len(there) + spilled

    def keys(self) -> Iterator[str]:
        with self._lock:
            own = self._table.keys()
        spilled = self._spill.keys() if self._spill else ()
        return iter([*own, *spilled])

    def __len__(self) -> int:
        return len(self._table) + (len(self._spill) if self._spill else 0)

    def expire(self) -> int:
        """Evict the sessions that have been idle for too long, and return how many there were."""
        with self._lock:
            return self._evict_idle() if self._idle is not None else 0

    def _check_model(self, records: Records) -> None:
        # Bytes are compared several times as fast as an array of texts.
        if self._card is None or records.model.astype(MODEL_DTYPE, copy=False).tobytes() != self._model * len(records):
            raise StoreError(
                f"The store holds records of model {self._card and self._card.model}. Received: a record of another model. "
                "Open the store with a `Streamer` of this model."
            )

    def _records(self, slots: list[int]) -> Records:
        return self._table.read(slots, self._card.model if self._card else "")

    def _write(self, records: Records, slots: list[int]) -> None:
        """Write records after making room for them. Nothing changes if there is no room."""
        self._make_room(records, slots)
        if self.clock == "event":
            self._latest = max(self._latest, float(records.updated.max()))
        if self._idle is not None and self.now() >= self._next_look:
            self._evict_idle(kept=set(records.keys))
        # An eviction may have freed rows. Then the slots are looked up again.
        limited = self._capacity is not None or self._idle is not None
        self._token = self._table.write(records, self._token, None if limited else slots)

    def _make_room(self, records: Records, slots: list[int]) -> None:
        if self._capacity is None:
            return
        new = [row for row, slot in enumerate(slots) if slot < 0]
        needed = len(new) * (self._table.row_bytes + ROW_BYTES)
        needed += sum(map(extra_bytes, records.extras.values())) - self._table.extras_of(slots)
        room = self._capacity - self._table.nbytes
        if needed <= room:
            return
        if self._on_evict is None and self._spill is None:
            if not new:
                return  # the answers of known sessions are never a reason to refuse them
            raise StoreFullError(
                f"The store must have room for {counted(needed, 'byte')} more. Received: {counted(room, 'byte')} left of "
                f"capacity={self._capacity:,}. End sessions, raise `capacity`, or give `on_evict` or `spill`."
            )
        self._evict(self._table.oldest(needed - room, kept=set(records.keys)), "capacity")
        room = self._capacity - self._table.nbytes
        if needed > room and new:
            raise StoreError(
                f"`capacity` must hold the sessions of one push, {counted(needed, 'byte')}. Received: "
                f"capacity={self._capacity:,}. Raise it, or push fewer keys at a time."
            )

    def _evict_idle(self, kept: Set[str] = frozenset()) -> int:
        seconds = self._idle or 0.0
        # A look goes through all rows, so there are few of them.
        self._next_look = self.now() + seconds / 20
        idle = self._table.older_than(self.now() - seconds, kept)
        self._evict(idle, reason_of(self.clock))
        return len(idle)

    def _evict(self, slots: list[int], reason: str) -> None:
        if not slots:
            return
        records = self._records(slots)
        if self._spill is not None:
            self._spill.commit(records)
        if self._on_evict is not None:
            self._on_evict(records, reason)
        self._table.drop(records.keys)

    def _bring_back(self, keys: list[str]) -> None:
        reading = self._spill.read(keys) if self._spill else None
        if reading is None or not reading.records.keys or self._spill is None:
            return
        self._write(reading.records, [-1] * len(reading.records))
        self._spill.delete(reading.records.keys)
