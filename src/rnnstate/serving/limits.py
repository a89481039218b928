"""Limits of a server."""

import time
from collections import OrderedDict
from dataclasses import dataclass

from rnnstate.serving.refusals import RefusedError

_BUCKETS = 10_000  # how many callers have a bucket at a time


@dataclass(frozen=True)
class Limits:
    """What a server takes at most.

    Args:
        body: The bytes of a request or of a message.
        length: The steps of a push.
        queue: The calls that wait or run at a time.
        timeout: The seconds after which a caller gets an answer without a result. The call itself goes on.
        sessions: The sessions of a token, or `None`.
        rate: The calls of a token per second, or `None`.
    """

    body: int = 16 * 2**20
    length: int = 100_000
    queue: int = 10_000
    timeout: float = 30.0
    sessions: int | None = None
    rate: float | None = None


class Rates:
    """A bucket of calls for each caller. It holds the calls of one second, at least one, and fills at the rate.

    Args:
        rate: Calls per second, or `None` for no limit.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # calls left, and when

    def take(self, caller: str) -> None:
        """Count a call.

        Raises:
            RefusedError: If the caller has none left.
        """
        if self._rate is None:
            return
        now, size = time.monotonic(), max(1.0, self._rate)
        left, then = self._buckets.pop(caller, (size, now))
        left = min(size, left + (now - then) * self._rate)
        self._buckets[caller] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > _BUCKETS:
            self._buckets.popitem(last=False)
        if left < 1:
            wait = (1 - left) / self._rate
            raise RefusedError(
                429, f"A caller may make {self._rate:g} calls per second. Received: more. Wait {wait:.2g} s.", wait
            )
