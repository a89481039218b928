"""The contract of a store: where the states of sessions live between steps.

A push is a read, a compiled step and a commit. Between the read and the commit another worker may have changed the record.
So a read returns a *token* for each key, and a commit writes a record only if its token is still valid:

    reading = store.read(["north"], lease=True)        token 7
    ... compute the next state ...
    store.commit(records, reading.tokens)              [True], and the record has another token from now on

A token changes with every commit and never comes back, also if a key is deleted and made again. A step counter alone would
come back to zero at a reset.
"""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.streaming.stores.records import Card, Records

BUSY = -1  # the token of a key that another worker holds


@dataclass
class Reading:
    """The result of a read.

    Args:
        rows: For each key that was asked for, its row in `records`, or -1 if there is no record.
        records: The records that were found.
        tokens: For each key, the number that `commit` compares; `BUSY` if another worker holds the key.

    Example:

    >>> store = stores.MemoryStore()
    >>> reading = store.read(["north"])
    >>> reading.rows, reading.tokens.tolist()
    ([-1], [0])
    """

    rows: list[int]
    records: Records
    tokens: NDArray[np.int64]


@dataclass
class Gathered:
    """The rows of sessions in the table of a store.

    Args:
        places: The index of each row, `(n,)`, or a slice if the rows lie one after the other.
        count: The number n of sessions.
        version: The number of changes that the table had seen.
        leaves: Copies of the states in the order of the card, each `(rows, *shape)`. The first n rows are the sessions, and
            the others repeat the first one.
    """

    places: NDArray[np.int64] | slice
    count: int
    version: int
    leaves: list[NDArray[Any]]


class Store(ABC):
    """Base of all stores. `StoreContract` tests a store of yours against a dict.

    Every method may be called from several threads. Keys are text: `streaming.keys.encode` makes text of a session's key.

    Example:

    >>> issubclass(stores.MemoryStore, stores.Store)
    True
    """

    # How often a push is computed again if another worker was faster. A store with leases needs no second try.
    retries = 20

    @abstractmethod
    def read_card(self) -> Card | None:
        """Return which model the store belongs to, or `None` if it is new."""

    @abstractmethod
    def write_card(self, card: Card) -> None:
        """Say which model the store belongs to from now on. The leaves of existing records must fit."""

    @abstractmethod
    def read(self, keys: Sequence[str], lease: bool = False) -> Reading:
        """Return the records of some keys.

        Args:
            keys: Distinct keys.
            lease: Whether this worker is going to commit. A store with leases then takes the lease of each key.
        """

    @abstractmethod
    def commit(self, records: Records, tokens: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        """Write the records whose token is still valid, all of them in one transaction.

        Args:
            records: What to write.
            tokens: The token of each record, from the read before it. `None` writes whatever is there.

        Returns:
            Whether each record was written, `(n,)`.

        Raises:
            StoreFullError: If there is no room for the records. Then the store keeps none of them, and a push tries again
                with fewer.
            StoreError: If the store cannot keep the records. Then it keeps none of them.
        """

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> int:
        """Delete the records of some keys, and return how many there were."""

    @abstractmethod
    def keys(self) -> Iterator[str]:
        """Return all keys, in any order."""

    def gather(self, keys: Sequence[str], rows: int, model: str) -> Gathered | None:
        """Return the states of sessions that simply go on, or `None`. Only a store that is a table of arrays has this.

        Args:
            keys: Distinct keys, at most `rows` of them.
            rows: The number of rows to return.
            model: The model that steps them, as the card names it.

        Returns:
            The rows, if each key has a session of this model without a sequence number and without checkpoints. `None`
            else, and nothing has changed; then a push reads records.
        """
        return None

    def scatter(
        self, rows: Gathered, leaves: Sequence[NDArray[Any]], steps: int, last: NDArray[np.float32] | None
    ) -> bool:
        """Write the next states of rows that `gather` returned, all of them or none.

        Args:
            rows: The rows.
            leaves: The next states in the order of the card, each `(n, *shape)`.
            steps: How many steps the sessions have made.
            last: The outputs of the last step, `(n, *shape)`, if records keep them.

        Returns:
            Whether they were written. If the table has changed since `gather`, none is.
        """
        return False

    clock = "wall"  # what the time of a record means: this machine's clock, or "event", the time that the data carry

    def now(self) -> float:
        """Return the time of a change that comes without one."""
        return time.time()

    def release(self, keys: Sequence[str], tokens: NDArray[np.int64]) -> None:  # noqa: B027
        """Give back leases that a read took, and that no commit has used. A store without leases does nothing."""

    def clear(self) -> int:
        """Delete every record, and return how many there were."""
        return self.delete(list(self.keys()))

    def close(self) -> None:  # noqa: B027
        """Give back files and connections. The store must not be used afterwards."""

    def __len__(self) -> int:
        return sum(1 for _ in self.keys())

    def save(self, path: str | os.PathLike[str], keys: Sequence[object] | None = None) -> int:
        """Write sessions and their checkpoints to a savepoint: a state file that any store loads.

        Args:
            path: The file to write, usually `*.safetensors`. `rnnstate.load_state` and `rnnstate.load_metadata` read it
                without the model.
            keys: The keys of sessions. The default is all of them.

        Returns:
            The number of records.

        Raises:
            UnknownKeyError: If there is no session with one of the keys.

        Example:

        >>> net = keras.Sequential([keras.Input((None, 2)), keras.layers.GRU(3, name="gru")])
        >>> streamer = rs.Streamer(rs.StatefulModel(net))
        >>> y = streamer.push({"north": np.ones(2), "south": np.zeros(2)})
        >>> streamer.store.save("sessions.safetensors")
        2
        >>> rs.load_state("sessions.safetensors")
        State(gru/h: (2, 3) float32)
        """
        from rnnstate.streaming.stores.savepoint import save_store

        return save_store(self, path, keys)

    def load(self, path: str | os.PathLike[str], keys: Sequence[object] | None = None) -> int:
        """Read sessions and their checkpoints from a savepoint. Sessions with the same keys are replaced.

        Args:
            path: A file that `save` of any store wrote.
            keys: The keys of sessions. The default is all of them.

        Returns:
            The number of records.

        Raises:
            DataError: If the file is no savepoint, truncated or changed.
            SpecMismatchError: If the store belongs to a model with another state.
            StoreError: If the times in the file count by another clock.
            UnknownKeyError: If the file has no session with one of the keys.
        """
        from rnnstate.streaming.stores.savepoint import load_store

        return load_store(self, path, keys)
