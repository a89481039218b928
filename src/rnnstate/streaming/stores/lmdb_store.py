"""A durable store in a folder of this machine, with LMDB."""

import json
import os
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import StoreError, StoreFullError
from rnnstate.streaming.stores.expiry import Expiring, as_bytes, from_bytes, times_of
from rnnstate.streaming.stores.packed import Packing
from rnnstate.streaming.stores.records import Card, Records
from rnnstate.streaming.stores.store import Reading

_CARD, _TOKEN, _CLOCK, _LATEST = b"card", b"token", b"clock", b"latest"


class LmdbStore(Expiring):
    """Keeps sessions in a folder. A push that has returned survives a SIGKILL and, with `sync`, a power cut.

    Each push is one transaction: the states, counters, numbers and answers of all its keys are there, or none of them.
    Several processes of one machine may open the same folder. A transaction writes a key only if its record is the one
    that the push started from, so a push that was overtaken is computed again.

    Args:
        path: The folder. It is made if there is none.
        capacity: The largest size of the file in bytes. The file grows as needed. The default is 16 GiB.
        sync: Whether a commit waits for the disk. Without it, a commit survives the end of the process, but a power cut
            may lose the last pushes.
        idle: The number of seconds after which a session that nobody wrote ends. Each commit looks for such sessions from
            time to time; `expire()` does it at any time.
        on_evict: Function that gets the records of the sessions that end, and the reason: `"idle"` or `"event time"`. The
            store calls it before it deletes them. If it raises, they stay.
        clock: Which clock counts the idle seconds, `"wall"` or `"event"`, as for `MemoryStore`. The folder remembers its
            clock, and this clock is the default. A new folder gets `"wall"`.

    Raises:
        ImportError: If lmdb is missing.
        StoreError: If the folder cannot be opened, or its sessions have times of another clock.
        ValueError: If `idle` is not positive or has no `on_evict`, or `clock` is unknown.

    Example:

    >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
    >>> streamer = rs.Streamer(rs.StatefulModel(net), LmdbStore("sessions"))
    >>> y = streamer.push({"north": np.ones(2)})
    >>> streamer.store.close()
    >>> rs.Streamer(rs.StatefulModel(net), LmdbStore("sessions")).count("north")
    1
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        capacity: int = 16 * 2**30,
        sync: bool = True,
        idle: float | None = None,
        on_evict: Callable[[Records, str], Any] | None = None,
        clock: str | None = None,
    ) -> None:
        try:
            import lmdb
        except ImportError as error:
            raise ImportError('`LmdbStore` needs lmdb. Install it with: pip install "rnnstate[lmdb]"') from error
        self._lmdb, self.path = lmdb, Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._env = lmdb.open(os.fspath(self.path), map_size=capacity, max_dbs=2, sync=sync, max_readers=512)
            self._records = self._env.open_db(b"records")
            self._about = self._env.open_db(b"about")
        except (lmdb.Error, OSError) as error:
            raise StoreError(
                f"`LmdbStore` must have a folder that it can write. Received: `{path}` ({error}). Choose another one, or "
                "repair it."
            ) from error
        self._packing: Packing | None = None
        self.read_card()
        self._limit(idle, on_evict, clock)

    def read_card(self) -> Card | None:
        with self._begin() as transaction:
            found = transaction.get(_CARD, db=self._about)
        card = None if found is None else Card.from_json(json.loads(found))
        if card is not None and (self._packing is None or self._packing.card != card):
            self._packing = Packing(card)
        return card

    def write_card(self, card: Card) -> None:
        with self._begin(write=True) as transaction:
            transaction.put(_CARD, json.dumps(card.to_json()).encode(), db=self._about)
        self._packing = Packing(card)

    def read(self, keys: Sequence[str], lease: bool = False) -> Reading:
        with self._begin() as transaction:
            values = [transaction.get(key.encode(), db=self._records) for key in keys]
        found = [at for at, value in enumerate(values) if value is not None]
        rows = [-1] * len(keys)
        for row, at in enumerate(found):
            rows[at] = row
        records, present = self._model().unpack([keys[at] for at in found], [values[at] for at in found])
        tokens = np.zeros(len(keys), np.int64)
        tokens[found] = present
        return Reading(rows, records, tokens)

    def commit(self, records: Records, tokens: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        names, written = [key.encode() for key in records.keys], np.ones(len(records), np.bool_)
        self._before(records)
        try:
            with self._begin(write=True) as transaction:
                if tokens is not None:
                    written = np.array([self._token(transaction, name) for name in names], np.int64) == tokens
                self._put(transaction, names, records, written)
        except self._lmdb.MapFullError as error:
            size = self._env.info()["map_size"]
            raise StoreFullError(
                f"The store must have room in its file. Received: capacity={size:,}, all in use. Open it with a larger "
                "`capacity`, or end sessions."
            ) from error
        return written

    def _put(self, transaction: Any, names: list[bytes], records: Records, written: NDArray[np.bool_]) -> None:
        first = int(transaction.get(_TOKEN, b"0", db=self._about)) + 1
        values = self._model().pack(records, np.arange(first, first + len(names)))
        for name, value, fits in zip(names, values, written.tolist(), strict=True):
            if fits:
                transaction.put(name, value, db=self._records)
        transaction.put(_TOKEN, str(first + len(names) - 1).encode(), db=self._about)

    def delete(self, keys: Sequence[str]) -> int:
        with self._begin(write=True) as transaction:
            return sum(transaction.delete(key.encode(), db=self._records) for key in keys)

    def keys(self) -> Iterator[str]:
        with self._begin() as transaction, transaction.cursor(db=self._records) as cursor:
            return iter([bytes(key).decode() for key in cursor.iternext(values=False)])

    def __len__(self) -> int:
        with self._begin() as transaction:
            return int(transaction.stat(self._records)["entries"])

    def close(self) -> None:
        self._env.close()

    def _kept_clock(self, new: str | None) -> str:
        with self._begin(write=new is not None) as transaction:
            if new is not None and not transaction.stat(self._records)["entries"]:
                transaction.put(_CLOCK, new.encode(), db=self._about)
            return bytes(transaction.get(_CLOCK, b"wall", db=self._about)).decode()

    def _seen(self, latest: float) -> float:
        with self._begin() as transaction:
            before = from_bytes(transaction.get(_LATEST, db=self._about))
        if latest <= before:
            return before
        with self._begin(write=True) as transaction:
            latest = max(latest, from_bytes(transaction.get(_LATEST, db=self._about)))
            transaction.put(_LATEST, as_bytes(latest), db=self._about)
        return latest

    def _end(self, moment: float, kept: Set[str], note: Callable[[Records], None]) -> int:
        with self._begin(write=True) as transaction:
            pairs = [(bytes(key).decode(), bytes(value)) for key, value in transaction.cursor(db=self._records)]
            old = np.flatnonzero(times_of([value for _, value in pairs]) < moment).tolist()
            idle = [pairs[at] for at in old if pairs[at][0] not in kept]
            if idle:
                note(self._model().unpack(*zip(*idle, strict=True))[0])
            for key, _ in idle:
                transaction.delete(key.encode(), db=self._records)
        return len(idle)

    def _begin(self, write: bool = False) -> Any:
        return self._env.begin(write=write)

    def _model(self) -> Packing:
        if self._packing is None and self.read_card() is None:
            raise StoreError("A store must belong to a model. Received: a new store. Open it with a `Streamer`.")
        assert self._packing is not None  # noqa: S101
        return self._packing

    def _token(self, transaction: Any, name: bytes) -> int:
        value = transaction.get(name, db=self._records)
        return 0 if value is None else self._model().token(value)
