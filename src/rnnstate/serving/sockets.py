"""A WebSocket for each session: one JSON message for each step or chunk, answered in order.

    -> {"x": [1.0, 2.0], "number": 7, "id": "a"}
    <- {"y": [0.3], "id": "a"}
    -> {"x": [1.0]}
    <- {"error": "Key 'north': input `x` must have shape ...", "status": 400}

`{"do": "reset"}`, `{"do": "end"}`, `{"do": "checkpoint", "name": ...}` and `{"do": "rewind", "name": ...}` do what the
routes of these names do. An error ends neither the session nor the connection.
"""

import json
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from rnnstate.serving.bodies import fields, parse
from rnnstate.serving.described import Served
from rnnstate.serving.metrics import Metrics
from rnnstate.serving.refusals import RefusedError
from rnnstate.serving.service import Service
from rnnstate.serving.sessions import checkpoint_name, pushed
from rnnstate.serving.tokens import Tenant


def socket_routes(service: Service, served: Served, metrics: Metrics) -> APIRouter:
    """Return the route of the WebSocket."""
    router = APIRouter()

    @router.websocket("/sessions/{key}/ws")
    async def talk(socket: WebSocket, key: str) -> None:
        tenant: Tenant = socket.state.tenant
        tenant.text(key)
        await socket.accept()
        metrics.socket(1)
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                answer = await _answer(service, served, tenant, key, message.get("text"))
                if "status" in answer:
                    metrics.error(answer["status"])
                await socket.send_text(json.dumps(answer, allow_nan=False))
        except WebSocketDisconnect:
            return
        finally:
            metrics.socket(-1)

    return router


async def _answer(service: Service, served: Served, tenant: Tenant, key: str, text: str | None) -> dict[str, Any]:
    name: dict[str, Any] = {}
    try:
        service.rates.take(tenant.name)
        if text is None:
            raise RefusedError(400, "A message must be text. Received: bytes.")
        message = parse(text)
        if isinstance(message.get("id"), (str, int)):
            name = {"id": message["id"]}
        message.pop("id", None)
        done = _do(service, tenant, key, message) if "do" in message else pushed(service, served, tenant, key, message)
        return await done | name
    except RefusedError as refused:
        return {"error": refused.text, "status": refused.status} | name


async def _do(service: Service, tenant: Tenant, key: str, message: dict[str, Any]) -> dict[str, Any]:
    fields(message, {"do": str, "name": str}, ("do",))
    streamer, what = service.streamer, message["do"]
    name = checkpoint_name(message.get("name") or "") if what in ("checkpoint", "rewind") else ""
    functions: dict[str, Any] = {
        "reset": streamer.reset,
        "end": streamer.end,
        "checkpoint": lambda key: streamer.checkpoint(key, name),
        "rewind": lambda key: streamer.rewind(key, name),
    }
    if what not in functions:
        raise RefusedError(400, f"`do` may be {', '.join(functions)}. Received: {ascii(what)[:60]}.")
    await service.call(tenant, functions[what], key)
    if what == "end":
        service.activity.forget(tenant.text(key))
    else:
        service.activity.note(streamer, tenant.text(key), what)
    return {"done": what}
