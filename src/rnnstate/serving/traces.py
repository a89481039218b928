"""Spans of OpenTelemetry for requests and compiled steps, if `opentelemetry` is installed. Without it there are none.

The program that starts the server configures OpenTelemetry, for example `opentelemetry-instrument rnnstate serve ...`. A
request goes on from the trace that its header `traceparent` names. A compiled step has callers in several traces, so its
span begins a trace.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

try:
    from opentelemetry import context, propagate, trace
except ImportError:
    trace = None  # type: ignore[assignment]

_NAME = "rnnstate"


@contextmanager
def request_span(scope: Any) -> Iterator[Callable[[int], None]]:
    """Note a request or a WebSocket as a span. Yields a function that takes the status of the answer.

    Args:
        scope: The scope of ASGI. Its route is known once the request was answered.
    """
    if trace is None:
        yield lambda status: None
        return
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    method = scope.get("method", "WEBSOCKET")
    tracer, kind = trace.get_tracer(_NAME), trace.SpanKind.SERVER
    with tracer.start_as_current_span(method, propagate.extract(headers), kind) as span:

        def answered(status: int) -> None:
            route = getattr(scope.get("route"), "path", "other")
            span.update_name(f"{method} {route}")
            span.set_attributes({"http.route": route, "http.response.status_code": status})
            if status >= 500:
                span.set_status(trace.StatusCode.ERROR)

        yield answered


@contextmanager
def step_span(rows: int) -> Iterator[None]:
    """Note a compiled step of some rows as a span."""
    if trace is None:
        yield
        return
    tracer = trace.get_tracer(_NAME)
    with tracer.start_as_current_span("step", context.Context(), attributes={"rnnstate.rows": rows}):
        yield
