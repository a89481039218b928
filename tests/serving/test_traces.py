"""Spans of OpenTelemetry, as an exporter gets them."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rnnstate.serving import traces

pytestmark = pytest.mark.once
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def spans(monkeypatch):
    """An exporter that keeps spans in memory, for this test alone."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


def test_requests_and_steps_are_spans(http, spans):
    """A request goes on from the trace of its caller and has route and status; a step has its rows."""
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    assert http.post("/sessions/traced/push", json={"x": [1.0]}, headers=headers).status_code == 200
    assert http.get("/sessions/nobody").status_code == 404
    step, pushed, missing = sorted(spans.get_finished_spans(), key=lambda span: span.end_time)
    assert (step.name, dict(step.attributes)) == ("step", {"rnnstate.rows": 1})
    assert pushed.name == "POST /sessions/{key}/push"
    assert dict(pushed.attributes) == {"http.route": "/sessions/{key}/push", "http.response.status_code": 200}
    assert (format(pushed.context.trace_id, "032x"), pushed.kind) == (TRACE, trace.SpanKind.SERVER)
    assert missing.attributes["http.response.status_code"] == 404
    assert format(missing.context.trace_id, "032x") != TRACE
    assert "traced" not in str([(span.name, dict(span.attributes)) for span in (step, pushed)])  # keys are no names


def test_without_opentelemetry_there_are_no_spans(http, spans, monkeypatch):
    """The control: a server whose OpenTelemetry is missing answers all the same."""
    monkeypatch.setattr(traces, "trace", None)
    assert http.post("/sessions/untraced/push", json={"x": [1.0]}).status_code == 200
    assert spans.get_finished_spans() == ()
