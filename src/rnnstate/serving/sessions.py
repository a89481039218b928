"""The routes of sessions: look at them, push, set their states, fork them, keep checkpoints and rewind."""

from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from rnnstate.errors import DataError, RnnStateError, UnknownKeyError
from rnnstate.serving.bodies import fields, parse, read_body
from rnnstate.serving.described import Served
from rnnstate.serving.inference import check_length
from rnnstate.serving.refusals import RefusedError
from rnnstate.serving.service import Service
from rnnstate.serving.tensors import as_json
from rnnstate.serving.tokens import Tenant
from rnnstate.streaming.keys import encode
from rnnstate.streaming.stores.records import Extra, shown_time
from rnnstate.streaming.streamer import Streamer

PUSH: dict[str, Any] = {
    "x": object,
    "number": int,
    "observed": object,
    "time": (int, float),
    "create": bool,
    "restart": bool,
    "end": bool,
}
_PAGE = 1000  # the sessions of one answer


class SessionRoutes:
    """The routes.

    Args:
        service: What they call.
        served: The model as clients see it.
    """

    def __init__(self, service: Service, served: Served) -> None:
        self._service, self._served, self._streamer = service, served, service.streamer

    def router(self) -> APIRouter:
        """Return the routes."""
        router, one = APIRouter(tags=["Sessions"]), "/sessions/{key}"
        router.get("/sessions", summary="The keys of all sessions, sorted; `after` and `limit` for a page")(
            self.sessions
        )
        router.get(one, summary="The counters and checkpoints of a session")(self.session)
        router.put(one, summary="Begin a session; one that exists stays as it is")(self.begin)
        router.delete(one, summary="End a session with its checkpoints")(self.end)
        router.post(f"{one}/push", summary="Advance a session by one step or a chunk")(self.push)
        router.get(f"{one}/state", summary="The state of a session, without its axis for the batch")(self.state)
        router.put(f"{one}/state", summary="Set leaves of a session; a new key begins one")(self.write)
        router.post(f"{one}/reset", summary="Return a session to the initial state")(self.reset)
        router.post(f"{one}/fork", summary='Begin the session `{"to": KEY}` with the state of this one')(self.fork)
        router.get(f"{one}/checkpoints", summary="The names of the checkpoints of a session")(self.checkpoints)
        router.put(f"{one}/checkpoints/{{name}}", summary="Keep a session as it is, under a name")(self.checkpoint)
        router.post(f"{one}/rewind", summary='Return a session to the checkpoint `{"checkpoint": NAME}`')(self.rewind)
        return router

    async def sessions(self, request: Request) -> dict[str, Any]:
        after, limit = request.query_params.get("after", ""), request.query_params.get("limit", str(_PAGE))
        if not (limit.isascii() and limit.isdigit() and 0 < int(limit[:9]) <= _PAGE):
            raise RefusedError(400, f"`limit` must be a number from 1 to {_PAGE}. Received: {ascii(limit)[:60]}.")
        tenant: Tenant = request.state.tenant
        keys = await self._service.read(tenant, partial(_keys, self._streamer, tenant))
        return {"sessions": [key for key in keys if key > after][: int(limit)], "count": len(keys)}

    async def session(self, request: Request) -> dict[str, Any]:
        return {"key": _key(request), **await self._read(request, partial(facts, self._streamer))}

    async def begin(self, request: Request) -> Response:
        return Response(
            status_code=201 if await self._call(request, partial(_begin, self._streamer), creates=True) else 204
        )

    async def end(self, request: Request) -> Response:
        await self._call(request, self._streamer.end)
        self._service.activity.forget(request.state.tenant.text(_key(request)))
        return Response(status_code=204)

    async def push(self, request: Request) -> Response:
        message = await self._body(request)
        return JSONResponse(await pushed(self._service, self._served, request.state.tenant, _key(request), message))

    async def state(self, request: Request) -> dict[str, Any]:
        found = await self._read(request, self._streamer.peek)
        return {"state": {name: as_json(leaf[0]) for name, leaf in found.items()}}

    async def write(self, request: Request) -> Response:
        given = await self._body(request, {"state": dict}, ("state",))
        leaves = {name: _floats(value) for name, value in given["state"].items()}
        return await self._changed(request, "write", lambda text: self._streamer.write(text, leaves), creates=True)

    async def reset(self, request: Request) -> Response:
        observed = (await self._body(request, {"observed": object})).get("observed")
        return await self._changed(request, "reset", partial(_reset, self._streamer, observed))

    async def fork(self, request: Request) -> Response:
        given = await self._body(request, {"to": (str, int)}, ("to",))
        await self._call(request, self._streamer.fork, given["to"], creates=True)
        return Response(status_code=201)

    async def checkpoints(self, request: Request) -> dict[str, Any]:
        return {"checkpoints": list(await self._read(request, self._streamer.checkpoints))}

    async def checkpoint(self, request: Request) -> Response:
        name = checkpoint_name(request.path_params["name"])
        return await self._changed(request, "checkpoint", lambda text: self._streamer.checkpoint(text, name))

    async def rewind(self, request: Request) -> Response:
        given = await self._body(request, {"checkpoint": str}, ("checkpoint",))
        name = checkpoint_name(given["checkpoint"])
        return await self._changed(request, "rewind", lambda text: self._streamer.rewind(text, name))

    async def _body(self, request: Request, kinds: Any = None, needed: tuple[str, ...] = ()) -> dict[str, Any]:
        given = parse(await read_body(request, self._service.limits.body) or b"{}")
        if kinds is not None:
            fields(given, kinds, needed)
        return given

    async def _read(self, request: Request, function: Any) -> Any:
        return await self._service.read(request.state.tenant, function, _key(request))

    async def _call(self, request: Request, function: Any, *more: object, creates: bool = False) -> Any:
        return await self._service.call(request.state.tenant, function, _key(request), *more, creates=creates)

    async def _changed(self, request: Request, mark: str, function: Any, creates: bool = False) -> Response:
        await self._call(request, function, creates=creates)
        self._service.activity.note(self._streamer, request.state.tenant.text(_key(request)), mark)
        return Response(status_code=204)


async def pushed(
    service: Service, served: Served, tenant: Tenant, key: object, message: dict[str, Any]
) -> dict[str, Any]:
    """Push what a JSON message says, and return the answer.

    Raises:
        RefusedError: If the message cannot be used. Then nothing has changed.
    """
    fields(message, PUSH, ("x",))
    given = message["x"]
    x = dict(zip(served.own, _parts(given, served), strict=True)) if isinstance(given, dict) else _array(given)
    for spec, own in zip(served.inputs, served.own, strict=True):
        part = x[own] if isinstance(x, dict) else x
        check_length(spec, part, service.limits.length)
    options = {name: value for name, value in message.items() if name != "x" and value is not None}
    return {"y": as_json(await service.push(tenant, key, x, **options))}


def facts(streamer: Streamer, text: str) -> dict[str, Any]:
    """Return the counters of a session, with its time of the last change as text.

    Raises:
        UnknownKeyError: If there is no such session.
    """
    reading = streamer.store.read([encode(text)])
    if reading.rows[0] < 0:
        raise UnknownKeyError(f"There must be a session with key {text!r}. Received: no such session.")
    records = reading.records
    number, updated = int(records.number[0]), float(records.updated[0])
    return {
        "steps": int(records.count[0]),
        "number": None if number < 0 else number,
        "updated": shown_time(updated, "milliseconds"),
        "age": max(0.0, streamer.store.now() - updated),
        "model": bytes(records.model[0]).decode(),
        "checkpoints": list(records.extras.get(0, Extra()).checkpoints),
    }


def _keys(streamer: Streamer, tenant: Tenant) -> list[str]:
    """Return the keys of a tenant, sorted. Whole numbers as keys, and the keys of tokens, have no address."""
    keys = (key for key in map(tenant.key, streamer.keys()) if key is not None)
    return sorted(keys)


def _key(request: Request) -> str:
    return str(request.path_params["key"])


def _begin(streamer: Streamer, text: str) -> bool:
    """Begin a session, and return whether it is new."""
    new = text not in streamer
    if new:
        streamer.write(text, {})
    return new


def _reset(streamer: Streamer, observed: Any, text: str) -> None:
    try:
        streamer.reset(text, observed)
    except (
        ValueError,
        TypeError,
        OverflowError,
    ) as error:  # observed values that are no array, or do not fit an ONNX file
        raise error if isinstance(error, RnnStateError) else DataError(str(error)) from error


def _parts(given: dict[str, Any], served: Served) -> list[Any]:
    names = [spec.name for spec in served.inputs]
    if set(given) != set(names):
        raise RefusedError(400, f"The inputs must be {', '.join(names)}. Received: {ascii(sorted(given))[:200]}.")
    return [_array(given[name]) for name in names]


def _array(value: Any) -> Any:
    """Return JSON as an array of numbers."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise RefusedError(400, f"An input must be numbers in lists of equal length. Received: {error}.") from error
    if array.dtype.kind not in "fiub":
        raise RefusedError(400, f"An input must be numbers in lists of equal length. Received: {ascii(value)[:60]}.")
    return array


def _floats(value: Any) -> Any:
    array = _array(value)
    return array.astype(np.float64) if array.dtype.kind in "iu" else array


def checkpoint_name(name: str) -> str:
    """Return the name of a checkpoint, or raise `RefusedError` if it cannot be part of an address."""
    if not (0 < len(name) <= 100 and name.isprintable() and "/" not in name):
        raise RefusedError(
            400,
            "A checkpoint must have a name of 1 to 100 printable characters without `/`. "
            f"Received: {ascii(name)[:60]}.",
        )
    return name
