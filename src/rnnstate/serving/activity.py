"""What happened lately in the sessions of this server: pushes, rates, and the states of the sessions that a page shows."""

import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

from rnnstate.errors import RnnStateError
from rnnstate.streaming.streamer import Streamer

_SESSIONS = 1000  # the sessions that were used last
_SECONDS = 60.0  # how far a rate looks back
_COLUMNS = 120  # the states of a session on a page
_WATCHED = 30.0  # for how many seconds a page that asked once gets states


@dataclass
class Trail:
    """What happened in one session.

    Args:
        times: When it was pushed, on the monotonic clock; the last ones.
        pushes: How many times it was pushed.
        states: Its last states, each a mark such as `"reset"` or an empty text, and leaves `(1, *shape)`.
        until: Until when a page wants states, on the monotonic clock.
    """

    times: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    pushes: int = 0
    states: deque[tuple[str, dict[str, Any]]] = field(default_factory=lambda: deque(maxlen=_COLUMNS))
    until: float = 0.0


class Activity:
    """The trails of the sessions that were used last."""

    def __init__(self) -> None:
        self._trails: OrderedDict[str, Trail] = OrderedDict()
        self.total = Trail()

    def note(self, streamer: Streamer, text: str, mark: str = "") -> None:
        """Note a push, or another change of a session with its mark."""
        trail, now = self._trail(text), time.monotonic()
        if mark in ("", "start"):
            for one in (trail, self.total):
                one.times.append(now)
                one.pushes += 1
        if trail.until > now:
            self._keep(streamer, text, trail, mark)

    def forget(self, text: str) -> None:
        """Forget a session that has ended."""
        self._trails.pop(text, None)

    def watch(self, streamer: Streamer, text: str) -> Trail:
        """Return the trail of a session, and keep its states for a while."""
        trail = self._trail(text)
        if trail.until <= time.monotonic():
            trail.states.clear()
            self._keep(streamer, text, trail, "")
        trail.until = time.monotonic() + _WATCHED
        return trail

    def latest(self, prefix: str, count: int) -> list[tuple[str, Trail]]:
        """Return the sessions of a tenant that were used last, the latest first."""
        found = [(text, trail) for text, trail in reversed(self._trails.items()) if text.startswith(prefix)]
        return found[:count]

    def _trail(self, text: str) -> Trail:
        trail = self._trails.setdefault(text, Trail())
        self._trails.move_to_end(text)
        if len(self._trails) > _SESSIONS:
            self._trails.popitem(last=False)
        return trail

    def _keep(self, streamer: Streamer, text: str, trail: Trail, mark: str) -> None:
        try:
            trail.states.append((mark, dict(streamer.peek(text))))
        except RnnStateError:  # the session has ended meanwhile
            trail.states.clear()


def rate(trail: Trail) -> float:
    """Return the pushes per second of the last minute.

    Example:

    >>> rate(Trail())
    0.0
    """
    now = time.monotonic()
    lately = [moment for moment in trail.times if moment > now - _SECONDS]
    if len(lately) == trail.times.maxlen:  # the older ones are no longer known
        return len(lately) / max(now - lately[0], 1e-9)
    return len(lately) / _SECONDS
