"""OpenTelemetry traces and the Prometheus endpoint; started from `__main__`, never at import."""

from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry, Info, start_http_server

from services.chassis.certificates import CertificateEnds
from services.chassis.settings import RoomSettings

__all__ = ["continued_trace", "current_traceparent", "start_telemetry", "tracer"]

VERSION = "0.1.0"
# How long the last spans may take at the end of a process: less than any supervisor waits before it kills.
_LAST_SPANS_MS = 2_000


def start_telemetry(room: str, settings: RoomSettings, registry: CollectorRegistry | None = None) -> None:
    """Begin to send traces (when a collector is set) and to serve metrics (when an address is set).

    Loss of the collector never slows or breaks a request, nor the end of the process: spans go out in batches from a
    thread of their own, and what does not fit the queue, or cannot be sent in a moment at the end, is dropped.
    """
    from prometheus_client import REGISTRY  # noqa: PLC0415  the default is chosen here, not at import

    chosen = registry or REGISTRY
    Info("brain_build", "Version of the running code.", registry=chosen).info({"version": VERSION, "room": room})
    chosen.register(CertificateEnds(settings))
    provider = TracerProvider(resource=Resource.create({"service.name": f"brain-{room}", "service.version": VERSION}))
    if settings.otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  only where traces are sent
            OTLPSpanExporter,
        )

        endpoint = settings.otlp_endpoint.rstrip("/") + "/v1/traces"
        provider.add_span_processor(_Batches(OTLPSpanExporter(endpoint=endpoint)))
    trace.set_tracer_provider(provider)
    if settings.metrics_listen:
        host, _, port = settings.metrics_listen.rpartition(":")
        start_http_server(int(port), addr=host or "127.0.0.1", registry=chosen)


class _Batches(BatchSpanProcessor):
    """Sends spans in batches; at the end of the process it tries for a moment only."""

    def shutdown(self) -> None:
        """Send what is left; the SDK itself would wait 30 s for a collector that is away."""
        self._batch_processor.shutdown(timeout_millis=_LAST_SPANS_MS)


def tracer(name: str) -> Tracer:
    """Return the tracer of a module."""
    return trace.get_tracer(name, VERSION)


def current_traceparent() -> str:
    """Return the W3C traceparent of the current span; empty without one."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent", "")


def remote_context(carrier: Mapping[str, str]) -> Context:
    """Return the trace context that a caller sent."""
    return propagate.extract(dict(carrier))


@contextmanager
def continued_trace(name: str, traceparent: str, attributes: Mapping[str, Any] | None = None) -> Any:
    """Run the block in a span that continues the trace of an event or a job."""
    token = attach(remote_context({"traceparent": traceparent} if traceparent else {}))
    try:
        with tracer("brain.events").start_as_current_span(name, attributes=dict(attributes or {})) as span:
            yield span
    finally:
        detach(token)
