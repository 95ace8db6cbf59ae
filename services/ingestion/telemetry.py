"""The room's metrics and spans, by name. docs/telemetry/ingestion.md lists the same."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.chassis.telemetry import tracer

__all__ = ["PARSE_SPAN", "PURGE_SPAN", "Metrics", "spans"]

PARSE_SPAN = "ingestion.parse"
PURGE_SPAN = "ingestion.purge"
spans = tracer("brain.ingestion")


class Metrics:
    """What the room counts and measures.

    Args:
        registry: Where the metrics are kept.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.documents = Counter(
            "brain_ingestion_documents_total",
            "Document versions that came to an end, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.freshness = Histogram(
            "brain_ingestion_freshness_seconds",
            "Seconds from the acknowledgement of a version until it was searchable.",
            registry=registry,
            buckets=(0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 900, 3600),
        )
        self.parsing = Histogram(
            "brain_ingestion_parse_seconds",
            "Seconds that reading and cutting one version took, by outcome.",
            ["outcome"],
            registry=registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300),
        )
        self.received = Counter(
            "brain_ingestion_received_bytes_total",
            "Bytes of files and documents that were acknowledged.",
            registry=registry,
        )
        self.queued = Gauge(
            "brain_ingestion_queued_jobs",
            "Parse jobs that wait or run.",
            registry=registry,
        )
        self.oldest_pending = Gauge(
            "brain_outbox_oldest_pending_seconds",
            "Age of the oldest event that has not reached the log.",
            registry=registry,
        )
        self.lag = Gauge(
            "brain_ingestion_event_lag_records",
            "Records of brain.index.v1 that have not been handled.",
            registry=registry,
        )
        self.dead_letters = Counter(
            "brain_dead_letter_records_total",
            "Records that could never be handled, by topic.",
            ["topic"],
            registry=registry,
        )
