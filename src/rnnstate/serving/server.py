"""Runs the application until a signal, and then finishes what was accepted."""

import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from rnnstate.serving.app import build_app
from rnnstate.serving.described import describe
from rnnstate.serving.gate import LOOPBACK
from rnnstate.serving.limits import Limits
from rnnstate.serving.logs import event
from rnnstate.serving.metrics import Metrics, timed
from rnnstate.serving.service import Service
from rnnstate.serving.tokens import Tokens
from rnnstate.streaming.engine import Engine
from rnnstate.streaming.stores.records import Records
from rnnstate.streaming.stores.store import Store
from rnnstate.streaming.streamer import Streamer

_STOP = 30  # for how many seconds a stop waits for clients that are still sending


class Host:
    """A model, its sessions and the application that serves them.

    Args:
        engine: The model.
        open_store: Function that gets `on_evict`, and returns the store.
        name: The name of the model in addresses.
        platform: What steps it.
        tokens: The tokens that the server takes.
        limits: Its limits.
        loopback: Whether it listens on a loopback address.
        streaming: Further arguments of `Streamer`.
    """

    def __init__(
        self,
        engine: Engine,
        open_store: Callable[[Callable[[Records, str], None]], Store],
        name: str,
        platform: str,
        tokens: Tokens | None = None,
        limits: Limits | None = None,
        loopback: bool = True,
        **streaming: Any,
    ) -> None:
        self.metrics = Metrics()
        self.served = describe(engine, name, platform)
        self.streamer = Streamer(timed(engine, self.metrics), open_store(self._evicted), **streaming)  # type: ignore[arg-type]
        self.service = Service(self.streamer, limits or Limits())
        self.app = build_app(self.service, self.served, self.metrics, tokens or Tokens(), loopback)

    def run(self, listening: socket.socket) -> None:
        """Serve on a bound socket until SIGTERM or SIGINT."""
        # uvicorn raises a signal again once it has stopped. By then all work is done.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        uvicorn.Server(self.config()).run([listening])
        event("stopped")

    def config(self) -> uvicorn.Config:
        """Return the configuration of uvicorn."""
        return uvicorn.Config(
            self.app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            ws_max_size=self.service.limits.body,
            timeout_graceful_shutdown=_STOP,
        )

    def _evicted(self, records: Records, reason: str) -> None:
        self.metrics.evicted(len(records), reason)
        event("evicted", logging.WARNING, reason=reason, keys=records.keys[:100], number=len(records))


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address.

    Example:

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, False)
    """
    return host in LOOPBACK
