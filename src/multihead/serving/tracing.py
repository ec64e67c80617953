"""Spans of requests for OpenTelemetry, with the names of its conventions for generative models.

Spans are written if `opentelemetry-api` is installed and OTEL_EXPORTER_OTLP_ENDPOINT is set. They go to the program's
own tracer provider, or else to an exporter over OTLP, if `opentelemetry-sdk` and an exporter are installed.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from .request_info import RequestInfo

log = logging.getLogger("multihead.serving")
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
OPERATIONS: Mapping[str, str] = {  # path -> gen_ai.operation.name
    "/v1/chat/completions": "chat", "/v1/messages": "chat", "/v1/responses": "chat", "/api/chat": "chat",
    "/v1/completions": "text_completion", "/api/generate": "text_completion",
    "/v1/embeddings": "embeddings", "/embeddings": "embeddings", "/embed": "embeddings", "/api/embed": "embeddings",
}  # fmt: skip


class Tracing:
    """Writes a span for each request that a model has answered."""

    def __init__(self, tracer: Any, propagate: Any, kinds: Any, statuses: Any) -> None:
        self._tracer, self._propagate, self._kinds, self._statuses = tracer, propagate, kinds, statuses

    @classmethod
    def start(cls, provider: Any = None) -> Tracing | None:
        """Return the tracing of this process, or None if it is not asked for or not installed.

        Args:
            provider: a tracer provider; None for the program's own.
        """
        if provider is None and not os.environ.get(ENDPOINT):
            return None
        try:
            from opentelemetry import propagate, trace
        except ImportError:
            log.warning("%s is set, but opentelemetry-api is not installed: there are no traces", ENDPOINT)
            return None
        if provider is None and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            set_up_exporter(trace)
        return cls(trace.get_tracer("multihead", tracer_provider=provider), propagate, trace.SpanKind, trace.StatusCode)

    def request_ended(self, info: RequestInfo, path: str, status: int, headers: Mapping[str, str]) -> None:
        """Write the span of a request, as a child of its `traceparent`."""
        if not info.model:
            return
        operation = OPERATIONS.get(path, path)
        end = time.time_ns()
        span = self._tracer.start_span(
            f"{operation} {info.model}", context=self._propagate.extract(headers), kind=self._kinds.SERVER,
            start_time=end - int((time.monotonic() - info.begin) * 1e9), attributes=attributes(info, operation, status),
        )  # fmt: skip
        if status >= 500 or not status:
            span.set_status(self._statuses.ERROR)
        span.end(end)


def attributes(info: RequestInfo, operation: str, status: int) -> dict[str, Any]:
    """Return the attributes of a span: no texts, no key."""
    found: dict[str, Any] = {
        "gen_ai.operation.name": operation, "gen_ai.provider.name": "multihead", "gen_ai.request.model": info.model,
        "gen_ai.response.model": info.adapter or info.model, "gen_ai.response.id": info.id,
        "http.response.status_code": status, "gen_ai.usage.input_tokens": info.prompt_tokens,
        "gen_ai.usage.output_tokens": info.generation_tokens,
    }  # fmt: skip
    if info.finish_reason:
        found["gen_ai.response.finish_reasons"] = (info.finish_reason,)
    if info.clock.first:
        found["gen_ai.server.time_to_first_token"] = info.clock.first - info.begin
    if info.error:
        found["error.type"] = info.error
    return found


def set_up_exporter(trace: Any) -> None:
    """Send spans over OTLP, as the environment of the exporter says."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("traces need opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http")
        return
    name = os.environ.get("OTEL_SERVICE_NAME", "multihead")
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
