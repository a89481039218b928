"""The routes that are no part of the protocol: the page at `/`, the list of routes, and metrics."""

from collections.abc import Callable
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST

from rnnstate.serving.activity import Trail
from rnnstate.serving.described import Served
from rnnstate.serving.metrics import Metrics
from rnnstate.serving.overview import POLICY, overview
from rnnstate.serving.service import Service

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { margin: 0 auto; padding: 1rem; max-width: 60rem }
dt { font-family: ui-monospace, monospace; overflow-wrap: anywhere; margin-top: .75rem }
dd { margin: 0 0 0 1rem; opacity: .8 }
"""


def page_routes(service: Service, served: Served, metrics: Metrics, schema: Callable[[], dict[str, Any]]) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["Server"])

    @router.get("/metrics", summary="Numbers for Prometheus")
    def numbers() -> Response:
        return Response(metrics.text(service.streamer.store), media_type=CONTENT_TYPE_LATEST)

    @router.get("/", summary="Sessions, rates and states; `session` chooses one")
    async def sessions(request: Request) -> HTMLResponse:
        tenant, key = request.state.tenant, request.query_params.get("session")
        count = await service.counted(tenant)
        chosen = None
        if key is not None:
            there = await service.read(tenant, service.streamer.__contains__, key)
            chosen = key, service.activity.watch(service.streamer, tenant.text(key)) if there else Trail()
        page = overview(served, service.activity, tenant, count, chosen)
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})

    @router.get("/docs", summary="This page")
    def docs() -> HTMLResponse:
        return HTMLResponse(_list(served, schema()))

    return router


def _list(served: Served, schema: dict[str, Any]) -> str:
    """Return a page that lists every route of an OpenAPI schema."""
    lines = [
        f"<dt>{method.upper()} {escape(path)}</dt><dd>{escape(route['summary'])}</dd>"
        for path, methods in schema["paths"].items()
        for method, route in methods.items()
    ]
    lines.append("<dt>WebSocket /sessions/{key}/ws</dt><dd>One JSON message for each step or chunk</dd>")
    title = f"rnnstate: {escape(served.name)}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style>'
        f'<h1>{title}</h1><p>The schema is at <a href="/openapi.json">/openapi.json</a>.</p>'
        f"<dl>{''.join(lines)}</dl></html>"
    )
