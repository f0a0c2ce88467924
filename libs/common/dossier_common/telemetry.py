"""Structured logs, one event a line, without personal data; OpenTelemetry traces when an exporter is configured."""

import json
import logging
import os
import sys
import traceback
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
            _without_values,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(part=part)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
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


class _OneLine(logging.Formatter):
    """Records of libraries as JSON lines; of an exception only what `told` tells."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().partition("\n")[0]  # asyncio repeats the exception in the lines below
        line = {"logger": record.name, "level": record.levelname.lower(), "event": message}
        if record.exc_info and record.exc_info[1]:
            line["exception"] = told(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


def told(error: BaseException) -> str:
    """Kind and place of an exception, and of what caused it.

    Messages are told of our own exceptions only: those of drivers and parsers repeat values (invariant 7).
    """
    kind = type(error)
    text = f"{kind.__name__}: {error}" if kind.__module__.startswith("dossier_") else kind.__name__
    steps = traceback.extract_tb(error.__traceback__)[-12:]
    places = [f"{step.filename.rpartition('/site-packages/')[2]}:{step.lineno} {step.name}" for step in steps]
    text += f" at {' > '.join(places)}" if places else ""
    if isinstance(error, BaseExceptionGroup):
        text += f" [{'; '.join(map(told, error.exceptions))}]"
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{text} <- {told(cause)}" if cause else text


def _without_values(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    error = event.pop("exc_info", None)
    if isinstance(error, BaseException):
        event["exception"] = told(error)
    return event


def _trace_id(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
    return event


def _without_query(span: trace.Span, scope: dict[str, Any]) -> None:
    if span.is_recording():
        for name in ("http.url", "url.query", "http.target"):
            span.set_attribute(name, scope.get("path", ""))
