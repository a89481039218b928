"""When sessions of a durable store end: so many seconds after their last change, by a clock that the store remembers.

A store opened without a clock takes the one that it was written with. Another clock is refused: times of two clocks
compare as numbers, and would end sessions that go on.
"""

import math
import struct
from abc import abstractmethod
from collections.abc import Callable, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnstate.errors import StoreError
from rnnstate.streaming.stores.records import Records
from rnnstate.streaming.stores.store import Store

CLOCKS = ("wall", "event")
HEAD = 32  # the bytes of a packed record up to its time
_TIME = slice(24, HEAD)


def check_clock(clock: str) -> None:
    """Raise `ValueError` if a clock is unknown."""
    if clock not in CLOCKS:
        raise ValueError(f'`clock` must be "wall" or "event". Received: clock={clock!r}.')


def reason_of(clock: str) -> str:
    """Return why a session that was idle by a clock has ended, as a notice says it."""
    return "idle" if clock == "wall" else "event time"


class Expiring(Store):
    """Base of the durable stores: each commit ends the sessions that have been idle for too long, with notice.

    A subclass calls `_limit` when it opens, and `_before` at the start of each commit.
    """

    _idle: float | None = None
    _on_evict: Callable[[Records, str], Any] | None = None
    _next_look = _latest = -math.inf

    def now(self) -> float:
        """Return the time of a change that comes without one: with event time, the latest time of any session."""
        return super().now() if self.clock == "wall" else max(self._seen(self._latest), 0.0)

    def expire(self) -> int:
        """End the sessions that have been idle for too long, and return how many there were. It reads every record."""
        return 0 if self._idle is None else self._end_idle(frozenset())

    @abstractmethod
    def _kept_clock(self, new: str | None) -> str:
        """Return the clock of the store. A store without records takes the clock `new`, if there is one."""

    @abstractmethod
    def _seen(self, latest: float) -> float:
        """Take note of an event time, and return the latest one that any process has noted."""

    @abstractmethod
    def _end(self, moment: float, kept: Set[str], note: Callable[[Records], None]) -> int:
        """End the sessions last changed before a moment, but those in `kept`, after `note` has got their records."""

    def _limit(self, idle: float | None, on_evict: Callable[[Records, str], Any] | None, clock: str | None) -> None:
        check_clock(clock or "wall")
        if idle is not None and not idle > 0:
            raise ValueError(f"`idle` must be positive. Received: idle={idle!r}.")
        if idle is not None and on_evict is None:
            raise ValueError(
                "`idle` ends sessions, so it needs `on_evict`. Received: none. Without it, states would be lost in silence."
            )
        self._idle, self._on_evict = idle, on_evict
        self.clock = self._kept_clock(clock)
        if clock not in (None, self.clock):
            raise StoreError(
                f'The times of the sessions in the store are of `clock="{self.clock}"`. Received: clock="{clock}". Leave '
                "it out, or use another store."
            )

    def _before(self, records: Records) -> None:
        """Take note of the times of a commit, and end what is idle by them."""
        if self.clock == "event" and len(records) and (latest := float(records.updated.max())) > self._latest:
            self._latest = self._seen(latest)
        if self._idle is not None and (self._latest if self.clock == "event" else self.now()) >= self._next_look:
            self._end_idle(frozenset(records.keys))

    def _end_idle(self, kept: Set[str]) -> int:
        now, idle, notice = self.now(), self._idle or 0.0, self._on_evict
        self._next_look = now + idle / 20  # a look reads every record, so there are few of them
        return self._end(now - idle, kept, lambda records: notice and notice(records, reason_of(self.clock)))


def times_of(values: Sequence[bytes]) -> NDArray[np.float64]:
    """Return the times of packed records, or of their first `HEAD` bytes."""
    return np.frombuffer(b"".join(bytes(value[_TIME]) for value in values), "<f8")


def as_bytes(time: float) -> bytes:
    """Return a time as bytes."""
    return struct.pack("<d", time)


def from_bytes(value: bytes | None) -> float:
    """Return a time from bytes, or minus infinity for none."""
    return -math.inf if value is None else float(struct.unpack("<d", value)[0])
