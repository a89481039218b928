"""What every request and every WebSocket passes: origin, token, rate, metrics and log.

It is a plain ASGI application around another one, so that the gate sees each byte and each failure.
"""

import json
import logging
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rnnstate.serving.logs import event
from rnnstate.serving.metrics import Metrics
from rnnstate.serving.refusals import RefusedError
from rnnstate.serving.service import Service
from rnnstate.serving.tokens import Tenant, Tokens
from rnnstate.serving.traces import request_span

OPEN = ("/v2/health/live", "/v2/health/ready")  # a load balancer has no token
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_GONE = 499  # the client closed the connection


@dataclass
class _Exchange:
    """One request with its answer, or one WebSocket."""

    received: int = 0
    sent: int = 0
    status: int = 0


class Gate:
    """Lets through what may pass.

    Args:
        app: The application.
        service: The service, for its limits.
        tokens: The tokens.
        metrics: Where requests are counted.
        local: Whether a request must name this machine by a loopback address. A server without tokens needs that, so that
            no web page can reach it by giving this machine another name.
    """

    def __init__(self, app: Any, service: Service, tokens: Tokens, metrics: Metrics, local: bool) -> None:
        self._app, self._service, self._tokens, self._metrics = app, service, tokens, metrics
        self._local = local

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request, one WebSocket, or the start and the stop."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        exchange, begin, tenant = _Exchange(), time.perf_counter(), Tenant()
        receive, send = _counted_receive(exchange, receive), _counted_send(exchange, send)
        with request_span(scope) as answered:
            try:
                tenant = self._admit(scope)
                scope.setdefault("state", {})["tenant"] = tenant
                await self._app(scope, receive, send)
            except RefusedError as refused:
                exchange.status = refused.status
                await _refuse(scope["type"], send, refused)
            except Exception as error:
                self._failed(exchange, error)
            finally:
                self._note(scope, exchange, tenant, time.perf_counter() - begin)
                answered(exchange.status)

    def _admit(self, scope: Any) -> Tenant:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self._local and _hostname(host) not in LOOPBACK:
            raise RefusedError(403, f"The server is for this machine alone. Received: host {ascii(host)[:60]}.")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise RefusedError(
                403, f"A web page of another address may not call this server. Received: {ascii(origin)[:60]}."
            )
        if scope["path"] in OPEN:
            return Tenant()
        by_browser = scope["type"] == "http" and scope["method"] == "GET"
        tenant = self._tokens.tenant(headers.get("authorization", ""), by_browser)
        self._service.rates.take(tenant.name)
        return tenant

    def _failed(self, exchange: _Exchange, error: Exception) -> None:
        """Note an exception. A client that has gone is none of the server's."""
        if type(error).__name__ == "ClientDisconnect":
            exchange.status = _GONE
            return
        exchange.status = 500
        event("A request failed", logging.ERROR, failed=True)

    def _note(self, scope: Any, exchange: _Exchange, tenant: Tenant, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        if scope["type"] == "http":
            self._metrics.request(route, exchange.status, seconds)
        elif exchange.status >= 400:
            self._metrics.error(exchange.status)
        self._metrics.moved(exchange.received, exchange.sent)
        event(
            "request" if scope["type"] == "http" else "socket",
            method=scope.get("method"),
            route=route,
            status=exchange.status,
            ms=round(seconds * 1e3, 3),
            received=exchange.received,
            sent=exchange.sent,
            token=tenant.name or None,
        )


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _counted_receive(exchange: _Exchange, receive: Any) -> Any:
    async def counted() -> Any:
        message = await receive()
        exchange.received += len(message.get("body") or message.get("bytes") or message.get("text") or "")
        return message

    return counted


def _counted_send(exchange: _Exchange, send: Any) -> Any:
    async def counted(message: Any) -> None:
        exchange.sent += len(message.get("body") or message.get("bytes") or message.get("text") or "")
        if message["type"] == "http.response.start":
            exchange.status = message["status"]
        elif message["type"] == "websocket.accept":
            exchange.status = 101
        await send(message)

    return counted


async def _refuse(kind: str, send: Any, refused: RefusedError) -> None:
    if kind == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": refused.text[:100]})
        return
    headers = {"content-type": "application/json", **refused.headers}
    pairs = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": pairs})
    await send({"type": "http.response.body", "body": json.dumps({"error": refused.text}).encode()})
