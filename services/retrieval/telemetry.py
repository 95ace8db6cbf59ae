"""Metrics and spans of the retrieval room; docs/telemetry/retrieval.md says what they mean."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["SPANS", "Metrics"]

# From a keyword lookup to a rerank on a busy core.
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

SPANS: Final = ("retrieval.search", "retrieval.embed", "retrieval.index", "retrieval.rank", "retrieval.rerank")


class Metrics:
    """The room's metrics.

    Args:
        registry: Where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.results = Histogram(
            "brain_retrieval_results",
            "Passages returned by a search.",
            buckets=(0, 1, 2, 3, 5, 10, 20, 50),
            registry=registry,
        )
        self.stage = Histogram(
            "brain_retrieval_stage_duration_seconds",
            "Seconds spent in one stage of a search or of indexing.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.refills = Counter(
            "brain_retrieval_refills", "Index queries repeated because the table refused hits.", registry=registry
        )
        self.acl_leak = Counter(
            "brain_acl_leak",
            "Hits that the index's access filter let through although their access list was current.",
            registry=registry,
        )
        self.embedded = Counter("brain_retrieval_embedded_texts", "Texts embedded.", ["kind"], registry=registry)
        self.chunks_written = Counter("brain_index_chunks_written", "Chunks written to the index.", registry=registry)
        self.versions = Counter(
            "brain_index_versions", "Document versions by what became of them.", ["outcome"], registry=registry
        )
        self.reembedded = Counter(
            "brain_reembedding_documents",
            "Documents that an index on its way was brought up to, by what it took.",
            ["outcome"],
            registry=registry,
        )
        self.reembedding_pending = Gauge(
            "brain_reembedding_pending_documents",
            "Documents that the index on its way does not hold as they are now.",
            registry=registry,
        )
        self.lag = Gauge("brain_index_lag_records", "Document events not yet indexed.", registry=registry)
        self.dead_letters = Counter(
            "brain_dead_letter_records", "Events that can never be handled.", ["topic"], registry=registry
        )
        self.outbox_oldest = Gauge(
            "brain_outbox_oldest_pending_seconds", "Age of the oldest event not yet relayed.", registry=registry
        )
