"""Reads what a client sent: at most so many bytes, compressed or not, and JSON."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

from fastapi import Request

from rnnstate.messages import quoted
from rnnstate.serving.refusals import RefusedError

_WINDOW = {"gzip": 31, "deflate": 15}


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body of a request.

    Raises:
        RefusedError: If it is too large, or compressed in an unknown way.
    """
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return _expanded(b"".join(parts), request.headers.get("content-encoding", "identity").strip().lower(), limit)


def parse(body: bytes | str) -> dict[str, Any]:
    """Return the object that a JSON document holds.

    Raises:
        RefusedError: If it is something else.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"The body must be JSON. Received: {str(error)[:200]}.") from error
    if not isinstance(found, dict):
        raise RefusedError(400, f"The body must be a JSON object. Received: {type(found).__name__}.")
    return found


def fields(given: Mapping[str, Any], kinds: Mapping[str, Any], needed: tuple[str, ...] = ()) -> None:
    """Check the names and types of the fields of an object. A field that is `null` counts as left out.

    Raises:
        RefusedError: If a field is unknown, missing, or of another type.
    """
    if unknown := sorted(set(given) - set(kinds)):
        raise RefusedError(400, f"The fields may be {quoted(kinds, 12)}. Received: {ascii(unknown[0])[:60]}.")
    for name in needed:
        if given.get(name) is None:
            raise RefusedError(400, f"The field `{name}` must be given. Received: none.")
    for name, value in given.items():
        kind = kinds[name]
        if value is None or kind is object:
            continue
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            expected = kind.__name__ if isinstance(kind, type) else " or ".join(one.__name__ for one in kind)
            raise RefusedError(400, f"The field `{name}` must be of type {expected}. Received: {type(value).__name__}.")


def _too_large(limit: int) -> RefusedError:
    return RefusedError(413, f"A body may have {limit:,} bytes. Received: more. Nothing has changed. Send it in parts.")


def _expanded(body: bytes, coding: str, limit: int) -> bytes:
    if coding in ("identity", ""):
        return body
    if coding not in _WINDOW:
        raise RefusedError(415, f"A body may be compressed with gzip or deflate. Received: {ascii(coding)[:60]}.")
    machine = zlib.decompressobj(_WINDOW[coding])
    try:
        whole = machine.decompress(body, limit + 1)
    except zlib.error as error:
        raise RefusedError(400, f"The body must be compressed with {coding}. Received: {error}.") from error
    if len(whole) > limit:
        raise _too_large(limit)
    if not machine.eof:
        raise RefusedError(400, f"The body must be whole {coding} data. Received: a part of it.")
    return whole
