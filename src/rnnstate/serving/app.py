"""Puts the routes together, and turns errors into answers `{"error": TEXT}`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from rnnstate import __version__
from rnnstate.serving.described import Served
from rnnstate.serving.gate import Gate
from rnnstate.serving.inference import InferenceRoutes
from rnnstate.serving.metrics import Metrics
from rnnstate.serving.pages import page_routes
from rnnstate.serving.refusals import RefusedError
from rnnstate.serving.service import Service
from rnnstate.serving.sessions import SessionRoutes
from rnnstate.serving.sockets import socket_routes
from rnnstate.serving.tokens import Tokens


def build_app(service: Service, served: Served, metrics: Metrics, tokens: Tokens, loopback: bool = True) -> Gate:
    """Return the ASGI application.

    Args:
        service: What the routes call.
        served: The model as clients see it.
        metrics: The numbers of this server.
        tokens: The tokens that it takes.
        loopback: Whether it listens on a loopback address.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = FastAPI(
        title=f"rnnstate: {served.name}",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from the network
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(InferenceRoutes(service, served).router())
    app.include_router(SessionRoutes(service, served).router())
    app.include_router(socket_routes(service, served, metrics))
    app.include_router(page_routes(service, served, metrics, app.openapi))
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Exception, _broken)
    return Gate(app, service, tokens, metrics, loopback and not tokens.known)


async def _refused(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": error.text}, error.status, error.headers)


async def _no_route(request: Request, error: Any) -> JSONResponse:
    """Answer a request for which there is no route, or another method."""
    text = f"{error.detail}. The page /docs lists every route."
    return JSONResponse({"error": text}, error.status_code, error.headers)


async def _broken(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": "The server has failed. Its log says why."}, 500)
