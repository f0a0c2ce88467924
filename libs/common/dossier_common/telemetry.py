"""Structured logs, one event a line, without personal data; OpenTelemetry traces when an exporter is configured."""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from starlette.types import ASGIApp

EXPORTER = "OTEL_EXPORTER_OTLP_ENDPOINT"


def configured() -> bool:
    """Whether traces go anywhere."""
    return EXPORTER in os.environ


def setup(part: str) -> None:
    """Logs of this process go to standard error as JSON lines; traces to the exporter that is configured."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _trace_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(part=part)
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format='{"logger": "%(name)s", "event": "%(message)s"}'
    )
    if configured():
        provider = TracerProvider(resource=Resource.create({"service.name": f"dossier-{part}"}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)


def traced(app: ASGIApp) -> ASGIApp:
    """The application with a span per request, when traces go anywhere. Spans hold the route, never a query."""
    if not configured():
        return app
    return OpenTelemetryMiddleware(app, exclude_spans=["receive", "send"], server_request_hook=_without_query)


def log() -> structlog.typing.FilteringBoundLogger:
    """The process's logger."""
    return structlog.get_logger()  # type: ignore[no-any-return]  # its type is set by wrapper_class above


def _trace_id(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
    return event


def _without_query(span: trace.Span, scope: dict[str, Any]) -> None:
    if span.is_recording():
        for name in ("http.url", "url.query", "http.target"):
            span.set_attribute(name, scope.get("path", ""))
