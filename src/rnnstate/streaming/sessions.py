"""Single sessions: looking at them, writing them, forking and rewinding them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnnstate.errors import (
    DataError,
    StateShapeError,
    StateStructureError,
    StateValueError,
    StoreError,
    UnknownKeyError,
)
from rnnstate.messages import quoted
from rnnstate.state.state import to_numpy
from rnnstate.streaming.engine import Engine
from rnnstate.streaming.keys import checkpoint_of, encode
from rnnstate.streaming.pushes import Pushes
from rnnstate.streaming.stores.records import Extra, Records
from rnnstate.streaming.stores.store import BUSY, Reading, Store


class Sessions:
    """Changes single sessions of a store.

    Args:
        engine: The model.
        store: Where the sessions are.
        pushes: Knows the initial state, and holds the lock under which steps run.
    """

    def __init__(self, engine: Engine, store: Store, pushes: Pushes) -> None:
        self._engine, self._store, self._pushes = engine, store, pushes

    def has(self, key: Any) -> bool:
        """Return whether there is a session."""
        try:
            return self._store.read([encode(key)]).rows[0] >= 0
        except DataError:
            return False

    def record(self, key: Any) -> Records:
        """Return the record of a session, one row.

        Raises:
            UnknownKeyError: If there is none.
        """
        return _known(key, self._store.read([encode(key)])).records

    def write(self, key: Any, state: Mapping[str, Any]) -> None:
        """Set leaves of a session."""
        given = self._checked(state)
        with self._Change(self, key) as change:
            records = change.record if change.there else self._new(key, None)
            for name, leaf in given.items():
                records.leaves[name] = leaf
            # What was answered no longer leads to this state, so a repeated number has no answer.
            self._put(change, records, self._names(records))

    def reset(self, key: Any, observed: Any) -> None:
        """Return a session to the initial state."""
        with self._Change(self, key) as change:
            change.must_exist()
            self._put(change, self._new(key, observed), self._names(change.record))

    def end(self, key: Any) -> None:
        """Forget a session and its checkpoints."""
        text = encode(key)
        with self._pushes.lock:
            names = self._names(_known(key, self._store.read([text])).records)
            self._store.delete([text, *(checkpoint_of(text, name) for name in names)])

    def fork(self, key: Any, new_key: Any) -> None:
        """Begin a session with the state of another one."""
        with self._Change(self, new_key) as change:
            records = self.record(key).renamed([encode(new_key)])
            if change.there:
                raise DataError(
                    f"Key {new_key!r}: a fork begins a new session. Received: a key that has one. End it first."
                )
            records.number[:] = -1
            self._put(change, records, ())

    def checkpoint(self, key: Any, name: str) -> None:
        """Keep a session as it is, under a name."""
        text = encode(key)
        place = checkpoint_of(text, name)
        with self._Change(self, key, place) as change:
            change.must_exist()
            extra = change.record.extras.get(0, Extra())
            names = extra.checkpoints if name in extra.checkpoints else (*extra.checkpoints, name)
            # The session, which knows the name, and the checkpoint are one commit.
            both = change.record.take([0, 0]).renamed([text, place])
            both.extras = {0: Extra(extra.answer, names)}
            if extra.answer is not None:
                both.extras[1] = Extra(extra.answer)
            change.commit(both)

    def checkpoints(self, key: Any) -> tuple[str, ...]:
        """Return the names of the checkpoints of a session."""
        return self._names(self.record(key))

    def rewind(self, key: Any, name: str) -> None:
        """Return a session to a checkpoint."""
        text = encode(key)
        with self._Change(self, key) as change:
            change.must_exist()
            names = self._names(change.record)
            if name not in names:
                raise UnknownKeyError(f"Key {key!r} has the checkpoints {quoted(names)}. Received: `{name}`.")
            kept = self._store.read([checkpoint_of(text, name)])
            if kept.rows[0] < 0:
                raise UnknownKeyError(
                    f"Key {key!r}: the store must have checkpoint `{name}`. Received: none. It was evicted."
                )
            records = kept.records.renamed([text])
            answer = records.extras.get(0, Extra()).answer
            records.extras = {0: Extra(answer, names)}
            change.commit(records)

    def rollout(self, key: Any, steps: int, x0: Any, options: dict[str, Any]) -> Any:
        """Run free from a session."""
        record = self.record(key)
        if x0 is None:
            if record.last is None or not record.count[0] or not np.isfinite(record.last).all():
                raise DataError(
                    f"Key {key!r}: a free run needs its first input. Received: none, and no last output of the shape of an "
                    "input. Give `x0=`."
                )
            x0 = record.last[0]
        first = (
            {name: np.asarray(part)[None] for name, part in x0.items()}
            if isinstance(x0, Mapping)
            else np.asarray(x0)[None]
        )
        y = self._engine.rollout(first, record.leaves, steps, **options)
        return {name: part[0] for name, part in y.items()} if isinstance(y, dict) else y[0]

    def _new(self, key: Any, observed: Any) -> Records:
        records = Records.of([encode(key)], self._engine.card, self._store.now())
        records.leaves = {name: np.array(leaf) for name, leaf in self._pushes.initial([observed]).items()}
        return records

    def _names(self, records: Records) -> tuple[str, ...]:
        return records.extras.get(0, Extra()).checkpoints

    def _put(self, change: "Sessions._Change", records: Records, names: tuple[str, ...]) -> None:
        """Commit a record whose state is another one than before, with the time and the model of this moment."""
        records.updated[:], records.model[:] = self._store.now(), self._engine.card.model.encode()
        records.extras = {0: Extra(None, names)} if names else {}
        change.commit(records)

    def _checked(self, state: Any) -> dict[str, Any]:
        """Return leaves `(1, *shape)` in the dtypes of the model, or raise before anything changes."""
        spec = self._engine.spec
        if not isinstance(state, Mapping) or not set(state) <= set(spec):
            received = quoted(state, 6) if isinstance(state, Mapping) else type(state).__name__
            raise StateStructureError(f"A session has the leaves {quoted(spec, 6)}. Received: {received}.")
        return {
            name: self._leaf(name, shape, dtype, state[name])
            for name, shape, dtype in self._engine.card.leaves
            if name in state
        }

    def _leaf(self, name: str, shape: tuple[int, ...], dtype: str, value: Any) -> Any:
        array = to_numpy(value) if hasattr(value, "dtype") else np.asarray(value)
        if array.shape not in (shape, (1, *shape)):
            raise StateShapeError(
                f"State leaf `{name}` must have shape {(1, *shape)} or {shape}. Received: shape={array.shape}."
            )
        if array.dtype.kind not in "fV":  # NumPy reports bfloat16 as kind "V"
            raise StateValueError(f"State leaf `{name}` must be floating ({dtype}). Received: dtype={array.dtype}.")
        with np.errstate(over="ignore"):
            array = array.reshape(1, *shape).astype(dtype)
        if not np.isfinite(array).all():
            raise StateValueError(f"State leaf `{name}` must hold finite values. Received: a value that is not.")
        return array

    class _Change:
        """The time between the read and the commit of one session. A lease that is not used is given back."""

        def __init__(self, sessions: "Sessions", key: Any, *more: str) -> None:
            self._store, self._lock, self._key = sessions._store, sessions._pushes.lock, key
            self._texts = [encode(key), *more]
            self._done = False

        def __enter__(self) -> "Sessions._Change":
            self._lock.acquire()
            try:
                self._reading = self._store.read(self._texts, lease=True)
                if (self._reading.tokens == BUSY).any():
                    self._give_back()
                    raise StoreError(
                        f"Key {self._key!r}: another worker holds the session. Nothing has changed. Try again."
                    )
            except BaseException:
                self._lock.release()
                raise
            self.there = self._reading.rows[0] >= 0
            self.record = self._reading.records.take([0]) if self.there else self._reading.records
            return self

        def __exit__(self, *error: object) -> None:
            try:
                if not self._done:
                    self._give_back()
            finally:
                self._lock.release()

        def _give_back(self) -> None:
            held = np.flatnonzero(self._reading.tokens != BUSY)
            self._store.release([self._texts[at] for at in held], self._reading.tokens[held])

        def must_exist(self) -> None:
            """Raise if there is no such session."""
            _known(self._key, self._reading)

        def commit(self, records: Records) -> None:
            """Write the record, or raise if another worker was faster."""
            written = self._store.commit(records, self._reading.tokens)
            self._done = True
            if not written.all():
                raise StoreError(
                    f"Key {self._key!r}: another worker has changed the session. Nothing has changed here. Try again."
                )


def _known(key: Any, reading: Reading) -> Reading:
    if reading.rows[0] < 0:
        raise UnknownKeyError(f"There must be a session with key {key!r}. Received: no such session.")
    return reading
