"""Numbers for Prometheus."""

import math
import time
from typing import Any, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from rnnstate.errors import RnnStateError
from rnnstate.serving.traces import step_span
from rnnstate.streaming.engine import Arrays, Engine
from rnnstate.streaming.stores.store import Store

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_ROWS = tuple(2**power for power in range(11))


class Metrics:
    """The numbers of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        own: Any = {"registry": self._registry, "namespace": "rnnstate"}
        self._latency = Histogram(
            "request_seconds", "Time of a request, without WebSockets.", ["route"], buckets=_SECONDS, **own
        )
        self._requests = Counter("requests", "Requests by route and status.", ["route", "status"], **own)
        self._errors = Counter("errors", "Requests and messages that were refused or failed.", ["status"], **own)
        self._bytes = Counter("bytes", "Bytes of bodies and messages.", ["direction"], **own)
        self._rows = Histogram("step_rows", "Rows of a compiled step, with those that fill it.", buckets=_ROWS, **own)
        self._step = Histogram("step_seconds", "Time of a compiled step.", buckets=_SECONDS, **own)
        self._evicted = Counter("evictions", "Records that the store evicted, by reason.", ["reason"], **own)
        self._records = Gauge("records", "Sessions and checkpoints in the store.", **own)
        self._sockets = Gauge("sockets", "Open WebSockets.", **own)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Note an answered request."""
        self._latency.labels(route).observe(seconds)
        self._requests.labels(route, status).inc()
        if status >= 400:
            self.error(status)

    def error(self, status: int) -> None:
        """Note an error."""
        self._errors.labels(status).inc()

    def moved(self, received: int, sent: int) -> None:
        """Note the bytes of bodies and messages."""
        self._bytes.labels("in").inc(received)
        self._bytes.labels("out").inc(sent)

    def socket(self, change: int) -> None:
        """Note that a WebSocket opened (1) or closed (-1)."""
        self._sockets.inc(change)

    def evicted(self, number: int, reason: str) -> None:
        """Note evicted records."""
        self._evicted.labels(reason).inc(number)

    def step(self, rows: int, seconds: float) -> None:
        """Note a compiled step."""
        self._rows.observe(rows)
        self._step.observe(seconds)

    def text(self, store: Store) -> bytes:
        """Return all numbers in the format of Prometheus."""
        try:
            self._records.set(len(store))
        except RnnStateError:
            self._records.set(math.nan)  # the store cannot be reached
        return generate_latest(self._registry)


class Timed:
    """An engine whose steps are counted and timed.

    Args:
        engine: The engine.
        metrics: Where its steps are noted.
    """

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine, self._metrics = engine, metrics

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, inputs: Arrays, leaves: Arrays) -> tuple[Arrays, Arrays]:
        """Run a window, as the engine does."""
        begin = time.perf_counter()
        with step_span(len(inputs[0])):
            done = self._engine.run(inputs, leaves)
        self._metrics.step(len(inputs[0]), time.perf_counter() - begin)
        return done


def timed(engine: Engine, metrics: Metrics) -> Engine:
    """Return an engine whose steps are counted and timed."""
    return cast(Engine, Timed(engine, metrics))
