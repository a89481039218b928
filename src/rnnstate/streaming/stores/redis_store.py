"""A store that several processes and hosts share, with Redis.

Kinds of Redis keys, each behind the prefix of the store:

    r:KEY    the record, as bytes that begin with its token
    l:KEY    the lease: the number of its generation. Redis deletes it when its time is up
    g        the last generation that was given out
    clock    the clock of the times of the sessions
    latest   the latest event time

A worker that is going to advance a session takes its lease, which gets a new generation. The commit script writes only if
the lease still has this generation, and gives it back. The generation is then the token of the record.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import StoreError, StoreWarning
from rnnstate.streaming.stores.expiry import HEAD, Expiring, times_of
from rnnstate.streaming.stores.packed import Packing
from rnnstate.streaming.stores.records import Card, Records
from rnnstate.streaming.stores.store import BUSY, Reading

# For each session: the generation of the lease, -1 if another worker has it, and the record. Both or none are taken.
_ACQUIRE = """
local found = {}
for i = 2, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[i + 1]) == 1 then
    found[#found + 1] = '-1'
    found[#found + 1] = false
  else
    local generation = redis.call('INCR', KEYS[1])
    redis.call('SET', KEYS[i + 1], generation, 'PX', ARGV[1])
    found[#found + 1] = tostring(generation)
    found[#found + 1] = redis.call('GET', KEYS[i])
  end
end
return found
"""

# For each session: 1 if the record was written. A commit that is sent again after a broken connection counts once.
_COMMIT = """
local written = {}
for i = 1, #KEYS, 2 do
  local token, value = ARGV[i], ARGV[i + 1]
  if redis.call('GET', KEYS[i + 1]) == token then
    redis.call('SET', KEYS[i], value)
    redis.call('DEL', KEYS[i + 1])
    written[#written + 1] = 1
  elseif redis.call('GETRANGE', KEYS[i], 0, 7) == string.sub(value, 1, 8) then
    written[#written + 1] = 1
  else
    written[#written + 1] = 0
  end
end
return written
"""

_RELEASE = """
for i = 1, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[i] then redis.call('DEL', KEYS[i]) end
end
"""


# Delete the records whose lease still has its generation, and give the leases back.
_EVICT = """
for i = 1, #KEYS, 2 do
  if redis.call('GET', KEYS[i + 1]) == ARGV[(i + 1) / 2] then redis.call('DEL', KEYS[i], KEYS[i + 1]) end
end
"""

_LATEST = """
local old = redis.call('GET', KEYS[1])
if ARGV[1] == '-inf' or (old and tonumber(old) >= tonumber(ARGV[1])) then return old end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
"""

_READ = 1000  # records of one look at their times


class RedisStore(Expiring):
    """Keeps sessions in Redis, for workers in several processes and on several hosts.

    At most one worker advances a session at a time. It takes a lease with a new generation number. If it pauses for longer
    than the lease lasts, another worker may take the session, and the commit of the first one is refused: its push raises
    `StoreError` for this key, and nothing has changed.

    Each push that has returned survives a SIGKILL of the server, and a power cut, if Redis writes an append-only file and
    waits for the disk (`appendonly yes`, `appendfsync always`). With `appendfsync everysec`, the default of Redis, a
    kill may lose the pushes of the last two seconds. The store warns with `StoreWarning` if the server has other settings.

    Args:
        url: The server, such as `redis://localhost:6379/0`.
        prefix: The text before every key of this store in Redis.
        lease: How many seconds a worker may take between the read and the commit of a push.
        wait: How many seconds a push waits for sessions that another worker holds.
        idle: The number of seconds after which a session that nobody wrote ends. Each commit looks for such sessions from
            time to time; `expire()` does it at any time. A session that a worker holds stays.
        on_evict: Function that gets the records of the sessions that end, and the reason: `"idle"` or `"event time"`. The
            store calls it before it deletes them. If it raises, they stay.
        clock: Which clock counts the idle seconds, `"wall"` or `"event"`, as for `MemoryStore`. The server remembers the
            clock of each prefix, and this clock is the default. A new prefix gets `"wall"`.

    Raises:
        ImportError: If redis is missing.
        StoreError: If the server cannot be reached, or the sessions have times of another clock.
        ValueError: If `idle` is not positive or has no `on_evict`, or `clock` is unknown.

    Example:

    >>> store = RedisStore("redis://localhost:6379/0")  # doctest: +SKIP
    """

    retries = 0  # the lease keeps others away; a commit that fails has lost it

    def __init__(
        self,
        url: str,
        prefix: str = "rnnstate:",
        lease: float = 10.0,
        wait: float = 5.0,
        idle: float | None = None,
        on_evict: Callable[[Records, str], Any] | None = None,
        clock: str | None = None,
    ) -> None:
        try:
            import redis
        except ImportError as error:
            raise ImportError('`RedisStore` needs redis. Install it with: pip install "rnnstate[redis]"') from error
        self._redis, self.url, self.prefix = redis, url, prefix
        self._lease, self._wait = max(1, round(lease * 1000)), wait
        self._client: Any = redis.Redis.from_url(url)
        self._acquire, self._commit, self._release = map(self._client.register_script, (_ACQUIRE, _COMMIT, _RELEASE))
        self._evict, self._note_latest = map(self._client.register_script, (_EVICT, _LATEST))
        self._packing: Packing | None = None
        self._warn_if_not_durable()
        self.read_card()
        self._limit(idle, on_evict, clock)

    def read_card(self) -> Card | None:
        with self._speaking():
            found = self._client.get(f"{self.prefix}card")
        card = None if found is None else Card.from_json(json.loads(found))
        if card is not None and (self._packing is None or self._packing.card != card):
            self._packing = Packing(card)
        return card

    def write_card(self, card: Card) -> None:
        with self._speaking():
            self._client.set(f"{self.prefix}card", json.dumps(card.to_json()))
        self._packing = Packing(card)

    def read(self, keys: Sequence[str], lease: bool = False) -> Reading:
        with self._speaking():
            tokens, values = self._taken(keys) if lease else (None, self._client.mget(map(self._record, keys)))
        found = [at for at, value in enumerate(values) if value is not None]
        rows = [-1] * len(keys)
        for row, at in enumerate(found):
            rows[at] = row
        records, present = self._model().unpack([keys[at] for at in found], [values[at] for at in found])
        if tokens is None:
            tokens = np.zeros(len(keys), np.int64)
            tokens[found] = present
        return Reading(rows, records, tokens)

    def commit(self, records: Records, tokens: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        self._before(records)
        with self._speaking():
            if tokens is None:
                return self._overwrite(records)
            values = self._model().pack(records, tokens)
            keys = [name for key in records.keys for name in (self._record(key), self._held(key))]
            pairs = [part for pair in zip(tokens.tolist(), values, strict=True) for part in pair]
            return np.array(self._commit(keys=keys, args=pairs), np.bool_)

    def release(self, keys: Sequence[str], tokens: NDArray[np.int64]) -> None:
        if keys:
            with self._speaking():
                self._release(keys=[self._held(key) for key in keys], args=tokens.tolist())

    def delete(self, keys: Sequence[str]) -> int:
        if not keys:
            return 0
        with self._speaking():
            records = [self._record(key) for key in keys]
            # Without its lease, a push that is under way cannot bring a deleted session back.
            pipeline = self._client.pipeline().delete(*records).delete(*[self._held(key) for key in keys])
            return int(pipeline.execute()[0])

    def keys(self) -> Iterator[str]:
        start = self._record("")
        with self._speaking():
            found = list(self._client.scan_iter(match=f"{_escaped(start)}*", count=1000))
        return iter(sorted({name.decode()[len(start) :] for name in found}))

    def close(self) -> None:
        self._client.close()

    def _kept_clock(self, new: str | None) -> str:
        with self._speaking():
            found = _text(self._client.get(f"{self.prefix}clock") or "wall")
            if new in (None, found):
                return found
            if any(True for _ in self._client.scan_iter(match=f"{_escaped(self._record(''))}*", count=_READ)):
                return found
            self._client.set(f"{self.prefix}clock", new)
        return str(new)

    def _seen(self, latest: float) -> float:
        with self._speaking():
            found = self._note_latest(keys=[f"{self.prefix}latest"], args=[repr(latest)])
        return latest if found is None else float(found)

    def _end(self, moment: float, kept: Set[str], note: Callable[[Records], None]) -> int:
        keys, count = [key for key in self.keys() if key not in kept], 0
        for begin in range(0, len(keys), _READ):
            count += self._end_some(keys[begin : begin + _READ], moment, note)
        return count

    def _end_some(self, keys: list[str], moment: float, note: Callable[[Records], None]) -> int:
        with self._speaking():
            pipeline = self._client.pipeline(transaction=False)
            for key in keys:
                pipeline.getrange(self._record(key), 0, HEAD - 1)
            idle = [key for key, head in zip(keys, pipeline.execute(), strict=True) if _is_before(head, moment)]
        if not idle:
            return 0
        with self._speaking():
            names = [name for key in idle for name in (self._record(key), self._held(key))]
            found = self._acquire(keys=[f"{self.prefix}g", *names], args=[self._lease])
        held = {key: (token, value) for key, token, value in zip(idle, found[::2], found[1::2], strict=True)}
        taken = {key: token for key, (token, _) in held.items() if int(token) != BUSY}
        # A worker may have advanced a session since its time was read.
        ended = [key for key in taken if _is_before(held[key][1], moment)]
        try:
            if ended:
                note(self._model().unpack(ended, [held[key][1] for key in ended])[0])
                names = [name for key in ended for name in (self._record(key), self._held(key))]
                with self._speaking():
                    self._evict(keys=names, args=[taken[key] for key in ended])
        finally:
            self.release(list(taken), np.array([int(token) for token in taken.values()], np.int64))
        return len(ended)

    def _taken(self, keys: Sequence[str]) -> tuple[NDArray[np.int64], list[Any]]:
        """Take the lease of each key, and return their generations and records. Wait for keys that others hold."""
        tokens: NDArray[np.int64] = np.full(len(keys), BUSY, np.int64)
        values: list[Any] = [None] * len(keys)
        left, give_up, pause = list(range(len(keys))), time.monotonic() + self._wait, 0.001
        while True:
            names = [name for at in left for name in (self._record(keys[at]), self._held(keys[at]))]
            found = self._acquire(keys=[f"{self.prefix}g", *names], args=[self._lease])
            for at, token, value in zip(left, found[::2], found[1::2], strict=True):
                tokens[at], values[at] = int(token), value
            left = [at for at in left if tokens[at] == BUSY]
            if not left or time.monotonic() > give_up:
                return tokens, values
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    def _overwrite(self, records: Records) -> NDArray[np.bool_]:
        first = int(self._client.incrby(f"{self.prefix}g", len(records))) - len(records) + 1
        values = self._model().pack(records, np.arange(first, first + len(records)))
        pipeline = self._client.pipeline()
        for key, value in zip(records.keys, values, strict=True):
            pipeline.set(self._record(key), value).delete(self._held(key))
        pipeline.execute()
        return np.ones(len(records), np.bool_)

    def _record(self, key: str) -> str:
        return f"{self.prefix}r:{key}"

    def _held(self, key: str) -> str:
        return f"{self.prefix}l:{key}"

    def _model(self) -> Packing:
        if self._packing is None and self.read_card() is None:
            raise StoreError("A store must belong to a model. Received: a new store. Open it with a `Streamer`.")
        assert self._packing is not None  # noqa: S101
        return self._packing

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except self._redis.RedisError as error:
            raise StoreError(
                f"The Redis server must answer. Received: {self.url}: {error}. The last push may have been applied; push it "
                "again with the same sequence number."
            ) from error

    def _warn_if_not_durable(self) -> None:
        with self._speaking():
            self._client.ping()
        try:
            settings = {_text(name): _text(value) for name, value in self._client.config_get("append*").items()}
        except self._redis.ResponseError:  # a hosted server may hide its settings
            return
        if settings.get("appendonly") != "yes":
            self._warn("writes no append-only file, so sessions end with the server. Set `appendonly yes` and")
        elif settings.get("appendfsync") != "always":
            self._warn(
                f"has `appendfsync {settings.get('appendfsync')}`, so a kill or a power cut may lose the last pushes. Set"
            )

    def _warn(self, text: str) -> None:
        warnings.warn(f"Redis at {self.url} {text} `appendfsync always`.", StoreWarning, stacklevel=4)


def _is_before(value: bytes | None, moment: float) -> bool:
    """Return whether a record was last changed before a moment."""
    return bool(value) and bool(times_of([value])[0] < moment)  # type: ignore[list-item]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]\\^" else letter for letter in text)
